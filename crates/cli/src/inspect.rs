//! `fieldtune inspect`: the chain of tensors where a model can be cut, drawn in text.

use std::borrow::Cow;
use std::path::Path;

use fieldtune::budget::format_size;
use fieldtune::error::Result;
use fieldtune::inspect::{Cut, Inspection, Wishes, inspect_with};
use fieldtune::manifest::Manifest;
use fieldtune::model::Model;
use fieldtune::{features, store};
use serde_json::json;

use crate::args::InspectArgs;
use crate::{print, settings};

/// Columns of text that goes to a file or a pipe.
const USUAL_WIDTH: usize = 100;

/// Fewer columns than this are not aimed at.
const LEAST_WIDTH: usize = 40;

/// Lists the tensors where a model can be cut.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &InspectArgs) -> Result<()> {
    let embedded = args.model == Path::new("embedded");
    let (bytes, manifest) = if embedded {
        (
            Cow::Borrowed(Model::embedded_bytes()),
            Some(Model::embedded()?.manifest().clone()),
        )
    } else {
        let bytes = store::read(&args.model, features::MAX_BACKBONE_BYTES)?;
        (Cow::Owned(bytes), Manifest::beside(&args.model)?)
    };
    let given = args
        .input
        .as_deref()
        .map(|text| settings::input(text, args.layout))
        .transpose()?;
    let mut wishes = Wishes {
        input: given.as_ref(),
        fixed_inputs: args.fixed_input.iter().cloned().collect(),
        output: args.output.as_deref(),
        all: args.all,
        cut: args.cut.as_deref(),
        default_cut: None,
    };
    if let Some(manifest) = &manifest {
        wishes.input = wishes.input.or(Some(&manifest.input));
        for (name, value) in &manifest.fixed_inputs {
            wishes.fixed_inputs.entry(name.clone()).or_insert(*value);
        }
        wishes.default_cut = Some(manifest.default_cut.as_str()).filter(|cut| !cut.is_empty());
    }
    let found = inspect_with(&bytes, &args.model, &wishes)?;
    if args.json {
        return print::document(&json!(found));
    }
    print::text(&drawn(&found, width()))
}

/// Columns of the terminal.
fn width() -> usize {
    let size = console::Term::stdout().size_checked();
    size.map_or(USUAL_WIDTH, |(_, columns)| {
        usize::from(columns).max(LEAST_WIDTH)
    })
}

/// The whole answer in lines of at most `width` columns.
fn drawn(found: &Inspection, width: usize) -> String {
    let mut lines = vec![
        format!(
            "input   {} {}",
            found.input.tensor,
            shape(&found.input.shape)
        ),
        format!("output  {}", found.output),
    ];
    let others: Vec<&str> = found.outputs.iter().map(String::as_str).collect();
    if others.len() > 1 {
        lines.push(format!("all     {}", others.join(", ")));
    }
    lines.push(format!(
        "work    {} multiply-adds, {} weights",
        count(found.macs),
        count(found.parameters)
    ));
    lines.push(String::new());
    let mut notes = Vec::new();
    lines.extend(chain(found, width, &mut notes));
    if !notes.is_empty() {
        lines.push(String::new());
        lines.push("why a tail cannot be trained:".into());
        lines.extend(
            notes
                .iter()
                .enumerate()
                .map(|(index, note)| format!("({}) {note}", index + 1)),
        );
    }
    for broken in &found.broken {
        lines.push(String::new());
        lines.push(format!(
            "node {} of the operator {} cannot be run, nor what needs it: {}",
            broken.node, broken.operator, broken.reason
        ));
    }
    lines.push(String::new());
    lines.extend(legend(found));
    let lines = lines.iter().flat_map(|line| wrapped(&clean(line), width));
    lines
        .map(|line| line.trim_end().to_string() + "\n")
        .collect()
}

