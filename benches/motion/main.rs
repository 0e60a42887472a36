//! Sensor files: our default against MiniRocket with ridge regression, and against plain
//! classifiers on our statistics, on the same draws of training files:
//! `cargo bench --bench motion [-- --draws 10 --report]`.
//!
//! Data: eight sets that ship inside of the Python package aeon, written as `.csv` files into
//! the build folder by `export.py`. Trained on files drawn from each set's training part,
//! tested on all of its test part. With `--choose` nothing of the test part is looked at: the
//! rest of the training part is tested on; so was the default found.
//! Results are kept in `benches/results/motion.json`.

mod series;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use fieldtune_benches::splits::Split;
use fieldtune_benches::table::{self, Cells};
use fieldtune_benches::{
    Failure, keep, kept, machine, python, reference, results, run, work_folder,
};
use serde_json::json;

use series::Set;

/// The sets, by their names in aeon.
const SETS: [&str; 8] = [
    "BasicMotions",
    "PickupGestureWiimoteZ",
    "GunPoint",
    "ItalyPowerDemand",
    "ACSF1",
    "JapaneseVowels",
    "ArrowHead",
    "OSULeaf",
];

/// Files a class; sets with fewer are left out of a size.
const SIZES: [usize; 5] = [1, 2, 3, 5, 10];

#[derive(Parser)]
struct Arguments {
    /// Draws of training files.
    #[arg(long, default_value_t = 10)]
    draws: u64,
    /// Only these sets.
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// The features; `values` for convolutions.
    #[arg(long, default_value = "")]
    cut: String,
    /// Train convolutions of these channels over the values instead of the default, on the
    /// same draws; without the references.
    #[arg(long, value_delimiter = ',')]
    convolutions: Vec<usize>,
    /// Test on the rest of the training parts; leave the references out and keep nothing.
    #[arg(long)]
    choose: bool,
    /// Print what was kept; train nothing.
    #[arg(long)]
    report: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let path = results().join("motion.json");
    let mut report = kept(&path);
    if arguments.report {
        return table::print(&report);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("motion");
    let python = python("motion", &here.join("requirements.txt"))?;
    let data = exported(&python, &here)?;
    let wanted =
        |name: &&str| arguments.sets.is_empty() || arguments.sets.iter().any(|s| s == name);
    let mut chosen = json!({});
    for name in SETS.into_iter().filter(wanted) {
        let set = Set::open(name, &data.join(name))?;
        let draws = set.draws(&SIZES, arguments.draws, arguments.choose);
        let (mut cells, recipes) = ours(&set, &draws, &arguments)?;
        if arguments.choose {
            println!("{name:22} {}  {recipes:?}", means(&cells));
            chosen["sets"][name] = json!({"accuracy": cells});
            continue;
        }
        if !arguments.convolutions.is_empty() {
            println!("{name:22} {}", means(&cells));
            report["convolutions"][name] = json!({
                "draws": arguments.draws, "accuracy": cells, "widths": arguments.convolutions,
                "machine": machine(),
            });
            keep(&path, &report)?;
            continue;
        }
        references(&set, &draws, (&python, &here), &mut cells)?;
        report["sets"][name] = json!({
            "draws": arguments.draws, "accuracy": cells, "chosen": recipes, "machine": machine(),
        });
        keep(&path, &report)?;
    }
    match arguments.choose {
        true => table::print(&chosen),
        false => table::print(&report),
    }
}

/// The folder of the sets, written at the first call.
fn exported(python: &Path, here: &Path) -> Result<PathBuf, Failure> {
    let folder = work_folder("motion").join("data");
    let done = folder.join("done");
    if !done.exists() {
        run(Command::new(python)
            .arg(here.join("export.py"))
            .arg(&folder)
            .args(SETS))?;
        std::fs::write(done, "")?;
    }
    Ok(folder)
}

/// Mean accuracies in percent, by size.
fn means(cells: &Cells) -> String {
    let mean = |values: &Vec<f64>| 100.0 * values.iter().sum::<f64>() / values.len() as f64;
    let cell = |(size, methods): (&usize, &BTreeMap<String, Vec<f64>>)| {
        let means = methods
            .values()
            .map(|values| format!("{:5.1}", mean(values)));
        format!("{size}: {}", means.collect::<String>())
    };
    cells.iter().map(cell).collect::<Vec<_>>().join("  ")
}

/// Our accuracies, and how often each recipe was chosen.
fn ours(
    set: &Set,
    draws: &[Split],
    arguments: &Arguments,
) -> Result<(Cells, BTreeMap<String, usize>), Failure> {
    let mut cells = Cells::new();
    let mut chosen = BTreeMap::<String, usize>::new();
    for draw in draws {
        let (recipe, accuracy) = set.trained(draw, &arguments.cut, &arguments.convolutions)?;
        *chosen.entry(recipe).or_default() += 1;
        let methods = cells.entry(draw.samples_per_class).or_default();
        methods
            .entry("fieldtune".into())
            .or_default()
            .push(accuracy);
    }
    eprintln!("{}: {} heads trained", set.name, draws.len());
    Ok((cells, chosen))
}

/// Adds the references' accuracies.
fn references(
    set: &Set,
    splits: &[Split],
    (python, here): (&Path, &Path),
    cells: &mut Cells,
) -> Result<(), Failure> {
    let folder = work_folder("motion").join("inputs").join(set.name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("rows.txt"), set.rows())?;
    let (width, values) = set.statistics()?;
    let described = json!({"features": width});
    let script = here.join("reference.py");
    reference::measured(
        (python, &script),
        &folder,
        (described, &values),
        splits,
        cells,
    )
}
