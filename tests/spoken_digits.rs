//! Promise: spoken digits of a speaker who was never heard are recognised by a head of 20
//! recordings a digit, and an audio backbone given as ONNX hears as its manifest says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fieldtune_tests::{demo_samples, fieldtune, run, shared};
use serde_json::Value;
use tempfile::tempdir;

/// Writes lists of the others' recordings, 20 a digit, and of one speaker's.
fn lists(data: &Path, folder: &Path, tested: &str) -> [std::path::PathBuf; 2] {
    let mut lists = [
        "path,label,group\n".to_string(),
        "path,label,group\n".to_string(),
    ];
    for digit in 0..10 {
        let entries = fs::read_dir(data.join(digit.to_string())).expect("a digit");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        let mut taken = BTreeMap::<String, usize>::new();
        for path in paths {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let speaker = name.split('_').nth(1).expect("a speaker").to_string();
            let count = taken.entry(speaker.clone()).or_default();
            *count += 1;
            let (list, most) = if speaker == tested { (1, 20) } else { (0, 7) };
            if *count <= most {
                lists[list] += &format!("{},{digit},{speaker}\n", path.display());
            }
        }
    }
    let names = ["train.csv", "test.csv"].map(|name| folder.join(name));
    for (path, list) in names.iter().zip(lists) {
        fs::write(path, list).expect("written");
    }
    names
}

/// Trains on the others' recordings in `folder` with more `flags`, and measures on a
/// speaker's.
fn measured(data: &Path, folder: &Path, flags: &[&Path]) -> Value {
    let [train, test] = lists(data, folder, "nicolas");
    let head = folder.join("digits.head");
    let mut command = fieldtune();
    command.args(["train", "--json"]).arg(&train).arg("-o");
    run(command.arg(&head).args(flags)).json();
    let mut command = fieldtune();
    command.args(["eval", "--json"]).arg(&head).arg(&test);
    let measured = run(command.args(flags)).json();
    println!("accuracy {}", measured["accuracy"]);
    measured
}

#[test]
fn a_new_speaker_is_understood() {
    let Some(data) = shared("data/spoken-digits") else {
        return;
    };
    let folder = tempdir().expect("a folder");
    let measured = measured(&data, folder.path(), &[]);
    // As pictures of spectra through the picture backbone it was 0.36.
    assert!(measured["accuracy"].as_f64() >= Some(0.7), "{measured}");
}

/// The front end that the network was trained with, see the line in ../shared/README.md.
const KEYWORDS: &str = r#"
name = "ds-cnn-keywords"
file = "keywords.onnx"
default_cut = "functional_1/flatten/Reshape"
[input]
layout = "nhwc"
channels = 1
height = 49
width = 10
[preprocessing]
resize = "stretch"
interpolation = "bilinear"
colour = "grey"
mean = [0.0]
scale = [1.0]
[sound]
window_seconds = 1.0
feed = "values"
coefficients = 10
loudest_is_one = true
[sound.spectrum]
sample_rate_hz = 16000
window_samples = 480
step_samples = 320
fft_samples = 512
bands = 40
lowest_hz = 20.0
highest_hz = 4000.0
mel = "htk"
magnitude = true
floor = 1e-6
"#;

#[test]
fn a_network_of_keywords_hears_digits() {
    let (Some(data), Some(onnx)) = (
        shared("data/spoken-digits"),
        shared("models/mlperf-tiny/ds_cnn_keywords.onnx"),
    ) else {
        return;
    };
    let folder = tempdir().expect("a folder");
    let network = folder.path().join("keywords.onnx");
    fs::copy(onnx, &network).expect("copied");
    fs::write(folder.path().join("keywords.toml"), KEYWORDS).expect("written");
    let backbone = [Path::new("--backbone"), &network];
    let measured = measured(&data, folder.path(), &backbone);
    // Chance is 0.1, and the network knows other words.
    assert!(measured["accuracy"].as_f64() >= Some(0.4), "{measured}");
    // Pictures are nothing to hear.
    let photos = demo_samples();
    let mut command = fieldtune();
    let head = folder.path().join("photos.head");
    command.arg("train").arg(&photos).arg("-o").arg(&head);
    run(command.args(backbone)).refused(5, "hears sound");
}
