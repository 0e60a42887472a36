//! A short job of the real command that is killed at drawn moments. What must hold
//! afterwards is judged here, since a promise and a bench ask for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fieldtune::head::Head;
use fieldtune::store::Store;
use fieldtune::versions::Versions;
use fieldtune_core::random::Random;

use crate::{demo_samples, program, run};

/// What came of killing runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Runs started.
    pub rounds: u32,
    /// Runs that the signal ended; the others were done before.
    pub killed: u32,
    /// Runs after which the new head was in place although they were killed.
    pub killed_with_new_head: u32,
    /// Killed runs that left a temporary or a lock file, which the next run removed.
    pub with_litter: u32,
}

/// Starts `rounds` runs that write `folder/killed.head` again and again, by training and by
/// rolling back in turn, and kills each at a drawn moment.
///
/// # Panics
/// When a run leaves anything but the old or the new head, loses an earlier one, or the
/// next does not go on.
pub fn kill_rounds(folder: &Path, rounds: u32) -> Killed {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("the folder can be made");
    let head = folder.join("killed.head");
    let (mut random, mut report) = (Random::new(1), Killed::default());
    // The features are computed once; later runs take them from the cache.
    let mut usual = [0; 2].map(|_| Duration::ZERO);
    for round in 0..3 {
        let start = Instant::now();
        let ran = run(&mut job(&head, round));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        usual[usize::from(is_rollback(round))] = start.elapsed();
    }
    for round in 3..rounds + 3 {
        let before = fs::read(&head).expect("a head");
        let kept = kept(&head);
        let usual = usual[usize::from(is_rollback(round))];
        // Half of them late, where the files are written.
        let share = f64::from(random.uniform());
        let share = if round % 4 < 2 {
            share
        } else {
            0.9 + 0.15 * share
        };
        let mut child = job(&head, round)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        std::thread::sleep(usual.mul_f64(share));
        let _ = child.kill();
        let status = child.wait().expect("the child ends");
        let killed = status.code().is_none();
        report.rounds += 1;
        report.killed += u32::from(killed);
        let after = fs::read(&head).expect("never neither");
        Head::read(&after, &head).expect("a whole head");
        report.killed_with_new_head += u32::from(killed && after != before);
        report.with_litter += u32::from(litter(folder) > 0);
        judge_kept(&head, &before, &after, &kept);
    }
    let ran = run(&mut job(&head, 0));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(litter(folder), 0, "the last run leaves no litter");
    report
}

fn is_rollback(round: u32) -> bool {
    round % 4 == 2
}

/// Training with other epochs each time, so that the head is another one; every fourth run
/// goes back to an earlier head.
fn job(head: &Path, round: u32) -> Command {
    let mut command = Command::new(program());
    let cache = head.with_file_name("cache");
    if is_rollback(round) {
        command.args(["head", "rollback"]).arg(head);
    } else {
        command.arg("train").arg(demo_samples()).arg("-o").arg(head);
        command.args([
            "--head", "linear", "--lambda", "0.001", "--decay", "uniform",
        ]);
        command.args(["--adversarial", "off", "--time", "1s", "--cache"]);
        command.arg(cache).arg("--seed").arg(round.to_string());
        command.args(["--epochs", "5", "--views", "original"]);
    }
    command
}

/// The bytes of all earlier heads, the newest first; all are sound.
fn kept(head: &Path) -> Vec<Vec<u8>> {
    let listed = Versions::of(&Store::default(), head).list();
    let listed = listed.expect("the versions can be listed");
    let bytes = listed.into_iter().map(|version| {
        version.head.expect("every kept head is whole");
        version.bytes
    });
    bytes.collect()
}

fn judge_kept(head: &Path, before: &[u8], after: &[u8], kept_before: &[Vec<u8>]) {
    let now = kept(head);
    let there = |bytes: &[u8]| after == bytes || now.iter().any(|kept| kept == bytes);
    assert!(there(before), "the head that was replaced is lost");
    // The oldest may have made room.
    for bytes in kept_before.iter().take(fieldtune::versions::KEPT - 1) {
        assert!(there(bytes), "an earlier head is lost");
    }
}

/// Temporary and lock files in the folder and in the versions.
fn litter(folder: &Path) -> usize {
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.file_name()))
    };
    names(folder.to_path_buf())
        .chain(names(folder.join("killed.head.versions")))
        .filter(|name| {
            let name = name.to_string_lossy();
            name.ends_with(".tmp") || name.ends_with(".lock")
        })
        .count()
}
