//! Promise: a head that has the backbone's own layers in it (`--head tail`) becomes one ONNX
//! file, or one of the head alone, that gives the probabilities of `predict`: from one view
//! or from several, with shortcuts, gaps in windows and batch norms in the tail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune::backbone::Backbone;
use fieldtune::export::Runner;
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune_tests::onnx_files::{Onnx, Setting};
use fieldtune_tests::predictions::{probabilities, tensor};
use fieldtune_tests::{demo_samples, fieldtune, repository, run, scratch};
use serde_json::Value;

/// Probabilities may differ by this.
const TOLERANCE: f64 = 1e-4;
/// Where the network is cut: before a block with a convolution in its shortcut.
const CUT: &str = "a1";
const SIDE: usize = 24;
/// Elements of a sample at the cut.
const FEATURES: usize = 6 * 12 * 12;

/// A small residual network for pictures of 24 x 24 pixels.
fn network() -> PathBuf {
    let mut onnx = Onnx::new(13, [3, SIDE as i64, SIDE as i64]);
    let padded = ("pads", Setting::Integers(&[1, 1, 1, 1]));
    let halved = ("strides", Setting::Integers(&[2, 2]));
    onnx.convolution("x", "a", [6, 3, 3, 3], &[padded, halved]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "b", [8, 6, 3, 3], &[padded, halved]);
    onnx.node("Relu", &["b"], "b1", &[]);
    onnx.batch_norm("b1", "b2", 8);
    let gaps = ("dilations", Setting::Integers(&[2, 2]));
    let wide = ("pads", Setting::Integers(&[2, 2, 2, 2]));
    onnx.convolution("b2", "c", [8, 8, 3, 3], &[wide, gaps]);
    onnx.convolution("a1", "s", [8, 6, 1, 1], &[halved]);
    onnx.node("Add", &["c", "s"], "sum", &[]);
    onnx.node("Relu", &["sum"], "sum1", &[]);
    onnx.node("GlobalAveragePool", &["sum1"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.noise("w", &[8, 5], 0.0, 0.5);
    onnx.node("MatMul", &["flat", "w"], "y", &[]);
    let path = scratch().join("small.onnx");
    fs::write(&path, onnx.finish("y")).unwrap();
    path
}

fn manifest(onnx: &Path) -> Manifest {
    let input = Input {
        tensor: "x".into(),
        layout: Layout::Nchw,
        channels: 3,
        height: SIDE,
        width: SIDE,
    };
    Manifest::from_flags(onnx, input, Flags::default()).unwrap()
}

fn with_backbone(command: &mut Command, onnx: &Path) {
    let input = format!("x:3x{SIDE}x{SIDE}");
    command
        .arg("--backbone")
        .arg(onnx)
        .args(["--input", &input]);
}

/// A head trained on the demo's pictures from these views.
fn trained(onnx: &Path, views: &str) -> PathBuf {
    let path = scratch().join(format!("{views}.head"));
    let mut command = fieldtune();
    command
        .arg("train")
        .arg(demo_samples())
        .arg("-o")
        .arg(&path);
    command.args(["--head", "tail", "--cut", CUT, "--views", views]);
    command.args(["--epochs", "2", "--time", "1s"]);
    with_backbone(&mut command, onnx);
    run(&mut command).succeeded();
    path
}

fn exported(head: &Path, onnx: &Path, flags: &[&str]) -> (PathBuf, Value) {
    let name = head.file_stem().unwrap().to_string_lossy();
    let path = scratch().join(format!("{name}{}.onnx", flags.concat()));
    let mut command = fieldtune();
    command.arg("export").arg(head).arg("-o").arg(&path);
    command.args(flags).arg("--json");
    with_backbone(&mut command, onnx);
    let said = run(&mut command).json();
    assert_eq!(said["as_predict"], true);
    (path, said)
}

fn photographs() -> Vec<PathBuf> {
    let folder = repository().join("crates/cli/demo/test");
    let kinds = ["brick", "grass", "gravel"];
    let names = (1..=4).flat_map(|number| kinds.map(|kind| format!("{kind}/{number:02}.jpg")));
    names.map(|name| folder.join(name)).collect()
}

/// What `predict` says of each picture, in the order of the labels.
fn predicted(head: &Path, onnx: &Path, labels: &Value) -> Vec<Vec<f64>> {
    let mut command = fieldtune();
    command
        .arg("predict")
        .arg(head)
        .args(photographs())
        .arg("--json");
    with_backbone(&mut command, onnx);
    let ran = run(&mut command);
    ran.succeeded();
    let lines = ran.stdout.lines();
    let said = lines.map(|line| serde_json::from_str(line).unwrap());
    said.map(|said| probabilities(&said, labels)).collect()
}

/// An exported file, what the command said of it, and what `predict` says.
struct Case {
    file: PathBuf,
    said: Value,
    wanted: Vec<Vec<f64>>,
}

impl Case {
    /// Runs the file as its description says; `row` makes the input of a picture's view.
    fn check(&self, shape: &[usize], mut row: impl FnMut(&Path, &str) -> Vec<f32>) {
        let inputs = self.said["inputs"].as_array().unwrap();
        let text = |input: &Value, key: &str| input[key].as_str().unwrap().to_string();
        let names: Vec<String> = inputs.iter().map(|input| text(input, "name")).collect();
        let shapes = names.iter().map(|name| (name.as_str(), shape.to_vec()));
        let shapes: Vec<_> = shapes.collect();
        let bytes = fs::read(&self.file).unwrap();
        let runner = Runner::new(&bytes, &self.file, &shapes).unwrap();
        assert_eq!(self.wanted.len(), photographs().len());
        for (picture, wanted) in photographs().iter().zip(&self.wanted) {
            let rows = inputs
                .iter()
                .map(|input| row(picture, &text(input, "view")));
            let rows: Vec<Vec<f32>> = rows.collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let found = runner.run(&rows).unwrap();
            assert_eq!(found[0].len(), wanted.len());
            for (found, wanted) in found[0].iter().zip(wanted) {
                let distance = (f64::from(*found) - wanted).abs();
                let name = picture.display();
                assert!(distance <= TOLERANCE, "{name}: {found} {wanted}");
            }
        }
    }
}

#[test]
fn files_of_a_tail_give_what_predict_gives_from_any_views() {
    let onnx = network();
    let manifest = manifest(&onnx);
    for (views, inputs, features) in [("original", 1, 1), ("mirrored", 1, 2)] {
        let head = trained(&onnx, views);
        let (file, said) = exported(&head, &onnx, &[]);
        assert_eq!(said["inputs"].as_array().unwrap().len(), inputs, "{views}");
        let wanted = predicted(&head, &onnx, &said["labels"]);
        let spread = wanted.iter().map(|row| row[0]);
        let most = spread.clone().fold(0.0, f64::max);
        assert!(
            most - spread.fold(1.0, f64::min) > 0.05,
            "all alike: {wanted:?}"
        );
        let case = Case { file, said, wanted };
        case.check(&[1, 3, SIDE, SIDE], |picture, view| {
            tensor(&manifest, picture, view)
        });

        let (file, said) = exported(&head, &onnx, &["--head-only"]);
        assert_eq!(
            said["inputs"].as_array().unwrap().len(),
            features,
            "{views}"
        );
        let bytes = fs::read(&onnx).unwrap();
        let backbone = Backbone::load(&manifest, &bytes, CUT).unwrap();
        assert_eq!(backbone.features(), FEATURES);
        let mut worker = backbone.worker().unwrap();
        let case = Case { file, said, ..case };
        case.check(&[1, FEATURES], |picture, view| {
            let mut features = vec![0.0; FEATURES];
            worker
                .run(&tensor(&manifest, picture, view), &mut features)
                .unwrap();
            features
        });
    }
}
