//! `fieldtune eval`.

use fieldtune::error::Result;
use fieldtune::features::Source;

use crate::args::EvalArgs;
use crate::progress::Bars;
use crate::{head, print, settings};

/// Measures a head on labelled samples.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &EvalArgs) -> Result<()> {
    let mut head = head::open(&args.head, args.trust.as_deref())?;
    settings::augment(&mut head, args.tta);
    let set = settings::samples(&args.samples, &args.backbone)?;
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
