//! Promise: what fuzzing found, and what it keeps as its corpus, does no harm: every file is
//! taken or refused, by the very functions that are fuzzed. `fuzz/README.md` says how to fuzz.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)] // What only the fuzz targets need.
mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use fieldtune_core::Error;
use fieldtune_core::head::Head;
use fieldtune_core::random::Random;
use fieldtune_tests::repository;

/// All files of a folder with their names; none where there is no folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).expect("readable");
        (path.display().to_string(), bytes)
    };
    paths.iter().map(read).collect()
}

/// Replays what one target starts from, its corpus, and what it found.
fn replay(name: &str) {
    let targets = fuzz::TARGETS;
    let target = targets.iter().find(|(own, ..)| *own == name);
    let (_, body, seeds) = target.expect("a target of this name");
    let folder = repository().join("fuzz");
    let corpus = files(&folder.join("corpus").join(name));
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let findings = files(&folder.join("findings").join(name));
    let seeds = seeds().into_iter().zip(1..);
    let seeds = seeds.map(|(bytes, number)| (format!("seed {number}"), bytes));
    let mut harmful = Vec::new();
    for (case, bytes) in seeds.chain(corpus).chain(findings) {
        if catch_unwind(|| body(&bytes)).is_err() {
            harmful.push(case);
        }
    }
    assert!(harmful.is_empty(), "{name}: {harmful:#?}");
}

#[test]
fn head_files() {
    replay("head_file");
}

#[test]
fn cache_entries() {
    replay("cache_entry");
}

#[test]
fn manifests() {
    replay("manifest");
}

#[test]
fn onnx_files() {
    replay("onnx");
}

#[test]
fn pictures() {
    replay("picture");
}

#[test]
fn recordings() {
    replay("sound");
}

#[test]
fn tables() {
    replay("table");
}

#[test]
fn sensors() {
    replay("series");
}

#[test]
fn conversations_with_a_device() {
    replay("device");
}

#[test]
fn every_target_is_replayed_and_built() {
    let own = include_str!("hostile_corpus.rs");
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, ..) in fuzz::TARGETS {
        assert!(own.contains(&format!("replay(\"{name}\")")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// Changed bytes, without a fuzzer.
fn jumbled(bytes: &mut [u8], random: &mut Random) {
    let length = bytes.len() as u32;
    if length > 0 {
        bytes[random.below(length) as usize] = random.bits() as u8;
    }
}

#[test]
fn changed_heads_come_behind_the_checksum_and_many_are_heads() {
    let (mut sound, mut refused, mut seen) = (0, 0, 0);
    for (number, seed) in fuzz::seeds::head_files().iter().enumerate() {
        for round in 0..200 {
            let mut random = Random::new(1000 * number as u64 + u64::from(round));
            let usual = |bytes: &mut Vec<u8>| jumbled(bytes, &mut random);
            let file = fuzz::mutate::head_file(seed, round, usual);
            seen += 1;
            match Head::decode(&file) {
                Ok(_) => sound += 1,
                Err(Error::Checksum | Error::Length) => refused += 1,
                Err(_) => {}
            }
            fuzz::head_file(&file);
        }
    }
    assert!(
        10 * sound > 3 * seen && 10 * refused < 2 * seen,
        "{sound} sound and {refused} stopped early of {seen}"
    );
}
