//! Runs `reference.py` on the same features and splits and reads what it found.

use std::path::Path;
use std::process::Command;

use fieldtune_benches::{Failure, python, run, work_folder};
use serde_json::{Value, json};

use fieldtune::preprocess::View;
use fieldtune_benches::frozen::{Features, Set};
use fieldtune_benches::splits::Split;

use crate::Cells;

/// Adds the references' accuracies to `cells`. They see the first `last_layer` features.
///
/// # Errors
/// When Python or a package is missing, or the script fails.
pub fn add(
    set: &Set,
    last_layer: usize,
    splits: &[Split],
    cells: &mut Cells,
) -> Result<(), Failure> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("field");
    let python = python("field", &here.join("requirements.txt"))?;
    let all: Vec<usize> = (0..set.features.labels.len()).collect();
    let folder = work_folder("field").join(set.name);
    let values = set.features.view(View::Original, &all);
    write_inputs(&folder, &values, &set.features, last_layer, splits)?;
    let output = folder.join("reference.json");
    let script = here.join("reference.py");
    run(Command::new(&python).arg(script).arg(&folder).arg(&output))?;
    let found: Value = serde_json::from_slice(&std::fs::read(&output)?)?;
    let results = found["results"].as_array();
    for result in results.ok_or("reference.py gave no results")? {
        let size = result["samples_per_class"].as_u64().ok_or("no size")? as usize;
        let method = result["method"].as_str().ok_or("no method")?;
        let accuracy = result["accuracy"].as_f64().ok_or("no accuracy")?;
        let methods = cells.entry(size).or_default();
        methods.entry(method.into()).or_default().push(accuracy);
    }
    Ok(())
}

fn write_inputs(
    folder: &Path,
    values: &[f32],
    features: &Features,
    last_layer: usize,
    splits: &[Split],
) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    std::fs::write(folder.join("features.f32"), bytes)?;
    let labels: String = features
        .labels
        .iter()
        .map(|label| format!("{label}\n"))
        .collect();
    std::fs::write(folder.join("labels.txt"), labels)?;
    let splits: Vec<Value> = splits
        .iter()
        .map(|split| {
            json!({
                "samples_per_class": split.samples_per_class, "seed": split.seed,
                "train": split.train, "test": split.test,
            })
        })
        .collect();
    let description = json!({
        "features": features.width, "last_layer": last_layer, "splits": splits,
    });
    std::fs::write(folder.join("splits.json"), description.to_string())?;
    Ok(())
}
