//! Runs a bench's `reference.py` on the same features and splits and reads what it found.

use std::path::Path;
use std::process::Command;

use fieldtune::preprocess::View;
use serde_json::{Value, json};

use crate::frozen::Set;
use crate::splits::Split;
use crate::table::Cells;
use crate::{Failure, python, run, work_folder};

/// Adds the accuracies of the references of the bench `field` to `cells`. They see the first
/// `last_layer` features.
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
    let features = &set.features;
    let all: Vec<usize> = (0..features.labels.len()).collect();
    let folder = work_folder("field").join(set.name);
    std::fs::create_dir_all(&folder)?;
    let labels = features.labels.iter().map(|label| format!("{label}\n"));
    std::fs::write(folder.join("labels.txt"), labels.collect::<String>())?;
    let values = features.view(View::Original, &all);
    let described = json!({"features": features.width, "last_layer": last_layer});
    let script = here.join("reference.py");
    measured(
        (&python, &script),
        &folder,
        (described, &values),
        splits,
        cells,
    )
}

/// Adds what `script` measures to `cells`. It is given `folder`, where `features.f32` and
/// `splits.json` are written: the description with the splits in it. What else it reads is
/// there already.
///
/// # Errors
/// When the script fails or a file cannot be written.
pub fn measured(
    (python, script): (&Path, &Path),
    folder: &Path,
    (mut description, values): (Value, &[f32]),
    splits: &[Split],
    cells: &mut Cells,
) -> Result<(), Failure> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    std::fs::write(folder.join("features.f32"), bytes)?;
    let splits = splits.iter().map(|split| {
        json!({
            "samples_per_class": split.samples_per_class, "seed": split.seed,
            "train": split.train, "test": split.test,
        })
    });
    description["splits"] = splits.collect();
    std::fs::write(folder.join("splits.json"), description.to_string())?;
    let output = folder.join("reference.json");
    run(Command::new(python).arg(script).arg(folder).arg(&output))?;
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
