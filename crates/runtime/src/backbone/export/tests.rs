//! Heads of every layer, and backbones of several opsets and layouts, written and run.

use fieldtune_core::Kernel;
use fieldtune_core::head::Floats;
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::predict::{logits, probabilities, workspace_elements};
use fieldtune_core::transform::Transform;
use fieldtune_core::unknown::Unknown;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, OperatorSetIdProto};

use super::builder::{Builder, float, integer, integers, value_info};
use super::*;

/// Numbers around 0, none of them like another.
fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f32 + 1.3) * (seed + 12.9898)).sin())
        .collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// What a head says, by the core.
fn wanted(parts: &Parts<'_>, features: &[f32]) -> Vec<f32> {
    let network = parts.network;
    let mut features = features.to_vec();
    parts.transform.apply(&mut features);
    let kernel = Kernel::lanes();
    let mut workspace = vec![0.0; workspace_elements(network, 1, kernel)];
    let mut out = vec![0.0; network.classes()];
    logits(
        network,
        parts.parameters,
        kernel,
        &features,
        &mut workspace,
        &mut out,
    )
    .expect("fits");
    probabilities(&mut out, network.classes(), parts.temperature);
    out
}

fn close(found: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(found.len(), wanted.len());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance;
    assert!(
        found.iter().zip(wanted).all(near),
        "{found:?} is not {wanted:?}"
    );
}

/// Batch norm's inverse deviations must be positive.
fn parameters(network: &Network) -> Vec<f32> {
    let mut values = numbers(network.parameter_elements(), 0.7);
    for index in 0..network.layers().len() {
        values[network.constants(index)]
            .iter_mut()
            .for_each(|value| *value = value.abs() + 0.5);
    }
    values.iter_mut().for_each(|value| *value *= 0.5);
    values
}

fn check_head(layers: &[Layer], transform: Transform<'_>) {
    let network = Network::new(layers).expect("a sound table");
    let parameters = parameters(&network);
    let parts = Parts {
        transform,
        network: &network,
        parameters: &parameters,
        temperature: 1.7,
        unknown: None,
    };
    let (file, outputs) =
        head_alone(Path::new("x.head"), &["features".into()], &parts, &[]).expect("can be written");
    assert_eq!(outputs, ["probabilities"]);
    let width = network.inputs();
    let runner = Runner::new(&file, Path::new("x.onnx"), &[("features", vec![1, width])]);
    let runner = runner.expect("can be read");
    for seed in [0.1, 2.3, 4.9] {
        let features = numbers(width, seed);
        let found = runner.run(&[&features]).expect("runs");
        close(&found[0], &wanted(&parts, &features), 1e-5);
    }
}

/// A second path with a convolution of its own, windows with gaps, square root and length.
fn shortcut() -> [Layer; 10] {
    let gaps = |window: Window| Window {
        dilation: [2, 3],
        ..window
    };
    [
        Layer::Input(Shape::map(3, 8, 9)),
        Layer::Convolution(Convolution::full(3, 4, gaps(Window::square(3, 1, 0)))),
        Layer::Silu,
        Layer::Branch { from: 1 },
        Layer::Convolution(Convolution::full(3, 4, gaps(Window::square(3, 1, 0)))),
        Layer::Add { from: 3 },
        Layer::MaxPool(gaps(Window::square(2, 1, 1))),
        Layer::GlobalAveragePool,
        Layer::RootLength,
        Layer::Dense {
            inputs: 4,
            outputs: 3,
        },
    ]
}

