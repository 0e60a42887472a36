//! Promise: a hostile or damaged ONNX file is refused with exit code 3 and one line, in
//! little memory; no panic escapes, whatever its bytes are. The bench `hostile` does the
//! same for minutes.

mod mutation;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune::backbone::Backbone;
use fieldtune::error::{Error, ErrorKind};
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune_tests::{Ran, not_tested, program, run, scratch, two_classes};

use mutation::Mutator;

/// Damaged files that one run of this test looks at.
const DAMAGED: usize = 2500;

/// Memory that loading any of these small files may take, beyond what the process has.
const MOST_MEMORY_BYTES: u64 = 512 << 20;

fn golden(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(folder);
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|it| it == "onnx"))
        .collect();
    files.sort();
    files
}

fn input(tensor: &str) -> Input {
    Input {
        tensor: tensor.into(),
        layout: Layout::Nchw,
        channels: 3,
        height: 8,
        width: 8,
    }
}

fn load(bytes: &[u8], path: &Path, tensor: &str, cut: &str) -> Result<Backbone, Error> {
    let manifest = Manifest::from_flags(path, input(tensor), Flags::default()).unwrap();
    Backbone::load_beside(&manifest, bytes, path, cut)
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Makes sure that `work` does not need much memory, where that can be measured.
fn in_little_memory(work: impl FnOnce()) {
    let before = peak_memory();
    work();
    match (before, peak_memory()) {
        (Some(before), Some(after)) => {
            let grown = after - before;
            assert!(grown < MOST_MEMORY_BYTES, "{grown} bytes more at the peak");
        }
        _ => not_tested("peak memory; this system has no /proc/self/status"),
    }
}

#[test]
fn hostile_files_are_refused_by_name() {
    let files = golden("hostile_onnx");
    assert!(files.len() > 70, "{} files", files.len());
    let mut wrong = Vec::new();
    in_little_memory(|| {
        for path in &files {
            let bytes = fs::read(path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let Err(error) = load(&bytes, path, "image", "y").and_then(|it| used(&it)) else {
                wrong.push(format!("{name} was loaded and run"));
                continue;
            };
            let line = error.to_string();
            // One of them has no tensor of the name that it gives its output.
            let kind = match name {
                "missing_output.onnx" => ErrorKind::Usage,
                _ => ErrorKind::BadInput,
            };
            let said = line.contains(name) && line.contains("; ") && line.len() < 1200;
            if error.kind() != kind || !said {
                wrong.push(format!("{name}: {line}"));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs a network once on zeros.
fn used(backbone: &Backbone) -> Result<(), Error> {
    let input = vec![0.0; backbone.input_elements()];
    let mut features = vec![0.0; backbone.features()];
    backbone.worker()?.run(&input, &mut features)
}

/// The command in an address space of 1.5 GB.
fn confined(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1500000; exec \"$0\" \"$@\""]);
    command.arg(program()).args(arguments);
    command.env("FIELDTUNE_CACHE", scratch().join("cache"));
    command
}

#[cfg(unix)]
#[test]
fn the_command_ends_with_3_in_a_small_address_space() {
    let samples = two_classes();
    let samples = samples.path().to_str().unwrap();
    let head = scratch().join("never.head");
    let mut wrong = Vec::new();
    for path in golden("hostile_onnx") {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let file = path.to_str().unwrap();
        // It lists cuts before the fault, where there are any.
        let inspected = run(&mut confined(&["inspect", file]));
        if inspected.code != Some(0) {
            wrong.extend(unlike_a_refusal(&inspected, &name));
        }
        if name == "missing_output.onnx" {
            continue;
        }
        let flags = [
            "--backbone",
            file,
            "--input",
            "image:3x8x8",
            "--cut",
            "y",
            "--head",
            "linear",
        ];
        let train = [
            &["train", samples, "-o", head.to_str().unwrap()],
            &flags[..],
        ]
        .concat();
        wrong.extend(unlike_a_refusal(&run(&mut confined(&train)), &name));
        assert!(!head.exists(), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is not as it should be where a command must refuse a file.
fn unlike_a_refusal(ran: &Ran, name: &str) -> Option<String> {
    let one_line = ran.stderr.trim_end().lines().count() == 1;
    let said = ran.stderr.contains(name) && !ran.stderr.contains("panicked");
    let right = ran.code == Some(3) && one_line && said;
    (!right).then(|| format!("{name}: {ran:?}"))
}

#[test]
fn damaged_files_never_panic() {
    let sound: Vec<PathBuf> = golden("any_onnx");
    let mut corpus: Vec<Vec<u8>> = sound.iter().map(|path| fs::read(path).unwrap()).collect();
    corpus.extend(
        golden("hostile_onnx")
            .iter()
            .map(|path| fs::read(path).unwrap()),
    );
    // Damage to a large block of zeros tells little.
    corpus.retain(|bytes| bytes.len() < 8192);
    let mut mutator = Mutator::new(6);
    let (mut refused, mut loaded) = (0, 0);
    in_little_memory(|| {
        for index in 0..DAMAGED {
            let bytes = mutator.damaged(&corpus);
            let path = sound[0].with_file_name("damaged.onnx");
            let found = inspect(&bytes, &path, Some(&input("")));
            let last = found.as_ref().ok().and_then(|found| found.cuts.last());
            let cut = last.map_or("features", |cut| &cut.tensor);
            let outcome = load(&bytes, &path, "", cut).and_then(|it| used(&it));
            for outcome in [outcome, found.map(drop)] {
                match outcome {
                    Ok(()) => loaded += 1,
                    Err(error) => {
                        refused += 1;
                        let line = error.to_string();
                        assert!(line.contains("damaged.onnx"), "{index}: {line}");
                        // A name that is gone is the user's to correct.
                        let expected =
                            matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Usage);
                        assert!(expected, "{index}: {line}");
                    }
                }
            }
        }
    });
    // Both must be common, or the damage is too great or too small to tell anything.
    assert!(
        refused > DAMAGED / 2 && loaded > DAMAGED / 20,
        "{refused} refused, {loaded} loaded"
    );
}
