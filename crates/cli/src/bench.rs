//! `fieldtune bench`.

use clap::Args;
use fieldtune::bench::{self, Bench, Step};
use fieldtune::budget::format_size;
use fieldtune::error::Result;
use serde_json::json;

use crate::args::BackboneArgs;
use crate::{print, settings};

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Measures this machine.
///
/// # Errors
/// When the backbone cannot be loaded or run.
pub fn run(args: &BenchArgs) -> Result<()> {
    let threads = args.backbone.threads.map_or(1, usize::from);
    let bench = bench::measure(&settings::model(&args.backbone)?, threads)?;
    if args.json {
        print::document(&json!(bench))
    } else {
        print::text(&text(&bench))
    }
}

fn text(bench: &Bench) -> String {
    let mut out = format!(
        "backbone: {:.2} pictures a second on {} thread(s); read in {:.0} ms\n",
        bench.features_per_s, bench.threads, bench.load_ms
    );
    out += &format!(
        "one picture: {:.1} ms from file to label\n",
        bench.latency_ms
    );
    for Step {
        head,
        batch,
        adversarial,
        median_us,
    } in &bench.steps
    {
        let features = if *adversarial {
            ", adversarial features"
        } else {
            ""
        };
        out += &format!("training step, {head}, batch {batch}{features}: {median_us:.0} us\n");
    }
    out += &format!("kernel: {}\n", bench.kernel);
    if let Some(bytes) = bench.peak_rss_bytes {
        out += &format!("peak memory: {}\n", format_size(bytes));
    }
    out
}
