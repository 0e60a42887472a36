//! What the system says of memory, clock, heat and the processor's pace. The files are
//! those of Linux; where one is missing, nothing is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Check;
use crate::budget::format_size;

/// 1 January 2026: this program is not older.
const LEAST_TIME: Duration = Duration::from_secs(1_767_225_600);

/// Hotter than this and boards slow themselves down, in thousandths of a degree.
const HOT: u64 = 80_000;

/// Memory of the machine against what one run of the backbone took.
pub(super) fn memory(root: &Path, available: Option<u64>, peak: Option<u64>) -> Check {
    const NAME: &str = "memory";
    let limit = control_group_limit(root);
    let usable = [available, limit].into_iter().flatten().min();
    let (Some(usable), Some(peak)) = (usable, peak) else {
        return Check::fine(NAME, "the system does not say");
    };
    let mut found = format!(
        "{} can be used, one run of the backbone took {}",
        format_size(usable),
        format_size(peak)
    );
    if let Some(limit) = limit {
        found += &format!(", the process may have {}", format_size(limit));
    }
    // Training, pictures and the feature matrix come on top.
    if usable < peak.saturating_add(peak / 2) {
        let remedy =
            "end other programs or add swap; `fieldtune plan SAMPLES` says what a job needs";
        return Check::warning(NAME, found, remedy);
    }
    Check::fine(NAME, found)
}

/// The limit of the control group this process is in (version 2), in bytes.
fn control_group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let top = root.join("sys/fs/cgroup");
    // Every group above holds as well.
    let limits = Path::new(group).ancestors().filter_map(|group| {
        let text = fs::read_to_string(top.join(group).join("memory.max")).ok()?;
        text.trim().parse().ok()
    });
    limits.min()
}

/// Many boards have no clock that runs without power.
pub(super) fn clock() -> Check {
    clock_at(SystemTime::now())
}

fn clock_at(now: SystemTime) -> Check {
    const NAME: &str = "clock";
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    if since < LEAST_TIME {
        let found = format!(
            "{} days after 1970, before this program was made",
            since.as_secs() / 86_400
        );
        let remedy = "set it (timedatectl, or date -s), or files and reports get wrong dates";
        return Check::warning(NAME, found, remedy);
    }
    Check::fine(
        NAME,
        format!("{} days after 1970", since.as_secs() / 86_400),
    )
}

/// What slows the processor down: heat, and a governor that saves power.
pub(super) fn speed(root: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let zones = children(&root.join("sys/class/thermal"), "thermal_zone");
    if let Some(hottest) = zones
        .iter()
        .filter_map(|zone| number(&zone.join("temp")))
        .max()
    {
        const NAME: &str = "temperature";
        let found = format!("{} degrees Celsius", hottest / 1000);
        checks.push(if hottest >= HOT {
            let remedy = "cool the board: it slows down, and training takes longer than planned";
            Check::warning(NAME, found, remedy)
        } else {
            Check::fine(NAME, found)
        });
    }
    let governor = root.join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if let Ok(governor) = fs::read_to_string(governor) {
        const NAME: &str = "processor's pace";
        let governor = governor.trim();
        checks.push(if governor == "powersave" {
            let remedy = "choose `ondemand` or `performance` with cpupower for full speed";
            Check::warning(NAME, "the governor is powersave", remedy)
        } else {
            Check::fine(NAME, format!("the governor is {governor}"))
        });
    }
    checks
}

fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn memory_counts_the_tightest_of_all_groups() {
        let root = board(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "100000000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ]);
        let check = |available, peak| memory(root.path(), Some(available), Some(peak));
        assert_eq!(check(1 << 30, 60_000_000).state, State::Fine);
        let tight = check(1 << 30, 80_000_000);
        assert_eq!(tight.state, State::Warning);
        assert!(tight.found.contains("may have 95.4 MiB"), "{tight:?}");
        let empty = board(&[]);
        let free = memory(empty.path(), Some(100 << 20), Some(80 << 20));
        assert_eq!(free.state, State::Warning);
        let silent = memory(empty.path(), None, Some(1));
        assert_eq!(silent.state, State::Fine);
    }

    #[test]
    fn a_clock_that_was_never_set_is_told() {
        assert_eq!(clock_at(SystemTime::UNIX_EPOCH).state, State::Warning);
        assert_eq!(
            clock_at(SystemTime::UNIX_EPOCH + LEAST_TIME).state,
            State::Fine
        );
    }

    #[test]
    fn heat_and_saving_power_are_told_where_the_system_tells() {
        let governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        let hot = board(&[
            ("sys/class/thermal/thermal_zone0/temp", "41000\n"),
            ("sys/class/thermal/thermal_zone1/temp", "83500\n"),
            (governor, "powersave\n"),
        ]);
        let states: Vec<State> = speed(hot.path()).iter().map(|check| check.state).collect();
        assert_eq!(states, [State::Warning, State::Warning]);
        let cool = board(&[
            (governor, "ondemand\n"),
            ("sys/class/thermal/thermal_zone0/temp", "1\n"),
        ]);
        assert!(
            speed(cool.path())
                .iter()
                .all(|check| check.state == State::Fine)
        );
        assert!(speed(board(&[]).path()).is_empty());
    }
}