/// What the marks of the chain mean.
fn legend(found: &Inspection) -> Vec<String> {
    let chosen = &found.suggestions;
    let rows = [
        ("fastest", &chosen.fastest, "least work with a small vector"),
        (
            "best guess",
            &chosen.best_guess,
            "where networks are usually cut",
        ),
        ("most trainable", &chosen.most_trainable, "for --head tail"),
    ];
    let row = |(name, tensor, why): (&str, &Option<String>, &str)| {
        let tensor = tensor.as_deref()?;
        Some(format!("{name}: --cut {} ({why})", quoted(tensor)))
    };
    rows.into_iter().filter_map(row).collect()
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:,".contains(c);
    match name.chars().all(plain) {
        true => name.into(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

/// One line a cut, the work between two cuts before each.
fn chain(found: &Inspection, width: usize, notes: &mut Vec<String>) -> Vec<String> {
    let wide = width >= 90;
    let rows: Vec<[String; 6]> = found
        .cuts
        .iter()
        .map(|cut| row(found, cut, notes))
        .collect();
    let heads = ["shape", "a sample", "work", "weights left", "tail"];
    let columns: Vec<usize> = (0..5)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column + 1));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(heads[column].len())
        })
        .collect();
    // Narrow terminals do without the weights.
    let shown: &[usize] = if wide {
        &[0, 1, 2, 3, 4]
    } else {
        &[0, 1, 2, 4]
    };
    let cells: usize = shown.iter().map(|column| columns[*column] + 2).sum();
    let longest = found
        .cuts
        .iter()
        .map(|cut| cut.tensor.chars().count())
        .max()
        .unwrap_or(0);
    let name = longest.clamp(6, width.saturating_sub(cells + 2).max(8));
    let line = |mark: &str, first: &str, rest: &[&str]| {
        let mut text = format!("{mark} {:name$}", shortened(first, name));
        for column in shown {
            let width = columns[*column];
            let cell = rest.get(*column).copied().unwrap_or_default();
            text += &match column {
                0 | 4 => format!("  {cell:width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text
    };
    let mut lines = vec![
        line(" ", "tensor", &heads),
        format!("> {}", found.input.tensor),
    ];
    for (cut, row) in found.cuts.iter().zip(&rows) {
        let rest: Vec<&str> = row.iter().skip(1).map(String::as_str).collect();
        let mark = if cut.alone { "o" } else { ":" };
        lines.push(line(mark, &row[0], &rest));
        if let Some(marks) = marks(found, cut) {
            lines.push(format!("|   ^ {marks}"));
        }
    }
    if found
        .cuts
        .last()
        .is_none_or(|cut| cut.tensor != found.output)
    {
        lines.push(format!("= {}", found.output));
    }
    lines
}

/// Name, shape, bytes, share of work done before, weights after, and the tail.
fn row(found: &Inspection, cut: &Cut, notes: &mut Vec<String>) -> [String; 6] {
    let done = 100.0 * cut.macs_before as f64 / found.macs.max(1) as f64;
    let tail = if cut.trainable {
        "trainable".into()
    } else {
        let known = notes.iter().position(|note| *note == cut.reason);
        let index = known.unwrap_or_else(|| {
            notes.push(cut.reason.clone());
            notes.len() - 1
        });
        format!("no ({})", index + 1)
    };
    [
        cut.tensor.clone(),
        shape(&cut.shape),
        format_size(cut.bytes_per_sample as u64),
        format!("{done:.0}%"),
        count(cut.parameters_after),
        tail,
    ]
}

/// The suggestions that name this cut, alone or with others.
fn marks(found: &Inspection, cut: &Cut) -> Option<String> {
    let chosen = &found.suggestions;
    let named = [
        ("fastest", &chosen.fastest),
        ("best guess", &chosen.best_guess),
        ("most trainable", &chosen.most_trainable),
    ];
    let has = |suggested: &str| {
        suggested == cut.tensor || suggested.split(',').any(|part| part == cut.tensor)
    };
    let names = named
        .iter()
        .filter(|(_, suggested)| suggested.as_deref().is_some_and(has));
    let names: Vec<&str> = names.map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn shape(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    sizes.join("x")
}

/// A number of three digits: 812, 12.3k, 4.65M, 1.20G.
fn count(number: u64) -> String {
    let value = number as f64;
    let (scaled, unit) = match number {
        0..1_000 => return number.to_string(),
        1_000..1_000_000 => (value / 1e3, "k"),
        1_000_000..1_000_000_000 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    let digits = if scaled < 10.0 {
        2
    } else {
        usize::from(scaled < 100.0)
    };
    format!("{scaled:.digits$}{unit}")
}

/// `text` in at most `width` characters; of a longer one the start and the end.
fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let start = width.saturating_sub(2) / 3;
    let end = width.saturating_sub(2) - start;
    let first: String = text.chars().take(start).collect();
    let last: String = text.chars().skip(length - end).collect();
    format!("{first}..{last}")
}

/// Names in a model may hold anything; a terminal must not obey them.
fn clean(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// `line` in pieces of at most `width` characters, broken at spaces where there are any.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > width {
        let space = rest
            .iter()
            .take(width)
            .rposition(|c| *c == ' ')
            .filter(|at| *at > width / 3);
        let tail = rest.split_off(space.unwrap_or(width));
        pieces.push(rest.into_iter().collect());
        let indent = [' ', ' '].into_iter();
        rest = indent
            .chain(tail.into_iter().skip(usize::from(space.is_some())))
            .collect();
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldtune::inspect::{Broken, InspectedInput, Suggestions};

    fn cut(tensor: &str, shape: &[usize], macs: u64, trainable: bool) -> Cut {
        Cut {
            tensor: tensor.into(),
            shape: shape.to_vec(),
            bytes_per_sample: 4 * shape.iter().product::<usize>(),
            macs_before: macs,
            macs_after: 1_000_000 - macs,
            parameters_before: 0,
            parameters_after: 4_650_000,
            trainable,
            reason: "LSTM (\"/decoder/lstm\") cannot be trained".into(),
            alone: true,
        }
    }

    fn found() -> Inspection {
        let long = "/model/features/features.18/features.18.2/Clip_output_0";
        Inspection {
            input: InspectedInput {
                tensor: "image".into(),
                shape: vec![3, 224, 224],
                element: "F32".into(),
            },
            output: "logits".into(),
            outputs: vec!["logits".into(), "other".into()],
            cuts: vec![
                cut("stem\u{1b}[2J", &[32, 112, 112], 100_000, true),
                cut(long, &[1280, 7, 7], 900_000, false),
            ],
            macs: 1_000_000,
            parameters: 4_650_000,
            suggestions: Suggestions {
                fastest: Some(long.into()),
                best_guess: Some(long.into()),
                most_trainable: None,
            },
            broken: vec![Broken {
                node: "\"odd\"".into(),
                operator: "Frobnicate".into(),
                reason: "tract does not have it".into(),
            }],
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 100, 200] {
            let text = drawn(&found(), width);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
            let flat = text.replace(['\n', ' '], "");
            for wanted in [
                "fastest,bestguess",
                "no(1)",
                "trainable",
                "Frobnicate",
                "1280x7x7",
                "90%",
            ] {
                assert!(flat.contains(wanted), "{width}: {text} lacks {wanted}");
            }
        }
    }

    #[test]
    fn a_name_is_given_whole_and_as_a_shell_takes_it() {
        let text = drawn(&found(), 200);
        assert!(text.contains("--cut /model/features/features.18/features.18.2/Clip_output_0"));
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (812, "812"),
            (12_340, "12.3k"),
            (4_650_000, "4.65M"),
            (401_000_000, "401M"),
        ];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
    }
}
