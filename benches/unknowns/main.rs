//! Unknown classes, calibration and coverage on frozen features:
//! `cargo bench --workspace --bench unknowns [-- DRAWS]`.
//!
//! Each draw trains on half the classes as `fieldtune train` does without flags on a board
//! (`BOARD_TIME`) and tests on all; for "far", on ants and bees, tested with pictures of the other data sets. References
//! are scikit-learn's, in `reference.py`, on the same features and splits. The weights of
//! our score were chosen on other draws of these same data sets.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fieldtune::candidates::Wishes;
use fieldtune::data::Data;
use fieldtune::evaluation::evaluate;
use fieldtune::search::best;
use fieldtune::views::ViewSet;
use fieldtune::{sets, unknowns};
use fieldtune_benches::frozen::{self, Features};
use fieldtune_benches::trained::{BOARD_TIME, searched_within};
use fieldtune_benches::{Failure, keep, machine, python, results, run, work_folder};
use fieldtune_core::Kernel;
use fieldtune_core::predict::probabilities;
use fieldtune_core::random::Random;
use serde_json::{Value, json};

const SIZES: [usize; 4] = [5, 10, 20, 50];
/// Tested samples of each class.
const TESTED: usize = 50;
const COVERAGES: [f64; 2] = [0.9, 0.95];

/// Figure to its values, one a draw.
type Cell = BTreeMap<String, Vec<f64>>;

/// Rows of one training and its tests.
struct Split {
    train: Vec<usize>,
    labels: Vec<u16>,
    known: Vec<usize>,
    truth: Vec<usize>,
    unknown: Vec<usize>,
    classes: usize,
}

fn main() -> Result<(), Failure> {
    let draws: u64 = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(5);
    let sets = [frozen::neu()?, frozen::cifar10()?, frozen::mnist()?];
    let mut all: Vec<(&str, Features)> = sets
        .into_iter()
        .map(|set| (set.name, set.features))
        .collect();
    all.push(("far", with_others(frozen::hymenoptera()?.features, &all)));
    let mut report = json!({"machine": machine(), "draws": draws});
    let path = results().join("unknowns.json");
    for (name, features) in &all {
        let name = *name;
        let mut cells = BTreeMap::new();
        for size in SIZES {
            let found = cell(name, features, size, draws)?;
            print(name, size, &found);
            cells.insert(size, found);
            // After every cell, so that a run cut short keeps what it has.
            report[name] = json!(cells);
            keep(&path, &report)?;
        }
    }
    println!("written: {}", path.display());
    Ok(())
}

/// The insects with every eighth picture of the other sets as a third class.
fn with_others(mut insects: Features, others: &[(&str, Features)]) -> Features {
    for (_, other) in others {
        for row in (0..other.labels.len()).step_by(8) {
            let range = row * other.width..(row + 1) * other.width;
            for (to, from) in insects.views.iter_mut().zip(&other.views) {
                to.extend_from_slice(&from[range.clone()]);
            }
            insects.labels.push(2);
        }
    }
    insects.classes = 3;
    insects
}

fn split(name: &str, features: &Features, size: usize, seed: u64) -> Split {
    let mut random = Random::new(0x0dd + seed);
    let mut order: Vec<usize> = (0..features.classes).collect();
    let trained = if name == "far" {
        2
    } else {
        random.shuffle(&mut order);
        features.classes / 2
    };
    let mut split = Split {
        train: Vec::new(),
        labels: Vec::new(),
        known: Vec::new(),
        truth: Vec::new(),
        unknown: Vec::new(),
        classes: trained,
    };
    for (place, class) in order.iter().enumerate() {
        let rows = 0..features.labels.len();
        let mut rows: Vec<usize> = rows
            .filter(|row| usize::from(features.labels[*row]) == *class)
            .collect();
        random.shuffle(&mut rows);
        if place < trained {
            split
                .labels
                .extend(rows.iter().take(size).map(|_| place as u16));
            split.train.extend(rows.iter().take(size));
            let tested = rows.iter().skip(size).take(TESTED);
            split.truth.extend(tested.clone().map(|_| place));
            split.known.extend(tested);
        } else {
            let tested = if name == "far" { 3 * TESTED } else { TESTED };
            split.unknown.extend(rows.iter().take(tested));
        }
    }
    split
}

