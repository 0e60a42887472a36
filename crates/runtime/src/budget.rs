//! Memory of this process and of the machine, sizes as people write them, and the table
//! of memory by part that a plan adds up. What each part needs is known where the part is.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// Blocks of so many bytes and more go back to the system when they are freed: small enough for
/// weights and samples, large enough that a training step allocates none.
const RETURNED_BLOCK_BYTES: u32 = 128 << 10;

/// Has the allocator give large blocks back, for as long as the process runs. A program
/// calls this before anything else; [`crate::forecast`] counts on it.
pub fn return_freed_memory() {
    // Other C libraries do so by themselves.
    fieldtune_kernels::return_blocks_of(RETURNED_BLOCK_BYTES);
}

/// Resident memory of this process now, in bytes. `None` where the system does not say.
pub fn current_rss_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// The most resident memory this process ever had, in bytes.
pub fn peak_rss_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// Memory of the machine that can be used without swapping, in bytes.
pub fn available_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// Reads "NAME:   123 kB" out of a table of the kernel.
fn field_bytes(table: &str, name: &str) -> Option<u64> {
    let value = table
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A size as in "64M", "1.5G", "512 KiB" or "4096"; units are powers of 1024. In bytes.
///
/// # Errors
/// `Usage` when it is not a size, is zero, or does not fit 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong = || {
        let what = format_args!("\"{text}\" is not a size; write it like 64M, 1.5G or 4096");
        Error::new(ErrorKind::Usage, what)
    };
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(end).ok_or_else(wrong)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine digits after the point are exact in 64 bits and more than anyone means.
    if fraction.is_empty() || fraction.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let digits: u128 = fraction.parse().map_err(|_| wrong())?;
    let scale = 10u128.pow(fraction.len() as u32);
    let bytes = (u128::from(whole) << shift) + (digits << shift) / scale;
    match u64::try_from(bytes) {
        Ok(0) | Err(_) => Err(wrong()),
        Ok(bytes) => Ok(bytes),
    }
}

/// A size for people: "53.1 MiB", "812 B".
pub fn format_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut shown = "B";
    for unit in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        shown = unit;
    }
    match shown {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {shown}"),
    }
}

/// Memory by part, in bytes. Parts are added as if all existed at once, so the total is
/// an upper bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MemoryParts(BTreeMap<String, u64>);

impl MemoryParts {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` to the part `name`.
    pub fn add(&mut self, name: &str, bytes: u64) {
        let part = self.0.entry(name.to_string()).or_default();
        *part = part.saturating_add(bytes);
    }

    /// Bytes of every part, by name.
    pub fn parts(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// All parts together.
    pub fn total_bytes(&self) -> u64 {
        self.0
            .values()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Whether everything fits under `limit_bytes`.
    ///
    /// # Errors
    /// `OverBudget`, naming the limit, the need, the parts from the largest down, and what
    /// `remedy` advises.
    pub fn require(&self, limit_bytes: u64, remedy: impl FnOnce() -> String) -> Result<()> {
        let total_bytes = self.total_bytes();
        if total_bytes <= limit_bytes {
            return Ok(());
        }
        let mut parts: Vec<(&String, &u64)> = self.0.iter().collect();
        parts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let parts: Vec<String> = parts
            .iter()
            .map(|(name, bytes)| format!("{name} {}", format_size(**bytes)))
            .collect();
        let what = format_args!(
            "needs {} of memory ({}), the limit is {}; {}",
            format_size(total_bytes),
            parts.join(", "),
            format_size(limit_bytes),
            remedy()
        );
        Err(Error::new(ErrorKind::OverBudget, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("64M", 64 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("4096", 4096),
            (" 512 KiB ", 512 << 10),
            ("0.5k", 512),
            ("2tb", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text).ok(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_wrong_usage() {
        let texts = [
            "",
            "M",
            "0",
            "-1",
            "1.",
            ".",
            "1..5M",
            "64X",
            "99999999999T",
            "1e3",
            "½G",
            "0.0001",
        ];
        for text in texts {
            let kind = parse_bytes(text).map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::Usage), "{text}");
        }
    }

    #[test]
    fn tables_of_the_kernel_are_read_by_whole_names() {
        let table = "VmHWMX:\t 1 kB\nVmHWM:\t    2048 kB\nVmRSS:\t  10 pages\n";
        assert_eq!(field_bytes(table, "VmHWM"), Some(2 << 20));
        assert_eq!(field_bytes(table, "VmRSS"), None);
        assert_eq!(field_bytes(table, "VmSwap"), None);
    }

    #[test]
    fn the_peak_is_not_below_what_is_touched() {
        let Some(before) = current_rss_bytes() else {
            println!("no /proc/self/status here: nothing to test");
            return;
        };
        // Without the black box the pages are never touched.
        let touched = std::hint::black_box(vec![1u8; 32 << 20]);
        let peak = peak_rss_bytes().unwrap_or(0);
        assert!(
            peak >= touched.len() as u64 && peak >= before,
            "{before} {peak}"
        );
    }

    #[test]
    fn a_budget_names_its_parts_from_the_largest_down() {
        let mut parts = MemoryParts::new();
        parts.add("features", 3 << 20);
        parts.add("backbone", 40 << 20);
        parts.add("features", 1 << 20);
        assert_eq!(parts.total_bytes(), 44 << 20);
        let remedy = || "take less".to_string();
        assert!(parts.require(44 << 20, remedy).is_ok());
        let error = parts
            .require((44 << 20) - 1, remedy)
            .map_err(|error| (error.kind(), error.to_string()));
        let Err((ErrorKind::OverBudget, line)) = error else {
            panic!("{error:?}");
        };
        assert!(
            line.contains("44.0 MiB")
                && line.contains("backbone 40.0 MiB, features 4.0 MiB")
                && line.ends_with("; take less"),
            "{line}"
        );
    }
}
