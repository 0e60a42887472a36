//! Every option of a training step does what its formula says.

use std::cell::Cell;

use fieldtune_core::adversary::{Adversary, Middle, Rise};
use fieldtune_core::decay::{Decay, Mode, norm};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Samples, Trainer, fit, fit_stopping_early};
use fieldtune_core::{Error, Kernel};

const BATCH: usize = 6;
const LABELS: [u16; BATCH] = [0, 1, 2, 0, 1, 2];

fn network() -> Network {
    Network::mlp(8, &[10], 3).expect("sound")
}

fn arena(network: &Network, options: &Options) -> Vec<f32> {
    vec![f32::NAN; options.plan(network).expect("plan").elements()]
}

/// Fills a batch with normal numbers.
fn fill(trainer: &mut Trainer<'_>, seed: u64) {
    let mut random = Random::new(seed);
    for value in trainer.inputs_mut() {
        *value = random.normal();
    }
}

/// Parameters before a step, its gradients without decay, parameters after it.
fn one_step(options: Options) -> [Vec<f32>; 3] {
    let network = network();
    let mut arena = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    trainer.prepare_decay();
    // Away from the start, so that the anchor pulls.
    trainer.parameters_mut().iter_mut().for_each(|v| *v += 0.1);
    let before = trainer.parameters().to_vec();
    fill(&mut trainer, 3);
    trainer.clear_gradients().expect("plan");
    trainer.clean_gradients(&LABELS).expect("pass");
    let gradients = trainer.gradients().to_vec();
    fill(&mut trainer, 3);
    trainer.step(&LABELS, 0.5).expect("step");
    [before, gradients, trainer.parameters().to_vec()]
}

