//! Wrong labels found: ours against cleanlab, on the same frozen features and the same
//! flipped labels: `cargo bench --bench suspects [-- DRAWS]`.
//!
//! Data: `../shared/data/neu-surface-defects` and `hymenoptera`. cleanlab runs in
//! `reference.py`, in a virtual environment with the pinned packages of
//! `requirements.txt`: on out-of-fold probabilities of scikit-learn's logistic regression
//! on L2-normalised features, and on those of our own heads. The labels that the data
//! sets come with count as right. Results go to `benches/results/suspects.json`, the
//! table to standard output.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::search::{HeldOut, Search};
use fieldtune::suspects::labels::{doubts, opinions, ranking};
use fieldtune::suspects::means::Directions;
use fieldtune::views::ViewSet;
use fieldtune_benches::frozen::{self, Features};
use fieldtune_benches::splits;
use fieldtune_benches::{Failure, keep, machine, python, results, run, work_folder};
use fieldtune_core::Kernel;
use fieldtune_core::random::Random;
use serde_json::{Value, json};

const SIZES: [usize; 3] = [10, 20, 50];
/// Percent of the labels.
const FLIPPED: [usize; 3] = [0, 5, 10];

/// One draw of samples with some labels flipped, and what ours says about it.
struct Case {
    name: String,
    classes: usize,
    labels: Vec<u16>,
    wrong: Vec<bool>,
    ours: Said,
}

/// What one method says: rows it reports, and how doubtful every label is.
struct Said {
    found: Vec<usize>,
    doubt: Vec<f64>,
}

/// Sums over the draws of one cell.
#[derive(Default)]
struct Tally {
    hits: usize,
    found: usize,
    wrong: usize,
    samples: usize,
    average_precisions: Vec<f64>,
}

fn main() -> Result<(), Failure> {
    let draws = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(5);
    let mut report = json!({"machine": machine(), "draws": draws});
    for set in [frozen::neu()?, frozen::hymenoptera()?] {
        report[set.name] = compare(set.name, &set.features, draws)?;
    }
    let path = results().join("suspects.json");
    keep(&path, &report)?;
    println!("written: {}", path.display());
    Ok(())
}

fn compare(set: &str, features: &Features, draws: u64) -> Result<Value, Failure> {
    let folder = work_folder("suspects").join(set);
    std::fs::create_dir_all(&folder)?;
    let mut cases = Vec::new();
    for split in splits::drawn(features, &SIZES, 0, draws) {
        for flipped in FLIPPED {
            let size = split.samples_per_class;
            let name = format!("{size}-{flipped}-{}", split.seed);
            cases.push(case(
                name,
                features,
                &split.train,
                flipped,
                split.seed,
                &folder,
            )?);
        }
    }
    let reference = reference(features.width, &cases, &folder)?;
    let mut tallies: BTreeMap<(usize, usize), BTreeMap<&str, Tally>> = BTreeMap::new();
    for case in &cases {
        let mut parts = case.name.split('-').filter_map(|part| part.parse().ok());
        let (size, flipped) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        let cell = tallies.entry((flipped, size)).or_default();
        cell.entry("fieldtune").or_default().add(case, &case.ours);
        for method in ["cleanlab_logistic", "cleanlab_ours"] {
            let said = Said::of(&reference["results"][&case.name][method]);
            cell.entry(method).or_default().add(case, &said);
        }
    }
    println!(
        "\n{set}\nflipped  size  method              precision recall  average   false of samples"
    );
    let mut cells = Vec::new();
    for ((flipped, size), methods) in &tallies {
        for (method, tally) in methods {
            println!("{flipped:6} % {size:5}  {method:18} {}", tally.line());
            let mut cell = tally.json();
            cell["flipped_percent"] = json!(flipped);
            cell["samples_per_class"] = json!(size);
            cell["method"] = json!(method);
            cells.push(cell);
        }
    }
    Ok(json!({"cells": cells, "versions": reference["versions"]}))
}

/// Draws wrong labels, judges them with ours, and writes what cleanlab needs.
fn case(
    name: String,
    features: &Features,
    rows: &[usize],
    flipped: usize,
    seed: u64,
    folder: &Path,
) -> Result<Case, Failure> {
    let mut chosen = features.chosen(rows);
    let labels = &mut chosen.labels;
    let mut random = Random::new(0x5005 + 100 * seed + flipped as u64);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    random.shuffle(&mut order);
    let mut wrong = vec![false; rows.len()];
    for row in &order[..(rows.len() * flipped + 50) / 100] {
        let others = features.classes as u32 - 1;
        let label = u32::from(labels[*row]) + 1 + random.below(others);
        labels[*row] = (label % features.classes as u32) as u16;
        wrong[*row] = true;
    }
    let (ours, heads) = chosen.with(said)?;
    let values = features.mean(rows, ViewSet::ALL);
    write(folder, &format!("{name}.features.f32"), &values)?;
    write(folder, &format!("{name}.probabilities.f32"), &heads)?;
    Ok(Case {
        name,
        classes: features.classes,
        ours,
        wrong,
        labels: chosen.labels,
    })
}

