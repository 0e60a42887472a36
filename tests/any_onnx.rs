//! Promise: a backbone may be any ONNX file as its exporter wrote it: any operator set,
//! open sizes, channels first or last, several inputs and outputs, weights beside it, half
//! precision, quantised. It can be cut at any tensor, or at several, and gives what ONNX
//! Runtime gives there; what cannot be run is named, with the nearest cut that works.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fieldtune::backbone::Backbone;
use fieldtune::cache::Cache;
use fieldtune::error::{Error, ErrorKind};
use fieldtune::features::LazyBackbone;
use fieldtune::inspect::{Inspection, Wishes, inspect, inspect_with};
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune_tests::scratch;
use serde_json::Value;

/// See `golden/make_any_onnx.py`.
const GOLDEN: &str = include_str!("golden/any_onnx.json");

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/any_onnx")
}

fn cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn case(file: &str) -> Value {
    let found = cases().into_iter().find(|case| case["file"] == file);
    found.unwrap_or_else(|| panic!("no case {file}"))
}

fn manifest(case: &Value) -> Manifest {
    let number = |name: &str| case["input"][name].as_u64().unwrap() as usize;
    let input = Input {
        tensor: case["input"]["tensor"].as_str().unwrap().into(),
        layout: match case["input"]["layout"].as_str() {
            Some("nhwc") => Layout::Nhwc,
            _ => Layout::Nchw,
        },
        channels: number("channels"),
        height: number("height"),
        width: number("width"),
    };
    let fixed = case["fixed"].as_object().unwrap().iter();
    let flags = Flags {
        fixed_inputs: fixed
            .map(|(name, value)| (name.clone(), value.as_f64().unwrap() as f32))
            .collect(),
        ..Flags::default()
    };
    let path = Path::new(case["file"].as_str().unwrap());
    Manifest::from_flags(path, input, flags).unwrap()
}

fn load(case: &Value, cut: &str) -> Result<Backbone, Error> {
    let path = folder().join(case["file"].as_str().unwrap());
    let bytes = fs::read(&path).unwrap();
    Backbone::load_beside(&manifest(case), &bytes, &path, cut)
}

/// The input of `golden/make_any_onnx.py`.
fn pattern(elements: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7919) % 256) as f32 - 127.0;
    (0..elements).map(|index| value(index) / 128.0).collect()
}

fn run(backbone: &Backbone) -> Vec<f32> {
    let mut features = vec![0.0; backbone.features()];
    let mut worker = backbone.worker().unwrap();
    worker
        .run(&pattern(backbone.input_elements()), &mut features)
        .unwrap();
    features
}

#[test]
fn every_form_gives_what_onnx_runtime_gives() {
    let mut compared = 0;
    for case in cases() {
        let tolerance = case["tolerance"].as_f64().unwrap();
        for (cut, expected) in case["cuts"].as_object().unwrap() {
            let name = format!("{} at {cut}", case["file"]);
            let backbone = load(&case, cut).unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = run(&backbone);
            let expected: Vec<f64> = expected
                .as_array()
                .unwrap()
                .iter()
                .map(|value| value.as_f64().unwrap())
                .collect();
            assert_eq!(found.len(), expected.len(), "{name}");
            // A quantised number may land on the next level.
            let quantised = cut.ends_with("_q");
            let tolerance = if quantised { 1.0 } else { tolerance };
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = (f64::from(*found) - expected).abs();
                assert!(
                    difference <= tolerance * expected.abs().max(1.0),
                    "{name}: element {index} is {found}, not {expected}"
                );
            }
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared} cuts");
}

#[test]
fn inspect_lists_cuts_of_every_form_that_load() {
    for case in cases() {
        let path = folder().join(case["file"].as_str().unwrap());
        let manifest = manifest(&case);
        if !manifest.fixed_inputs.is_empty() {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let found = inspect(&bytes, &path, Some(&manifest.input));
        let found = found.unwrap_or_else(|error| panic!("{error}"));
        assert!(!found.cuts.is_empty(), "{}", path.display());
        for cut in &found.cuts {
            let backbone = load(&case, &cut.tensor);
            let backbone = backbone.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                backbone.shape(),
                cut.shape,
                "{} {}",
                path.display(),
                cut.tensor
            );
        }
    }
}

