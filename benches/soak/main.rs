//! Whether fieldtune runs for long: 100,000 files through `watch`, and 1,000 rounds of
//! training, labelling and going back to the head before. Memory and what lies on disk are
//! noted on the way: neither may grow. `cargo bench --bench soak [-- FILES ROUNDS]`.
//!
//! The backbone is a small one that is made here, so that days pass in minutes: what may leak
//! is the same. Files are links to the demo's photographs; whoever put them there takes them
//! away once they are labelled, as a spool is used. Results go to
//! `benches/results/soak.json`.

#[path = "../../tests/onnx_files.rs"]
#[allow(dead_code)]
mod onnx_files;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use fieldtune::cache::Cache;
use fieldtune::features::Source;
use fieldtune::head::Head;
use fieldtune::manifest::{Flags, Input, Layout};
use fieldtune::model::Model;
use fieldtune::samples::SampleSet;
use fieldtune::session::{Session, Settings, Silent};
use fieldtune::store::{Lock, Store};
use fieldtune::versions::Versions;
use fieldtune_benches::process::program;
use fieldtune_benches::{Failure, machine, results};
use onnx_files::{Onnx, Setting};
use serde_json::{Value, json};

/// Files that lie in the folder at once.
const BATCH: usize = 500;

/// What is noted so many times on the way.
const NOTES: usize = 20;

/// Of what is noted, the part before all buffers have their size.
const WARM: usize = NOTES / 5;

/// Memory may be so much more at the end than when everything was warm, in bytes: what an
/// allocator may take to and fro.
const FLAT_BYTES: u64 = 2 << 20;

fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let files = numbers.next().unwrap_or(100_000);
    let rounds = numbers.next().unwrap_or(1_000);
    let folder = tempfile::tempdir()?;
    let network = folder.path().join("small.onnx");
    fs::write(&network, small_network())?;
    let head = folder.path().join("soak.head");
    let samples = repository().join("crates/cli/demo/train");
    let watched = watch(folder.path(), &network, &samples, &head, files)?;
    let trained = train(folder.path(), &network, &samples, rounds)?;
    let report = json!({"machine": machine(), "watch": watched, "rounds": trained});
    let path = results().join("soak.json");
    fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{report:#}\nwritten: {}", path.display());
    let flat = [&watched, &trained].iter().all(|it| it["flat"] == true);
    flat.then_some(()).ok_or_else(|| "memory grows".into())
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Two convolutions and a mean over positions.
fn small_network() -> Vec<u8> {
    let halved = ("strides", Setting::Integers(&[2, 2]));
    let mut onnx = Onnx::new(13, [3, 32, 32]);
    onnx.convolution("x", "a", [8, 3, 3, 3], &[halved]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "b", [16, 8, 3, 3], &[halved]);
    onnx.node("Relu", &["b"], "b1", &[]);
    onnx.node("GlobalAveragePool", &["b1"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "y", &[]);
    onnx.finish("y")
}

/// Resident memory of a process, in bytes.
fn resident_bytes(process: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(1024 * kibibytes.ok_or("no VmRSS")?.parse::<u64>()?)
}

/// Whether memory stayed where it was once everything was warm.
fn is_flat(notes: &[u64]) -> bool {
    let (warm, last) = (notes.get(WARM), notes.last());
    matches!((warm, last), (Some(warm), Some(last)) if *last < warm + FLAT_BYTES)
}

struct Watching {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Flags that say which backbone.
fn backbone(command: &mut Command, network: &Path) {
    command.arg("--backbone").arg(network);
    command.args(["--input", "x:3x32x32", "--threads", "2"]);
}

fn watch(
    folder: &Path,
    network: &Path,
    samples: &Path,
    head: &Path,
    files: usize,
) -> Result<Value, Failure> {
    let mut training = Command::new(program()?);
    training.arg("train").arg(samples).arg("-o").arg(head);
    training.args(["--cut", "y", "--head", "linear", "--cache", "off"]);
    backbone(&mut training, network);
    fieldtune_benches::run(&mut training)?;
    let spool = folder.join("spool");
    fs::create_dir(&spool)?;
    let mut command = Command::new(program()?);
    command.arg("watch").arg(head).arg(&spool);
    command.args(["--json", "--interval", "10ms"]);
    backbone(&mut command, network);
    let mut process = command.stdout(Stdio::piped()).spawn()?;
    let stdout = process.stdout.take().ok_or("no output")?;
    let lines = BufReader::new(stdout).lines();
    let mut watching = Watching { process, lines };
    let photographs = photographs(samples, folder)?;
    let (mut notes, start) = (Vec::new(), Instant::now());
    let mut done = 0;
    while done < files {
        let batch: Vec<PathBuf> = (done..files.min(done + BATCH))
            .map(|number| spool.join(format!("{number:07}.jpg")))
            .collect();
        for (number, path) in batch.iter().enumerate() {
            fs::hard_link(&photographs[(done + number) % photographs.len()], path)?;
        }
        for path in &batch {
            let line = watching.lines.next().ok_or("watch ended")??;
            let said: Value = serde_json::from_str(&line)?;
            if said["file"].as_str() != path.to_str() || !said["label"].is_string() {
                return Err(format!("{}: {line}", path.display()).into());
            }
        }
        batch.iter().try_for_each(fs::remove_file)?;
        done += batch.len();
        if done * NOTES / files > notes.len() {
            notes.push(resident_bytes(&watching.process.id().to_string())?);
        }
    }
    let record = fs::metadata(spool.join(fieldtune::watch::RECORD))?.len();
    Ok(json!({
        "files": files,
        "seconds": start.elapsed().as_secs_f64(),
        "resident_bytes": notes,
        "flat": is_flat(&notes),
        "record_bytes": record,
    }))
}

/// Copies of the photographs on the disk of the spool, for links.
fn photographs(samples: &Path, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let set = SampleSet::open(samples)?;
    let mut copies = Vec::new();
    for (number, sample) in set.samples.iter().enumerate() {
        let copy = folder.join(format!("photograph-{number}.jpg"));
        fs::copy(&sample.path, &copy)?;
        copies.push(copy);
    }
    Ok(copies)
}

fn train(folder: &Path, network: &Path, samples: &Path, rounds: usize) -> Result<Value, Failure> {
    let set = SampleSet::open(samples)?;
    let path = folder.join("rounds.head");
    let cache = folder.join("cache");
    let (mut notes, mut on_disk) = (Vec::new(), Vec::new());
    let (mut back, start) = (0, Instant::now());
    for round in 0..rounds {
        let session = session(network, &cache, round as u64)?;
        let sources = Source::of_set(&set);
        let outcome = session.train(&set, &sources, &Silent)?;
        session.save(&outcome, &path, &Lock::take(&path)?)?;
        let head = Head::load(&path)?;
        let said = session.predict(&head, &path, &sources[..4], &Silent)?;
        said.into_iter().collect::<Result<Vec<_>, _>>()?;
        if round > 0 {
            Versions::of(&Store::default(), &path).roll_back(None)?;
            back += 1;
            Head::load(&path)?;
        }
        if (round + 1) * NOTES / rounds > notes.len() {
            notes.push(resident_bytes("self")?);
            on_disk.push(files_below(folder)?);
        }
    }
    Ok(json!({
        "rounds": rounds,
        "rollbacks": back,
        "seconds": start.elapsed().as_secs_f64(),
        "resident_bytes": notes,
        "files_on_disk": on_disk,
        "flat": is_flat(&notes) && on_disk.get(WARM) == on_disk.last(),
    }))
}

fn session(network: &Path, cache: &Path, seed: u64) -> Result<Session, Failure> {
    let input = Input {
        tensor: "x".into(),
        layout: Layout::Nchw,
        channels: 3,
        height: 32,
        width: 32,
    };
    let flags = Flags {
        cut: Some("y".into()),
        ..Flags::default()
    };
    let model = Model::open(network, Some(input), flags)?;
    let settings = Settings {
        seed,
        threads: 2,
        ..Settings::default()
    };
    Ok(Session::new(model, Cache::open(cache)?, settings))
}

/// Files in a folder and those below it.
fn files_below(folder: &Path) -> Result<usize, Failure> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        count += if path.is_dir() {
            files_below(&path)?
        } else {
            1
        };
    }
    Ok(count)
}
