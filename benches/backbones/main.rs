//! Whether real architectures work as backbones, each exported by its own package: can it
//! be read, where can it be cut, does it give at its output and at two cuts in the middle
//! what ONNX Runtime gives, can its tail be trained, and how long does a sample take.
//!
//! Weights are random where the network is not one of `../shared/models/mlperf-tiny`: only
//! structure is tested. `export.py` writes the networks, `reference.py` runs them.
//! `cargo bench --bench backbones -- NAME...` looks at some; the others' results stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fieldtune::backbone::Backbone;
use fieldtune::inspect::{Inspection, Wishes, inspect_with};
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune_benches::{Failure, machine, python, results, run, shared, work_folder};
use serde::Serialize;
use serde_json::{Value, json};

/// Networks that were trained, of the shared data.
const PRETRAINED: [&str; 5] = [
    "ds_cnn_keywords",
    "ds_cnn_keywords_int8",
    "mobilenet_v1_025_person",
    "resnet8_cifar10",
    "resnet8_cifar10_int8",
];

/// One row of the table.
#[derive(Debug, Default, Serialize)]
struct Row {
    name: String,
    exporter: String,
    opset: u64,
    nodes: u64,
    input: Vec<usize>,
    /// Why it cannot be used at all.
    refused: Option<String>,
    /// Nodes that cannot be run.
    broken: Vec<String>,
    cuts: usize,
    trainable_cuts: usize,
    /// Share of the weights behind the first cut whose tail can be trained.
    trainable_share: f64,
    /// Why the tail after the first cut cannot be trained.
    why_not_all: Option<String>,
    best_guess: Option<String>,
    macs: u64,
    parameters: u64,
    agreement: Vec<Agreement>,
    load_ms: f64,
    fieldtune_ms: f64,
    onnxruntime_ms: f64,
}

/// What one tensor holds here and in ONNX Runtime.
#[derive(Debug, Serialize)]
struct Agreement {
    tensor: String,
    /// Largest absolute difference.
    difference: f64,
    /// Largest absolute value in ONNX Runtime.
    largest: f64,
    /// Why it could not be compared.
    refused: Option<String>,
}

fn main() -> Result<(), Failure> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("backbones");
    let folder = work_folder("backbones");
    let models = folder.join("models");
    let python = python("backbones", &here.join("requirements.txt"))?;
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let exported: Vec<&String> = chosen
        .iter()
        .filter(|name| !PRETRAINED.contains(&name.as_str()))
        .collect();
    // Without names all are exported.
    if chosen.is_empty() || !exported.is_empty() {
        run(Command::new(&python)
            .arg(here.join("export.py"))
            .arg(&models)
            .args(&exported))?;
    }
    let mut rows = Vec::new();
    let mut requests = Vec::new();
    for (name, file, note) in networks(&models)? {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        eprintln!("{name}");
        let (row, request) = examined(&name, &file, &note, &folder);
        rows.push(row);
        requests.extend(request);
    }
    let asked = folder.join("requests.json");
    fs::write(&asked, serde_json::to_vec(&requests)?)?;
    let said = Command::new(&python)
        .arg(here.join("reference.py"))
        .arg(&asked)
        .output()?;
    let lines = String::from_utf8(said.stdout)?;
    for line in lines.lines() {
        let answer: Value = serde_json::from_str(line)?;
        let row = rows
            .iter_mut()
            .find(|row| answer["name"] == row.name.as_str());
        compare(row.ok_or("an answer without a question")?, &answer, &folder)?;
    }
    save(&rows)?;
    print!("{}", table(&rows));
    Ok(())
}

/// Writes the rows over those of the same networks; others stay.
fn save(rows: &[Row]) -> Result<(), Failure> {
    let path = results().join("backbones.json");
    let before = fs::read(&path).unwrap_or_default();
    let before: Value = serde_json::from_slice(&before).unwrap_or_default();
    let mut all = before["networks"].as_array().cloned().unwrap_or_default();
    for row in rows {
        let value = serde_json::to_value(row)?;
        match all.iter_mut().find(|other| other["name"] == row.name) {
            Some(other) => *other = value,
            None => all.push(value),
        }
    }
    let document = json!({ "machine": machine(), "networks": all });
    fs::write(&path, serde_json::to_string_pretty(&document)? + "\n")?;
    Ok(())
}

