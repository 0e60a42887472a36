//! `fieldtune doctor`.

use clap::Args;
use fieldtune::doctor::{self, Check, State};
use fieldtune::error::{Error, ErrorKind, Result};
use serde_json::json;

use crate::args::BackboneArgs;
use crate::{print, settings};

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Looks at this machine.
///
/// # Errors
/// `Failed` when something does not work here, after everything was printed.
pub fn run(args: &DoctorArgs) -> Result<()> {
    let model = settings::model(&args.backbone)?;
    let checks = doctor::examine(&model, args.backbone.cache.as_deref());
    if args.json {
        print::document(&json!({"checks": checks}))?;
    } else {
        print::text(&checks.iter().map(text).collect::<String>())?;
    }
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check.state == State::Failure)
        .map(|check| check.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.join(", ");
    let what = format_args!("does not work here: {names}; see what to do above");
    Err(Error::new(ErrorKind::Failed, what))
}

fn text(check: &Check) -> String {
    let mark = match check.state {
        State::Fine => "ok  ",
        State::Warning => "note",
        State::Failure => "FAIL",
    };
    let mut out = format!("{mark} {}: {}\n", check.name, check.found);
    if let Some(remedy) = &check.remedy {
        out += &format!("       {remedy}\n");
    }
    out
}
