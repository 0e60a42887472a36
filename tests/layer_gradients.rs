//! Forward and backward passes of every kind of layer equal a second implementation in
//! float64: the logits as they are, the gradients as slopes of its loss.

use fieldtune_core::Kernel;
use fieldtune_core::predict;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_tests::layer_tables::tables;
use fieldtune_tests::reference;

/// The most parameters of one network whose slopes are taken.
const SLOPES: usize = 120;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn logits_equal_the_reference() {
    for (name, network) in tables() {
        for kernel in Kernel::available() {
            let rows = 3;
            let mut random = Random::new(4);
            let mut normal =
                |count: usize| -> Vec<f32> { (0..count).map(|_| random.normal()).collect() };
            let features = normal(rows * network.inputs());
            let parameters: Vec<f32> = normal(network.parameter_elements())
                .iter()
                .map(|v| 0.4 * v)
                .collect();
            let need = predict::workspace_elements(&network, rows, kernel);
            let mut workspace = vec![f32::NAN; need];
            let mut logits = vec![f32::NAN; rows * network.classes()];
            predict::logits(
                &network,
                &parameters,
                kernel,
                &features,
                &mut workspace,
                &mut logits,
            )
            .expect("room");
            let samples = wide(&features);
            let expected = samples
                .chunks(network.inputs())
                .flat_map(|sample| reference::logits(&network, &wide(&parameters), sample));
            for (found, expected) in logits.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 1e-5 * expected.abs().max(1.0),
                    "{name} {kernel:?}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn gradients_equal_slopes() {
    for (name, network) in tables() {
        for (kernel, rows, planned) in [(Kernel::lanes(), 2, 2), (Kernel::best(), 4, 7)] {
            let options = Options::new(planned, kernel);
            let mut arena = vec![f32::NAN; options.plan(&network).expect("plan").elements()];
            let mut trainer = Trainer::new(&network, options, &mut arena, 3).expect("trainer");
            let mut random = Random::new(rows as u64);
            let inputs: Vec<f32> = (0..rows * network.inputs())
                .map(|_| random.normal())
                .collect();
            trainer.inputs_mut()[..inputs.len()].copy_from_slice(&inputs);
            for value in trainer.parameters_mut() {
                *value += 0.2 * random.normal();
            }
            let mut parameters = wide(trainer.parameters());
            let labels: Vec<u16> = (0..rows).map(|i| (i % network.classes()) as u16).collect();
            trainer.clear_gradients().expect("plan");
            trainer.clean_gradients(&labels).expect("pass");
            let trained: Vec<usize> = (0..network.layers().len())
                .flat_map(|layer| network.weights(layer).chain(network.biases(layer)))
                .collect();
            for index in trained.iter().step_by(trained.len().div_ceil(SLOPES)) {
                let start = parameters[*index];
                let mut at = |value: f64| {
                    parameters[*index] = value;
                    reference::loss(&network, &parameters, &wide(&inputs), &labels)
                };
                let slope = (at(start + 1e-6) - at(start - 1e-6)) / 2e-6;
                parameters[*index] = start;
                let found = f64::from(trainer.gradients()[*index]);
                assert!(
                    (found - slope).abs() < 2e-5 + 2e-4 * slope.abs(),
                    "{name} {kernel:?} parameter {index}: {found} {slope}"
                );
            }
        }
    }
}