fn assert_close(found: f32, expected: f32, what: &str) {
    assert!(
        (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
        "{what}: {found} {expected}"
    );
}

#[test]
fn an_anchored_decay_pulls_towards_the_start() {
    let network = network();
    let decay = Decay {
        mode: Mode::Uniform,
        lambda: 0.3,
    };
    for optimizer in [Optimizer::PLAIN_SGD, Optimizer::ADAMW] {
        let options = |anchored, lambda| Options {
            optimizer,
            anchored,
            decay: Decay { lambda, ..decay },
            ..Options::new(BATCH, Kernel::best())
        };
        let [before, gradients, free] = one_step(options(false, 0.0));
        let [_, _, anchored] = one_step(options(true, 0.3));
        for layer in network.weighted() {
            for index in network.weights(layer) {
                // The start was 0.1 below, so lambda (w - w0) is 0.03 everywhere.
                assert_close(anchored[index], free[index] - 0.5 * 0.03, "weight");
            }
            for index in network.biases(layer) {
                assert_close(anchored[index], free[index], "bias");
            }
        }
        if optimizer == Optimizer::PLAIN_SGD {
            for ((free, before), gradient) in free.iter().zip(&before).zip(&gradients) {
                assert_close(*free, before - 0.5 * gradient, "plain step");
            }
        }
    }
}

#[test]
fn long_gradients_are_shortened_and_short_ones_are_not() {
    let options = |clip_norm| Options {
        optimizer: Optimizer::PLAIN_SGD,
        clip_norm,
        ..Options::new(BATCH, Kernel::best())
    };
    let [_, gradients, free] = one_step(options(None));
    let length = norm(&gradients);
    let [_, _, same] = one_step(options(Some(length * 1.01)));
    assert_eq!(same, free);
    let [before, _, clipped] = one_step(options(Some(length / 4.0)));
    for ((clipped, before), gradient) in clipped.iter().zip(&before).zip(&gradients) {
        assert_close(*clipped, before - 0.5 * gradient / 4.0, "clipped step");
    }
}

#[test]
fn the_average_follows_its_formula() {
    let network = network();
    let options = Options {
        average: Some(0.7),
        ..Options::new(BATCH, Kernel::best())
    };
    let mut arena = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    let mut expected = trainer.parameters().to_vec();
    for step in 1..30 {
        fill(&mut trainer, step);
        trainer.step(&LABELS, 0.1).expect("step");
        let memory = 0.7f32.min((1.0 + step as f32) / (10.0 + step as f32));
        for (average, value) in expected.iter_mut().zip(trainer.parameters()) {
            *average = memory * *average + (1.0 - memory) * value;
        }
    }
    let last = trainer.parameters().to_vec();
    trainer.take_average().expect("plan");
    assert_ne!(trainer.parameters(), last);
    for (found, expected) in trainer.parameters().iter().zip(expected) {
        assert_close(*found, expected, "average");
    }
}

/// Two classes that overlap; counts how often it is read.
struct Noisy {
    seed: u64,
    count: usize,
    reads: Cell<usize>,
}

impl Noisy {
    fn new(seed: u64, count: usize) -> Self {
        let reads = Cell::new(0);
        Self { seed, count, reads }
    }
}

impl Samples for Noisy {
    fn len(&self) -> usize {
        self.count
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        self.reads.set(self.reads.get() + 1);
        let mut random = Random::new(self.seed + index as u64);
        let label = (index % 3) as u16;
        for (position, value) in features.iter_mut().enumerate() {
            let own = f32::from(u8::from(position % 3 == usize::from(label)));
            *value = 0.7 * own + random.normal();
        }
        label
    }
}

/// Mean loss of all samples.
fn loss(trainer: &mut Trainer<'_>, samples: &Noisy) -> f32 {
    let mut sum = 0.0;
    for first in (0..samples.count).step_by(BATCH) {
        let rows = first..samples.count.min(first + BATCH);
        let inputs = trainer.inputs_mut().chunks_exact_mut(8);
        let read = |(row, input): (usize, &mut [f32])| samples.read(row, input);
        let labels: Vec<u16> = rows.zip(inputs).map(read).collect();
        sum += trainer.judge(&labels).expect("pass").loss * labels.len() as f32;
    }
    sum / samples.count as f32
}

#[test]
fn early_stopping_ends_with_the_best_parameters_and_saves_the_rest() {
    let network = Network::mlp(8, &[64], 3).expect("sound");
    let (samples, held_out) = (Noisy::new(1, 30), Noisy::new(1000, 50));
    for average in [None, Some(0.9)] {
        let options = Options {
            keep_best: true,
            average,
            ..Options::new(BATCH, Kernel::best())
        };
        let mut arena = arena(&network, &options);
        let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
        let (mut order, mut labels) = (vec![0; 30], vec![0; BATCH]);
        samples.reads.set(0);
        let best = fit_stopping_early(
            &mut trainer,
            &samples,
            &held_out,
            3,
            200,
            0.1,
            &mut order,
            &mut labels,
        )
        .expect("training");
        let epochs = samples.reads.get() / 30;
        assert!((4..100).contains(&epochs), "{epochs} epochs");
        let found = loss(&mut trainer, &held_out);
        assert!((found - best).abs() < 1e-5, "{found} {best}");
        let mut whole = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
        fit(&mut whole, &samples, 200, 0.1, &mut order, &mut labels).expect("training");
        let overfitted = loss(&mut whole, &held_out);
        assert!(best < overfitted, "{best} {overfitted}");
    }
}

fn adversarial(adversary: Adversary) -> Options {
    Options {
        optimizer: Optimizer::PLAIN_SGD,
        adversary: Some(adversary),
        ..Options::new(BATCH, Kernel::best())
    }
}

/// The mean over many steps that move nothing of the gradients found.
fn mean_gradients(adversary: Adversary) -> Vec<f32> {
    const STEPS: u64 = 3000;
    let network = Network::mlp(8, &[10, 7], 3).expect("sound");
    let options = adversarial(adversary);
    let mut arena = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    let mut mean = vec![0.0; network.parameter_elements()];
    fill(&mut trainer, 1);
    let samples = trainer.inputs_mut().to_vec();
    let mut order: Vec<usize> = (0..BATCH).collect();
    let mut random = Random::new(7);
    for _ in 0..STEPS {
        // Layers are given to contiguous rows: chance comes from the order.
        random.shuffle(&mut order);
        for (row, sample) in trainer.inputs_mut().chunks_exact_mut(8).zip(&order) {
            row.copy_from_slice(&samples[sample * 8..(sample + 1) * 8]);
        }
        let labels: Vec<u16> = order.iter().map(|sample| LABELS[*sample]).collect();
        trainer.step(&labels, 0.0).expect("step");
        for (mean, value) in mean.iter_mut().zip(trainer.gradients()) {
            *mean += value / STEPS as f32;
        }
    }
    mean
}

#[test]
fn layers_drawn_for_each_sample_have_the_same_mean_gradient() {
    let one = mean_gradients(Adversary::new(0.3));
    let each = mean_gradients(Adversary {
        per_sample: true,
        ..Adversary::new(0.3)
    });
    let difference: Vec<f32> = one.iter().zip(&each).map(|(a, b)| a - b).collect();
    let share = norm(&difference) / norm(&one);
    assert!(share < 0.02, "{share}");
    let clean = mean_gradients(Adversary {
        weight: 0.0,
        ..Adversary::new(0.3)
    });
    let of_adversary: Vec<f32> = each.iter().zip(&clean).map(|(a, b)| a - b).collect();
    assert!(
        norm(&of_adversary) > 0.2 * norm(&clean),
        "it adds something"
    );
}

#[test]
fn layers_drawn_for_each_sample_add_up() {
    const WIDTHS: [usize; 4] = [8, 10, 7, 3];
    let network = Network::mlp(8, &[10, 7], 3).expect("sound");
    let adversary = |per_sample, weight| Adversary {
        per_sample,
        weight,
        ..Adversary::new(0.3)
    };
    let layers: Vec<usize> = network.weighted().collect();
    let mut seen = [0; 3];
    for seed in 0..10 {
        // A new arena of no numbers: what a pass has not written is recognised.
        let options = adversarial(adversary(true, 0.7));
        let mut memory = arena(&network, &options);
        let mut trainer = Trainer::new(&network, options, &mut memory, seed).expect("trainer");
        fill(&mut trainer, seed);
        trainer.step(&LABELS, 0.0).expect("step");
        let found = trainer.gradients().to_vec();
        let clean_logits = trainer.logits().to_vec();
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&LABELS).expect("pass");
        assert_eq!(trainer.logits(), clean_logits);
        let mut expected = trainer.gradients().to_vec();
        let mut first = 0;
        for (position, layer) in layers.iter().enumerate() {
            let width = WIDTHS[position];
            let r: Vec<f32> = trainer.perturbation(*layer).collect();
            let h = clean_inputs(&trainer, &network, *layer);
            // Rows that drew a higher layer were never written here.
            let rows = r.chunks(width).skip(first);
            let count = rows
                .take_while(|row| row.iter().all(|v| v.is_finite()))
                .count();
            seen[position] += count;
            for row in first..first + count {
                let own = row * width..(row + 1) * width;
                let relative = norm(&r[own.clone()]) / norm(&h[own]);
                assert!((relative - 0.3).abs() < 1e-3, "row {row}: {relative}");
            }
            // The layers above, alone, on the perturbed rows.
            if count > 0 {
                let own = first * width..(first + count) * width;
                let inputs: Vec<f32> = own.map(|i| h[i] + r[i]).collect();
                let upper = Network::new(&network.layers()[*layer..]).expect("sound");
                let start = network.weights(*layer).start;
                let parameters = &trainer.parameters()[start..];
                let labels = &LABELS[first..first + count];
                let gradients = plain_gradients(&upper, parameters, &inputs, labels);
                let share = 0.7 * count as f32 / BATCH as f32;
                for (sum, value) in expected[start..].iter_mut().zip(gradients) {
                    *sum += share * value;
                }
            }
            first += count;
        }
        assert_eq!(first, BATCH, "every row is perturbed once");
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(*found, *expected, "gradient");
        }
    }
    assert!(seen.iter().all(|count| *count > 8), "{seen:?}");
}

