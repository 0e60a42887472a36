//! `fieldtune predict`.

use std::io::Read;
use std::path::{Path, PathBuf};

use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::features::{MAX_SAMPLE_BYTES, Source};
use fieldtune::head::{Head, Prediction};
use serde_json::{Map, Value, json};

use crate::args::PredictArgs;
use crate::progress::Bars;
use crate::{head, print, settings};

/// Labels files: all that can be read, then an error if one could not.
///
/// # Errors
/// `BadInput` when a file cannot be read, after the others were labelled.
pub fn run(args: &PredictArgs) -> Result<()> {
    let mut head = head::open(&args.head, args.trust.as_deref())?;
    settings::augment(&mut head, args.tta);
    let session = settings::using(&args.backbone)?;
    let standard_input = standard_input(&args.files)?;
    let sources: Vec<Source<'_>> = args
        .files
        .iter()
        .map(|path| source(path, standard_input.as_deref()))
        .collect();
    let bars = Bars::new();
    let results = session.predict(&head, &args.head, &sources, &bars);
    bars.finish();
    let mut unread = None;
    for (path, result) in args.files.iter().zip(results?) {
        match result {
            Ok(prediction) => {
                let line = said(path, &prediction, &head, args.coverage, args.json);
                print::heard(&line)?;
            }
            Err(reason) => {
                // The reason carries its own remedy.
                let what = format_args!("{}: {reason}", path.display());
                let error = Error::new(ErrorKind::BadInput, what);
                if let Some(earlier) = unread.replace(error) {
                    print::note(&earlier);
                }
            }
        }
    }
    unread.map_or(Ok(()), Err)
}

fn source<'a>(path: &'a Path, standard_input: Option<&'a [u8]>) -> Source<'a> {
    if path == Path::new("-") {
        Source {
            path: Path::new("standard input"),
            label: 0,
            bytes: standard_input,
            part: None,
        }
    } else {
        Source {
            path,
            label: 0,
            bytes: None,
            part: None,
        }
    }
}

fn standard_input(files: &[PathBuf]) -> Result<Option<Vec<u8>>> {
    if !files.iter().any(|file| file == Path::new("-")) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_SAMPLE_BYTES + 1)
        .read_to_end(&mut bytes);
    let wrong = |what: &dyn std::fmt::Display| {
        let remedy = "pipe one picture, recording or sensor file into the command";
        Error::at(
            ErrorKind::BadInput,
            Path::new("standard input"),
            what,
            remedy,
        )
    };
    match read {
        Err(error) => Err(wrong(&error)),
        Ok(_) if bytes.len() as u64 > MAX_SAMPLE_BYTES => Err(wrong(&"is too large")),
        Ok(_) => Ok(Some(bytes)),
    }
}

/// One prediction as a line that a terminal shows as it is, with its set of labels where a coverage is asked for.
pub fn said(
    path: &Path,
    prediction: &Prediction,
    head: &Head,
    coverage: Option<f64>,
    as_json: bool,
) -> String {
    if as_json {
        said_with(path, prediction, head, coverage, &json!({}))
    } else {
        let set = coverage.map(|coverage| set(prediction, head, coverage));
        let line = line(path, prediction, head);
        let set = set.map_or_else(String::new, |set| format!("  [{}]", set.join(", ")));
        let mut text = print::line(&format!("{}{set}", line.trim_end()));
        for span in spans(prediction) {
            let label = &head.labels[span.label];
            let [start, end] = [span.start_ms, span.end_ms].map(|ms| f64::from(ms) / 1000.0);
            let percent = 100.0 * span.probability;
            text += &print::line(&format!(
                "  {start:.1} to {end:.1} s: {label} {percent:.1} %"
            ));
        }
        text
    }
}

/// One prediction as a line of JSON with `more` fields.
pub fn said_with(
    path: &Path,
    prediction: &Prediction,
    head: &Head,
    coverage: Option<f64>,
    more: &Value,
) -> String {
    let mut object = object(path, prediction, head);
    if let Some(coverage) = coverage {
        object["set"] = json!(set(prediction, head, coverage));
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    print::json_line(&object)
}

/// A time in which windows that touch or overlap say the same label.
struct Span {
    start_ms: u32,
    end_ms: u32,
    label: usize,
    /// The highest that one of them gives it.
    probability: f32,
}

fn spans(prediction: &Prediction) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for window in &prediction.windows {
        let Some(part) = window.part else {
            continue;
        };
        let (label, probabilities) = (window.prediction.label, &window.prediction.probabilities);
        let probability = probabilities[label];
        match spans.last_mut() {
            Some(last) if last.label == label && part.start_ms <= last.end_ms => {
                last.end_ms = part.end_ms;
                last.probability = last.probability.max(probability);
            }
            _ => spans.push(Span {
                start_ms: part.start_ms,
                end_ms: part.end_ms,
                label,
                probability,
            }),
        }
    }
    spans
}

/// What was said of each window of a long recording.
fn windows(prediction: &Prediction, head: &Head) -> Vec<Value> {
    let parts = prediction.windows.iter().filter_map(|window| {
        let said = &window.prediction;
        Some(json!({
            "start_ms": window.part?.start_ms,
            "end_ms": window.part?.end_ms,
            "label": head.labels[said.label],
            "probability": said.probabilities[said.label],
            "unknown": said.unknown,
        }))
    });
    parts.collect()
}

/// The labels of which one is right with this coverage.
fn set<'a>(prediction: &Prediction, head: &'a Head, coverage: f64) -> Vec<&'a str> {
    let labels = head.sets.labels(&prediction.probabilities, coverage);
    labels
        .into_iter()
        .map(|label| head.labels[label].as_str())
        .collect()
}

/// One prediction as JSON.
pub fn object(path: &Path, prediction: &Prediction, head: &Head) -> Value {
    let pairs = head.labels.iter().zip(&prediction.probabilities);
    let probabilities: Map<String, Value> = pairs
        .map(|(label, probability)| (label.clone(), json!(probability)))
        .collect();
    let windows = windows(prediction, head);
    let mut object = json!({
        "file": path.to_string_lossy(),
        "label": head.labels[prediction.label],
        "probability": prediction.probabilities[prediction.label],
        "unknown": prediction.unknown,
        "unknown_score": prediction.unknown_score,
        "unknown_above": prediction.unknown_score.map(|_| head.unknown.threshold),
        "probabilities": probabilities,
    });
    if !windows.is_empty() {
        object["windows"] = json!(windows);
    }
    object
}

/// One prediction for people.
pub fn line(path: &Path, prediction: &Prediction, head: &Head) -> String {
    let name = Error::new(ErrorKind::BadInput, path.display());
    let doubt = if prediction.unknown {
        "  (perhaps none of the classes)"
    } else {
        ""
    };
    let label = &head.labels[prediction.label];
    let percent = 100.0 * prediction.probabilities[prediction.label];
    format!("{name}: {label} {percent:.1} %{doubt}\n")
}
