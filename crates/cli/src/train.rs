//! `fieldtune train` and `fieldtune plan`.

use std::path::Path;

use fieldtune::budget::format_size;
use fieldtune::error::{Error, ErrorKind, Result, escaped};
use fieldtune::features::Source;
use fieldtune::forecast::Forecast;
use fieldtune::growing::Saved;
use fieldtune::report::Report;
use fieldtune::session::Outcome;
use fieldtune::store::{self, Lock};
use serde_json::{Value, json};

use crate::args::{PlanArgs, TrainArgs};
use crate::progress::Bars;
use crate::{print, settings};

/// Trains and writes the head, and the report if wanted.
///
/// # Errors
/// Whatever went wrong; then nothing is written.
pub fn run(args: &TrainArgs) -> Result<()> {
    let session = settings::training(&args.training, Some(&args.output))?;
    store::require_writable(&args.output)?;
    let lock = Lock::take(&args.output)?;
    if let Some(report) = &args.report {
        store::require_writable(report)?;
    }
    let set = settings::samples(&args.samples, &args.training.backbone)?;
    let bars = Bars::new();
    let sources = Source::of_set(&set);
    let outcome = match &args.from {
        Some(from) => session.grow(from, &set, &sources, &bars),
        None => session.train(&set, &sources, &bars),
    };
    bars.finish();
    let outcome = outcome?;
    let saved = session.save(&outcome, &args.output, &lock)?;
    notes(&outcome, &saved);
    if let Some(path) = &args.report {
        let report = Report {
            title: "fieldtune",
            outcome: &outcome,
            source: &args.samples,
            head_file: &args.output,
            command: &command_line(),
            test: None,
            predictions: &[],
            read: &|path| store::read(path, 1 << 27).ok(),
        };
        store::write_atomically(path, report.html().as_bytes())?;
    }
    if args.json {
        return print::document(&document(&outcome, &args.output, args.report.as_deref()));
    }
    print::text(&summary(
        &outcome,
        &args.output,
        saved.head_bytes,
        args.report.as_deref(),
    ))
}

/// Says what training would take.
///
/// # Errors
/// `OverBudget` when it is more than `--memory`.
pub fn plan(args: &PlanArgs) -> Result<()> {
    let session = settings::training(&args.training, None)?;
    let set = settings::samples(&args.samples, &args.training.backbone)?;
    let forecast = session.forecast(&set)?;
    if args.json {
        return print::document(&json!({
            "memory": forecast.memory,
            "peak_bytes": forecast.peak_bytes,
            "arena": forecast.arena,
            "largest_tensors": forecast.largest_tensors,
            "multiply_adds": forecast.multiply_adds,
            "recomputed_multiply_adds": forecast.recomputed_multiply_adds,
            "head_bytes": forecast.head_bytes,
            "seconds": forecast.seconds.total(),
            "seconds_by_part": forecast.seconds,
        }));
    }
    print::text(&plan_text(&forecast))
}

fn plan_text(forecast: &Forecast) -> String {
    let mut out = format!("memory at most {}\n", format_size(forecast.peak_bytes));
    for (part, bytes) in forecast.memory.parts() {
        out += &format!("  {part:12} {:>10}\n", format_size(*bytes));
    }
    out += "largest tensors of training\n";
    for tensor in &forecast.largest_tensors {
        out += &format!("  {:28} {:>10}\n", tensor.tensor, format_size(tensor.bytes));
    }
    if forecast.recomputed_multiply_adds > 0 {
        out += &format!(
            "  {} of a sample's {} multiply-adds are done twice\n",
            forecast.recomputed_multiply_adds, forecast.multiply_adds
        );
    }
    let seconds = &forecast.seconds;
    out += &format!("time about {:.0} s\n", seconds.total().ceil());
    out += &format!("  features     {:>8.1} s\n", seconds.features);
    out += &format!("  search       {:>8.1} s\n", seconds.search);
    out += &format!("  training     {:>8.1} s\n", seconds.train);
    out += &format!("  curve        {:>8.1} s\n", seconds.curve);
    out += &format!("head file at most {}\n", format_size(forecast.head_bytes));
    out
}

