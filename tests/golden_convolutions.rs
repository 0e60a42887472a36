//! A small convolutional head equals float64 reference values: loss, logits and
//! gradients to 1e-5, with every kernel.

use fieldtune_core::Kernel;
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::train::{Options, Trainer};
use fieldtune_tests::shared;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    let number = |v: &Value| v.as_f64().expect("a number") as f32;
    list.iter().map(number).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / largest;
        assert!(error <= 1e-5, "{what}: {found} {expected}");
    }
}

/// The layers that the golden file names, and the names of those with parameters.
fn network() -> (Network, [(usize, &'static str); 4]) {
    let layers = [
        Layer::Input(Shape::map(4, 5, 6)),
        Layer::Convolution(Convolution::full(4, 6, Window::square(1, 1, 0))),
        Layer::Relu6,
        Layer::Convolution(Convolution::depthwise(6, Window::square(3, 2, 1))),
        Layer::Relu6,
        Layer::Convolution(Convolution::full(6, 5, Window::square(3, 1, 1))),
        Layer::Relu,
        Layer::GlobalAveragePool,
        Layer::Dense {
            inputs: 5,
            outputs: 3,
        },
    ];
    let names = [(1, "pw"), (3, "dw"), (5, "conv"), (8, "fc")];
    (Network::new(&layers).expect("sound"), names)
}

#[test]
fn loss_logits_and_gradients() {
    let Some(path) = shared("golden/conv_head.json") else {
        return;
    };
    let text = std::fs::read_to_string(path).expect("readable golden file");
    let golden: Value = serde_json::from_str(&text).expect("valid JSON");
    let case = &golden["cases"][0];
    let (network, names) = network();
    let labels: Vec<u16> = numbers(&case["labels"]).iter().map(|v| *v as u16).collect();
    for kernel in Kernel::available() {
        let options = Options::new(labels.len(), kernel);
        let mut arena = vec![f32::NAN; options.plan(&network).expect("plan").elements()];
        let mut trainer = Trainer::new(&network, options, &mut arena, 1).expect("trainer");
        for (layer, name) in names {
            for (range, values) in [
                (network.weights(layer), &case["weights"][name]),
                (network.biases(layer), &case["biases"][name]),
            ] {
                trainer.parameters_mut()[range].copy_from_slice(&numbers(values));
            }
        }
        trainer
            .inputs_mut()
            .copy_from_slice(&numbers(&case["inputs"]));
        trainer.clear_gradients().expect("plan");
        let step = trainer.clean_gradients(&labels).expect("pass");
        let loss = case["loss"].as_f64().expect("loss") as f32;
        assert_close(&[step.loss], &[loss], "loss");
        assert_close(trainer.logits(), &numbers(&case["logits"]), "logits");
        for (layer, name) in names {
            for (range, values) in [
                (network.weights(layer), &case["grad_weights"][name]),
                (network.biases(layer), &case["grad_biases"][name]),
            ] {
                assert_close(&trainer.gradients()[range], &numbers(values), name);
            }
        }
    }
}