/// Name, file and note of every network.
fn networks(models: &Path) -> Result<Vec<(String, PathBuf, Value)>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(models)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let note = serde_json::from_slice(&fs::read(&path)?)?;
            found.push((name, path.with_extension("onnx"), note));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for name in PRETRAINED {
        match shared(&format!("models/mlperf-tiny/{name}.onnx")) {
            Ok(file) => found.push((name.into(), file, json!({ "exporter": "mlperf-tiny" }))),
            Err(missing) => eprintln!("{missing}"),
        }
    }
    Ok(found)
}

/// Everything about a network that needs no ONNX Runtime, and what to ask that.
fn examined(name: &str, file: &Path, note: &Value, folder: &Path) -> (Row, Option<Value>) {
    let mut row = Row {
        name: name.into(),
        exporter: note["exporter"].as_str().unwrap_or_default().into(),
        refused: note["error"].as_str().map(str::to_string),
        ..Row::default()
    };
    if row.refused.is_some() {
        return (row, None);
    }
    let request = fill(&mut row, file, note, folder);
    match request {
        Ok(request) => (row, Some(request)),
        Err(error) => {
            // Where the file lies on this machine is nobody's business.
            let place = format!("{}/", file.parent().unwrap_or(folder).display());
            row.refused = Some(error.to_string().replace(&place, ""));
            (row, None)
        }
    }
}

fn fill(row: &mut Row, file: &Path, note: &Value, folder: &Path) -> Result<Value, Failure> {
    let bytes = fs::read(file)?;
    let given = note["input"].as_array().map(|sizes| {
        sizes
            .iter()
            .filter_map(Value::as_u64)
            .map(|size| size as usize)
            .collect::<Vec<_>>()
    });
    let given = given.map(|sizes| input("image", &sizes)).transpose()?;
    let wishes = Wishes {
        input: given.as_ref(),
        ..Wishes::default()
    };
    let found = inspect_with(&bytes, file, &wishes)?;
    let input = match (given, found.input.as_image()) {
        (Some(input), _) | (None, Some(input)) => input,
        _ => input(&found.input.tensor, &found.input.shape)?,
    };
    describe(row, &found);
    let manifest = Manifest::from_flags(file, input, Flags::default())?;
    let tensors = chosen_tensors(&found);
    let mut asked = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let here = values(folder, &row.name, index, "fieldtune");
        let there = values(folder, &row.name, index, "onnxruntime");
        let start = Instant::now();
        match Backbone::load_beside(&manifest, &bytes, file, tensor) {
            Ok(backbone) => {
                if index == 0 {
                    row.load_ms = start.elapsed().as_secs_f64() * 1e3;
                }
                let (features, ms) = measured(&backbone, index == 0)?;
                row.fieldtune_ms = ms.unwrap_or(row.fieldtune_ms);
                let raw: Vec<u8> = features
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                fs::write(&here, raw)?;
                asked.push(json!({ "name": tensor, "values": there }));
                row.agreement.push(Agreement {
                    tensor: tensor.clone(),
                    difference: f64::NAN,
                    largest: f64::NAN,
                    refused: None,
                });
            }
            Err(error) => row.agreement.push(Agreement {
                tensor: tensor.clone(),
                difference: f64::NAN,
                largest: f64::NAN,
                refused: Some(error.to_string()),
            }),
        }
    }
    let shape: Vec<usize> = std::iter::once(1)
        .chain(found.input.shape.iter().copied())
        .collect();
    Ok(json!({
        "name": row.name,
        "file": file,
        "input": { "tensor": found.input.tensor, "shape": shape },
        "tensors": asked,
    }))
}

fn values(folder: &Path, name: &str, index: usize, whose: &str) -> PathBuf {
    folder.join(format!("{name}.{index}.{whose}.f32"))
}

/// An input of one to three axes.
fn input(tensor: &str, sizes: &[usize]) -> Result<Input, Failure> {
    let (channels, height, width) = match *sizes {
        [channels, height, width] => (channels, height, width),
        [height, width] => (1, height, width),
        [width] => (1, 1, width),
        _ => return Err("an input of one to three axes was expected".into()),
    };
    Ok(Input {
        tensor: tensor.into(),
        layout: Layout::Nchw,
        channels,
        height,
        width,
    })
}

fn describe(row: &mut Row, found: &Inspection) {
    row.input = found.input.shape.clone();
    row.broken = found
        .broken
        .iter()
        .map(|broken| format!("{} {}: {}", broken.operator, broken.node, broken.reason))
        .collect();
    row.cuts = found.cuts.len();
    row.trainable_cuts = found.cuts.iter().filter(|cut| cut.trainable).count();
    let first = found.cuts.iter().find(|cut| cut.trainable);
    let weights = found.parameters.max(1) as f64;
    row.trainable_share = first.map_or(0.0, |cut| cut.parameters_after as f64 / weights);
    let refused = found.cuts.first().filter(|cut| !cut.trainable);
    row.why_not_all = refused.map(|cut| cut.reason.clone());
    row.best_guess = found.suggestions.best_guess.clone();
    row.macs = found.macs;
    row.parameters = found.parameters;
}

