//! Our default against plain classifiers on the same frozen features and the same splits:
//! `cargo bench --bench field [-- --seeds 10 --only SET --report]`. With `--study` every
//! candidate of the search is trained and cross-validated alone instead: what each choice
//! brings, and what a rule of choosing among them would get. With `--ablation` the default
//! is trained with one thing changed at a time.
//!
//! Data: `../shared/data`. The references run in `reference.py`, in a virtual environment
//! with the pinned scikit-learn of `requirements.txt`; needs python3 with venv. They see
//! the features of the sample as it is: other views are a part of our recipe.
//!
//! Each set is kept in `benches/results/field.json` when it is done; the next run goes on
//! with the others (`--again` measures all anew).

mod ablation;
mod study;

use std::collections::BTreeMap;
use std::time::Instant;

use clap::Parser;
use fieldtune::candidates::Wishes;
use fieldtune::recipe::Recipe;
use fieldtune::search::DEFAULT_TIME;
use fieldtune_benches::frozen::{self, Features, Set};
use fieldtune_benches::splits::Split;
use fieldtune_benches::table::{self, Cells};
use fieldtune_benches::trained::searched_within;
use fieldtune_benches::{Failure, keep, kept, machine, reference, results};
use serde_json::{Value, json};

/// Samples a class.
const SIZES: [usize; 7] = [1, 2, 3, 5, 10, 20, 50];

/// Features of the network's last layer, with which the default cut begins.
const LAST_LAYER: usize = 1280;

#[derive(Parser)]
struct Arguments {
    /// Draws of training samples.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Only this set.
    #[arg(long)]
    only: Option<String>,
    /// Samples a class.
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    sizes: Vec<usize>,
    /// Measure sets again that are done.
    #[arg(long)]
    again: bool,
    /// Print what was kept; train nothing.
    #[arg(long)]
    report: bool,
    /// Train and cross-validate every candidate.
    #[arg(long)]
    study: bool,
    /// Train the default with one thing changed at a time.
    #[arg(long)]
    ablation: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

type Loader = fn() -> Result<Set, Failure>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if arguments.study {
        return study::run(&arguments);
    }
    if arguments.ablation {
        return ablation::run(&arguments);
    }
    let path = results().join("field.json");
    let mut report = kept(&path);
    if !arguments.report {
        for (name, load) in sets(&arguments) {
            if !arguments.again && report["sets"][name]["seeds"] == json!(arguments.seeds) {
                println!("{name}: kept; --again measures it again");
                continue;
            }
            let mut kept = compare(&load()?, &arguments)?;
            kept["machine"] = machine();
            report["sets"][name] = kept;
            keep(&path, &report)?;
        }
    }
    table::print(&report)
}

fn sets(arguments: &Arguments) -> Vec<(&'static str, Loader)> {
    let all: [(&str, Loader); 5] = [
        ("hymenoptera", frozen::hymenoptera),
        ("neu", frozen::neu),
        ("mnist", frozen::mnist),
        ("cifar10", frozen::cifar10),
        ("spoken-digits", frozen::spoken_digits),
    ];
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    all.into_iter().filter(|(name, _)| wanted(name)).collect()
}

fn compare(set: &Set, arguments: &Arguments) -> Result<Value, Failure> {
    let splits = set.splits(&arguments.sizes, arguments.seeds);
    let mut cells = Cells::new();
    let mut chosen = BTreeMap::<String, usize>::new();
    let start = Instant::now();
    for (index, split) in splits.iter().enumerate() {
        let (recipe, ours) = accuracy(&set.features, split)?;
        *chosen.entry(recipe.to_string()).or_default() += 1;
        let methods = cells.entry(split.samples_per_class).or_default();
        methods.entry("fieldtune".into()).or_default().push(ours);
        eprintln!("{} {}/{}: {ours:.4}", set.name, index + 1, splits.len());
    }
    let seconds = start.elapsed().as_secs_f64() / splits.len() as f64;
    reference::add(set, LAST_LAYER, &splits, &mut cells)?;
    let cells: BTreeMap<String, _> = cells
        .into_iter()
        .map(|(size, methods)| (size.to_string(), methods))
        .collect();
    Ok(json!({
        "seeds": arguments.seeds,
        "accuracy": cells,
        "chosen": chosen,
        "seconds_a_training": seconds,
    }))
}

/// Trains as `fieldtune train` does without flags, and measures on the split's test rows.
fn accuracy(features: &Features, split: &Split) -> Result<(Recipe, f64), Failure> {
    let chosen = features.chosen(&split.train);
    let wishes = Wishes::default();
    let (found, head) =
        chosen.with(|data| searched_within(DEFAULT_TIME, data, &wishes, split.seed))?;
    Ok((found.recipe, features.share_right(&head, &split.test)?))
}
