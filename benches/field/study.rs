//! Every candidate of the search, trained alone and cross-validated alone: a line each in
//! `benches/results/field-study.jsonl`, from which rules of choosing can be compared.

use std::io::Write;

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::recipe::train;
use fieldtune::search::Search;
use fieldtune_benches::frozen::Features;
use fieldtune_benches::splits::Split;
use fieldtune_benches::trained::TIME;
use fieldtune_benches::{Failure, results};
use fieldtune_core::Kernel;
use serde_json::{Value, json};

use crate::{Arguments, sets};

/// Enough samples a class for every candidate to be offered.
const MANY: usize = 1000;

/// Runs it, and keeps each line at once.
///
/// # Errors
/// When data is missing or a result cannot be kept.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = results().join("field-study.jsonl");
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)?;
    for (name, load) in sets(arguments) {
        let set = load()?;
        for split in set.splits(&arguments.sizes, arguments.seeds) {
            for mut line in lines(&set.features, &split)? {
                line["set"] = json!(name);
                writeln!(file, "{line}")?;
            }
            eprintln!("{name} {} {}", split.samples_per_class, split.seed);
        }
    }
    Ok(())
}

fn lines(features: &Features, split: &Split) -> Result<Vec<Value>, Failure> {
    let kernel = Kernel::best();
    let wanted = candidates(&Wishes::default(), &vec![MANY; features.classes]);
    let mut lines = Vec::new();
    for (index, recipe) in wanted.iter().enumerate() {
        let (found, head) = features.chosen(&split.train).with(|data| {
            let search = Search {
                data: *data,
                seed: split.seed,
                kernel,
                time: TIME,
            };
            let found = search.run(std::slice::from_ref(recipe), &|_, _| {});
            let all: Vec<usize> = (0..data.len()).collect();
            (found, train(recipe, data, &all, split.seed, kernel))
        });
        let found = found?;
        let held_out = found.held_out();
        let hits = held_out.map(|held_out| held_out.hits(features.classes));
        let losses = held_out.map(|held_out| held_out.losses(features.classes));
        lines.push(json!({
            "samples_a_class": split.samples_per_class,
            "seed": split.seed,
            "index": index,
            "recipe": recipe.to_string(),
            "test": features.share_right(&head?, &split.test)?,
            "log_loss": held_out.map(|held_out| held_out.log_loss),
            "repeats": held_out.map(|held_out| held_out.repeats),
            "hits": hits.map(|hits| hits.iter().map(|hit| char::from(b'0' + hit)).collect::<String>()),
            "losses": losses.map(rounded),
        }));
    }
    Ok(lines)
}

/// Three digits after the point are enough, and a tenth of the file.
fn rounded(losses: Vec<f64>) -> Vec<f64> {
    losses
        .into_iter()
        .map(|loss| (1000.0 * loss).round() / 1000.0)
        .collect()
}