/// What layer `layer` of a net of dense layers reads in the last clean pass `[B, width]`.
fn clean_inputs(trainer: &Trainer<'_>, network: &Network, layer: usize) -> Vec<f32> {
    let mut h = trainer.inputs().to_vec();
    for below in network.weighted().take_while(|below| *below < layer) {
        let width = network.width(below);
        let w = &trainer.parameters()[network.weights(below)];
        let b = &trainer.parameters()[network.biases(below)];
        let samples = h.chunks(width);
        let outputs = samples.flat_map(|x| {
            w.chunks(width).zip(b).map(move |(w, b)| {
                let sum: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                (sum + b).max(0.0)
            })
        });
        h = outputs.collect();
    }
    h
}

/// Gradients of the mean clean loss.
fn plain_gradients(
    network: &Network,
    parameters: &[f32],
    inputs: &[f32],
    labels: &[u16],
) -> Vec<f32> {
    let options = Options::new(labels.len(), Kernel::best());
    let mut memory = arena(network, &options);
    let mut trainer = Trainer::new(network, options, &mut memory, 0).expect("trainer");
    trainer.parameters_mut().copy_from_slice(parameters);
    trainer.inputs_mut().copy_from_slice(inputs);
    trainer.clear_gradients().expect("plan");
    trainer.clean_gradients(labels).expect("pass");
    trainer.gradients().to_vec()
}

