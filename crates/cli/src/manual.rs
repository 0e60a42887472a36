//! `fieldtune completions` and `fieldtune man`: what a package puts beside the program,
//! made from the flags themselves.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use fieldtune::error::{Error, ErrorKind, Result};

use crate::args::Cli;
use crate::print;

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page to print, as in `man head show`; none for the page that lists
    /// all
    pub command: Vec<String>,
    /// Print the names of all pages instead, one a line
    #[arg(long, conflicts_with = "command")]
    pub list: bool,
}

/// Prints what a shell reads to complete commands and flags.
///
/// # Errors
/// `Failed` when standard output is full.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fieldtune", &mut out);
    print::heard(&String::from_utf8_lossy(&out)).map(drop)
}

/// Prints one page of the manual, in roff.
///
/// # Errors
/// `Usage` when there is no such command; `Failed` when standard output is full.
pub fn man(args: &ManArgs) -> Result<()> {
    // Builds the names of sub-commands' pages.
    let mut top = Cli::command();
    top.build();
    if args.list {
        return print::heard(&pages(&top, "")).map(drop);
    }
    let mut command = &top;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            let what = format_args!("there is no command {name}; `fieldtune man --list` names all");
            Error::new(ErrorKind::Usage, what)
        })?;
    }
    let mut out = Vec::new();
    // Into memory: this does not fail.
    let _ = clap_mangen::Man::new(command.clone()).render(&mut out);
    print::heard(&String::from_utf8_lossy(&out)).map(drop)
}

/// The commands below `command`, one a line, as `man` takes them.
fn pages(command: &clap::Command, above: &str) -> String {
    let mut out = String::new();
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        let name = format!("{above}{}", sub.get_name());
        out += &format!("{name}\n");
        out += &pages(sub, &format!("{name} "));
    }
    out
}
