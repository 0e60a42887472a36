//! Promise: the layers after a cut, imported into the engine with their pretrained
//! weights, give what the ONNX file itself gives, at any depth; where they cannot be
//! imported, `inspect` says so, and the refusal names the node and the nearest later cut
//! that works.

use std::path::Path;

use fieldtune::backbone::Backbone;
use fieldtune::candidates::{Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::error::ErrorKind;
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Manifest};
use fieldtune::recipe::{self, Normalise, Recipe, Shape};
use fieldtune::tail::{Pretrained, Tail};
use fieldtune::views::ViewSet;
use fieldtune_core::decay::Mode;
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_core::transform::Transform;
use fieldtune_core::{Kernel, predict};
use fieldtune_tests::onnx_files::{Onnx, Setting};
use fieldtune_tests::{demo_samples, fieldtune, not_tested, repository, run as command, shared};

static EMBEDDED: &[u8] = include_bytes!("../models/efficientnet-lite0/model_f16.onnx");

fn embedded() -> Manifest {
    let text = include_bytes!("../models/efficientnet-lite0/manifest.toml");
    Manifest::parse(text, Path::new("manifest.toml")).expect("sound")
}

/// Noise around zero, the same every time.
fn noise(elements: usize) -> Vec<f32> {
    let mut random = fieldtune_core::random::Random::new(11);
    (0..elements).map(|_| random.normal()).collect()
}

fn run(manifest: &Manifest, bytes: &[u8], tensor: &str) -> Vec<f32> {
    let backbone = Backbone::load(manifest, bytes, tensor).expect("loads");
    let mut features = vec![0.0; backbone.features()];
    let input = noise(backbone.input_elements());
    let mut worker = backbone.worker().expect("a worker");
    worker.run(&input, &mut features).expect("runs");
    features
}

fn logits(network: &Network, parameters: &[f32], features: &[f32]) -> Vec<f32> {
    let kernel = Kernel::best();
    let need = predict::workspace_elements(network, 1, kernel);
    let (mut workspace, mut out) = (vec![0.0; need], vec![0.0; network.classes()]);
    let room = &mut workspace;
    predict::logits(network, parameters, kernel, features, room, &mut out).expect("room");
    out
}

/// The largest difference, where values beyond one count by their size.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let errors = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
    errors.fold(0.0, f32::max)
}

/// Compares the tail's outputs with those of the file: before the softmax if it has one.
/// Returns the tail and the difference.
fn compare(manifest: &Manifest, bytes: &[u8], cut: &str, output: &str) -> (Tail, f32) {
    let tail = Tail::import(manifest, bytes, cut).expect("can be imported");
    let at_cut = run(manifest, bytes, cut);
    let expected = run(manifest, bytes, output);
    let (network, parameters) = tail.whole().expect("sound");
    let found = logits(&network, parameters, &at_cut);
    let spread = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert!(spread > 1e-3, "{cut}: the outputs are all zero");
    (tail, difference(&found, &expected))
}

#[test]
fn the_embedded_backbone_s_tails_give_its_features_and_logits() {
    let manifest = embedded();
    for cut in [
        "block8.project_conv.Conv",
        "block11.expand_conv.Conv",
        "block12.Add",
        "block14.Add",
        "block15.project_conv.Conv",
        "conv_head.Conv",
    ] {
        if cut == "conv_head.Conv" {
            // Only a clip and a pool stand between it and the classifier.
            assert!(Tail::import(&manifest, EMBEDDED, cut).is_err());
            continue;
        }
        let (tail, error) = compare(&manifest, EMBEDDED, cut, "logits");
        println!("{cut}: logits differ by up to {error:e}");
        assert!(error < 1e-4, "{cut}: {error}");
        let (network, parameters) = tail.body().expect("sound");
        let found = logits(&network, parameters, &run(&manifest, EMBEDDED, cut));
        let error = difference(&found, &run(&manifest, EMBEDDED, "features"));
        assert!(error < 1e-4, "{cut}: features differ by {error}");
    }
}