#[test]
fn only_the_layers_asked_for_are_perturbed() {
    let network = Network::mlp(8, &[10, 7], 3).expect("sound");
    let layers: Vec<usize> = network.weighted().collect();
    for (middle, expected) in [
        (Middle::All, &layers[..]),
        (Middle::Lowest, &layers[..1]),
        (Middle::AboveLowest, &layers[1..]),
    ] {
        for per_sample in [false, true] {
            let options = adversarial(Adversary {
                layers: middle,
                per_sample,
                ..Adversary::new(0.3)
            });
            let mut memory = arena(&network, &options);
            let mut trainer = Trainer::new(&network, options, &mut memory, 1).expect("trainer");
            fill(&mut trainer, 4);
            for layer in &layers {
                trainer.clear_gradients().expect("plan");
                trainer.clean_gradients(&LABELS).expect("pass");
                let run = trainer.adversarial_gradients(*layer, &LABELS, None);
                assert_eq!(run.is_ok(), expected.contains(layer), "{middle:?} {layer}");
            }
            // The gradient of the lowest weights tells whether the lowest was ever drawn.
            let mut drawn = false;
            for _ in 0..30 {
                trainer.step(&LABELS, 0.0).expect("step");
                let all = trainer.gradients()[network.weights(0)].to_vec();
                trainer.clear_gradients().expect("plan");
                trainer.clean_gradients(&LABELS).expect("pass");
                drawn |= all != trainer.gradients()[network.weights(0)];
            }
            assert_eq!(drawn, middle != Middle::AboveLowest, "{middle:?}");
        }
    }
}

#[test]
fn nesterov_follows_its_formula_in_float64_over_many_steps() {
    let options = Options {
        optimizer: Optimizer::NESTEROV,
        decay: Decay {
            mode: Mode::Uniform,
            lambda: 0.1,
        },
        ..Options::new(BATCH, Kernel::best())
    };
    let network = network();
    let mut memory = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut memory, 2).expect("trainer");
    trainer.prepare_decay();
    let decayed: Vec<usize> = network
        .weighted()
        .flat_map(|l| network.weights(l))
        .collect();
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let mut w = wide(trainer.parameters());
    let mut v = vec![0.0; w.len()];
    for step in 0..20 {
        fill(&mut trainer, step);
        trainer.step(&LABELS, 0.05).expect("step");
        let gradients = wide(trainer.gradients());
        for i in 0..w.len() {
            let lambda = if decayed.contains(&i) {
                f64::from(0.1f32)
            } else {
                0.0
            };
            let g = gradients[i] + lambda * w[i];
            v[i] = f64::from(0.9f32) * v[i] + g;
            w[i] -= f64::from(0.05f32) * (g + f64::from(0.9f32) * v[i]);
        }
        for (found, expected) in trainer.parameters().iter().zip(&w) {
            assert_close(*found, *expected as f32, "weight");
        }
    }
}

