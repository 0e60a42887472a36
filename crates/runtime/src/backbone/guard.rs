//! Catches panics of code that reads untrusted files, silently, and turns them into
//! errors. Aborts (stack overflow, memory that cannot be had) are beyond it.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};

/// Longest reason that goes into a message, in characters.
pub(super) const MAX_REASON: usize = 300;

/// `text`, cut off after so many characters.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

thread_local! {
    /// Whether a panic on this thread is caught below and need not be printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A `BadInput` about an ONNX file.
pub(super) fn bad(file: &Path, what: impl Display, remedy: impl Display) -> Error {
    Error::at(ErrorKind::BadInput, file, what, remedy)
}

/// Runs `work`, which calls tract; a panic in there becomes `BadInput`. tract promises no
/// absence of panics on hostile files.
pub(super) fn guarded<T>(file: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|reason| {
        let what = format_args!("is damaged or uses what cannot be run here ({reason})");
        Err(bad(
            file,
            what,
            "check the file or export the network again",
        ))
    })
}

/// Runs `work` silently; what a panic in there says becomes the error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                print(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    outcome.map_err(|payload| spoken(&*payload))
}

fn spoken(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    shortened(text.unwrap_or("no reason given"), MAX_REASON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_file() {
        let outcome: Result<()> = guarded(Path::new("bad.onnx"), || panic!("axis 7"));
        let line = outcome.map_err(|error| (error.kind(), error.to_string()));
        let Err((ErrorKind::BadInput, line)) = line else {
            panic!("{line:?}");
        };
        assert!(
            line.starts_with("bad.onnx: ") && line.contains("axis 7"),
            "{line}"
        );
        assert!(!QUIET.get());
    }
}