#[test]
fn a_tail_of_full_precision_does_too() {
    let Some(path) = shared("models/efficientnet_lite0.onnx") else {
        return not_tested("models/efficientnet_lite0.onnx");
    };
    let bytes = std::fs::read(path).expect("readable");
    let mut manifest = embedded();
    manifest.sha256 = String::new();
    for cut in ["block12.Add", "block14.Add"] {
        let (_, error) = compare(&manifest, &bytes, cut, "logits");
        assert!(error < 1e-4, "{cut}: {error}");
    }
}

/// A small network and what is known of it.
struct Made {
    name: &'static str,
    bytes: Vec<u8>,
    /// The tensor that a tail gives.
    output: &'static str,
    /// Cuts with a trainable tail, counted by hand.
    trainable: usize,
    /// Layers that the longest tail has.
    kinds: &'static [&'static str],
}

const PADDED: (&str, Setting<'_>) = ("pads", Setting::Integers(&[1, 1, 1, 1]));
const HALVED: (&str, Setting<'_>) = ("strides", Setting::Integers(&[2, 2]));
const SAME: (&str, Setting<'_>) = ("auto_pad", Setting::Text("SAME_UPPER"));

fn networks() -> [Made; 5] {
    [residual(), depthwise(), old(), dense(), projection()]
}

/// Batch norms inside a residual block, a maximum, groups, unequal padding, dropout, a
/// softmax.
fn residual() -> Made {
    let mut onnx = Onnx::new(13, [3, 12, 10]);
    onnx.convolution("x", "a", [6, 3, 3, 3], &[PADDED]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "b", [6, 6, 3, 3], &[PADDED]);
    onnx.batch_norm("b", "b1", 6);
    onnx.node("Relu", &["b1"], "b2", &[]);
    onnx.convolution("b2", "c", [6, 6, 3, 3], &[PADDED]);
    onnx.batch_norm("c", "c1", 6);
    onnx.node("Add", &["a1", "c1"], "sum", &[]);
    onnx.node("Relu", &["sum"], "sum1", &[]);
    let window = ("kernel_shape", Setting::Integers(&[2, 2]));
    onnx.node("MaxPool", &["sum1"], "small", &[window, HALVED]);
    let groups = ("group", Setting::Integer(2));
    let pads = ("pads", Setting::Integers(&[0, 1, 2, 1]));
    onnx.convolution("small", "d", [8, 3, 3, 3], &[groups, pads, HALVED]);
    onnx.batch_norm("d", "d1", 8);
    onnx.node("Relu", &["d1"], "d2", &[]);
    onnx.node("GlobalAveragePool", &["d2"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.node("Dropout", &["flat"], "kept", &[]);
    onnx.noise("w", &[5, 8], 0.0, 0.5);
    onnx.noise("v", &[5], 0.0, 0.5);
    let settings = [("transB", Setting::Integer(1))];
    onnx.node("Gemm", &["kept", "w", "v"], "logits", &settings);
    onnx.node("Softmax", &["logits"], "y", &[]);
    Made {
        name: "residual",
        bytes: onnx.finish("y"),
        output: "logits",
        // a, a1, sum, sum1, small; behind d only a batch norm stays.
        trainable: 5,
        kinds: &[
            "Convolution",
            "Relu",
            "Add",
            "MaxPool",
            "GlobalAveragePool",
            "Dropout",
        ],
    }
}

/// Depthwise convolutions, ReLU6 with limits as operands, hard-swish and SiLU in parts, a
/// mean over windows, a classifier in two nodes.
fn depthwise() -> Made {
    let mut onnx = Onnx::new(11, [3, 13, 11]);
    onnx.numbers("low", &[], &[0.0]);
    onnx.numbers("high", &[], &[6.0]);
    onnx.convolution("x", "a", [8, 3, 3, 3], &[SAME, HALVED]);
    onnx.node("Clip", &["a", "low", "high"], "a1", &[]);
    let depthwise = ("group", Setting::Integer(8));
    let lower = ("auto_pad", Setting::Text("SAME_LOWER"));
    onnx.convolution("a1", "b", [8, 1, 4, 4], &[lower, depthwise]);
    onnx.batch_norm("b", "b1", 8);
    let sixth = [("alpha", Setting::Float(1.0 / 6.0))];
    onnx.node("HardSigmoid", &["b1"], "gate", &sixth);
    onnx.node("Mul", &["b1", "gate"], "b2", &[]);
    onnx.convolution("b2", "c", [10, 8, 1, 1], &[]);
    onnx.node("Sigmoid", &["c"], "sigmoid", &[]);
    onnx.node("Mul", &["sigmoid", "c"], "c1", &[]);
    let window = ("kernel_shape", Setting::Integers(&[2, 3]));
    onnx.node("AveragePool", &["c1"], "small", &[window]);
    let axes = ("axes", Setting::Integers(&[-2, -1]));
    let keep = ("keepdims", Setting::Integer(0));
    onnx.node("ReduceMean", &["small"], "pool", &[axes, keep]);
    onnx.noise("w", &[10, 4], 0.0, 0.5);
    onnx.noise("v", &[4], 0.0, 0.5);
    onnx.node("MatMul", &["pool", "w"], "product", &[]);
    onnx.node("Add", &["v", "product"], "y", &[]);
    Made {
        name: "depthwise",
        bytes: onnx.finish("y"),
        output: "y",
        // a, a1, b, b1, b2.
        trainable: 5,
        kinds: &[
            "Convolution",
            "Relu6",
            "HardSwish",
            "Silu",
            "GlobalAveragePool",
        ],
    }
}

/// An old opset, weights of half precision behind casts, a batch norm after a ReLU,
/// limits as attributes, arithmetic with one number a channel.
fn old() -> Made {
    let mut onnx = Onnx::new(7, [1, 9, 9]).half();
    onnx.convolution("x", "a", [4, 1, 3, 3], &[HALVED]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.batch_norm("a1", "a2", 4);
    onnx.convolution("a2", "b", [6, 4, 2, 2], &[]);
    let limits = [("min", Setting::Float(0.0)), ("max", Setting::Float(6.0))];
    onnx.node("Clip", &["b"], "b1", &limits);
    onnx.noise("factor", &[6, 1, 1], 1.0, 0.3);
    onnx.node("Mul", &["b1", "factor"], "b2", &[]);
    onnx.noise("offset", &[1, 6, 1, 1], 0.0, 0.3);
    onnx.node("Sub", &["b2", "offset"], "b3", &[]);
    let whole = ("kernel_shape", Setting::Integers(&[3, 3]));
    onnx.node("AveragePool", &["b3"], "pool", &[whole]);
    onnx.node(
        "Squeeze",
        &["pool"],
        "flat",
        &[("axes", Setting::Integers(&[2, 3]))],
    );
    onnx.noise("w", &[6, 3], 0.0, 0.5);
    onnx.noise("v", &[3], 0.0, 0.5);
    let settings = [
        ("alpha", Setting::Float(0.5)),
        ("beta", Setting::Float(2.0)),
    ];
    onnx.node("Gemm", &["flat", "w", "v"], "y", &settings);
    Made {
        name: "old",
        bytes: onnx.finish("y"),
        output: "y",
        // a, a1, a2; behind b only scales and shifts stay.
        trainable: 3,
        kinds: &[
            "Relu",
            "BatchNorm",
            "Convolution",
            "Relu6",
            "GlobalAveragePool",
        ],
    }
}

/// No convolution at all.
fn dense() -> Made {
    let mut onnx = Onnx::new(13, [1, 4, 3]);
    onnx.integers("row", &[1, 12]);
    onnx.node("Reshape", &["x", "row"], "flat", &[]);
    for (input, output, shape) in [("flat", "a", [12, 9]), ("a1", "b", [9, 7])] {
        let [weights, bias] = ["w", "v"].map(|part| format!("{output}.{part}"));
        onnx.noise(&weights, &shape, 0.0, 0.4);
        onnx.noise(&bias, &shape[1..], 0.0, 0.4);
        onnx.node("Gemm", &[input, &weights, &bias], output, &[]);
        onnx.node("Relu", &[output], &format!("{output}1"), &[]);
    }
    onnx.noise("w", &[7, 3], 0.0, 0.5);
    onnx.node("MatMul", &["b1", "w"], "y", &[]);
    Made {
        name: "dense",
        bytes: onnx.finish("y"),
        output: "y",
        // flat, a, a1.
        trainable: 3,
        kinds: &["Dense", "Relu"],
    }
}

/// A shortcut with a convolution and batch norm of its own, its nodes between those of the
/// main path; windows with gaps.
fn projection() -> Made {
    let mut onnx = Onnx::new(13, [3, 13, 12]);
    let apart = ("dilations", Setting::Integers(&[2, 2]));
    let wide = ("pads", Setting::Integers(&[2, 2, 2, 2]));
    onnx.convolution("x", "a", [4, 3, 3, 3], &[apart, wide]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "s", [6, 4, 1, 1], &[HALVED]);
    onnx.convolution("a1", "b", [6, 4, 3, 3], &[PADDED, HALVED]);
    onnx.batch_norm("s", "s1", 6);
    onnx.batch_norm("b", "b1", 6);
    onnx.node("Relu", &["b1"], "b2", &[]);
    onnx.convolution("b2", "c", [6, 6, 3, 3], &[PADDED]);
    onnx.batch_norm("c", "c1", 6);
    onnx.node("Add", &["s1", "c1"], "sum", &[]);
    onnx.node("Relu", &["sum"], "sum1", &[]);
    let depthwise = ("group", Setting::Integer(6));
    let uneven = ("dilations", Setting::Integers(&[1, 2]));
    onnx.convolution("sum1", "d", [6, 1, 3, 3], &[SAME, depthwise, uneven]);
    onnx.node("Add", &["d", "sum1"], "sum2", &[]);
    let window = ("kernel_shape", Setting::Integers(&[2, 2]));
    onnx.node("MaxPool", &["sum2"], "small", &[window, apart]);
    onnx.convolution("small", "e", [5, 6, 1, 1], &[]);
    onnx.node("GlobalMaxPool", &["e"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.noise("w", &[5, 3], 0.0, 0.5);
    onnx.node("MatMul", &["flat", "w"], "y", &[]);
    Made {
        name: "projection",
        bytes: onnx.finish("y"),
        output: "y",
        // a, a1, sum, sum1, sum2, small.
        trainable: 6,
        kinds: &["Convolution", "Branch", "Add", "MaxPool"],
    }
}

/// Two paths that are multiplied, which the engine has no layer for.
fn product() -> Vec<u8> {
    let mut onnx = Onnx::new(13, [3, 8, 8]);
    onnx.convolution("x", "a", [4, 3, 3, 3], &[]);
    onnx.convolution("a", "b", [6, 4, 3, 3], &[PADDED]);
    onnx.convolution("a", "c", [6, 4, 1, 1], &[]);
    onnx.node("Mul", &["b", "c"], "product", &[]);
    onnx.convolution("product", "d", [5, 6, 1, 1], &[]);
    onnx.node("GlobalMaxPool", &["d"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.noise("w", &[5, 3], 0.0, 0.5);
    onnx.node("MatMul", &["flat", "w"], "y", &[]);
    onnx.finish("y")
}

/// Every cut of a file that has no manifest: where `inspect` says that the tail can be
/// trained it gives the file's output, elsewhere it is refused. Returns how many were
/// trainable, and the layers of the tail at the first of them.
fn every_cut(name: &str, bytes: &[u8], output: &str) -> (usize, Vec<Layer>) {
    let inspection = inspect(bytes, Path::new(name), None).expect("readable");
    let image = inspection.input.as_image().expect("an image");
    let manifest = Manifest::from_flags(Path::new(name), image, Flags::default()).expect("sound");
    let (mut compared, mut first) = (0, Vec::new());
    for cut in &inspection.cuts {
        if cut.trainable {
            let (tail, error) = compare(&manifest, bytes, &cut.tensor, output);
            assert!(error < 1e-4, "{name} at {}: {error}", cut.tensor);
            if compared == 0 {
                first = tail.layers().to_vec();
            }
            compared += 1;
            continue;
        }
        let error = Tail::import(&manifest, bytes, &cut.tensor).expect_err("not trainable");
        let line = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Usage, "{line}");
        assert!(line.contains(&cut.reason), "{line} lacks {}", cut.reason);
        let later = inspection.cuts.iter().skip_while(|one| *one != cut);
        match later.skip(1).find(|later| later.trainable) {
            Some(later) => assert!(
                line.ends_with(&format!("is \"{}\"", later.tensor)),
                "{line}"
            ),
            None => assert!(line.ends_with("--head linear"), "{line}"),
        }
    }
    (compared, first)
}

#[test]
fn small_networks_of_every_kind_of_layer_are_imported_at_every_cut() {
    for Made {
        name,
        bytes,
        output,
        trainable,
        kinds,
    } in networks()
    {
        let (compared, layers) = every_cut(name, &bytes, output);
        assert_eq!(compared, trainable, "{name}");
        let dilated = |layer: &Layer| match layer {
            Layer::Convolution(sizes) => sizes.window.is_dilated(),
            Layer::MaxPool(window) => window.is_dilated(),
            _ => false,
        };
        let gaps = layers.iter().filter(|layer| dilated(layer)).count();
        assert_eq!(gaps, if name == "projection" { 2 } else { 0 }, "{name}");
        for kind in kinds {
            let word = |layer: &Layer| format!("{layer:?}");
            let has = layers.iter().any(|layer| word(layer).starts_with(kind));
            assert!(has, "{name} has no {kind} in {layers:?}");
        }
    }
}

#[test]
fn a_refusal_names_the_node_its_operator_and_the_nearest_later_cut() {
    let bytes = product();
    let inspection = inspect(&bytes, Path::new("p.onnx"), None).expect("readable");
    let image = inspection.input.as_image().expect("an image");
    let manifest =
        Manifest::from_flags(Path::new("p.onnx"), image, Flags::default()).expect("sound");
    let refused = |cut: &str| {
        let error = Tail::import(&manifest, &bytes, cut).expect_err("refused");
        error.to_string()
    };
    let line = refused("a");
    assert!(line.starts_with("p.onnx: "), "{line}");
    assert!(line.contains("Mul (\"Mul_4\") joins two paths"), "{line}");
    assert!(
        line.ends_with("the nearest later cut that works is \"product\""),
        "{line}"
    );
    assert!(refused("nowhere").contains("has no tensor \"nowhere\""));
}

#[test]
fn networks_for_small_boards_are_imported_or_refused_by_name() {
    for (name, output) in [
        ("ds_cnn_keywords", None),
        ("mobilenet_v1_025_person", None),
        // Its shortcuts have convolutions of their own.
        ("resnet8_cifar10", None),
        ("resnet8_cifar10_int8", Some(0)),
    ] {
        let path = format!("models/mlperf-tiny/{name}.onnx");
        let Some(path) = shared(&path) else {
            return not_tested("models/mlperf-tiny");
        };
        let bytes = std::fs::read(path).expect("readable");
        let inspection = inspect(&bytes, Path::new(name), None).expect("readable");
        // The last cut before the softmax holds the logits.
        let logits = inspection
            .cuts
            .iter()
            .rev()
            .nth(1)
            .map(|cut| cut.tensor.clone());
        let trainable = inspection.cuts.iter().filter(|cut| cut.trainable).count();
        match output {
            Some(expected) => assert_eq!(trainable, expected, "{name}"),
            None => {
                let logits = logits.expect("more than one cut");
                let (compared, _) = every_cut(name, &bytes, &logits);
                println!("{name}: {compared} of {} cuts", inspection.cuts.len());
                assert!(compared > 0, "{name}");
            }
        }
    }
}

/// Maps of two classes, which differ in one channel, and the tail of a small network.
fn two_classes(tail: &Tail) -> (Vec<f32>, Vec<u16>, usize) {
    let (network, _) = tail.body().expect("sound");
    let width = network.inputs();
    let mut random = Random::new(3);
    let labels: Vec<u16> = (0..24).map(|sample| sample % 2).collect();
    let mut values = Vec::new();
    for label in &labels {
        let place = |index: usize| if index < 30 { f32::from(*label) } else { 0.0 };
        values.extend((0..width).map(|index| (random.normal() + place(index)).abs()));
    }
    (values, labels, width)
}

/// One view of samples without groups.
fn of_two_classes<'a>(views: &'a [&'a [f32]], labels: &'a [u16], width: usize) -> Data<'a> {
    Data {
        views,
        held: ViewSet::ORIGINAL,
        labels,
        groups: &[],
        features: width,
        classes: 2,
    }
}

fn small_tail() -> Tail {
    tail_of(&residual(), "sum1")
}

fn tail_of(made: &Made, cut: &str) -> Tail {
    let file = Path::new("r.onnx");
    let inspection = inspect(&made.bytes, file, None).expect("readable");
    let image = inspection.input.as_image().expect("an image");
    let manifest = Manifest::from_flags(file, image, Flags::default()).expect("sound");
    Tail::import(&manifest, &made.bytes, cut).expect("can be imported")
}

/// Sum of -ln p(own class) of two classes.
fn loss(logits: &[f32], labels: &[u16]) -> f32 {
    let rows = logits.chunks_exact(2).zip(labels);
    let own = rows.map(|(row, label)| row[usize::from(*label)] - row[1 - usize::from(*label)]);
    own.map(|margin| (1.0 + (-margin).exp()).ln()).sum()
}

#[test]
fn training_starts_where_frozen_features_end_and_goes_on_from_there() {
    let tail = small_tail();
    let (values, labels, width) = two_classes(&tail);
    let views = [values.as_slice()];
    let data = of_two_classes(&views, &labels, width);
    let all: Vec<usize> = (0..labels.len()).collect();
    let wishes = Wishes {
        shape: Some(Shape::Tail(Pretrained::new(tail.clone()))),
        adversarial: Some(None),
        ..Wishes::default()
    };
    let recipe = candidates(&wishes, &[12, 12]).remove(0);
    let kernel = Kernel::best();
    let trained = |recipe: &Recipe, data: &Data<'_>| {
        recipe::train(recipe, data, &all, 1, kernel).expect("trains")
    };
    let still = Recipe {
        learning_rate: 0.0,
        ..recipe.clone()
    };
    let found = trained(&still, &data)
        .judge(&data, &all, kernel)
        .expect("judges");
    // The same head on features that were computed before.
    let (body, parameters) = tail.body().expect("sound");
    let features =
        recipe::logits(&body, parameters, &Transform::default(), &values, kernel).expect("fits");
    let frozen = Recipe {
        shape: Shape::Linear,
        normalise: Normalise::RootLength,
        epochs: 30,
        extras: Default::default(),
        ..recipe.clone()
    };
    let views = [features.as_slice()];
    let frozen_data = Data {
        views: &views,
        features: body.classes(),
        ..data
    };
    let head = trained(&frozen, &frozen_data);
    let expected = head.judge(&frozen_data, &all, kernel).expect("judges");
    let error = difference(&found, &expected);
    assert!(error < 1e-4, "{error}");
    let moved = trained(&recipe, &data);
    assert_ne!(&moved.parameters[..parameters.len()], parameters);
    let after = moved.judge(&data, &all, kernel).expect("judges");
    let [before, after] = [found, after].map(|logits| loss(&logits, &labels));
    assert!(after < before, "{after} {before}");
}

/// Its features are not whitened: layers that were trained on features as they are come first.
#[test]
fn a_step_follows_the_loss_on_a_plain_vector_as_it_is() {
    let tail = tail_of(&dense(), "flat");
    let (values, labels, width) = two_classes(&tail);
    let views = [values.as_slice()];
    let data = of_two_classes(&views, &labels, width);
    let all: Vec<usize> = (0..labels.len()).collect();
    let wishes = Wishes {
        shape: Some(Shape::Tail(Pretrained::new(tail))),
        adversarial: Some(None),
        decay: Some(Mode::None),
        batch: Some(labels.len()),
        ..Wishes::default()
    };
    let step = Recipe {
        // Almost all scatter within classes would be taken out of the features.
        whitening: Some(0.01),
        epochs: 1,
        least_steps: 1,
        extras: Default::default(),
        ..candidates(&wishes, &[12, 12]).remove(0)
    };
    let still = Recipe {
        learning_rate: 0.0,
        ..step.clone()
    };
    let kernel = Kernel::best();
    let [mut start, moved] =
        [still, step].map(|recipe| recipe::train(&recipe, &data, &all, 1, kernel).expect("trains"));
    let first = moved
        .network
        .layers()
        .iter()
        .position(|layer| matches!(layer, Layer::Dense { .. }));
    let weights = moved.network.weights(first.expect("a dense layer"));
    let (mut along, mut squares) = (0.0, [0.0, 0.0]);
    for index in weights {
        let by = moved.parameters[index] - start.parameters[index];
        let mut at = |shift: f32| {
            start.parameters[index] += shift;
            let logits = start.judge(&data, &all, kernel).expect("judges");
            start.parameters[index] -= shift;
            loss(&logits, &labels)
        };
        let downhill = at(-0.002) - at(0.002);
        along += by * downhill;
        squares[0] += by * by;
        squares[1] += downhill * downhill;
    }
    let cosine = along / (squares[0] * squares[1]).sqrt();
    assert!(cosine > 0.99, "{cosine}");
}

#[test]
fn pretrained_layers_learn_at_a_part_of_the_rate() {
    let network = Network::mlp(5, &[4], 3).expect("sound");
    let step = |slow_layers: usize| {
        let options = Options {
            optimizer: Optimizer::SGD,
            slow_layers,
            slow_rate: 0.1,
            ..Options::new(4, Kernel::best())
        };
        let mut arena = vec![0.0; options.plan(&network).expect("sound").elements()];
        let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("room");
        let before = trainer.parameters().to_vec();
        trainer.inputs_mut().copy_from_slice(&noise(20));
        trainer.step(&[0, 1, 2, 1], 0.05).expect("trains");
        let after = trainer.parameters().iter().zip(before);
        after
            .map(|(after, before)| after - before)
            .collect::<Vec<f32>>()
    };
    let (all, some) = (step(0), step(1));
    let lowest = network.biases(0).end;
    let tenth: Vec<f32> = all[..lowest].iter().map(|moved| 0.1 * moved).collect();
    assert!(all[..lowest].iter().any(|moved| moved.abs() > 1e-4));
    assert!(difference(&some[..lowest], &tenth) < 1e-6);
    assert_eq!(some[lowest..], all[lowest..]);
}

#[test]
fn the_command_trains_a_tail_as_planned_and_uses_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = folder.path().join("ground.head");
    let quick = [
        "--head", "tail", "--views", "original", "--epochs", "1", "--time", "1s",
    ];
    let plan = command(
        fieldtune()
            .arg("plan")
            .arg(demo_samples())
            .args(quick)
            .arg("--json"),
    )
    .json();
    let mut train = fieldtune();
    train.arg("train").arg(demo_samples()).arg("-o").arg(&head);
    let trained = command(train.args(quick).arg("--json")).json();
    let words = trained["recipe_text"].as_str().expect("words");
    assert!(
        words.starts_with("pretrained layers after \"block15.project_conv.Conv\""),
        "{words}"
    );
    let parts = plan["arena"].as_object().expect("parts").values();
    let planned: u64 = parts.map(|bytes| bytes.as_u64().expect("bytes")).sum();
    assert_eq!(trained["arena_bytes"].as_u64(), Some(planned));
    let bytes = std::fs::metadata(&head).expect("written").len();
    assert!(
        bytes <= plan["head_bytes"].as_u64().expect("bytes"),
        "{bytes}"
    );
    let tests = repository().join("crates/cli/demo/test");
    let measured = command(fieldtune().arg("eval").arg(&head).arg(&tests).arg("--json")).json();
    let accuracy = measured["accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.8, "{accuracy}");
    let picture = tests.join("brick/01.jpg");
    let said = command(
        fieldtune()
            .arg("predict")
            .arg(&head)
            .arg(picture)
            .arg("--json"),
    )
    .json();
    assert_eq!(said["label"], "brick", "{said}");
    let mut nothing = fieldtune();
    nothing
        .arg("train")
        .arg(demo_samples())
        .arg("-o")
        .arg(&head);
    command(nothing.args(["--head", "tail", "--cut", "features"]))
        .refused(2, "only the classifier stands after it");
}