/// Skipped files, labels that changed, and a cache that failed, on standard error.
fn notes(outcome: &Outcome, saved: &Saved) {
    print::skipped(&outcome.skipped);
    let grown = outcome.grown.iter();
    for change in grown.flat_map(|grown| &grown.relabelled) {
        let what = format_args!("was \"{}\" until now", change.old);
        let now = format_args!("trained as \"{}\"", change.new);
        let line = Error::at(ErrorKind::BadInput, &change.file, what, now);
        print::note(&line);
    }
    if let Some(error) = &saved.record_failure {
        print::note(&format_args!("this head cannot grow later: {error}"));
    }
    if let Some(error) = &outcome.checkpoint_failure {
        print::note(&format_args!(
            "an interrupted run could not have gone on: {error}"
        ));
    }
    if let Some(error) = &outcome.cache_failure {
        print::note(&format_args!("features could not be kept: {error}"));
    }
}

/// The JSON of `train`.
pub fn document(outcome: &Outcome, head: &Path, report: Option<&Path>) -> Value {
    let cv = outcome.expected.as_ref().map(|expected| {
        json!({
            "accuracy": expected.accuracy,
            "low": expected.low,
            "high": expected.high,
            "n": expected.n,
        })
    });
    let tried: Vec<Value> = outcome
        .found
        .tried
        .iter()
        .map(|tried| {
            json!({
                "recipe": tried.recipe.to_string(),
                "accuracy": tried.held_out.accuracy,
                "log_loss": tried.held_out.log_loss,
            })
        })
        .collect();
    json!({
        "head": head,
        "report": report,
        "classes": outcome.head.labels,
        "samples": outcome.samples,
        "skipped": outcome.skipped.len(),
        "cv": cv,
        "curve": curve(outcome),
        "grown": outcome.grown,
        "resumed": outcome.resumed,
        "recipe": outcome.found.recipe,
        "recipe_text": outcome.found.recipe.to_string(),
        "tried": tried,
        "features": {"computed": outcome.computed, "from_cache": outcome.from_cache},
        "seconds": outcome.seconds,
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "arena_bytes": outcome.arena_bytes,
    })
}

/// The learning curve with its sentence, or why there is none.
fn curve(outcome: &Outcome) -> Value {
    match &outcome.curve {
        Ok(curve) => {
            let mut document = json!(curve);
            document["sentence"] = json!(curve.sentence());
            document
        }
        Err(reason) => json!({"reason": reason.to_string()}),
    }
}

/// What people read after training.
pub fn summary(outcome: &Outcome, head: &Path, file_bytes: u64, report: Option<&Path>) -> String {
    let mut out = format!(
        "trained on {} samples of {} classes: {}\n",
        outcome.samples,
        outcome.head.labels.len(),
        outcome.head.labels.join(", ")
    );
    if let Some(resumed) = &outcome.resumed {
        let (folds, epochs) = (resumed.folds, resumed.epochs);
        out += &format!("went on after {folds} folds and {epochs} epochs of a run cut short\n");
    }
    if let Some(grown) = &outcome.grown {
        out += &format!(
            "grown from {}: {} of its samples from the cache, {} given again, {} new\n",
            escaped(&grown.from.display().to_string()),
            grown.kept,
            grown.again,
            grown.added
        );
        for label in &grown.dropped {
            out += &format!("class \"{label}\" has no sample any more and is left out\n");
        }
    }
    out += &match &outcome.expected {
        Some(expected) => format!("expected on new samples: {}\n", print::accuracy(expected)),
        None => {
            "too few samples to say how good it is: give at least 2 a class, of 2 groups where \
                 there are groups\n"
                .into()
        }
    };
    out += &match &outcome.curve {
        Ok(curve) => format!("enough samples? {}\n", curve.sentence()),
        Err(reason) => format!("enough samples? {reason}\n"),
    };
    out += &format!("recipe: {}\n", outcome.found.recipe);
    if let Some(reason) = &outcome.tail_left {
        out += &format!("the backbone's own layers were not tried: {reason}\n");
    }
    let seconds = &outcome.seconds;
    out += &format!(
        "features {:.1} s ({} computed, {} from cache), search {:.1} s, training {:.2} s, curve {:.1} s",
        seconds.features,
        outcome.computed,
        outcome.from_cache,
        seconds.search,
        seconds.train,
        seconds.curve
    );
    if let Some(peak) = outcome.peak_rss_bytes {
        out += &format!(", peak memory {}", format_size(peak));
    }
    out.push('\n');
    let size = format_size(file_bytes);
    out += &print::line(&format!("head: {} ({size})", head.display()));
    if let Some(report) = report {
        out += &print::line(&format!("report: {}", report.display()));
    }
    out
}

/// The command as the user typed it, for the report.
pub fn command_line() -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments: Vec<String> = arguments
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    format!("fieldtune {}", arguments.join(" "))
}
