//! What the benches share: a description of the machine, and where results go.

use std::path::PathBuf;

use serde_json::{Value, json};

/// The folder of raw results, part of the repository.
pub fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
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
