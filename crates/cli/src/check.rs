//! `fieldtune check`.

use fieldtune::error::Result;
use fieldtune::features::Source;
use fieldtune::session::Checked;
use fieldtune::suspects::{Kind, Suspect};
use serde_json::{Value, json};

use crate::args::CheckArgs;
use crate::progress::Bars;
use crate::{print, settings};

/// Files shown of each kind; `--json` has all.
const SHOWN: usize = 20;

/// Says what is wrong with samples. That something is wrong is no failure.
///
/// # Errors
/// Whatever went wrong; `BadInput` when no sample can be read.
pub fn run(args: &CheckArgs) -> Result<()> {
    let set = settings::samples(&args.samples, &args.backbone)?;
    let session = settings::using(&args.backbone)?;
    let bars = Bars::new();
    let checked = session.check(&set, &Source::of_set(&set), &bars);
    bars.finish();
    let checked = checked?;
    if args.json {
        return print::document(&document(&checked));
    }
    print::text(&text(&checked))
}

fn document(checked: &Checked) -> Value {
    let issue = |suspect: &Suspect| {
        json!({
            "kind": suspect.kind.name(),
            "file": suspect.path,
            "other": suspect.other,
            "detail": suspect.detail,
            "score": suspect.score,
        })
    };
    let issues: Vec<Value> = checked.suspects.iter().map(issue).collect();
    let classes = checked.labels.iter().zip(&checked.counts);
    let classes: Vec<Value> = classes
        .map(|(label, samples)| json!({"label": label, "samples": samples}))
        .collect();
    json!({"issues": issues, "classes": classes, "agreement": checked.agreement})
}

fn text(checked: &Checked) -> String {
    let samples: usize = checked.counts.iter().sum();
    let mut out = format!(
        "{samples} usable samples of {} classes\n",
        checked.labels.len()
    );
    for (label, count) in checked.labels.iter().zip(&checked.counts) {
        out += &format!("  {label}: {count}\n");
    }
    for kind in Kind::ALL {
        let suspects = checked.suspects.iter().filter(|one| one.kind == kind);
        out += &group(kind, &suspects.collect::<Vec<_>>());
    }
    if checked.suspects.is_empty() {
        out += "nothing suspicious found\n";
    }
    out
}

fn group(kind: Kind, suspects: &[&Suspect]) -> String {
    if suspects.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{} ({})\n", kind.advice(), suspects.len());
    for suspect in suspects.iter().take(SHOWN) {
        let line = format!("  {}: {}", suspect.path.display(), suspect.detail);
        out += &print::line(&line);
    }
    if suspects.len() > SHOWN {
        out += &format!("  and {} more; --json lists all\n", suspects.len() - SHOWN);
    }
    out
}
