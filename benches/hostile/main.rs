//! Damages ONNX files at random for minutes and loads each, as `tests/hostile_onnx.rs` does
//! for seconds: does a panic escape, does a process end, how much memory and time does the
//! worst of them take. Small networks are run once too.
//!
//!     cargo bench --bench hostile -- --minutes 10
//!
//! Cases run in processes with an address space of 2 GB, so that none can harm the machine.
//! A case is known by its seed: `-- --case SEED` runs it alone and says how it ended.

#[path = "../../tests/mutation.rs"]
mod mutation;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use fieldtune::backbone::Backbone;
use fieldtune::error::{Error, ErrorKind};
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune_benches::{Failure, machine, results, work_folder};
use mutation::Mutator;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Cases of one process.
const BATCH: u64 = 500;

/// Address space of a process, in KiB.
const ADDRESS_SPACE_KIB: u64 = 2_000_000;

/// Most elements of input and features with which a loaded network is run.
const MAX_RUN_ELEMENTS: usize = 1 << 20;

#[derive(Debug, Parser)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one case and say how it ended
    #[arg(long)]
    case: Option<u64>,
    /// Run the cases from this seed on, as the bench itself asks
    #[arg(long, hide = true)]
    worker: Option<u64>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one process found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    cases: u64,
    loaded: u64,
    ran: u64,
    refused: u64,
    /// Seeds of cases with an error of an unexpected kind.
    odd: Vec<u64>,
    peak_bytes: u64,
    slowest_ms: f64,
    slowest_seed: u64,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let corpus = corpus()?;
    if let Some(seed) = arguments.case {
        let (loaded, inspected) = tried(seed, &corpus);
        println!("load: {:?}\ninspect: {inspected:?}", loaded.map(|_| "done"));
        return Ok(());
    }
    if let Some(seed) = arguments.worker {
        println!("{}", serde_json::to_string(&work(seed, &corpus)?)?);
        return Ok(());
    }
    let (start, time) = (
        Instant::now(),
        Duration::from_secs_f64(60.0 * arguments.minutes),
    );
    let mut total = Tally::default();
    let mut ended: Vec<u64> = Vec::new();
    let mut seed = arguments.seed;
    while start.elapsed() < time {
        let said = confined(seed)?;
        match said {
            Some(tally) => add(&mut total, tally),
            None => {
                let text = fs::read_to_string(last_case())?;
                ended.push(text.trim().parse()?);
            }
        }
        seed += BATCH;
    }
    let document = json!({
        "machine": machine(),
        "minutes": arguments.minutes,
        "first_seed": arguments.seed,
        "corpus_files": corpus.len(),
        "address_space_kib": ADDRESS_SPACE_KIB,
        "tally": total,
        "processes_ended": ended,
    });
    fs::write(
        results().join("hostile.json"),
        serde_json::to_string_pretty(&document)? + "\n",
    )?;
    println!(
        "{} cases in {} files: {} loaded, {} of them run, {} refused; {} of an odd kind; {} processes ended; \
         peak {} MB; slowest {:.0} ms (seed {})",
        total.cases,
        corpus.len(),
        total.loaded,
        total.ran,
        total.refused,
        total.odd.len(),
        ended.len(),
        total.peak_bytes >> 20,
        total.slowest_ms,
        total.slowest_seed
    );
    match ended.is_empty() && total.odd.is_empty() {
        true => Ok(()),
        false => Err(format!("look at --case {:?} {:?}", ended, total.odd).into()),
    }
}

fn corpus() -> Result<Vec<Vec<u8>>, Failure> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut files = Vec::new();
    for folder in ["any_onnx", "hostile_onnx"] {
        for entry in fs::read_dir(golden.join(folder))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let onnx = files
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "onnx"));
    let contents = onnx.map(fs::read).collect::<Result<Vec<_>, _>>()?;
    // Damage to a large block of zeros tells little.
    Ok(contents
        .into_iter()
        .filter(|bytes| bytes.len() < 8192)
        .collect())
}

fn last_case() -> PathBuf {
    work_folder("hostile").join("last-case")
}

/// Runs a batch in a process of its own. `None` when that did not end as it should.
fn confined(seed: u64) -> Result<Option<Tally>, Failure> {
    fs::create_dir_all(work_folder("hostile"))?;
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe()?);
    let output = command.args(["--worker", &seed.to_string()]).output()?;
    if !output.status.success() {
        eprintln!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

fn work(first: u64, corpus: &[Vec<u8>]) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let last = last_case();
    for seed in first..first + BATCH {
        fs::write(&last, seed.to_string())?;
        let start = Instant::now();
        let (loaded, inspected) = tried(seed, corpus);
        tally.cases += 1;
        let ran = loaded.as_ref().is_ok_and(|ran| *ran);
        tally.ran += u64::from(ran);
        for outcome in [loaded.map(drop), inspected] {
            match outcome {
                Ok(()) => tally.loaded += 1,
                Err(error) if matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Usage) => {
                    tally.refused += 1
                }
                Err(_) => tally.odd.push(seed),
            }
        }
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if ms > tally.slowest_ms {
            (tally.slowest_ms, tally.slowest_seed) = (ms, seed);
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    tally.peak_bytes = kibibytes.unwrap_or(0) * 1024;
    Ok(tally)
}

/// Inspects a damaged file, loads it at its last cut, and runs it if it is small.
fn tried(seed: u64, corpus: &[Vec<u8>]) -> (Result<bool, Error>, Result<(), Error>) {
    let bytes = Mutator::new(seed).damaged(corpus);
    let path = Path::new("damaged.onnx");
    let input = Input {
        tensor: String::new(),
        layout: Layout::Nchw,
        channels: 3,
        height: 8,
        width: 8,
    };
    let found = inspect(&bytes, path, Some(&input));
    let last = found.as_ref().ok().and_then(|found| found.cuts.last());
    let cut = last.map_or("features", |cut| &cut.tensor);
    let manifest = Manifest::from_flags(path, input, Flags::default());
    let loaded = manifest.and_then(|manifest| {
        let backbone = Backbone::load_beside(&manifest, &bytes, path, cut)?;
        let elements = backbone
            .input_elements()
            .saturating_add(backbone.features());
        if elements > MAX_RUN_ELEMENTS {
            return Ok(false);
        }
        let input = vec![0.5; backbone.input_elements()];
        let mut features = vec![0.0; backbone.features()];
        backbone.worker()?.run(&input, &mut features)?;
        Ok(true)
    });
    (loaded, found.map(drop))
}

fn add(total: &mut Tally, more: Tally) {
    total.cases += more.cases;
    total.loaded += more.loaded;
    total.ran += more.ran;
    total.refused += more.refused;
    total.odd.extend(more.odd);
    total.peak_bytes = total.peak_bytes.max(more.peak_bytes);
    if more.slowest_ms > total.slowest_ms {
        (total.slowest_ms, total.slowest_seed) = (more.slowest_ms, more.slowest_seed);
    }
}
