//! Every gradient the engine computes equals the slope of the loss.

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};

fn options(batch: usize, adversary: Option<Adversary>) -> Options {
    Options {
        optimizer: Optimizer::PLAIN_SGD,
        adversary,
        ..Options::new(batch, Kernel::best())
    }
}

/// The mean loss and all logits in float64, by a second implementation without
/// matrices or batches: the reference that the engine's gradients are held to.
fn loss_in_f64(network: &Network, parameters: &[f64], inputs: &[f64], labels: &[u16]) -> f64 {
    let layers: Vec<usize> = network.weighted().collect();
    let mut total = 0.0;
    for (sample, label) in inputs.chunks(network.inputs()).zip(labels) {
        let mut h = sample.to_vec();
        for (position, layer) in layers.iter().enumerate() {
            let w = &parameters[network.weights(*layer)];
            let b = &parameters[network.biases(*layer)];
            let rows = w.chunks(h.len()).zip(b);
            h = rows
                .map(|(row, b)| b + row.iter().zip(&h).map(|(w, x)| w * x).sum::<f64>())
                .collect();
            if position + 1 < layers.len() {
                h.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        let sum: f64 = h.iter().map(|v| v.exp()).sum();
        total += sum.ln() - h[usize::from(*label)];
    }
    total / labels.len() as f64
}

#[test]
fn dense_and_relu_match_finite_differences() {
    for (widths, rows, planned) in [
        (&[7, 4][..], 5, 5),
        (&[5, 9, 3], 3, 8),
        (&[20, 17, 6, 5], 8, 8),
        (&[3, 2], 1, 1),
    ] {
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let network = Network::mlp(first, &widths[1..widths.len() - 1], last).expect("sound");
        let options = options(planned, None);
        let mut arena = vec![f32::NAN; options.plan(&network).expect("plan").elements()];
        let mut trainer = Trainer::new(&network, options, &mut arena, 3).expect("trainer");
        let mut random = Random::new(rows as u64);
        trainer
            .inputs_mut()
            .iter_mut()
            .for_each(|v| *v = random.normal());
        trainer
            .parameters_mut()
            .iter_mut()
            .for_each(|v| *v += 0.1 * random.normal());
        let labels: Vec<u16> = (0..rows).map(|i| (i % last) as u16).collect();
        let inputs: Vec<f64> = trainer.inputs_mut()[..rows * first]
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        let mut parameters: Vec<f64> = trainer.parameters().iter().map(|v| f64::from(*v)).collect();
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&labels).expect("step");
        for index in 0..parameters.len() {
            let start = parameters[index];
            let mut at = |value: f64| {
                parameters[index] = value;
                loss_in_f64(&network, &parameters, &inputs, &labels)
            };
            let slope = (at(start + 1e-6) - at(start - 1e-6)) / 2e-6;
            parameters[index] = start;
            let found = f64::from(trainer.gradients()[index]);
            assert!(
                (found - slope).abs() < 1e-5 + 1e-4 * slope.abs(),
                "{widths:?} {index}: {found} {slope}"
            );
        }
    }
}

#[test]
fn perturbation_has_the_promised_length_and_raises_the_divergence() {
    let network = Network::mlp(12, &[9], 4).expect("sound");
    let options = options(6, Some(Adversary::new(0.2)));
    let mut arena = vec![0.0; options.plan(&network).expect("plan").elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, 5).expect("trainer");
    let mut random = Random::new(9);
    trainer
        .inputs_mut()
        .iter_mut()
        .for_each(|v| *v = random.normal());
    let inputs = trainer.inputs_mut().to_vec();
    trainer.clear_gradients().expect("plan");
    let labels = [0, 1, 2, 3, 0, 1];
    let clean = trainer.clean_gradients(&labels).expect("clean");
    let mut losses = Vec::new();
    for _ in 0..20 {
        losses.push(
            trainer
                .adversarial_gradients(0, &labels, None)
                .expect("pass"),
        );
        let perturbation: Vec<f32> = trainer.perturbation(0).collect();
        for (r, h) in perturbation.chunks(12).zip(inputs.chunks(12)) {
            let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length(r) / length(h) - 0.2).abs() < 1e-4);
        }
    }
    // The adversary only knows the output, not the label, so single samples may
    // profit; the batch does not.
    let mean = losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean > clean.loss, "{mean} {}", clean.loss);
}
