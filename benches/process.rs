//! The command itself, run as a user runs it, and what processes use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Failure, run};

/// The command: `$FIELDTUNE_BIN`, or else built beside the bench that calls this.
///
/// # Errors
/// When it cannot be built.
pub fn program() -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("FIELDTUNE_BIN") {
        return Ok(program.into());
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--workspace", "--bin", "fieldtune"]);
    run(cargo.current_dir(repository))?;
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or("no target folder")?;
    Ok(target.join("release/fieldtune"))
}

/// What a process used, from its start to its end.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Used {
    /// Seconds on the clock.
    pub wall_s: f64,
    /// Seconds of processors, of all threads.
    pub processor_s: f64,
    /// The most memory that was resident.
    pub peak_bytes: u64,
}

/// Runs a command to its end, by `measure.py`; any Python from 3.9 on will do.
///
/// # Errors
/// When it fails.
pub fn used(command: &Command) -> Result<Used, Failure> {
    let mut measured = Command::new("python3");
    measured
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("measure.py"))
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measured.env(name, value),
            None => measured.env_remove(name),
        };
    }
    let output = measured.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed:\n{said}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The JSON document that a command prints.
///
/// # Errors
/// When it fails or prints something else.
pub fn document(command: &mut Command) -> Result<Value, Failure> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed:\n{said}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
