//! Promise: an exported ONNX file gives the probabilities of `predict`, keeps the
//! backbone's bytes, and says in its metadata what it is and how to feed it.

use std::fs;
use std::path::{Path, PathBuf};

use fieldtune::backbone::Backbone;
use fieldtune::export::Runner;
use fieldtune::manifest::Manifest;
use fieldtune_tests::predictions::{probabilities, tensor};
use fieldtune_tests::{demo_head, demo_samples, fieldtune, repository, run, scratch, shared};
use serde_json::Value;

/// Probabilities may differ by this.
const TOLERANCE: f64 = 1e-4;

fn manifest() -> Manifest {
    Manifest::open(&repository().join("models/efficientnet-lite0/manifest.toml")).unwrap()
}

/// `count` photographs of the demo that no head was trained on.
fn photographs(count: usize) -> Vec<PathBuf> {
    let folder = repository().join("crates/cli/demo/test");
    let names = (1..=15).flat_map(|number| {
        let kinds = ["brick", "grass", "gravel"].into_iter();
        kinds.map(move |kind| format!("{kind}/{number:02}.jpg"))
    });
    names.map(|name| folder.join(name)).take(count).collect()
}

/// A head of the demo's samples on these views.
fn head_on(views: &str) -> PathBuf {
    head_with(views, &["--head", "mlp:16", "--views", views])
}

/// A head of the demo's samples.
fn head_with(name: &str, flags: &[&str]) -> PathBuf {
    let path = scratch().join(format!("{name}.head"));
    let mut command = fieldtune();
    command
        .arg("train")
        .arg(demo_samples())
        .arg("-o")
        .arg(&path);
    command.args(flags).args(["--time", "2s"]);
    run(&mut command).succeeded();
    path
}

/// Exports `head` and gives the file and what the command said of it.
fn exported(head: &Path, flags: &[&str]) -> (PathBuf, Value) {
    let name = head.file_stem().unwrap().to_string_lossy();
    let onnx = scratch().join(format!("{name}{}.onnx", flags.concat()));
    let mut command = fieldtune();
    command
        .arg("export")
        .arg(head)
        .arg("-o")
        .arg(&onnx)
        .args(flags)
        .arg("--json");
    let said = run(&mut command).json();
    assert_eq!(said["file"], onnx.to_string_lossy().as_ref());
    (onnx, said)
}

/// What `predict` says of each file: probabilities in the order of the labels, and the score.
fn predicted(head: &Path, files: &[PathBuf], labels: &Value) -> Vec<(Vec<f64>, f64)> {
    let mut command = fieldtune();
    command.arg("predict").arg(head).args(files).arg("--json");
    let ran = run(&mut command);
    ran.succeeded();
    let line = |line: &str| {
        let said: Value = serde_json::from_str(line).unwrap();
        let score = said["unknown_score"].as_f64().unwrap();
        (probabilities(&said, labels), score)
    };
    ran.stdout.lines().map(line).collect()
}

fn furthest(found: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().zip(wanted);
    pairs
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, f64::max)
}

/// Runs an exported file on files as its own description says, and compares with `predict`.
fn check(head: &Path, onnx: &Path, said: &Value, files: &[PathBuf]) {
    let inputs = said["inputs"].as_array().unwrap();
    let text = |input: &Value, key: &str| input[key].as_str().unwrap().to_string();
    let names: Vec<String> = inputs.iter().map(|input| text(input, "name")).collect();
    let shapes: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), vec![1, 3, 224, 224]))
        .collect();
    let runner = Runner::new(&fs::read(onnx).unwrap(), onnx, &shapes).unwrap();
    let wanted = predicted(head, files, &said["labels"]);
    assert_eq!(wanted.len(), files.len());
    for (file, (probabilities, score)) in files.iter().zip(&wanted) {
        let tensors: Vec<Vec<f32>> = inputs
            .iter()
            .map(|input| tensor(&manifest(), file, &text(input, "view")))
            .collect();
        let tensors: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
        let found = runner.run(&tensors).unwrap();
        let distance = furthest(&found[0], probabilities);
        assert!(distance <= TOLERANCE, "{}: {distance}", file.display());
        if let Some(found) = found.get(1) {
            let distance = (f64::from(found[0]) - score).abs();
            assert!(
                distance <= 1e-3 * score.abs().max(1.0),
                "score {found:?}, not {score}"
            );
        }
    }
}

