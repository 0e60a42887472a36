//! What the benches share: a description of the machine, where results go, a Python for
//! reference implementations, programs that answer for them, frozen features, how they are
//! split and trained on, intervals of means, and pictures of curves.

pub mod cases;
pub mod frozen;
pub mod plot;
pub mod process;
pub mod reference;
pub mod served;
pub mod splits;
pub mod statistics;
pub mod table;
pub mod trained;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The folder of raw results, part of the repository.
pub fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// What was kept at `path` before; an empty object where nothing was.
pub fn kept(path: &Path) -> Value {
    let bytes = std::fs::read(path).ok();
    let kept = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.unwrap_or_else(|| json!({}))
}

/// Keeps a report at `path`.
///
/// # Errors
/// When it cannot be written.
pub fn keep(path: &Path, report: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    Ok(std::fs::write(path, text)?)
}

/// A file or folder of the optional data folder `../shared` beside the checkout.
///
/// # Errors
/// A line that says what is missing.
pub fn shared(path: &str) -> Result<PathBuf, String> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    if full.exists() {
        Ok(full)
    } else {
        Err(format!(
            "../shared/{path} is absent; put the data folder beside the checkout"
        ))
    }
}

/// Processor, number of processors, operating system and kernel of matrix products.
pub fn machine() -> Value {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split(':').nth(1)?.trim().to_string())
        });
    json!({
        "processor": processor,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "kernel": fieldtune_kernels::Kernel::best().name(),
    })
}

/// Whatever stops a bench.
pub type Failure = Box<dyn std::error::Error>;

/// Where a bench keeps what it makes on the way: in the build folder.
pub fn work_folder(bench: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .join(bench)
}

/// A Python with the pinned packages of a bench, installed at the first call.
///
/// # Errors
/// When Python or the packages cannot be had.
pub fn python(bench: &str, requirements: &Path) -> Result<PathBuf, Failure> {
    let folder = work_folder(bench).join("python");
    let python = folder.join("bin/python");
    let done = folder.join("installed");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(requirements))?;
        std::fs::write(done, "")?;
    }
    Ok(python)
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {status}").into())
    }
}
