//! Promise: with time enough, `train` without `--head` also tries to train the backbone's own
//! last layers, takes them where held-out samples say so, and says so where it could not try.

use std::path::Path;

use fieldtune_core::random::Random;
use fieldtune_tests::onnx_files::{Onnx, Setting};
use fieldtune_tests::{encoded, fieldtune, run, write_files};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

/// Samples a class.
const SAMPLES: usize = 12;

/// A network with the mean colour on a side path: `colour` knows nothing of texture.
fn network() -> Vec<u8> {
    let padded = ("pads", Setting::Integers(&[1, 1, 1, 1]));
    let mut onnx = Onnx::new(13, [3, 16, 16]);
    onnx.node("GlobalAveragePool", &["x"], "mean", &[]);
    onnx.node("Flatten", &["mean"], "colour", &[]);
    onnx.convolution("x", "a", [8, 3, 3, 3], &[padded]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "b", [8, 8, 3, 3], &[padded]);
    onnx.node("Relu", &["b"], "b1", &[]);
    onnx.node("GlobalAveragePool", &["b1"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.noise("w", &[5, 8], 0.0, 0.5);
    onnx.noise("v", &[5], 0.0, 0.5);
    let settings = [("transB", Setting::Integer(1))];
    onnx.node("Gemm", &["flat", "w", "v"], "y", &settings);
    onnx.finish("y")
}

/// A picture of grey noise around a random level, in blocks of `block` pixels.
fn texture(random: &mut Random, block: u32) -> Vec<u8> {
    let level = 90.0 + 60.0 * random.uniform();
    let side = 16 / block;
    let noise: Vec<f32> = (0..side * side).map(|_| 50.0 * random.normal()).collect();
    let mean = noise.iter().sum::<f32>() / noise.len() as f32;
    let picture = RgbImage::from_fn(16, 16, |x, y| {
        let value = noise[(y / block * side + x / block) as usize];
        Rgb([(level + value - mean) as u8; 3])
    });
    encoded(&picture.into(), ImageFormat::Png)
}

/// Two classes of textures, blocks of so many pixels each; the network with this manifest.
fn job(folder: &Path, blocks: [u32; 2], default_cut: &str, tail_cut: &str) {
    let mut random = Random::new(3);
    for (class, block) in ["one", "other"].into_iter().zip(blocks) {
        for index in 0..SAMPLES {
            let name = format!("samples/{class}/{index}.png");
            write_files(folder, &[(&name, &texture(&mut random, block))]);
        }
    }
    let manifest = format!(
        "name = \"small\"\nfile = \"net.onnx\"\nlicense = \"MIT\"\ncuts = [\"{default_cut}\", \"{tail_cut}\"]\n\
         default_cut = \"{default_cut}\"\ntail_cut = \"{tail_cut}\"\n\
         [input]\ntensor = \"x\"\nlayout = \"nchw\"\nchannels = 3\nheight = 16\nwidth = 16\n\
         [preprocessing]\nresize = \"stretch\"\ninterpolation = \"bilinear\"\ncolour = \"rgb\"\n\
         mean = [127.0]\nscale = [0.01]\n"
    );
    write_files(
        folder,
        &[("net.onnx", &network()), ("net.toml", manifest.as_bytes())],
    );
}

/// What `train` (or `plan`) says, with this `--time`.
fn said(command: &str, folder: &Path, time: &str) -> Value {
    let mut program = fieldtune();
    program.arg(command).arg(folder.join("samples"));
    program.arg("--backbone").arg(folder.join("net.onnx"));
    if command == "train" {
        program.arg("-o").arg(folder.join("out.head"));
    }
    run(program.args(["--cache", "off", "--time", time, "--json"])).json()
}

/// The recipes tried.
fn tried(document: &Value) -> Vec<String> {
    let tried = document["tried"].as_array().expect("a list");
    let words = tried.iter().map(|one| one["recipe"].as_str());
    words.map(|words| words.expect("words").into()).collect()
}

const TAIL: &str = "pretrained layers after \"a1\"";

#[test]
fn layers_that_see_more_than_frozen_features_are_trained_as_planned() {
    let folder = tempfile::tempdir().expect("a folder");
    job(folder.path(), [1, 4], "colour", "a1");
    let plan = said("plan", folder.path(), "10m");
    let trained = said("train", folder.path(), "10m");
    let chosen = trained["recipe_text"].as_str().expect("words");
    assert!(chosen.starts_with(TAIL), "{chosen}");
    assert_eq!(tried(&trained).last().map(String::as_str), Some(chosen));
    assert_eq!(trained["resumed"], Value::Null, "nothing was cut short");
    // Beside the recipes for frozen features, the first of them the default.
    assert!(tried(&trained)[0].starts_with("linear"), "{trained}");
    assert!(tried(&trained).len() > 5, "{trained}");
    let accuracy = trained["cv"]["accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.9, "{accuracy}");
    let parts = plan["arena"].as_object().expect("parts").values();
    let planned: u64 = parts.map(|bytes| bytes.as_u64().expect("bytes")).sum();
    assert_eq!(trained["arena_bytes"].as_u64(), Some(planned));
    let measured = trained["peak_rss_bytes"].as_u64().expect("bytes");
    assert!(measured <= plan["peak_bytes"].as_u64().expect("bytes"));
    // The head is used as any other.
    let mut eval = fieldtune();
    eval.arg("eval").arg(folder.path().join("out.head"));
    eval.arg(folder.path().join("samples")).arg("--backbone");
    eval.arg(folder.path().join("net.onnx")).arg("--json");
    let accuracy = run(&mut eval).json()["accuracy"].as_f64();
    assert!(accuracy > Some(0.9), "{accuracy:?}");
}

#[test]
fn where_nothing_can_be_learnt_the_default_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    job(folder.path(), [2, 2], "flat", "a1");
    let trained = said("train", folder.path(), "10m");
    let tried = tried(&trained);
    assert!(tried.last().is_some_and(|last| last.starts_with(TAIL)));
    let chosen = trained["recipe_text"].as_str().expect("words");
    assert!(chosen.starts_with("linear"), "{chosen}");
}

#[test]
fn a_short_search_does_not_try_them() {
    let folder = tempfile::tempdir().expect("a folder");
    job(folder.path(), [1, 4], "colour", "a1");
    let trained = said("train", folder.path(), "60s");
    assert!(tried(&trained).iter().all(|one| !one.starts_with(TAIL)));
}

#[test]
fn what_cannot_be_tried_is_said_and_the_head_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    job(folder.path(), [1, 4], "flat", "nowhere");
    let mut program = fieldtune();
    program.arg("train").arg(folder.path().join("samples"));
    program
        .arg("--backbone")
        .arg(folder.path().join("net.onnx"));
    program.arg("-o").arg(folder.path().join("out.head"));
    program
        .arg("--report")
        .arg(folder.path().join("report.html"));
    let ran = run(program.args(["--cache", "off", "--time", "10m"]));
    let said = &ran.succeeded().stdout;
    assert!(
        said.contains("the backbone's own layers were not tried: "),
        "{said}"
    );
    assert!(said.contains("has no tensor \"nowhere\""), "{said}");
    assert!(folder.path().join("out.head").is_file());
    let report = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(report.contains("own layers were not tried"), "{report}");
}