/// One line that names the file and holds all of `wanted`.
fn refused(outcome: Result<Backbone, Error>, kind: ErrorKind, wanted: &[&str]) {
    let error = outcome.expect_err("must be refused");
    let line = error.to_string();
    assert_eq!(error.kind(), kind, "{line}");
    for wanted in wanted {
        assert!(line.contains(wanted), "{line} lacks {wanted}");
    }
}

#[test]
fn an_operator_that_cannot_be_run_is_named_with_the_nearest_cut() {
    let like = case("opset17.onnx");
    for (file, node, operator) in [
        ("unknown_operator.onnx", "/middle/odd", "Frobnicate"),
        ("impossible_shape.onnx", "/middle/bad", "Reshape"),
    ] {
        let mut case = like.clone();
        case["file"] = file.into();
        for size in ["height", "width"] {
            case["input"][size] = 4.into();
        }
        let wanted = [file, node, operator, "--cut \"relu\""];
        refused(load(&case, "flat"), ErrorKind::BadInput, &wanted);
        assert_eq!(load(&case, "relu").unwrap().shape(), [2, 4, 4]);
        // What comes after the cut is not looked at, so its cuts are listed.
        let path = folder().join(file);
        let bytes = fs::read(&path).unwrap();
        let found = inspect(&bytes, &path, Some(&manifest(&case).input)).unwrap();
        let cuts: Vec<&str> = found.cuts.iter().map(|cut| cut.tensor.as_str()).collect();
        assert_eq!(cuts, ["conv", "relu"], "{file}");
    }
}

#[test]
fn the_other_inputs_of_a_network_need_values_where_they_count() {
    let mut case = case("inputs.onnx");
    case["fixed"] = serde_json::json!({ "age": 0.5 });
    let wanted = ["\"steps\"", "--fixed-input steps=0"];
    refused(load(&case, "scaled"), ErrorKind::BadInput, &wanted);
    let with = load(&case, "scores").unwrap();
    case["fixed"] = serde_json::json!({ "age": 0.75 });
    let other = load(&case, "scores").unwrap();
    assert_ne!(with.identity(), other.identity());
    assert_ne!(run(&with), run(&other));
    case["fixed"] = serde_json::json!({});
    assert_eq!(load(&case, "embedding").unwrap().features(), 4);
    case["input"]["tensor"] = "".into();
    refused(
        load(&case, "scaled"),
        ErrorKind::BadInput,
        &["3 inputs", "\"age\"", "--input"],
    );
    assert_eq!(load(&case, "embedding").unwrap().features(), 4);
    case["input"]["tensor"] = "picture".into();
    refused(
        load(&case, "embedding"),
        ErrorKind::BadInput,
        &["\"image\"", "\"picture\""],
    );
    case["input"]["tensor"] = "image".into();
    case["fixed"] = serde_json::json!({ "weight": 1.0 });
    refused(
        load(&case, "embedding"),
        ErrorKind::BadInput,
        &["\"weight\"", "--fixed-input"],
    );
}

#[test]
fn several_cuts_are_one_vector_and_unknown_ones_are_named() {
    let case = case("opset17.onnx");
    let both = run(&load(&case, "sum,features").unwrap());
    let [sum, features] = ["sum", "features"].map(|cut| run(&load(&case, cut).unwrap()));
    assert_eq!(both, [sum, features].concat());
    refused(
        load(&case, "sum,feature"),
        ErrorKind::Usage,
        &["\"feature\"", "\"features\""],
    );
    refused(load(&case, "sum,sum"), ErrorKind::Usage, &["twice"]);
    refused(load(&case, "sum,sum:mean"), ErrorKind::Usage, &["twice"]);
}

#[test]
fn a_cut_can_take_means_over_positions() {
    let case = case("opset17.onnx");
    let pooled = load(&case, "features,relu:mean").unwrap();
    let [features, relu] = ["features", "relu"].map(|cut| run(&load(&case, cut).unwrap()));
    let channels = load(&case, "relu").unwrap().shape()[0];
    let positions = relu.len() / channels;
    assert!(positions > 1);
    let mean = |channel: &[f32]| channel.iter().sum::<f32>() / positions as f32;
    let means: Vec<f32> = relu.chunks(positions).map(mean).collect();
    assert_eq!(run(&pooled), [features, means].concat());
    assert_eq!(pooled.identity().cut, "features,relu:mean");
    refused(
        load(&case, "relu,features:mean"),
        ErrorKind::Usage,
        &["\"features\"", "no positions"],
    );
    refused(
        load(&case, "rel:mean"),
        ErrorKind::Usage,
        &["\"rel\"", "\"relu\""],
    );
}

