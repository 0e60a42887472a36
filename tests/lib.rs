//! Helpers that several promises share: where the data is, and how the command is
//! run. No promise lives here.

use std::io::Write;
use std::path::PathBuf;

/// A file or folder of the optional data folder `../shared` beside the checkout.
/// Prints a visible line and returns `None` where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    if full.exists() {
        return Some(full);
    }
    not_tested(&format!(
        "../shared/{path} is absent; put the data folder beside the checkout"
    ));
    None
}

/// Says that a test could not run, and why. Goes to the terminal even when the
/// test harness captures the output of passing tests.
pub fn not_tested(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {why}");
}