fn cell(name: &str, features: &Features, size: usize, draws: u64) -> Result<Cell, Failure> {
    let mut cell = Cell::new();
    let mut described = Vec::new();
    for seed in 0..draws {
        let split = split(name, features, size, seed);
        let ours = judge(features, &split, seed, &mut cell)?;
        described.push(json!({
            "train": split.train, "labels": split.labels, "known": split.known,
            "unknown": split.unknown, "ours": ours,
        }));
    }
    let folder = work_folder("unknowns").join(format!("{name}-{size}"));
    std::fs::create_dir_all(&folder)?;
    let rows: Vec<usize> = (0..features.labels.len()).collect();
    let values = features.mean(&rows, ViewSet::ALL);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join("features.f32"), bytes)?;
    let description = json!({"features": features.width, "splits": described});
    std::fs::write(folder.join("splits.json"), description.to_string())?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("unknowns");
    let python = python("unknowns", &here.join("requirements.txt"))?;
    let output = folder.join("reference.json");
    run(Command::new(python)
        .arg(here.join("reference.py"))
        .args([&folder, &output]))?;
    let found: Value = serde_json::from_slice(&std::fs::read(&output)?)?;
    for draw in found["auroc"].as_array().ok_or("no results")? {
        for (method, value) in draw.as_object().ok_or("no methods")? {
            let value = value.as_f64().ok_or("no value")?;
            cell.entry(format!("AUROC {method}"))
                .or_default()
                .push(value);
        }
    }
    Ok(cell)
}

/// Trains as `fieldtune train` does; adds calibration, coverage and alarms to `cell`, and
/// returns scores of the known, then the unknown rows.
fn judge(features: &Features, split: &Split, seed: u64, cell: &mut Cell) -> Result<Value, Failure> {
    let mut chosen = features.chosen(&split.train);
    chosen.labels.clone_from(&split.labels);
    chosen.classes = split.classes;
    chosen.with(|data| figures(data, features, split, seed, cell))
}

fn figures(
    data: &Data<'_>,
    features: &Features,
    split: &Split,
    seed: u64,
    cell: &mut Cell,
) -> Result<Value, Failure> {
    let kernel = Kernel::best();
    let (found, head) = searched_within(BOARD_TIME, data, &Wishes::default(), seed)?;
    let held_out = found.held_out().ok_or("nothing was held out")?;
    let place = unknowns::fit(
        found.recipe.normalise,
        head.views,
        data,
        &head.fitted,
        seed,
        unknowns::FALSE_ALARMS,
    );
    let tested: Vec<usize> = split.known.iter().chain(&split.unknown).copied().collect();
    let mut values = features.mean(&tested, head.views);
    let mut said = head.logits(&values, kernel)?;
    probabilities(&mut said, data.classes, held_out.temperature);
    let tables = sets::tables(held_out, data.classes);
    let known = split.known.len();
    let mut add = |name: String, value: f64| cell.entry(name).or_default().push(value);
    let names: Vec<String> = (0..data.classes).map(|class| class.to_string()).collect();
    let figures = evaluate(&names, &split.truth, &said[..known * data.classes]);
    add("accuracy".into(), figures.accuracy);
    add("ECE".into(), figures.ece);
    let honest = honest_ece(&names, &said[..known * data.classes], seed);
    add("ECE of honest probabilities".into(), honest);
    for coverage in COVERAGES {
        let (mut right, mut size) = (0, 0);
        for (row, truth) in said.chunks_exact(data.classes).zip(&split.truth) {
            let set = tables.labels(row, coverage);
            right += usize::from(set.contains(truth));
            size += set.len();
        }
        add(
            format!("coverage at {coverage}"),
            right as f64 / known as f64,
        );
        add(
            format!("set size at {coverage}"),
            size as f64 / known as f64,
        );
    }
    let unknown = place.unknown.as_file();
    let scores: Vec<f32> = values
        .chunks_exact_mut(data.features)
        .map(|row| {
            head.fitted.transform().apply(row);
            unknown.score(row)
        })
        .collect();
    let flagged = |scores: &[f32]| {
        let count = scores.iter().filter(|score| **score > unknown.threshold);
        count.count() as f64 / scores.len() as f64
    };
    add("false alarms".into(), flagged(&scores[..known]));
    add("unknown found".into(), flagged(&scores[known..]));
    let tops = said.chunks_exact(data.classes).map(|row| -row[best(row)]);
    Ok(json!({"fieldtune": scores, "max softmax (fieldtune)": tops.collect::<Vec<f32>>()}))
}

/// The calibration error that probabilities `[rows, K]` would show on so few rows if every
/// one of them were true: labels drawn from them, mean over many draws. The estimate is
/// never 0, so what is measured means little without it.
fn honest_ece(names: &[String], probabilities: &[f32], seed: u64) -> f64 {
    const DRAWS: usize = 50;
    let mut random = Random::new(0xece + seed);
    let total: f64 = (0..DRAWS)
        .map(|_| {
            let rows = probabilities.chunks_exact(names.len());
            let labels: Vec<usize> = rows.map(|row| drawn(row, random.uniform())).collect();
            evaluate(names, &labels, probabilities).ece
        })
        .sum();
    total / DRAWS as f64
}

/// The label that a number from 0 to 1 falls on.
fn drawn(probabilities: &[f32], mut number: f32) -> usize {
    for (label, probability) in probabilities.iter().enumerate() {
        number -= probability;
        if number < 0.0 {
            return label;
        }
    }
    best(probabilities)
}

fn print(name: &str, size: usize, cell: &Cell) {
    println!("\n{name}, {size} samples a class, mean over draws:");
    for (figure, values) in cell {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        println!("  {figure:44} {mean:.4}");
    }
}