#[test]
fn a_cut_can_take_what_a_classifier_says() {
    let case = case("opset17.onnx");
    let said = load(&case, "features:classes").unwrap();
    let scores: Vec<f64> = run(&load(&case, "features").unwrap())
        .iter()
        .map(|score| f64::from(*score))
        .collect();
    let sum: f64 = scores.iter().map(|score| score.exp()).sum();
    for (feature, score) in run(&said).iter().zip(&scores) {
        let expected = 128.0 * (score.exp() / sum).powf(1.5);
        assert!((f64::from(*feature) / expected - 1.0).abs() < 1e-5);
    }
    refused(
        load(&case, "relu:classes"),
        ErrorKind::Usage,
        &["\"relu\"", "one score a class", ":classes"],
    );
}

/// The case with weights in a side file, copied to a folder of its own.
fn side_file_in(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["side_file.onnx", "side_file.weights"] {
        fs::copy(self::folder().join(file), folder.join(file)).unwrap();
    }
    folder
}

#[test]
fn weights_beside_a_file_are_part_of_it() {
    let case = case("side_file.onnx");
    let folder = side_file_in("changed");
    let path = folder.join("side_file.onnx");
    let bytes = fs::read(&path).unwrap();
    let load = || Backbone::load_beside(&manifest(&case), &bytes, &path, "features");
    let before = load().unwrap();
    let lazy = LazyBackbone::file(manifest(&case), &path, "features").unwrap();
    assert_eq!(lazy.sha256(), &before.identity().sha256);
    assert_eq!(lazy.features(&Cache::off()), Ok(4));
    // The model's bytes alone do not say what it computes.
    let weights = folder.join("side_file.weights");
    let mut changed = fs::read(&weights).unwrap();
    changed[2] ^= 0x40;
    fs::write(&weights, &changed).unwrap();
    assert_ne!(load().unwrap().identity().sha256, before.identity().sha256);
    fs::write(&weights, &changed[..100]).unwrap();
    let wanted = ["side_file.onnx", "side_file.weights", "(100 bytes)"];
    refused(load(), ErrorKind::BadInput, &wanted);
    fs::remove_file(&weights).unwrap();
    refused(
        load(),
        ErrorKind::BadInput,
        &["side_file.weights", "cannot be read"],
    );
    let alone = Backbone::load(&manifest(&case), &bytes, "features");
    refused(
        alone,
        ErrorKind::BadInput,
        &["side_file.weights", "not at hand"],
    );
}

