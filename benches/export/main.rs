//! Whether an exported file gives the probabilities of `predict`, in ONNX Runtime and in
//! tract, and passes ONNX's own checker: the demo's head in several forms, on 100 pictures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fieldtune::cache::Cache;
use fieldtune::candidates::Wishes;
use fieldtune::export::{Exported, Options, Runner};
use fieldtune::features::Source;
use fieldtune::head::Head;
use fieldtune::manifest::Manifest;
use fieldtune::model::Model;
use fieldtune::preprocess::{View, decode};
use fieldtune::recipe::Shape;
use fieldtune::samples::SampleSet;
use fieldtune::session::{Session, Settings, Silent};
use fieldtune::views::ViewSet;
use fieldtune_benches::{Failure, machine, python, results, run, shared, work_folder};
use serde_json::{Value, json};

/// Pictures on which every file is compared.
const PICTURES: usize = 100;

/// One exported file and what `predict` says.
struct Case {
    name: &'static str,
    exported: Exported,
    /// `[n, K]` of `predict`.
    wanted: Vec<Vec<f32>>,
    /// `[n, K]` of tract.
    tract: Vec<Vec<f32>>,
}

fn main() -> Result<(), Failure> {
    let pictures = pictures()?;
    let folder = work_folder("export");
    std::fs::create_dir_all(&folder)?;
    let all = trained(&folder, None, None)?;
    let mirrored = trained(&folder, Some(ViewSet::MIRRORED), Some(Shape::Mlp(vec![32])))?;
    let only = |views| Options {
        views: Some(views),
        ..Options::default()
    };
    let with_score = Options {
        unknown: true,
        ..Options::default()
    };
    let forms = [
        ("default", &all, Options::default()),
        ("default-with-score", &all, with_score),
        ("mlp-mirrored", &mirrored, Options::default()),
        ("original-view-only", &all, only(ViewSet::ORIGINAL)),
        ("without-zoom", &all, only(ViewSet::MIRRORED)),
    ];
    let mut cases = Vec::new();
    for (name, head, options) in forms {
        cases.push(case(name, head, options, &pictures, &folder)?);
    }
    let listed: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({"name": case.name, "inputs": case.exported.inputs, "samples": pictures.len()})
        })
        .collect();
    std::fs::write(folder.join("cases.json"), json!(listed).to_string())?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("export");
    let python = python("export", &here.join("requirements.txt"))?;
    run(Command::new(&python)
        .arg(here.join("verify.py"))
        .arg(&folder))?;
    let found: Value = serde_json::from_slice(&std::fs::read(folder.join("found.json"))?)?;
    report(&cases, &found, pictures.len())
}

/// The demo's test pictures, then insects if the shared data is there.
fn pictures() -> Result<Vec<PathBuf>, Failure> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/demo/test");
    let mut found = files(&demo)?;
    match shared("data/hymenoptera/val") {
        Ok(insects) => found.extend(files(&insects)?),
        Err(missing) => eprintln!("fewer than {PICTURES} pictures: {missing}"),
    }
    found.truncate(PICTURES);
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let set = SampleSet::open(folder)?;
    Ok(set.samples.into_iter().map(|sample| sample.path).collect())
}

fn session(folder: &Path, wishes: Wishes) -> Result<Session, Failure> {
    let settings = Settings {
        wishes,
        threads: 2,
        time: Duration::from_secs(10),
        ..Settings::default()
    };
    let cache = Cache::open(&folder.join("cache"))?;
    Ok(Session::new(Model::embedded()?, cache, settings))
}

/// A head of the demo's training samples.
fn trained(folder: &Path, views: Option<ViewSet>, shape: Option<Shape>) -> Result<Head, Failure> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/demo/train");
    let set = SampleSet::open(&samples)?;
    let wishes = Wishes {
        views,
        shape,
        ..Wishes::default()
    };
    let session = session(folder, wishes)?;
    Ok(session.train(&set, &Source::of_set(&set), &Silent)?.head)
}

