//! Spoken digits of speakers who were not trained on: our default against plain classifiers
//! on the same statistics of the same spectrograms, on the built-in network's features of
//! them as pictures, and on both: `cargo bench --bench sound [-- --seeds 12 --report]`.
//!
//! Data: `../shared/data/spoken-digits`. The references are those of the bench `field`.
//! Results are kept in `benches/results/sound.json`.

use std::collections::BTreeMap;

use clap::Parser;
use fieldtune::candidates::{List, Wishes};
use fieldtune::views::ViewSet;
use fieldtune_benches::frozen::{self, Features, Set};
use fieldtune_benches::splits::Split;
use fieldtune_benches::table::{self, Cells};
use fieldtune_benches::trained::searched;
use fieldtune_benches::{Failure, keep, kept, machine, reference, results};
use serde_json::{Value, json};

/// Samples a class.
const SIZES: [usize; 3] = [5, 10, 20];

/// What a recording becomes: a name for tables, the cut, whether statistics are among it.
const CUTS: [(&str, &str, bool); 3] = [
    ("statistics", "statistics", true),
    (
        "picture",
        "features,block10.swish_1.Clip:mean,block13.swish_1.Clip:mean",
        false,
    ),
    (
        "both",
        "statistics,features,block10.swish_1.Clip:mean,block13.swish_1.Clip:mean",
        true,
    ),
];

#[derive(Parser)]
struct Arguments {
    /// Draws of training samples; the speakers are held out in turn.
    #[arg(long, default_value_t = 12)]
    seeds: u64,
    /// Only this of statistics, picture and both.
    #[arg(long)]
    only: Option<String>,
    /// Print what was kept; train nothing.
    #[arg(long)]
    report: bool,
    /// Leave the references out and keep nothing.
    #[arg(long)]
    ours: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let path = results().join("sound.json");
    let mut report = kept(&path);
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    for (name, cut, has_statistics) in CUTS.into_iter().filter(|(name, ..)| wanted(name)) {
        if arguments.report {
            break;
        }
        let set = frozen::heard_digits(name, cut)?;
        let mut kept = compare(&set, has_statistics, &arguments)?;
        if arguments.ours {
            println!("{name}: {}", serde_json::to_string_pretty(&means(&kept))?);
            println!("{}", serde_json::to_string_pretty(&kept["chosen"])?);
            continue;
        }
        kept["machine"] = machine();
        report["sets"][name] = kept;
        keep(&path, &report)?;
    }
    match arguments.ours {
        true => Ok(()),
        false => table::print(&report),
    }
}

/// Mean accuracies of what was measured.
fn means(kept: &Value) -> BTreeMap<String, f64> {
    let cells = kept["accuracy"].as_object().into_iter().flatten();
    cells
        .flat_map(|(size, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, values)| {
                let values: Vec<f64> = serde_json::from_value(values.clone()).unwrap_or_default();
                let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
                (format!("{method} {size:>2}"), 100.0 * mean)
            })
        })
        .collect()
}

fn compare(set: &Set, has_statistics: bool, arguments: &Arguments) -> Result<Value, Failure> {
    let splits = set.splits(&SIZES, arguments.seeds);
    let mut cells = Cells::new();
    let mut chosen = BTreeMap::<String, usize>::new();
    for split in &splits {
        let (recipe, ours) = accuracy(&set.features, has_statistics, split)?;
        *chosen.entry(recipe).or_default() += 1;
        let methods = cells.entry(split.samples_per_class).or_default();
        methods.entry("fieldtune".into()).or_default().push(ours);
    }
    eprintln!("{}: {} heads trained", set.name, splits.len());
    if !arguments.ours {
        reference::add(set, set.features.width, &splits, &mut cells)?;
    }
    let cells: BTreeMap<String, _> = cells
        .into_iter()
        .map(|(size, methods)| (size.to_string(), methods))
        .collect();
    Ok(json!({"seeds": arguments.seeds, "accuracy": cells, "chosen": chosen}))
}

/// Trains as `fieldtune train` does on recordings, and measures on the split's test rows.
fn accuracy(
    features: &Features,
    has_statistics: bool,
    split: &Split,
) -> Result<(String, f64), Failure> {
    let wishes = Wishes {
        held: Some(ViewSet::ZOOMED),
        list: match has_statistics {
            true => List::Statistics,
            false => List::Network,
        },
        ..Wishes::default()
    };
    let chosen = features.chosen(&split.train);
    let (found, head) = chosen.with(|data| searched(data, &wishes, split.seed))?;
    let right = features.share_right(&head, &split.test)?;
    Ok((found.recipe.to_string(), right))
}