#[test]
fn gradients_too_long_to_measure_are_refused_when_clipped() {
    let options = Options {
        clip_norm: Some(1.0),
        ..Options::new(BATCH, Kernel::best())
    };
    let network = network();
    let mut memory = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut memory, 2).expect("trainer");
    fill(&mut trainer, 1);
    trainer.inputs_mut().iter_mut().for_each(|v| *v *= 1e25);
    assert_eq!(trainer.step(&LABELS, 0.1).err(), Some(Error::Diverged));
}

#[test]
fn epsilon_rises_as_a_cosine_too() {
    let network = network();
    let options = adversarial(Adversary {
        ramp: 0.5,
        rise: Rise::Cosine,
        ..Adversary::new(0.4)
    });
    let mut memory = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut memory, 2).expect("trainer");
    for progress in [0.0, 0.1, 0.25, 0.4, 0.5, 1.0] {
        fill(&mut trainer, 4);
        trainer.set_progress(progress);
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&LABELS).expect("pass");
        trainer
            .adversarial_gradients(0, &LABELS, None)
            .expect("pass");
        let r: Vec<f32> = trainer.perturbation(0).collect();
        let h = trainer.inputs_mut().to_vec();
        let relative = norm(&r[..8]) / norm(&h[..8]);
        let risen = (f64::from(progress) / 0.5).min(1.0);
        let expected = 0.2 * (1.0 - (std::f64::consts::PI * risen).cos());
        let error = (f64::from(relative) - expected).abs();
        assert!(error < 1e-4, "{progress}: {relative}");
    }
}

#[test]
fn epsilon_rises_over_its_share_of_training() {
    let network = network();
    let options = adversarial(Adversary {
        ramp: 0.5,
        ..Adversary::new(0.4)
    });
    let mut arena = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    for (progress, expected) in [(0.0, 0.0), (0.1, 0.08), (0.25, 0.2), (0.5, 0.4), (1.0, 0.4)] {
        fill(&mut trainer, 4);
        trainer.set_progress(progress);
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&LABELS).expect("pass");
        trainer
            .adversarial_gradients(0, &LABELS, None)
            .expect("pass");
        let r: Vec<f32> = trainer.perturbation(0).collect();
        let h = trainer.inputs_mut().to_vec();
        let relative = norm(&r[..8]) / norm(&h[..8]);
        assert!((relative - expected).abs() < 1e-4, "{progress}: {relative}");
    }
}

/// Mean of KL(clean || perturbed) over batches, after a number of power-iteration steps.
fn divergence(steps: u32) -> f64 {
    let network = Network::mlp(40, &[30], 3).expect("sound");
    let options = adversarial(Adversary {
        steps,
        ..Adversary::new(0.05)
    });
    let mut arena = arena(&network, &options);
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    let mut sum = 0.0;
    for seed in 0..40 {
        fill(&mut trainer, seed);
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&LABELS).expect("pass");
        trainer
            .adversarial_gradients(0, &LABELS, None)
            .expect("pass");
        let logits = trainer.logits().to_vec();
        let moved: Vec<f32> = trainer
            .perturbation(network.layers().len())
            .zip(&logits)
            .map(|(change, logit)| change + logit)
            .collect();
        for (p, q) in logits.chunks(3).zip(moved.chunks(3)) {
            let log = |v: &[f32], k: usize| {
                let sum: f64 = v.iter().map(|x| f64::from(*x).exp()).sum();
                f64::from(v[k]) - sum.ln()
            };
            let terms = (0..3).map(|k| log(p, k).exp() * (log(p, k) - log(q, k)));
            sum += terms.sum::<f64>();
        }
    }
    sum
}

#[test]
fn more_steps_find_a_perturbation_that_changes_more() {
    let [one, two, four] = [1, 2, 4].map(divergence);
    assert!(two > 1.02 * one, "{one} {two}");
    assert!(four >= two, "{two} {four}");
}