#[test]
fn every_layer_gives_what_the_trainer_gives() {
    let window = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 0, 0, 1],
        dilation: [1; 2],
    };
    let maps = [
        Layer::Input(Shape::map(4, 7, 6)),
        Layer::Convolution(Convolution {
            inputs: 4,
            outputs: 6,
            window,
            groups: 2,
        }),
        Layer::BatchNorm { channels: 6 },
        Layer::HardSwish,
        Layer::Convolution(Convolution::depthwise(6, Window::square(3, 1, 1))),
        Layer::Relu6,
        Layer::Convolution(Convolution::full(6, 6, Window::square(1, 1, 0))),
        Layer::Add { from: 4 },
        Layer::Silu,
        Layer::MaxPool(Window::square(2, 2, 0)),
        Layer::GlobalAveragePool,
        Layer::Dropout { permille: 200 },
        Layer::Dense {
            inputs: 6,
            outputs: 5,
        },
        Layer::Relu,
        Layer::Dense {
            inputs: 5,
            outputs: 3,
        },
    ];
    check_head(&maps, Transform::default());
    check_head(&shortcut(), Transform::default());
    let strided = [
        Layer::Input(Shape::map(3, 6, 6)),
        Layer::Convolution(Convolution::full(3, 4, Window::square(1, 2, 0))),
        Layer::GlobalAveragePool,
    ];
    check_head(&strided, Transform::default());
    let flattened = [
        Layer::Input(Shape::map(3, 2, 2)),
        Layer::Relu,
        Layer::Flatten,
        Layer::Dense {
            inputs: 12,
            outputs: 12,
        },
        Layer::Add { from: 3 },
        Layer::Dense {
            inputs: 12,
            outputs: 2,
        },
    ];
    check_head(&flattened, Transform::default());
}

#[test]
fn every_transform_is_written() {
    let table = [Layer::Dense {
        inputs: 9,
        outputs: 4,
    }];
    let (shift, scale) = (bytes(&numbers(9, 3.0)), bytes(&numbers(9, 5.0)));
    for signed_root in [false, true] {
        for length in [0.0, 3.0] {
            for (shift, scale) in [(&[][..], &[][..]), (&shift, &scale), (&shift, &[])] {
                let (shift, scale) = (Floats::new(shift), Floats::new(scale));
                check_head(
                    &table,
                    Transform {
                        signed_root,
                        length,
                        shift,
                        scale,
                    },
                );
            }
        }
    }
}

#[test]
fn features_that_are_zero_stay_zero() {
    let network = Network::mlp(4, &[], 2).expect("sound");
    let parameters = parameters(&network);
    let parts = Parts {
        transform: Transform {
            signed_root: true,
            length: 2.0,
            ..Transform::default()
        },
        network: &network,
        parameters: &parameters,
        temperature: 1.0,
        unknown: None,
    };
    let (file, _) =
        head_alone(Path::new("x.head"), &["features".into()], &parts, &[]).expect("can be written");
    let runner = Runner::new(&file, Path::new("x.onnx"), &[("features", vec![1, 4])]);
    let found = runner
        .and_then(|runner| runner.run(&[&[0.0; 4]]))
        .expect("runs");
    close(&found[0], &wanted(&parts, &[0.0; 4]), 1e-6);
}

