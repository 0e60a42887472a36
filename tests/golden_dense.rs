//! The head's algorithms equal float64 reference values: losses, gradients and
//! updates to 1e-5, perturbations to 1e-3.

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{self, Decay, Mode, norm};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_tests::shared;
use serde_json::Value;

struct Case {
    value: Value,
    network: Network,
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn lists(value: &Value) -> Vec<Vec<f64>> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(numbers)
        .collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|v| v as usize).collect()
}

/// The largest difference, relative to the reference's largest element.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |worst, (f, e)| {
        f64::max(worst, (f64::from(*f) - e).abs())
    }) / scale
}

fn assert_close(found: &[f32], expected: &[f64], bound: f64, what: &str) {
    let error = error(found, expected);
    assert!(
        error <= bound,
        "{what}: relative error {error:.2e} above {bound:.0e}"
    );
}

fn cases() -> Vec<Case> {
    let Some(path) = shared("golden/dense_head.json") else {
        return Vec::new();
    };
    let text = std::fs::read_to_string(path).expect("readable golden file");
    let golden: Value = serde_json::from_str(&text).expect("valid JSON");
    let cases = golden["cases"].as_array().expect("cases").clone();
    assert_eq!(cases.len(), 3);
    let build = |value: Value| {
        let widths = sizes(&value["widths"]);
        let hidden = &widths[1..widths.len() - 1];
        let network = Network::mlp(widths[0], hidden, widths[widths.len() - 1]).expect("sound");
        Case { value, network }
    };
    cases.into_iter().map(build).collect()
}

impl Case {
    fn labels(&self) -> Vec<u16> {
        sizes(&self.value["labels"])
            .into_iter()
            .map(|v| v as u16)
            .collect()
    }

    fn options(&self, kernel: Kernel) -> Options {
        Options {
            optimizer: Optimizer::PLAIN_SGD,
            decay: Decay {
                mode: Mode::Measured,
                lambda: 0.01,
            },
            adversary: Some(Adversary::new(0.3)),
            ..Options::new(self.labels().len(), kernel)
        }
    }

