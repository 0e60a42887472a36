//! What people and scripts read: text on standard output, or one JSON document.

use std::io::Write;

use fieldtune::error::{Error, ErrorKind, Result, escaped, is_hostile};
use fieldtune::evaluation::Evaluation;
use fieldtune::samples::Skipped;
use serde_json::{Value, json};

/// Prints one line of JSON.
///
/// # Errors
/// `Failed` when standard output is closed or full.
pub fn document(value: &Value) -> Result<()> {
    heard(&json_line(value)).map(drop)
}

/// One line of JSON without characters that a terminal would obey.
pub fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for character in value.to_string().chars() {
        if is_hostile(character) {
            // They can only stand in strings, and all are in the basic plane.
            line += &format!("\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line + "\n"
}

/// Prints lines of text. Names in it may come from files: characters that a terminal would
/// obey are shown as escapes, and who puts a name into a text of several lines escapes its
/// line breaks.
///
/// # Errors
/// `Failed` when standard output is closed or full.
pub fn text(text: &str) -> Result<()> {
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    heard(&lines.join("\n")).map(drop)
}

/// Prints text as it is and says whether anybody still reads: whoever closed the other end
/// has seen enough, as `head` does.
///
/// # Errors
/// `Failed` when standard output is full.
pub fn heard(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let what = format_args!("standard output: {error}; is the disk full?");
            Err(Error::new(ErrorKind::Failed, what))
        }
        Ok(()) => Ok(true),
    }
}

/// One line of text that a terminal shows as it is, whatever names from files it holds.
pub fn line(text: &str) -> String {
    escaped(text) + "\n"
}

/// Prints one line of diagnostics on standard error; nobody may be reading there.
pub fn note(line: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "fieldtune: {line}");
}

/// Files that were left out, on standard error: at most a few by name.
pub fn skipped(skipped: &[Skipped]) {
    const NAMED: usize = 10;
    for file in skipped.iter().take(NAMED) {
        let note = Error::at(ErrorKind::BadInput, &file.path, "skipped", &file.reason);
        self::note(&note);
    }
    if skipped.len() > NAMED {
        note(&format_args!(
            "{} more files skipped",
            skipped.len() - NAMED
        ));
    }
}

/// Accuracy with its interval, in words.
pub fn accuracy(evaluation: &Evaluation) -> String {
    format!(
        "{:.1} % right (95 % interval {:.1} to {:.1} %, {} samples)",
        100.0 * evaluation.accuracy,
        100.0 * evaluation.low,
        100.0 * evaluation.high,
        evaluation.n
    )
}

/// The figures of `eval --json`.
pub fn evaluation_json(evaluation: &Evaluation) -> Value {
    json!({
        "accuracy": evaluation.accuracy,
        "low": evaluation.low,
        "high": evaluation.high,
        "n": evaluation.n,
        "labels": evaluation.labels,
        "confusion": evaluation.confusion,
        "per_class": evaluation.per_class,
        "ece": evaluation.ece,
        "log_loss": evaluation.log_loss,
    })
}

/// The figures of `eval` for people: accuracy, per class, and who is taken for whom.
pub fn evaluation_text(evaluation: &Evaluation) -> String {
    let width = evaluation
        .labels
        .iter()
        .map(|label| label.chars().count())
        .max();
    let width = width.unwrap_or(0).clamp(5, 30);
    let mut out = format!("{}\n", accuracy(evaluation));
    out += &format!("calibration error {:.3}\n\n", evaluation.ece);
    out += &format!(
        "{:width$}  precision  recall  samples  taken for\n",
        "class"
    );
    for (class, figures) in evaluation.per_class.iter().enumerate() {
        let row = &evaluation.confusion[class];
        let wrong = row
            .iter()
            .enumerate()
            .filter(|(other, count)| *other != class && **count > 0);
        let wrong: Vec<String> = wrong
            .map(|(other, count)| format!("{} ({count})", evaluation.labels[other]))
            .collect();
        out += &format!(
            "{:width$}  {:8.1}%  {:5.1}%  {:7}  {}\n",
            figures.label,
            100.0 * figures.precision,
            100.0 * figures.recall,
            figures.samples,
            wrong.join(", ")
        );
    }
    out
}
