//! `--config FILE.toml`: the same names as the flags. The file's keys become flags in
//! front of the user's own, so that they are checked alike and the user's win.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::store;
use toml::{Table, Value};

use crate::args::{Cli, Command};

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads the command line, and the file it names. Help prints itself and ends the
/// process, with 0 if it was asked for and 2 if there was nothing else to do.
///
/// # Errors
/// `Usage` when the flags are wrong; `Usage` or `BadInput` when the file cannot be read
/// or says something unknown.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli> {
    let cli = Cli::try_parse_from(&arguments).map_err(|error| {
        use clap::error::ErrorKind::{
            DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
        };
        let help = [
            DisplayHelp,
            DisplayHelpOnMissingArgumentOrSubcommand,
            DisplayVersion,
        ];
        if help.contains(&error.kind()) {
            error.exit();
        }
        let what = format_args!("{}; see `fieldtune --help`", what_is_wrong(&error));
        Error::new(ErrorKind::Usage, what)
    })?;
    let config = match &cli.command {
        Command::Train(args) => args.training.config.clone(),
        Command::Plan(args) => args.training.config.clone(),
        _ => None,
    };
    let Some(path) = config else {
        return Ok(cli);
    };
    let mut with_file = arguments;
    // After the program's and the command's name.
    let rest = with_file.split_off(2.min(with_file.len()));
    with_file.extend(flags(&path)?.into_iter().map(OsString::from));
    with_file.extend(rest);
    Cli::try_parse_from(with_file).map_err(|error| {
        let remedy = "see `fieldtune train --help` for names and values";
        Error::at(ErrorKind::Usage, &path, what_is_wrong(&error), remedy)
    })
}

/// A usage error on one line, without the general advice that follows it.
fn what_is_wrong(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ").trim_start_matches("error: ").to_string()
}

fn flags(path: &Path) -> Result<Vec<String>> {
    let bytes = store::read(path, MAX_CONFIG_BYTES)?;
    let wrong = |what: &dyn std::fmt::Display| {
        Error::at(ErrorKind::BadInput, path, what, "correct the file")
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"is not UTF-8 text"))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        wrong(&format_args!("is not TOML: {}", error.message()))
    })?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        let name = key.replace('_', "-");
        if name == "config" {
            return Err(wrong(&"names another configuration file"));
        }
        match value {
            Value::Boolean(true) => flags.push(format!("--{name}")),
            Value::Boolean(false) => {}
            Value::String(text) => flags.push(format!("--{name}={text}")),
            Value::Integer(number) => flags.push(format!("--{name}={number}")),
            Value::Float(number) => flags.push(format!("--{name}={number}")),
            _ => {
                return Err(wrong(&format_args!(
                    "`{key}` is not a text, number or switch"
                )));
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_flags() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "head = \"linear\"\ndecay_mode = \"online\"\nlambda = 0.01\nseed = 3\nstrict = true\nreproducible = false\n").expect("written");
        let mut found = flags(&path).expect("sound");
        found.sort();
        let expected = [
            "--decay-mode=online",
            "--head=linear",
            "--lambda=0.01",
            "--seed=3",
            "--strict",
        ];
        assert_eq!(found, expected);
        std::fs::write(&path, "head = [1]").expect("written");
        assert!(flags(&path).is_err());
    }

    #[test]
    fn the_users_flags_win() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "seed = 3\nbatch = 8").expect("written");
        let arguments = [
            "fieldtune",
            "train",
            "x",
            "-o",
            "y",
            "--seed",
            "5",
            "--config",
        ];
        let mut arguments: Vec<OsString> = arguments.map(OsString::from).to_vec();
        arguments.push(path.into());
        let Command::Train(args) = parse(arguments).expect("sound").command else {
            unreachable!("the command is train");
        };
        assert_eq!(
            (args.training.seed, args.training.batch),
            (Some(5), Some(8))
        );
    }
}
