//! The `fieldtune` command: reads flags, calls the runtime, prints. No logic of its
//! own; what a command does is in crate `fieldtune`.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod check;
mod collect;
mod config;
mod demo;
mod device;
mod doctor;
mod evaluate;
mod export;
mod head;
mod inspect;
mod manual;
mod predict;
mod print;
mod progress;
mod settings;
mod suggest;
mod train;
mod watch;

use std::process::ExitCode;

use args::{Cli, Command, HeadCommand};
use fieldtune::error::{Error, Result};

fn main() -> ExitCode {
    // Not among the commands: `watch` and `collect` start this program once more.
    let first = std::env::args_os().nth(1);
    let is = |flag: &str| first.as_ref().is_some_and(|it| it == flag);
    if is(fieldtune::sources::FLAG) {
        fieldtune::sources::keep();
        return ExitCode::SUCCESS;
    }
    if is(fieldtune::mqtt::FLAG) {
        fieldtune::mqtt::publish();
        return ExitCode::SUCCESS;
    }
    fieldtune::budget::return_freed_memory();
    match config::parse(std::env::args_os().collect()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => train::plan(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Collect(args) => collect::run(&args),
        Command::Suggest(args) => suggest::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Device(command) => device::run(&command),
        Command::Head(HeadCommand::Show { head, json }) => head::show(&head, json),
        Command::Head(HeadCommand::Rollback(args)) => head::roll_back(&args),
        Command::Head(HeadCommand::Keygen(args)) => head::keygen(&args),
        Command::Head(HeadCommand::Sign(args)) => head::sign(&args),
        Command::Head(HeadCommand::Verify(args)) => head::verify(&args),
    }
}

fn fail(error: &Error) -> ExitCode {
    print::note(&error);
    ExitCode::from(error.kind().exit_code())
}
