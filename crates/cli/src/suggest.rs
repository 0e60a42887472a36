//! `fieldtune suggest`.

use std::path::PathBuf;

use clap::Args;
use fieldtune::error::Result;
use fieldtune::samples::SampleSet;
use serde_json::json;

use crate::args::BackboneArgs;
use crate::progress::Bars;
use crate::{head, print, settings};

/// Flags of `suggest`.
#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// The head file
    pub head: PathBuf,
    /// Folder of unlabelled files; its sub-folders are looked into
    pub unlabelled: PathBuf,
    /// How many files to name
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub count: usize,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Prints the files most worth a label, one a line, the best first.
///
/// # Errors
/// `BadInput` when head or folder cannot be read.
pub fn run(args: &SuggestArgs) -> Result<()> {
    let head = head::open(&args.head, args.trust.as_deref())?;
    let session = settings::using(&args.backbone)?;
    let predictor = session.predictor(&head, &args.head)?;
    let bounds = settings::bounds(&args.backbone);
    let set = SampleSet::unlabelled(&args.unlabelled, predictor.kind(), bounds)?;
    let bars = Bars::new();
    let suggested = predictor.suggest(&set, args.count, &bars);
    bars.finish();
    let suggested = suggested?;
    print::skipped(&suggested.skipped);
    if args.json {
        return print::document(&json!({
            "suggestions": suggested.suggestions,
            "samples": suggested.samples,
            "skipped": suggested.skipped.len(),
        }));
    }
    let lines = suggested.suggestions.iter();
    let lines = lines.map(|suggestion| print::line(&suggestion.file.display().to_string()));
    print::heard(&lines.collect::<String>()).map(drop)
}
