//! Our default against plain classifiers on the same frozen features and the same
//! splits: `cargo bench --bench field [-- SEEDS]`.
//!
//! Data: `../shared/data/neu-surface-defects` and `hymenoptera`. The references run in
//! `reference.py`, in a virtual environment with the pinned scikit-learn of
//! `requirements.txt`; needs python3 with venv. They see the features of the upright
//! image, and in a second run the mean of the features of the image and its mirror
//! image, which is what our default predicts from. Results go to
//! `benches/results/field.json`, the table to standard output.

mod reference;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::recipe::{Data, train};
use fieldtune::search::{Search, best};
use fieldtune_benches::frozen::{Features, features};
use fieldtune_benches::splits::{self, Split};
use fieldtune_benches::{Failure, machine, results, shared};
use fieldtune_core::Kernel;
use serde_json::{Value, json};

/// Method to accuracies, in the order of the splits of one cell.
pub type Cells = BTreeMap<usize, BTreeMap<String, Vec<f64>>>;

fn main() -> Result<(), Failure> {
    let seeds = std::env::args()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(10);
    let mut report = json!({"machine": machine(), "seeds": seeds});
    let (neu, _) = features(&[&shared("data/neu-surface-defects")?])?;
    let neu_splits = splits::drawn(&neu, &[1, 2, 3, 5, 10, 20, 50], 60, seeds);
    report["neu-surface-defects"] = compare("neu-surface-defects", &neu, &neu_splits)?;
    let hymenoptera = shared("data/hymenoptera")?;
    let (insects, trained) = features(&[&hymenoptera.join("train"), &hymenoptera.join("val")])?;
    let mut insect_splits = splits::from_part(&insects, trained, &[1, 2, 3, 5, 10, 20, 50], seeds);
    insect_splits.push(splits::whole(&insects, trained));
    report["hymenoptera"] = compare("hymenoptera", &insects, &insect_splits)?;
    let path = results().join("field.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written: {}", path.display());
    Ok(())
}

fn compare(name: &str, features: &Features, splits: &[Split]) -> Result<Value, Failure> {
    let mut cells = Cells::new();
    let mut seconds = 0.0;
    for (index, split) in splits.iter().enumerate() {
        let start = Instant::now();
        let ours = accuracy(features, split)?;
        seconds += start.elapsed().as_secs_f64();
        let methods = cells.entry(split.samples_per_class).or_default();
        methods.entry("fieldtune".into()).or_default().push(ours);
        eprintln!("{name} {}/{}: {ours:.4}", index + 1, splits.len());
    }
    reference::add(name, features, splits, &mut cells)?;
    print_table(name, &cells);
    let cells: BTreeMap<String, _> = cells
        .into_iter()
        .map(|(n, methods)| (cell_name(n), methods))
        .collect();
    Ok(json!({"accuracy": cells, "seconds_a_training": seconds / splits.len() as f64}))
}

/// Trains as `fieldtune train` does without flags, and measures on the split's test rows.
fn accuracy(features: &Features, split: &Split) -> Result<f64, Failure> {
    let (chosen, labels) = features.chosen(&split.train);
    let views: Vec<&[f32]> = chosen.iter().map(Vec::as_slice).collect();
    let data = Data {
        views: &views,
        labels: &labels,
        groups: &[],
        features: features.width,
        classes: features.classes,
    };
    let mut counts = vec![0; data.classes];
    labels
        .iter()
        .for_each(|label| counts[usize::from(*label)] += 1);
    let all: Vec<usize> = (0..data.len()).collect();
    let kernel = Kernel::best();
    let search = Search {
        data,
        seed: split.seed,
        kernel,
        time: Duration::from_secs(60),
    };
    let found = search.run(&candidates(&Wishes::default(), &counts), &|_, _| {})?;
    let head = train(&found.recipe, &data, &all, split.seed, kernel)?;
    let tested = features.mean(&split.test);
    let logits = head.logits(&tested, kernel)?;
    let hits = logits.chunks(features.classes).zip(&split.test);
    let right = hits
        .filter(|(row, test)| best(row) == usize::from(features.labels[**test]))
        .count();
    Ok(right as f64 / split.test.len() as f64)
}

fn cell_name(samples_per_class: usize) -> String {
    match samples_per_class {
        0 => "all".into(),
        n => n.to_string(),
    }
}

fn print_table(name: &str, cells: &Cells) {
    println!("\n{name}, accuracy in % (mean over draws), samples a class:");
    let methods: Vec<&String> = cells
        .values()
        .next()
        .map_or(Vec::new(), |m| m.keys().collect());
    print!("{:32}", "");
    cells.keys().for_each(|n| print!("{:>8}", cell_name(*n)));
    println!();
    for method in methods {
        print!("{method:32}");
        for methods in cells.values() {
            let values = methods.get(method).map_or(&[][..], Vec::as_slice);
            print!(
                "{:8.2}",
                100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64
            );
        }
        println!();
    }
}