    /// Runs `check` on a trainer that holds the case's weights and inputs.
    fn with_trainer(&self, kernel: Kernel, check: impl FnOnce(&mut Trainer<'_>, &[u16])) {
        let options = self.options(kernel);
        let plan = options.plan(&self.network).expect("plan");
        let mut arena = vec![f32::NAN; plan.elements()];
        let mut trainer = Trainer::new(&self.network, options, &mut arena, 1).expect("trainer");
        let weights = lists(&self.value["weights"]);
        let biases = lists(&self.value["biases"]);
        for (position, layer) in self.network.weighted().enumerate() {
            let ranges = [self.network.weights(layer), self.network.biases(layer)];
            for (range, values) in ranges
                .into_iter()
                .zip([&weights[position], &biases[position]])
            {
                fill(&mut trainer.parameters_mut()[range], values);
            }
        }
        fill(trainer.inputs_mut(), &numbers(&self.value["inputs"]));
        check(&mut trainer, &self.labels());
    }

    fn each(check: impl Fn(&Case, &mut Trainer<'_>, &[u16])) {
        for case in cases() {
            for kernel in Kernel::available() {
                case.with_trainer(kernel, |trainer, labels| check(&case, trainer, labels));
            }
        }
    }
}

fn fill(target: &mut [f32], values: &[f64]) {
    assert_eq!(target.len(), values.len());
    for (target, value) in target.iter_mut().zip(values) {
        *target = *value as f32;
    }
}

#[test]
fn loss_logits_and_gradients() {
    Case::each(|case, trainer, labels| {
        trainer.clear_gradients().expect("plan");
        let step = trainer.clean_gradients(labels).expect("step");
        let loss = case.value["loss"].as_f64().expect("loss");
        assert_close(&[step.loss], &[loss], 1e-5, "loss");
        assert_close(
            trainer.logits(),
            &numbers(&case.value["logits"]),
            1e-5,
            "logits",
        );
        let weights = lists(&case.value["grad_weights"]);
        let biases = lists(&case.value["grad_biases"]);
        for (position, layer) in case.network.weighted().enumerate() {
            let gradients = trainer.gradients();
            let [w, b] = [case.network.weights(layer), case.network.biases(layer)];
            assert_close(
                &gradients[w],
                &weights[position],
                1e-5,
                "gradient of weights",
            );
            assert_close(&gradients[b], &biases[position], 1e-5, "gradient of biases");
        }
    });
}

#[test]
fn decay_in_every_mode_and_one_update() {
    Case::each(|case, trainer, labels| {
        let expected = &case.value["decay"];
        let last = expected["lambda_last"].as_f64().expect("lambda") as f32;
        let mut he = vec![0.0; case.network.depth()];
        decay::structural(&sizes(&case.value["widths"]), last, &mut he);
        assert_close(&he, &numbers(&expected["structural"]), 1e-5, "structural");
        let rms: Vec<f32> = case
            .network
            .weighted()
            .map(|layer| &trainer.parameters()[case.network.weights(layer)])
            .map(|weights| norm(weights) / (weights.len() as f32).sqrt())
            .collect();
        let widths = sizes(&case.value["widths"]);
        let mut given = vec![0.0; case.network.depth()];
        decay::structural_from_weights(&widths, &rms, last, &mut given);
        let from_weights = numbers(&expected["structural_from_weights"]);
        assert_close(&given, &from_weights, 1e-5, "structural from weights");

        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(labels).expect("step");
        trainer.measure_decay();
        assert_close(
            trainer.lambdas(),
            &numbers(&expected["measured"]),
            1e-5,
            "measured",
        );
        let constants = numbers(&expected["constant_c"]);
        for (position, layer) in case.network.weighted().enumerate() {
            let range = case.network.weights(layer);
            let c = trainer.lambdas()[position] * norm(&trainer.parameters()[range.clone()])
                / norm(&trainer.gradients()[range]);
            assert_close(&[c], &[constants[position]], 1e-5, "constant of the decay");
        }
        trainer
            .apply(expected["mu"].as_f64().expect("mu") as f32)
            .expect("update");
        for (name, biases) in [("weights_after_step", false), ("biases_after_step", true)] {
            let values = lists(&expected[name]);
            for (position, layer) in case.network.weighted().enumerate() {
                let range = if biases {
                    case.network.biases(layer)
                } else {
                    case.network.weights(layer)
                };
                assert_close(&trainer.parameters()[range], &values[position], 1e-5, name);
            }
        }
    });
}

#[test]
fn adversarial_features_at_every_layer() {
    Case::each(|case, trainer, labels| {
        let layers: Vec<usize> = case.network.weighted().collect();
        for expected in case.value["adversarial"].as_array().expect("adversarial") {
            let position = expected["layer"].as_u64().expect("layer") as usize;
            let layer = layers[position];
            let direction: Vec<f32> = numbers(&expected["initial_direction"])
                .into_iter()
                .map(|v| v as f32)
                .collect();
            trainer.clear_gradients().expect("plan");
            trainer.clean_gradients(labels).expect("clean");
            trainer.clear_gradients().expect("plan");
            let loss = trainer
                .adversarial_gradients(layer, labels, Some(&direction))
                .expect("pass");
            let found: Vec<f32> = trainer.perturbation(layer).collect();
            assert_close(&found, &numbers(&expected["r_max"]), 1e-3, "r_max");
            let expected_loss = expected["adversarial_loss"].as_f64().expect("loss");
            assert_close(&[loss], &[expected_loss], 1e-4, "adversarial loss");
            let norms = numbers(&expected["grad_weight_norms_from_layer"]);
            for (layer, expected) in layers[position..].iter().zip(norms) {
                let found = norm(&trainer.gradients()[case.network.weights(*layer)]);
                assert_close(&[found], &[expected], 1e-3, "norm of adversarial gradient");
            }
            for below in &layers[..position] {
                let gradient = &trainer.gradients()[case.network.weights(*below)];
                assert!(
                    gradient.iter().all(|v| *v == 0.0),
                    "layers below are not touched"
                );
            }
            let last = case.network.weights(layers[layers.len() - 1]);
            let expected_last = numbers(&expected["grad_last_weight"]);
            assert_close(
                &trainer.gradients()[last],
                &expected_last,
                1e-3,
                "last gradient",
            );
        }
    });
}
