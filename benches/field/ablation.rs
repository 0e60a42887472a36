//! What each part of the default recipe brings: the default and the default with one thing
//! changed, trained on the same draws without cross-validation, measured on the same test
//! samples: `cargo bench --bench field -- --ablation [--seeds 5] [--sizes 1,3,10]`. Each set
//! is kept in `benches/results/field-ablation.json` when it is done.

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::preprocess::View;
use fieldtune::recipe::{Lambda, Normalise, Recipe, Shape, train};
use fieldtune::views::ViewSet;
use fieldtune_benches::frozen::Set;
use fieldtune_benches::statistics::Estimate;
use fieldtune_benches::table::Cells;
use fieldtune_benches::{Failure, keep, kept, machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::decay::Mode;
use serde_json::{Value, json};

use crate::{Arguments, sets};

/// A change of the default, and what it is called.
type Change = (&'static str, fn(&mut Recipe));

const DEFAULT: &str = "default";

const CHANGES: [Change; 16] = [
    (DEFAULT, |_| {}),
    ("views: the original alone", |recipe| {
        recipe.views = ViewSet::ORIGINAL;
    }),
    ("views: original, mirrored", |recipe| {
        recipe.views = ViewSet::MIRRORED;
    }),
    ("views: original, mirrored, near, far", |recipe| {
        recipe.views = ViewSet::MIRRORED.union(ViewSet::ZOOMED);
    }),
    ("views: original, mirrored, brighter, darker", |recipe| {
        recipe.views = ViewSet::MIRRORED.union(ViewSet::LIT);
    }),
    ("views: all but the mirrored", |recipe| {
        recipe.views = ViewSet::ALL.without(View::Mirrored);
    }),
    ("no decay", |recipe| recipe.decay = Mode::None),
    ("decay three times as strong", |recipe| {
        recipe.lambda = Lambda::OverRows(30.0);
    }),
    ("no adversarial features", |recipe| {
        recipe.adversarial = None;
    }),
    ("adversarial features twice as far", |recipe| {
        recipe.adversarial = Some(0.3);
    }),
    ("no whitening", |recipe| recipe.whitening = None),
    ("whitening shrunk half as far", |recipe| {
        recipe.whitening = Some(0.4);
    }),
    ("no square root", |recipe| {
        recipe.normalise = Normalise::Length;
    }),
    ("features standardised, not whitened", |recipe| {
        (recipe.normalise, recipe.whitening) = (Normalise::Standard, None);
    }),
    ("class means, whitened", |recipe| {
        recipe.shape = Shape::Prototype;
    }),
    ("class means, not whitened", |recipe| {
        (recipe.shape, recipe.whitening) = (Shape::Prototype, None);
    }),
];

/// Measures what is not kept yet, and prints all.
///
/// # Errors
/// When data is missing or a result cannot be kept.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = results().join("field-ablation.json");
    let mut report = kept(&path);
    if !arguments.report {
        for (name, load) in sets(arguments) {
            if !arguments.again && !report["sets"][name].is_null() {
                println!("{name}: kept; --again measures it again");
                continue;
            }
            let cells = cells(&load()?, arguments)?;
            report["sets"][name] =
                json!({"machine": machine(), "seeds": arguments.seeds, "accuracy": cells});
            keep(&path, &report)?;
        }
    }
    print(&report)
}

fn cells(set: &Set, arguments: &Arguments) -> Result<Cells, Failure> {
    let kernel = Kernel::best();
    let few = vec![1; set.features.classes];
    let default = candidates(&Wishes::default(), &few).swap_remove(0);
    let mut cells = Cells::new();
    for split in set.splits(&arguments.sizes, arguments.seeds) {
        let chosen = set.features.chosen(&split.train);
        let all: Vec<usize> = (0..split.train.len()).collect();
        for (name, change) in CHANGES {
            let mut recipe = default.clone();
            change(&mut recipe);
            let head = chosen.with(|data| train(&recipe, data, &all, split.seed, kernel))?;
            let accuracy = set.features.share_right(&head, &split.test)?;
            let methods = cells.entry(split.samples_per_class).or_default();
            methods.entry(name.into()).or_default().push(accuracy);
        }
        eprintln!("{} {} {}", set.name, split.samples_per_class, split.seed);
    }
    Ok(cells)
}

/// Differences from the default in points, mean over sizes and draws with its 95 % interval
/// over the draws; first the default's accuracy.
fn print(report: &Value) -> Result<(), Failure> {
    let sets = report["sets"]
        .as_object()
        .ok_or("nothing was measured yet")?;
    let names: Vec<&str> = sets.keys().map(String::as_str).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (change, _) in CHANGES {
        let mut row = format!("| {change} |");
        for set in sets.values() {
            let cells: Cells = serde_json::from_value(set["accuracy"].clone())?;
            row += &match change {
                DEFAULT => format!(" {:.2} |", difference(&cells, change, None)?.mean),
                _ => {
                    let Estimate { mean, half } = difference(&cells, change, Some(DEFAULT))?;
                    format!(" {mean:+.2} ± {half:.2} |")
                }
            };
        }
        println!("{row}");
    }
    Ok(())
}

/// Mean accuracy of a change less that of another, in points: a value a draw, over all sizes.
fn difference(cells: &Cells, change: &str, from: Option<&str>) -> Result<Estimate, Failure> {
    let mut draws: Vec<f64> = Vec::new();
    for methods in cells.values() {
        let own = methods.get(change).ok_or("a change was not measured")?;
        draws.resize(own.len().max(draws.len()), 0.0);
        let other = from.and_then(|from| methods.get(from));
        for (draw, own) in own.iter().enumerate() {
            let other = other.map_or(0.0, |other| other[draw]);
            draws[draw] += 100.0 * (own - other) / cells.len() as f64;
        }
    }
    Ok(Estimate::of(&draws))
}
