//! `fieldtune eval`.

use fieldtune::error::Result;
use fieldtune::features::Source;
use fieldtune::head::Head;
use fieldtune::samples::SampleSet;

use crate::args::EvalArgs;
use crate::progress::Bars;
use crate::{print, settings};

/// Measures a head on labelled samples.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &EvalArgs) -> Result<()> {
    let head = Head::load(&args.head)?;
    let set = SampleSet::open(&args.samples)?;
    let session = settings::using(&args.backbone)?;
    let bars = Bars::new();
    let found = session.evaluate(&head, &args.head, &set, &Source::of_set(&set), &bars);
    bars.finish();
    let found = found?;
    print::skipped(&found.skipped);
    if args.json {
        return print::document(&print::evaluation_json(&found.evaluation));
    }
    print::text(&print::evaluation_text(&found.evaluation))
}