/// The output, and the cuts at a third and at two thirds of the way.
fn chosen_tensors(found: &Inspection) -> Vec<String> {
    let count = found.cuts.len();
    let mut tensors = vec![found.output.clone()];
    for index in [count / 3, 2 * count / 3] {
        let cut = found.cuts.get(index).map(|cut| cut.tensor.clone());
        tensors.extend(cut.filter(|cut| !tensors.contains(cut)));
    }
    tensors
}

/// Features of the pattern, and the least time of several runs if it is wanted.
fn measured(backbone: &Backbone, timed: bool) -> Result<(Vec<f32>, Option<f64>), Failure> {
    let pattern = |index: usize| (((index * 7919) % 256) as f32 - 127.0) / 128.0;
    let input: Vec<f32> = (0..backbone.input_elements()).map(pattern).collect();
    let mut worker = backbone.worker()?;
    let mut features = vec![0.0; backbone.features()];
    worker.run(&input, &mut features)?;
    if !timed {
        return Ok((features, None));
    }
    let (start, mut least, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 5 || (runs < 50 && start.elapsed() < Duration::from_millis(1500)) {
        let before = Instant::now();
        worker.run(&input, &mut features)?;
        least = least.min(before.elapsed().as_secs_f64() * 1e3);
        runs += 1;
    }
    Ok((features, Some(least)))
}

fn compare(row: &mut Row, answer: &Value, folder: &Path) -> Result<(), Failure> {
    if let Some(error) = answer["error"].as_str() {
        row.refused = Some(format!("ONNX Runtime: {error}"));
        return Ok(());
    }
    row.onnxruntime_ms = answer["ms"].as_f64().unwrap_or(f64::NAN);
    row.opset = answer["opset"].as_u64().unwrap_or(0);
    row.nodes = answer["nodes"].as_u64().unwrap_or(0);
    for (index, agreement) in row.agreement.iter_mut().enumerate() {
        if agreement.refused.is_some() {
            continue;
        }
        let here = numbers(&values(folder, &row.name, index, "fieldtune"))?;
        let there = numbers(&values(folder, &row.name, index, "onnxruntime"))?;
        if here.len() != there.len() {
            let what = format!("{} elements, {} in ONNX Runtime", here.len(), there.len());
            agreement.refused = Some(what);
            continue;
        }
        let pairs = here.iter().zip(&there);
        // NaN must not pass for agreement.
        let worst = |a: f64, b: f64| if b.is_nan() || b > a { b } else { a };
        agreement.difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, worst);
        agreement.largest = there.iter().map(|value| value.abs()).fold(0.0, worst);
    }
    Ok(())
}

fn numbers(path: &Path) -> Result<Vec<f64>, Failure> {
    let bytes = fs::read(path)?;
    let values = bytes.as_chunks::<4>().0.iter();
    Ok(values
        .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
        .collect())
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| network | opset, nodes | cuts | difference at the output | at two cuts | tail trainable | tract ms | ONNX Runtime ms |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        if let Some(refused) = &row.refused {
            out += &format!("| {} | refused: {refused} |\n", row.name);
            continue;
        }
        let difference = |agreement: &Agreement| match &agreement.refused {
            Some(refused) => format!("refused: {refused}"),
            None => format!("{:.1e} of {:.3}", agreement.difference, agreement.largest),
        };
        let cells: Vec<String> = row.agreement.iter().map(difference).collect();
        let (first, rest) = cells
            .split_first()
            .map_or((String::new(), String::new()), |(first, rest)| {
                (first.clone(), rest.join(", "))
            });
        let tail = match (row.trainable_cuts, &row.why_not_all) {
            (0, why) => format!("no: {}", why.as_deref().unwrap_or("no cut")),
            (count, _) => format!(
                "{count} cuts, {:.0} % of weights",
                100.0 * row.trainable_share
            ),
        };
        out += &format!(
            "| {} | {}, {} | {} | {first} | {rest} | {tail} | {:.2} | {:.2} |\n",
            row.name, row.opset, row.nodes, row.cuts, row.fieldtune_ms, row.onnxruntime_ms
        );
    }
    out
}