/// A small network of `opset`: a convolution whose weights are stored in half precision,
/// an activation, the mean, and a classifier that a cut at `features` leaves out.
fn backbone(opset: i64, batch: Option<i64>) -> Vec<u8> {
    let mut builder = Builder::new(["image".to_string()].into(), opset);
    // Exact in half precision: sign, exponent and no fraction.
    let raw: Vec<u8> = (0..5 * 3 * 9)
        .flat_map(|i| [0, 0x30 | (i % 7) as u8 & 3 | ((i % 2) as u8) << 7])
        .collect();
    let half = builder.floats("half", &[5, 3, 3, 3], []);
    if let Some(stored) = builder.stored.last_mut() {
        stored.data_type = DataType::Float16 as i32;
        stored.raw_data = raw;
    }
    let whole = vec![integer("to", DataType::Float as i64)];
    let weights = builder.node_with("Cast", &[&half], "weights", whole);
    let pads: Vec<AttributeProto> =
        vec![integers("kernel_shape", [3, 3]), integers("pads", [1; 4])];
    let map = builder.node_with("Conv", &["image", &weights], "map", pads);
    let shut = vec![float("alpha", 0.1)];
    let map = builder.node_with("LeakyRelu", &[&map], "shut", shut);
    let mean = builder.node("GlobalAveragePool", &[&map], "mean");
    let features = builder.node_with("Flatten", &[&mean], "features", vec![integer("axis", 1)]);
    let classes = builder.floats("classifier", &[5, 2], numbers(10, 1.0));
    let logits = builder.node("MatMul", &[&features, &classes], "probabilities");
    let mut input = value_info("image", &[3, 6, 8]);
    if let Some(batch) = batch {
        input = value_info("image", &[batch as usize, 3, 6, 8]);
        drop_first_axis(&mut input);
    }
    let model = ModelProto {
        ir_version: 3,
        opset_import: vec![OperatorSetIdProto {
            version: opset,
            ..Default::default()
        }],
        doc_string: "kept".into(),
        graph: Some(GraphProto {
            input: vec![input, value_info("half", &[3, 3, 3])],
            output: vec![value_info(&logits, &[2])],
            node: builder.nodes,
            initializer: builder.stored,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn drop_first_axis(info: &mut ValueInfoProto) {
    use tract_onnx::pb::type_proto::Value;
    let value = info.r#type.as_mut().and_then(|it| it.value.as_mut());
    if let Some(Value::TensorType(tensor)) = value {
        tensor.shape.as_mut().expect("a shape").dim.remove(0);
    }
}

/// Features of one input by tract, with the file cut as any backbone is.
fn features(file: &[u8], image: &[f32]) -> Vec<f32> {
    let path = Path::new("b.onnx");
    let mut model = ModelProto::decode(file).expect("sound");
    let graph = model.graph.as_mut().expect("a graph");
    graph.output = vec![value_info("features", &[5])];
    let runner = Runner::new(&model.encode_to_vec(), path, &[("image", vec![1, 3, 6, 8])]);
    let found = runner
        .and_then(|runner| runner.run(&[image]))
        .expect("runs");
    found.into_iter().next().expect("one output")
}

fn turned(image: &[f32]) -> Vec<f32> {
    image
        .chunks_exact(8)
        .flat_map(|row| row.iter().rev())
        .copied()
        .collect()
}

#[test]
fn backbones_of_old_and_new_opsets_are_merged_for_all_views() {
    let network = Network::mlp(5, &[4], 3).expect("sound");
    let parameters = parameters(&network);
    let (means, along) = (bytes(&numbers(15, 8.0)), bytes(&numbers(10, 9.0)));
    let unknown = Unknown {
        means: Floats::new(&means),
        directions: Floats::new(&along),
        ..Unknown::default()
    };
    let parts = Parts {
        transform: Transform {
            length: 2.0,
            ..Transform::default()
        },
        network: &network,
        parameters: &parameters,
        temperature: 0.8,
        unknown: Some(unknown),
    };
    for (opset, batch) in [
        (7, None),
        (10, Some(1)),
        (13, None),
        (17, Some(1)),
        (18, None),
        (21, None),
    ] {
        let file = backbone(opset, batch);
        let path = Path::new("b.onnx");
        let layout = (Layout::Nchw, 8);
        let cut = [Tap::whole("features")];
        let merge = Merge::new(&file, path, &cut, View::ALL.into_iter(), layout).expect("sound");
        let names: Vec<String> = merge
            .inputs()
            .iter()
            .map(|(_, name)| name.clone())
            .collect();
        let wanted_names = [
            "image",
            "image_near",
            "image_far",
            "image_brighter",
            "image_darker",
        ];
        assert_eq!(names, wanted_names);
        let said = vec![("labels".to_string(), "[]".to_string())];
        let (merged, outputs) = merge.finish(&parts, &said).expect("can be written");
        // The classifier's own tensor of that name is taken.
        assert_eq!(outputs, ["probabilities_2", "unknown_score"]);
        let given: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), vec![1, 3, 6, 8]))
            .collect();
        let runner = Runner::new(&merged, path, &given).expect("can be read");
        let seeds = [0.3, 1.7, 2.9, 4.1, 5.3];
        let images: Vec<Vec<f32>> = seeds.map(|seed| numbers(3 * 48, seed)).into();
        let mut mean = vec![0.0; 5];
        for view in images.iter().chain([&turned(&images[0])]) {
            let all = features(&file, view);
            mean.iter_mut()
                .zip(all)
                .for_each(|(mean, value)| *mean += value / 6.0);
        }
        let given: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let found = runner.run(&given).expect("runs");
        close(&found[0], &wanted(&parts, &mean), 1e-5);
        parts.transform.apply(&mut mean);
        close(&found[1], &[unknown.score(&mean)], 1e-4);
        let model = ModelProto::decode(&merged[..]).expect("sound");
        assert_eq!((model.doc_string.as_str(), model.ir_version), ("kept", 4));
        assert_eq!(model.opset_import[0].version, opset);
        assert_eq!(model.metadata_props[0].key, "fieldtune.labels");
        let graph = model.graph.expect("a graph");
        let kept = |name: &str| graph.initializer.iter().any(|stored| stored.name == name);
        assert!(kept("half") && !kept("classifier"));
        // Every node stands after those whose outputs it reads, as ONNX wants it.
        let mut made: Vec<&str> = graph.input.iter().map(|it| it.name.as_str()).collect();
        made.extend(graph.initializer.iter().map(|it| it.name.as_str()));
        for node in &graph.node {
            for input in &node.input {
                assert!(made.contains(&input.as_str()), "{input} is read too early");
            }
            made.extend(node.output.iter().map(String::as_str));
        }
        // Weights are unpacked once for all views.
        let casts = graph.node.iter().filter(|node| node.input[0] == "half");
        assert_eq!(casts.count(), 1);
    }
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let refused = |file: &[u8], cut: &str| {
        let views = [View::Original].into_iter();
        let cut = [Tap::whole(cut)];
        let merge = Merge::new(file, Path::new("b.onnx"), &cut, views, (Layout::Nchw, 8));
        merge.err().expect("refused").to_string()
    };
    let sound = backbone(17, None);
    assert!(refused(&sound, "nothing").contains("has 0 inputs before the cut"));
    assert!(refused(&sound[..sound.len() - 9], "features").contains("is damaged"));
    assert!(refused(b"no network", "features").contains("is damaged"));
    assert!(refused(&backbone(6, None), "features").contains("has opset 6"));
    let mut model = ModelProto::decode(&sound[..]).expect("sound");
    let stored = &mut model.graph.as_mut().expect("a graph").initializer[0];
    stored.external_data = vec![StringStringEntryProto::default()];
    assert!(refused(&model.encode_to_vec(), "features").contains("in other files"));
}

#[test]
fn a_cut_of_several_tensors_is_merged() {
    let file = backbone(17, None);
    let path = Path::new("b.onnx");
    let cut = taps(&file, path, "features,shut:mean").expect("known");
    let network = Network::mlp(10, &[], 2).expect("sound");
    let parameters = parameters(&network);
    let parts = Parts {
        transform: Transform::default(),
        network: &network,
        parameters: &parameters,
        temperature: 1.0,
        unknown: None,
    };
    let views = [View::Original, View::Mirrored].into_iter();
    let merge = Merge::new(&file, path, &cut, views, (Layout::Nchw, 8)).expect("sound");
    let (merged, _) = merge.finish(&parts, &[]).expect("can be written");
    let runner = Runner::new(&merged, path, &[("image", vec![1, 3, 6, 8])]).expect("can be read");
    let image = numbers(3 * 48, 0.4);
    let pairs = [features(&file, &image), features(&file, &turned(&image))];
    let mean: Vec<f32> = (0..5).map(|i| 0.5 * (pairs[0][i] + pairs[1][i])).collect();
    let found = runner.run(&[&image]).expect("runs");
    close(
        &found[0],
        &wanted(&parts, &[&mean[..], &mean].concat()),
        1e-5,
    );
}