fn case(
    name: &'static str,
    head: &Head,
    options: Options,
    pictures: &[PathBuf],
    folder: &Path,
) -> Result<Case, Failure> {
    let session = session(folder, Wishes::default())?;
    let path = Path::new(name);
    let exported = session.export(head, path, options)?;
    std::fs::write(folder.join(format!("{name}.onnx")), &exported.bytes)?;
    let sources: Vec<Source<'_>> = pictures
        .iter()
        .map(|path| Source {
            path,
            label: 0,
            bytes: None,
            part: None,
        })
        .collect();
    let predictions = session.predict(head, path, &sources, &Silent)?;
    let wanted: Result<Vec<_>, String> = predictions
        .into_iter()
        .map(|prediction| Ok(prediction?.probabilities))
        .collect();
    let tensors = tensors(&exported, pictures)?;
    for (input, values) in exported.inputs.iter().zip(&tensors) {
        let bytes: Vec<u8> = values
            .iter()
            .flatten()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        std::fs::write(folder.join(format!("{name}.{}.f32", input.name)), bytes)?;
    }
    let runner = Runner::new(&exported.bytes, path, &exported.shapes())?;
    let mut tract = Vec::new();
    for sample in 0..pictures.len() {
        let given: Vec<&[f32]> = tensors.iter().map(|values| &values[sample][..]).collect();
        let outputs = runner.run(&given)?;
        tract.push(outputs.into_iter().next().ok_or("no output")?);
    }
    Ok(Case {
        name,
        exported,
        wanted: wanted?,
        tract,
    })
}

/// For each input, the tensor of each picture.
fn tensors(exported: &Exported, pictures: &[PathBuf]) -> Result<Vec<Vec<Vec<f32>>>, Failure> {
    let model = Model::embedded()?;
    let Manifest {
        input,
        preprocessing,
        ..
    } = model.manifest();
    let mut tensors = vec![Vec::new(); exported.inputs.len()];
    for path in pictures {
        let image = decode(&std::fs::read(path)?, path)?;
        for (wanted, tensors) in exported.inputs.iter().zip(&mut tensors) {
            let view = View::ALL
                .into_iter()
                .find(|view| wanted.view == Some(view.name()));
            let mut tensor = vec![0.0; input.elements()];
            preprocessing.tensor(&image, input, view.ok_or("no such view")?, &mut tensor)?;
            tensors.push(tensor);
        }
    }
    Ok(tensors)
}

/// The largest and the mean distance, and how often the likeliest class is the same.
fn compared(found: &[Vec<f32>], wanted: &[Vec<f32>]) -> Value {
    let pairs = found.iter().flatten().zip(wanted.iter().flatten());
    let distances: Vec<f32> = pairs.map(|(a, b)| (a - b).abs()).collect();
    let best = |row: &Vec<f32>| {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter().position(|value| *value == largest)
    };
    let same = found.iter().zip(wanted).filter(|(a, b)| best(a) == best(b));
    json!({
        "largest": distances.iter().copied().fold(0.0, f32::max),
        "mean": distances.iter().sum::<f32>() / distances.len().max(1) as f32,
        "same_label": same.count(),
    })
}

fn report(cases: &[Case], found: &Value, pictures: usize) -> Result<(), Failure> {
    let mut rows = Vec::new();
    println!("{pictures} pictures; difference from predict: largest, mean, same label");
    for case in cases {
        let of = &found["cases"][case.name];
        let runtime: Vec<Vec<f32>> = serde_json::from_value(of["probabilities"].clone())?;
        let row = json!({
            "file": case.name,
            "as_predict": case.exported.as_predict,
            "views": case.exported.views,
            "inputs": case.exported.inputs.len(),
            "bytes": case.exported.bytes.len(),
            "opset": of["opset"],
            "onnx_runtime": compared(&runtime, &case.wanted),
            "tract": compared(&case.tract, &case.wanted),
            "batch_difference": of["batch_difference"],
            "onnx_runtime_least_ms": of["least_ms"],
        });
        println!(
            "{}: ONNX Runtime {} tract {}",
            case.name, row["onnx_runtime"], row["tract"]
        );
        rows.push(row);
    }
    let document = json!({
        "bench": "export",
        "machine": machine(),
        "onnx": found["onnx"],
        "onnxruntime": found["onnxruntime"],
        "checker": "onnx.checker.check_model, full_check: all files pass",
        "pictures": pictures,
        "files": rows,
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(results().join("export.json"), text)?;
    Ok(())
}
