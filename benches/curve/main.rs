//! Does the forecast of `train` hold? `cargo bench --bench curve [-- DRAWS] [--refit]
//! [--again]`.
//!
//! From 5, 10 and 20 samples a class the accuracy of a head trained on twice as many is
//! forecast, then that head is trained, by the same search, and measured on all samples
//! of the data set that neither was trained on. Counted: how often its accuracy lies in
//! the interval, and how wide the interval is. Also whether the class said to need
//! samples most is one that the head at hand recognises worst, and how far the head's
//! probabilities are from the truth: the expected calibration error. Searches stop when they
//! would on a board (`BOARD_TIME`).
//!
//! Data: `../shared/data/neu-surface-defects`, `hymenoptera`, and test pictures of
//! `mnist` and `cifar10`, at most 120 samples a class. What was measured goes to
//! `benches/results/curve-cases.jsonl`, the figures to `curve.json`; the next run goes on with
//! what is missing (`--again` measures all anew). With `--refit` the law is fitted to the kept
//! measurements again and nothing is trained.

use std::fs::File;
use std::io::Write;
use std::mem::take;
use std::path::Path;

use fieldtune::candidates::Wishes;
use fieldtune::curve::measure::{Study, Tally};
use fieldtune::curve::{CONFIDENCE, Curve, curve};
use fieldtune::data::Data;
use fieldtune::evaluation::Calibration;
use fieldtune::recipe::Trained;
use fieldtune::search::{DEFAULT_TIME, Found, best};
use fieldtune::session::CURVE_SHARE;
use fieldtune_benches::frozen::{self, Features};
use fieldtune_benches::trained::{BOARD_TIME, searched_within};
use fieldtune_benches::{Failure, keep, machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::predict::probabilities;
use fieldtune_core::random::Random;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Samples a class from which is forecast.
const SIZES: [usize; 3] = [5, 10, 20];

/// Samples trained on, heads, judgements and wrong ones of each class.
type Counts = (usize, usize, Vec<usize>, Vec<usize>);

/// One forecast and what came of it.
#[derive(Serialize, Deserialize)]
struct Case {
    set: String,
    samples_a_class: usize,
    draw: u64,
    classes: usize,
    /// By size, the smallest first.
    tallies: Vec<Counts>,
    /// Accuracy on the test samples of the head at hand and of one of twice the samples.
    now: f64,
    twice: f64,
    /// Recall of each class by the head at hand, on the test samples.
    recalls: Vec<f64>,
    /// How sure that head was of them.
    calibration: Calibration,
}

/// What a head made of the test samples.
struct Tested {
    accuracy: f64,
    recalls: Vec<f64>,
    calibration: Calibration,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let draws = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(20);
    let path = results().join("curve-cases.jsonl");
    let cases = if arguments.iter().any(|argument| argument == "--refit") {
        kept(&path)?
    } else {
        let done = match arguments.iter().any(|argument| argument == "--again") {
            true => Vec::new(),
            false => kept(&path).unwrap_or_default(),
        };
        measured(draws, done, &path)?
    };
    let report = json!({
        "machine": machine(),
        "confidence": CONFIDENCE,
        "cells": cells(&cases)?,
    });
    let path = results().join("curve.json");
    keep(&path, &report)?;
    println!("written: {}", path.display());
    Ok(())
}

fn kept(path: &Path) -> Result<Vec<Case>, Failure> {
    let text = std::fs::read_to_string(path)?;
    let cases: Result<Vec<Case>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(cases?)
}

/// All cases: those in `cases`, and the others measured, each kept at `path` at once, so that
/// a run that is cut short can go on.
fn measured(draws: u64, mut cases: Vec<Case>, path: &Path) -> Result<Vec<Case>, Failure> {
    let mut file = File::options().create(true).append(true).open(path)?;
    if cases.is_empty() {
        file.set_len(0)?;
    }
    let sets = [
        frozen::neu()?,
        frozen::hymenoptera()?,
        frozen::mnist()?,
        frozen::cifar10()?,
    ];
    for set in &sets {
        let (name, features) = (set.name, &set.features);
        for samples_a_class in SIZES {
            for draw in 0..draws {
                let same = |case: &Case| {
                    (case.set.as_str(), case.samples_a_class, case.draw)
                        == (name, samples_a_class, draw)
                };
                if cases.iter().any(same) {
                    continue;
                }
                let case = case(name, features, samples_a_class, draw)?;
                let (now, twice) = (case.now, case.twice);
                eprintln!("{name} {samples_a_class} {draw}: {now:.4} {twice:.4}");
                writeln!(file, "{}", serde_json::to_string(&case)?)?;
                cases.push(case);
            }
        }
    }
    Ok(cases)
}

fn case(
    set: &str,
    features: &Features,
    samples_a_class: usize,
    draw: u64,
) -> Result<Case, Failure> {
    let mut random = Random::new(0xc0_0e5e + draw);
    let mut classes = vec![Vec::new(); features.classes];
    for (row, label) in features.labels.iter().enumerate() {
        classes[usize::from(*label)].push(row);
    }
    classes.iter_mut().for_each(|rows| random.shuffle(rows));
    let part = |from: usize, to: usize| -> Vec<usize> {
        let rows = classes.iter();
        rows.flat_map(|rows| rows.iter().take(to).skip(from).copied())
            .collect()
    };
    let test = part(2 * samples_a_class, usize::MAX);
    let at_hand = part(0, samples_a_class);
    let (head, temperature, tallies) = with_data(features, &at_hand, |data| {
        let (found, head) = searched_within(BOARD_TIME, data, &Wishes::default(), draw)?;
        let labels = names(features.classes);
        let study = Study {
            data: *data,
            recipe: &found.recipe,
            seed: draw,
            kernel: Kernel::best(),
            time: DEFAULT_TIME / CURVE_SHARE,
        };
        let temperature = found
            .held_out()
            .map_or(1.0, |held_out| held_out.temperature);
        Ok((head, temperature, tallies(&study, &found, &labels)?))
    })?;
    let now = judged(features, &head, temperature, &test)?;
    let twice = with_data(features, &part(0, 2 * samples_a_class), |data| {
        Ok(searched_within(BOARD_TIME, data, &Wishes::default(), draw)?.1)
    })?;
    Ok(Case {
        set: set.into(),
        samples_a_class,
        draw,
        classes: features.classes,
        tallies,
        now: now.accuracy,
        twice: judged(features, &twice, 1.0, &test)?.accuracy,
        recalls: now.recalls,
        calibration: now.calibration,
    })
}

/// What the product measures, as it does it.
fn tallies(study: &Study<'_>, found: &Found, labels: &[String]) -> Result<Vec<Counts>, Failure> {
    let curve = curve(study, found.held_out(), labels)?.map_err(|reason| reason.to_string())?;
    let tallies = curve.tallies.into_iter();
    Ok(tallies
        .map(|one| (one.trained, one.heads, one.judged, one.wrong))
        .collect())
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

fn with_data<T>(
    features: &Features,
    rows: &[usize],
    work: impl FnOnce(&Data<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    features.chosen(rows).with(work)
}

fn judged(
    features: &Features,
    head: &Trained,
    temperature: f32,
    test: &[usize],
) -> Result<Tested, Failure> {
    let mut values = head.logits(&features.mean(test, head.views), Kernel::best())?;
    let mut tally = Tally::new(features.classes, 0);
    for (row, logits) in test.iter().zip(values.chunks_exact(features.classes)) {
        tally.add(features.labels[*row], logits);
    }
    probabilities(&mut values, features.classes, temperature);
    let mut calibration = Calibration::default();
    for (row, said) in test.iter().zip(values.chunks_exact(features.classes)) {
        let class = best(said);
        let right = class == usize::from(features.labels[*row]);
        calibration.add(f64::from(said[class]), right);
    }
    let pairs = tally.wrong.iter().zip(&tally.judged);
    let recalls = pairs.map(|(wrong, judged)| 1.0 - *wrong as f64 / (*judged).max(1) as f64);
    Ok(Tested {
        accuracy: 1.0 - tally.error(),
        recalls: recalls.collect(),
        calibration,
    })
}

/// Figures of one data set and size.
#[derive(Serialize)]
struct Cell {
    set: String,
    samples_a_class: usize,
    cases: usize,
    held: usize,
    /// The same with the interval's ends rounded outwards to whole test samples.
    held_in_steps: usize,
    below: usize,
    width: f64,
    expected: f64,
    twice: f64,
    now: f64,
    /// Cases in which a class was named, and those in which it is among the worst third.
    named: usize,
    among_worst: usize,
    /// Cases in which more samples were said to hardly help, and what twice as many brought
    /// there, summed and at most.
    hardly: usize,
    hardly_gain: f64,
    hardly_most: f64,
    /// Expected calibration error over all test samples of all draws, and the mean of the
    /// draws' own.
    calibration_error: f64,
    calibration_error_a_draw: f64,
    #[serde(skip)]
    calibration: Calibration,
}

fn cells(cases: &[Case]) -> Result<Value, Failure> {
    let mut cells: Vec<Cell> = Vec::new();
    for case in cases {
        let same =
            |cell: &Cell| cell.set == case.set && cell.samples_a_class == case.samples_a_class;
        let index = cells.iter().position(same).unwrap_or_else(|| {
            cells.push(Cell::new(case));
            cells.len() - 1
        });
        cells[index].add(case);
    }
    println!(
        "set          n  held, in whole test samples, below  width  expected  2n     now    named, among worst third, hardly: cases, gain, most, calibration error, of a draw"
    );
    for cell in &mut cells {
        let count = cell.cases.max(1) as f64;
        for sum in [
            &mut cell.width,
            &mut cell.expected,
            &mut cell.twice,
            &mut cell.now,
        ] {
            *sum *= 100.0 / count;
        }
        cell.calibration_error_a_draw /= count;
        println!(
            "{:12} {:2} {:3} {:3}/{} {:3} {:8.2} {:8.2} {:6.2} {:6.2} {:4} {:4}  {:3} {:6.2} {:6.2} {:7.3} {:7.3}",
            cell.set,
            cell.samples_a_class,
            cell.held,
            cell.held_in_steps,
            cell.cases,
            cell.below,
            cell.width,
            cell.expected,
            cell.twice,
            cell.now,
            cell.named,
            cell.among_worst,
            cell.hardly,
            cell.hardly_gain / cell.hardly.max(1) as f64,
            cell.hardly_most,
            cell.calibration_error,
            cell.calibration_error_a_draw
        );
    }
    let held: usize = cells.iter().map(|cell| cell.held).sum();
    let in_steps: usize = cells.iter().map(|cell| cell.held_in_steps).sum();
    println!(
        "all: {held} of {} held, {in_steps} in whole test samples",
        cases.len()
    );
    Ok(serde_json::to_value(&cells)?)
}

impl Cell {
    fn new(case: &Case) -> Self {
        Self {
            set: case.set.clone(),
            samples_a_class: case.samples_a_class,
            cases: 0,
            held: 0,
            held_in_steps: 0,
            below: 0,
            width: 0.0,
            expected: 0.0,
            twice: 0.0,
            now: 0.0,
            named: 0,
            among_worst: 0,
            hardly: 0,
            hardly_gain: 0.0,
            hardly_most: 0.0,
            calibration_error: 0.0,
            calibration_error_a_draw: 0.0,
            calibration: Calibration::default(),
        }
    }

    fn add(&mut self, case: &Case) {
        let tally = |(trained, heads, judged, wrong): &Counts| Tally {
            trained: *trained,
            heads: *heads,
            judged: judged.clone(),
            wrong: wrong.clone(),
        };
        let tallies: Vec<Tally> = case.tallies.iter().map(tally).collect();
        let samples = case.samples_a_class * case.classes;
        let curve = Curve::new(&tallies, samples, &names(case.classes));
        let range = curve.accuracy(2.0 * case.samples_a_class as f64);
        self.cases += 1;
        self.held += usize::from((range.low..=range.high).contains(&case.twice));
        // Measured accuracy comes in steps of a test sample: an end between two is both.
        let tested = case.calibration.samples().max(1) as f64;
        let [low, high] = [(range.low * tested).floor(), (range.high * tested).ceil()];
        self.held_in_steps += usize::from((low..=high).contains(&(case.twice * tested).round()));
        self.below += usize::from(case.twice < range.low);
        self.width += range.high - range.low;
        self.expected += range.expected;
        self.twice += case.twice;
        self.now += case.now;
        self.calibration = take(&mut self.calibration).with(&case.calibration);
        self.calibration_error = self.calibration.error();
        self.calibration_error_a_draw += case.calibration.error();
        if curve
            .sentence()
            .starts_with("more samples will hardly help")
        {
            let gain = 100.0 * (case.twice - case.now);
            self.hardly += 1;
            self.hardly_gain += gain;
            self.hardly_most = self.hardly_most.max(gain);
        }
        if let Some(class) = curve.neediest.and_then(|name| name.parse::<usize>().ok()) {
            let worse = case
                .recalls
                .iter()
                .filter(|recall| **recall < case.recalls[class]);
            self.named += 1;
            self.among_worst += usize::from(3 * worse.count() < case.classes);
        }
    }
}