#[test]
fn weights_may_not_lie_outside_the_folder() {
    let case = case("side_file.onnx");
    let folder = side_file_in("inside");
    let outside = scratch().join("outside");
    fs::copy(folder.join("side_file.weights"), &outside).unwrap();
    let bytes = fs::read(folder.join("side_file.onnx")).unwrap();
    let path = folder.join("side_file.onnx");
    // Paths of the same length, so that the file's structure stays.
    for location in [
        "/tmp/side_weights",
        "../outside_weight",
        "a/../../side_file",
    ] {
        assert_eq!(location.len(), "side_file.weights".len());
        let changed = replaced(&bytes, b"side_file.weights", location.as_bytes());
        let outcome = Backbone::load_beside(&manifest(&case), &changed, &path, "features");
        refused(
            outcome,
            ErrorKind::BadInput,
            &[location, "not a path inside its folder"],
        );
    }
    #[cfg(unix)]
    {
        fs::remove_file(folder.join("side_file.weights")).unwrap();
        std::os::unix::fs::symlink("../outside", folder.join("side_file.weights")).unwrap();
        let outcome = Backbone::load_beside(&manifest(&case), &bytes, &path, "features");
        refused(outcome, ErrorKind::BadInput, &["leads out of its folder"]);
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = out[at..]
        .windows(from.len())
        .position(|window| window == from)
    {
        out[at + found..at + found + from.len()].copy_from_slice(to);
        at += found + from.len();
    }
    out
}

#[test]
fn fixed_inputs_are_read_from_a_manifest() {
    let text = r#"
name = "n"
file = "inputs.onnx"
[fixed_inputs]
age = 0.5
steps = 3.0
[input]
tensor = "image"
layout = "nchw"
channels = 3
height = 4
width = 4
[preprocessing]
resize = "stretch"
interpolation = "bilinear"
colour = "rgb"
mean = [0.0]
scale = [1.0]
"#;
    let manifest = Manifest::parse(text.as_bytes(), Path::new("n.toml")).unwrap();
    let expected = BTreeMap::from([("age".to_string(), 0.5), ("steps".to_string(), 3.0)]);
    assert_eq!(manifest.fixed_inputs, expected);
    let path = folder().join("inputs.onnx");
    let bytes = fs::read(&path).unwrap();
    let backbone = Backbone::load_beside(&manifest, &bytes, &path, "scaled").unwrap();
    assert_eq!(backbone.shape(), [3]);
    let wrong = text.replace("age = 0.5", "age = nan");
    let error = Manifest::parse(wrong.as_bytes(), Path::new("n.toml")).unwrap_err();
    assert!(error.to_string().contains("\"age\""), "{error}");
}

#[test]
fn inspect_shows_tensors_off_the_path_and_several_at_once() {
    let case = case("opset17.onnx");
    let path = folder().join("opset17.onnx");
    let bytes = fs::read(&path).unwrap();
    let input = manifest(&case).input;
    let with = |all: bool, cut: Option<&str>| {
        let wishes = Wishes {
            input: Some(&input),
            all,
            cut,
            ..Wishes::default()
        };
        inspect_with(&bytes, &path, &wishes)
    };
    let names = |found: &Inspection| -> Vec<String> {
        found.cuts.iter().map(|cut| cut.tensor.clone()).collect()
    };
    let (alone, all) = (with(false, None).unwrap(), with(true, None).unwrap());
    // `depthwise` has `relu` beside it, on its way to `sum`.
    assert!(
        !names(&alone).contains(&"depthwise".into()),
        "{:?}",
        names(&alone)
    );
    let depthwise = all
        .cuts
        .iter()
        .find(|cut| cut.tensor == "depthwise")
        .unwrap();
    assert!(!depthwise.alone && !depthwise.trainable, "{depthwise:?}");
    assert_eq!(depthwise.shape, load(&case, "depthwise").unwrap().shape());
    for cut in &alone.cuts {
        assert!(all.cuts.contains(cut), "{cut:?}");
    }
    // 4 filters of 3 x 3 x 3 and of 3 x 3 at 16 places, and 4 features by 5 classes.
    let work = [16 * 4 * 27, 16 * 4 * 9, 4 * 5];
    assert_eq!(all.macs, work.iter().sum::<u64>());
    let joined = with(false, Some("depthwise,relu")).unwrap().cuts;
    let [joined] = joined.as_slice() else {
        panic!("{joined:?}");
    };
    assert_eq!(joined.shape, load(&case, &joined.tensor).unwrap().shape());
    assert_eq!(
        (joined.macs_before, joined.macs_after),
        (work[0] + work[1], work[2])
    );
    let pooled = &with(false, Some("depthwise:mean,relu")).unwrap().cuts[0];
    assert_eq!(pooled.tensor, "depthwise:mean,relu");
    assert_eq!(pooled.shape, load(&case, &pooled.tensor).unwrap().shape());
    let error = with(false, Some("features:mean")).unwrap_err();
    assert!(error.to_string().contains("no positions"), "{error}");
    assert_eq!(
        with(false, Some("relut")).unwrap_err().kind(),
        ErrorKind::Usage
    );
    let chosen = alone.suggestions;
    assert_eq!(chosen.best_guess.as_deref(), Some("features"));
    assert_eq!(chosen.fastest.as_deref(), Some("conv"));
}

#[test]
fn inspect_follows_the_output_that_is_named() {
    let path = folder().join("inputs.onnx");
    let bytes = fs::read(&path).unwrap();
    let mut wishes = Wishes {
        output: Some("embedding"),
        ..Wishes::default()
    };
    let found = inspect_with(&bytes, &path, &wishes).unwrap();
    assert_eq!(
        (found.output.as_str(), found.input.tensor.as_str()),
        ("embedding", "image")
    );
    assert_eq!(found.outputs, ["scaled", "embedding"]);
    wishes.output = Some("embeding");
    let error = inspect_with(&bytes, &path, &wishes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("\"embedding\""), "{error}");
}