/// What ours says, and our out-of-fold probabilities for cleanlab.
fn said(data: &Data<'_>) -> Result<(Said, Vec<f32>), Failure> {
    let held_out = held_out(data)?;
    let said = opinions(data, &Directions::of(data), held_out.as_ref());
    let mut doubt = vec![0.0; data.len()];
    for one in ranking(&said, data.labels, data.classes) {
        doubt[one.row] = f64::from(one.margin());
    }
    let found = doubts(&said, data.labels, data.classes);
    let found = found.iter().map(|one| one.row).collect();
    let heads = held_out.map_or(said, |held_out| mean_of_repeats(&held_out, data));
    Ok((Said { found, doubt }, heads))
}

/// As `check` does it: the default recipe alone.
fn held_out(data: &Data<'_>) -> Result<Option<HeldOut>, Failure> {
    let search = Search {
        data: *data,
        seed: 0,
        kernel: Kernel::best(),
        time: Duration::ZERO,
    };
    let recipes = candidates(&Wishes::default(), &vec![1; data.classes]);
    let found = search.run(&recipes[..1], &|_, _| {})?;
    Ok(found.held_out().cloned())
}

/// Our out-of-fold probabilities `[N, K]` for cleanlab.
fn mean_of_repeats(held_out: &HeldOut, data: &Data<'_>) -> Vec<f32> {
    let mut sums = vec![0.0; data.len() * data.classes];
    let said = held_out.probabilities(data.classes);
    for (row, values) in held_out.rows.iter().zip(said.chunks_exact(data.classes)) {
        let sum = &mut sums[row * data.classes..(row + 1) * data.classes];
        sum.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    }
    sums
}

fn write(folder: &Path, name: &str, values: &[f32]) -> Result<(), Failure> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(std::fs::write(folder.join(name), bytes)?)
}

fn reference(width: usize, cases: &[Case], folder: &Path) -> Result<Value, Failure> {
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| json!({"name": case.name, "classes": case.classes, "labels": case.labels}))
        .collect();
    let description = json!({"features": width, "cases": cases});
    std::fs::write(folder.join("cases.json"), description.to_string())?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("suspects");
    let output = folder.join("reference.json");
    let python = python("suspects", &here.join("requirements.txt"))?;
    run(Command::new(python)
        .arg(here.join("reference.py"))
        .arg(folder)
        .arg(&output))?;
    Ok(serde_json::from_slice(&std::fs::read(output)?)?)
}

impl Said {
    fn of(value: &Value) -> Self {
        let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
        let rows = list("found").into_iter();
        let doubt = list("doubt").into_iter();
        Self {
            found: rows
                .filter_map(|row| Some(row.as_u64()? as usize))
                .collect(),
            doubt: doubt.filter_map(|doubt| doubt.as_f64()).collect(),
        }
    }
}

impl Tally {
    fn add(&mut self, case: &Case, said: &Said) {
        self.hits += said.found.iter().filter(|row| case.wrong[**row]).count();
        self.found += said.found.len();
        self.samples += case.labels.len();
        let wrong = case.wrong.iter().filter(|wrong| **wrong).count();
        self.wrong += wrong;
        if wrong > 0 {
            self.average_precisions
                .push(average_precision(&said.doubt, &case.wrong));
        }
    }

    /// Precision, recall and mean average precision; 0 where nothing is to be divided by.
    fn figures(&self) -> [f64; 3] {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        // An empty sum is -0.
        let sum: f64 = self.average_precisions.iter().sum::<f64>() + 0.0;
        let mean = sum / self.average_precisions.len().max(1) as f64;
        [
            share(self.hits, self.found),
            share(self.hits, self.wrong),
            mean,
        ]
    }

    fn line(&self) -> String {
        let [precision, recall, average] = self.figures();
        let alarms = self.found - self.hits;
        format!(
            "{precision:9.3} {recall:6.3} {average:8.3} {alarms:6} of {}",
            self.samples
        )
    }

    fn json(&self) -> Value {
        let [precision, recall, average] = self.figures();
        json!({
            "precision": precision,
            "recall": recall,
            "average_precision": average,
            "found": self.found,
            "hits": self.hits,
            "wrong": self.wrong,
            "samples": self.samples,
        })
    }
}

/// Mean over the wrong labels of the precision down to each in the ranking, the most
/// doubtful first.
fn average_precision(doubt: &[f64], wrong: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..doubt.len()).collect();
    order.sort_by(|a, b| doubt[*b].total_cmp(&doubt[*a]));
    let (mut hits, mut sum) = (0, 0.0);
    for (place, row) in order.iter().enumerate() {
        if wrong[*row] {
            hits += 1;
            sum += f64::from(hits) / (place + 1) as f64;
        }
    }
    sum / f64::from(hits.max(1))
}