#[test]
fn the_file_of_a_default_head_gives_what_predict_gives() {
    let (onnx, said) = exported(demo_head(), &["--unknown"]);
    assert_eq!(said["as_predict"], true);
    assert_eq!(
        said["outputs"],
        serde_json::json!(["probabilities", "unknown_score"])
    );
    check(demo_head(), &onnx, &said, &photographs(12));
    if let Some(folder) = shared("data/hymenoptera/val/bees") {
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let files: Vec<PathBuf> = files.take(5).collect();
        check(demo_head(), &onnx, &said, &files);
    }
}

#[test]
fn files_of_several_sets_of_views_give_what_predict_gives() {
    for (views, inputs) in [("original", 1), ("zoomed", 3), ("lit", 3), ("all", 5)] {
        let head = head_on(views);
        let (onnx, said) = exported(&head, &[]);
        assert_eq!(said["inputs"].as_array().unwrap().len(), inputs, "{views}");
        check(&head, &onnx, &said, &photographs(4));
    }
}

#[test]
fn a_file_of_one_input_is_a_backbone_itself() {
    let head = head_on("mirrored");
    let (onnx, said) = exported(&head, &[]);
    let bytes = fs::read(&onnx).unwrap();
    let whole = Backbone::load(&manifest(), &bytes, "probabilities").unwrap();
    assert_eq!(whole.shape(), [3]);
    let mut worker = whole.worker().unwrap();
    let files = photographs(6);
    let wanted = predicted(&head, &files, &said["labels"]);
    for (file, (wanted, _)) in files.iter().zip(&wanted) {
        let mut found = [0.0; 3];
        worker
            .run(&tensor(&manifest(), file, "original"), &mut found)
            .unwrap();
        assert!(
            furthest(&found, wanted) <= TOLERANCE,
            "{found:?} {wanted:?}"
        );
    }
}

#[test]
fn fewer_views_are_said_to_differ() {
    let head = head_on("all");
    let (onnx, said) = exported(&head, &["--views", "original"]);
    assert_eq!(said["as_predict"], false);
    let agreement = metadata(&onnx, "agreement");
    assert!(
        agreement.contains("looks at the original view only"),
        "{agreement}"
    );
}

/// One entry of the metadata, found in the bytes: key and value stand side by side.
fn metadata(onnx: &Path, key: &str) -> String {
    let bytes = fs::read(onnx).unwrap();
    let key = format!("fieldtune.{key}");
    let end = bytes
        .windows(key.len())
        .rposition(|window| window == key.as_bytes());
    let rest = &bytes[end.unwrap_or_else(|| panic!("no {key}")) + key.len()..];
    // Tag of the value, then its length in groups of 7 bits.
    assert_eq!(rest[0], 0x12);
    let (mut length, mut at) = (0, 1);
    loop {
        length |= usize::from(rest[at] & 0x7f) << (7 * (at - 1));
        at += 1;
        if rest[at - 1] & 0x80 == 0 {
            break;
        }
    }
    String::from_utf8(rest[at..at + length].to_vec()).unwrap()
}

#[test]
fn the_metadata_says_what_the_file_is() {
    let (onnx, said) = exported(demo_head(), &[]);
    let json = |key: &str| -> Value { serde_json::from_str(&metadata(&onnx, key)).unwrap() };
    assert_eq!(json("labels"), said["labels"]);
    assert_eq!(json("inputs"), said["inputs"]);
    assert_eq!(metadata(&onnx, "seed"), "0");
    assert_eq!(metadata(&onnx, "backbone.sha256"), manifest().sha256);
    assert_eq!(metadata(&onnx, "backbone.license"), "Apache-2.0");
    assert!(!metadata(&onnx, "recipe").is_empty());
    let samples = json("samples");
    assert!(samples["brick"].as_u64().unwrap() > 0);
    let preprocessing = json("preprocessing");
    assert_eq!(preprocessing["settings"]["resize_to"], 256);
    for input in said["inputs"].as_array().unwrap() {
        let name = input["name"].as_str().unwrap();
        assert!(preprocessing["crops"][name].is_string(), "{preprocessing}");
    }
}

