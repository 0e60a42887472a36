//! Prints the report on a machine with an operating system.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use fieldtune_reproducible::{Space, report};

fn main() -> ExitCode {
    let mut text = String::new();
    if let Err(failure) = report(&mut Box::new(Space::new()), &mut text) {
        eprintln!("fieldtune-reproducible: {failure}");
        return ExitCode::FAILURE;
    }
    print!("{text}");
    ExitCode::SUCCESS
}
