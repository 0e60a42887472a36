//! What the processor can do, as it says itself or as the kernel says for it. Read at run
//! time: the same program runs on all processors of its kind.

use std::fs;
use std::path::Path;

use super::Check;

/// Instruction sets that matter here, in the order they are shown.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let found = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    present(&found)
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    present(&found)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    let bits = fs::read("/proc/self/auxv").ok();
    let bits = bits.and_then(|vector| hardware_bits(&vector)).unwrap_or(0);
    // Bits of AT_HWCAP: arch/arm/include/uapi/asm/hwcap.h; on RISC-V, letters.
    let names: &[(&str, u32)] = if cfg!(target_arch = "arm") {
        &[
            ("vfp", 6),
            ("neon", 12),
            ("vfpv3", 13),
            ("vfpv3d16", 14),
            ("vfpv4", 16),
            ("idiva", 17),
        ]
    } else {
        &[("f", 5), ("d", 3), ("c", 2), ("v", 21)]
    };
    let found: Vec<(&str, bool)> = names
        .iter()
        .map(|(name, bit)| (*name, bits >> bit & 1 == 1))
        .collect();
    present(&found)
}

fn present(found: &[(&'static str, bool)]) -> Vec<&'static str> {
    let present = found.iter().filter(|(_, present)| *present);
    present.map(|(name, _)| *name).collect()
}

/// AT_HWCAP out of the auxiliary vector: pairs of words.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "aarch64"), allow(dead_code))]
fn hardware_bits(vector: &[u8]) -> Option<usize> {
    const AT_HWCAP: usize = 16;
    const WORD: usize = size_of::<usize>();
    let mut words = vector
        .chunks_exact(WORD)
        .filter_map(|word| word.try_into().ok().map(usize::from_ne_bytes));
    while let (Some(kind), Some(value)) = (words.next(), words.next()) {
        if kind == AT_HWCAP {
            return Some(value);
        }
    }
    None
}

/// The processor and its instruction sets.
pub(super) fn check() -> Check {
    const NAME: &str = "processor";
    let features = features();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let listed = match features.len() {
        0 => "none of the extensions used here".into(),
        _ => features.join(" "),
    };
    let found = format!("{}, {threads} threads, {listed}", std::env::consts::ARCH);
    let wanted: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["avx2", "fma"],
        "arm" | "aarch64" => &["neon"],
        _ => &[],
    };
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|name| !features.contains(name))
        .copied()
        .collect();
    if missing.is_empty() {
        Check::fine(NAME, found)
    } else {
        let remedy = "nothing is wrong, but it is several times slower than one that has it";
        Check::warning(NAME, format!("{found}; no {}", missing.join(", ")), remedy)
    }
}

/// Whether a better program than this one would run here. The program needs nothing of
/// the system but its kernel, so a 64-bit one runs under a 32-bit system too.
pub(super) fn program(root: &Path) -> Check {
    let kernel = fs::read_to_string(root.join("proc/sys/kernel/arch")).unwrap_or_default();
    program_on(std::env::consts::ARCH, kernel.trim())
}

fn program_on(program: &str, kernel: &str) -> Check {
    const NAME: &str = "program";
    let found = format!("fieldtune {} for {program}", env!("CARGO_PKG_VERSION"));
    if program == "arm" && kernel == "aarch64" {
        return Check::warning(
            NAME,
            format!("{found} on a 64-bit kernel"),
            "take the program for aarch64: it runs here and is faster",
        );
    }
    Check::fine(NAME, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn the_auxiliary_vector_is_read_in_pairs() {
        // 16 as a value is no key.
        let words = [3usize, 16, 16, 0b1000, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(hardware_bits(&bytes), Some(0b1000));
        assert_eq!(hardware_bits(&bytes[..size_of::<usize>() * 2]), None);
        assert_eq!(hardware_bits(&[]), None);
    }

    #[test]
    fn a_32_bit_program_on_a_64_bit_kernel_is_told() {
        assert_eq!(program_on("arm", "aarch64").state, State::Warning);
        assert_eq!(program_on("arm", "armv7l").state, State::Fine);
        assert_eq!(program_on("aarch64", "aarch64").state, State::Fine);
        assert_eq!(program_on("arm", "").state, State::Fine);
    }
}