#[test]
fn the_backbones_bytes_are_kept_up_to_the_cut() {
    let head = head_with("last_layer", &["--head", "prototype", "--cut", "features"]);
    let (onnx, _) = exported(&head, &[]);
    let merged = fs::read(&onnx).unwrap();
    let own = fs::read(repository().join("models/efficientnet-lite0/model_f16.onnx")).unwrap();
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|it| it == part);
    // The classifier after the cut is a large part of the file.
    assert!(
        merged.len() < own.len() - 1_000_000,
        "{} bytes",
        merged.len()
    );
    assert!(holds(&own, b"logits.weight") && !holds(&merged, b"logits.weight"));
    assert!(holds(&merged, b"conv_head.Conv.weight"));
    let start = own
        .windows(21)
        .rposition(|it| it == b"conv_head.Conv.weight")
        .unwrap();
    let part = &own[start - 400_000..start];
    assert!(
        holds(&merged, part),
        "the last convolution's weights are not as they were"
    );
}

#[test]
fn a_head_alone_takes_features() {
    let (onnx, said) = exported(demo_head(), &["--head-only"]);
    assert_eq!(said["inputs"][0]["name"], "features");
    let bytes = fs::read(&onnx).unwrap();
    let manifest = manifest();
    let backbone = repository().join("models/efficientnet-lite0/model_f16.onnx");
    let backbone = fs::read(backbone).unwrap();
    let backbone = Backbone::load(&manifest, &backbone, &manifest.default_cut).unwrap();
    let width = backbone.features();
    let runner = Runner::new(&bytes, &onnx, &[("features", vec![1, width])]).unwrap();
    let mut worker = backbone.worker().unwrap();
    let views: Vec<String> = serde_json::from_str(&metadata(&onnx, "views")).unwrap();
    let files = photographs(3);
    let wanted = predicted(demo_head(), &files, &said["labels"]);
    for (file, (wanted, _)) in files.iter().zip(&wanted) {
        let mut mean = vec![0.0; width];
        for view in &views {
            let mut features = vec![0.0; width];
            worker
                .run(&tensor(&manifest, file, view), &mut features)
                .unwrap();
            let share = 1.0 / views.len() as f32;
            mean.iter_mut()
                .zip(features)
                .for_each(|(mean, value)| *mean += share * value);
        }
        let found = runner.run(&[&mean]).unwrap();
        assert!(
            furthest(&found[0], wanted) <= TOLERANCE,
            "{found:?} {wanted:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let out = scratch().join("refused.onnx");
    let export = |head: &Path, flags: &[&str]| {
        let mut command = fieldtune();
        command
            .arg("export")
            .arg(head)
            .arg("-o")
            .arg(&out)
            .args(flags);
        run(&mut command)
    };
    let other = scratch().join("other.onnx");
    let mut bytes =
        fs::read(repository().join("models/efficientnet-lite0/model_f16.onnx")).unwrap();
    // An unknown field: the same network, another file.
    bytes.extend([0xf8, 0x01, 0x01]);
    fs::write(&other, bytes).unwrap();
    let other = other.to_string_lossy().into_owned();
    let flags = ["--backbone", &other, "--input", "image:3x224x224"];
    export(demo_head(), &flags).refused(5, "was trained on backbone");
    export(&demo_samples().join("brick/01.jpg"), &[]).refused(3, "not a fieldtune head file");
    export(Path::new("/nonexistent.head"), &[]).refused(3, "nonexistent.head");
    assert!(!out.exists());
    let mut command = fieldtune();
    command
        .arg("export")
        .arg(demo_head())
        .arg("-o")
        .arg(scratch());
    run(&mut command).refused(1, "is a folder");
    let mut command = fieldtune();
    command
        .arg("export")
        .arg(demo_head())
        .arg("-o")
        .arg(demo_head());
    run(&mut command).refused(2, "another name");
}
