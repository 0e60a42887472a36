//! Time of one training step: `cargo bench --bench steps`, one thread, every kernel this
//! CPU has. Heads on 1280 features with 6 classes, a network of dense layers, one like
//! LeNet on 28 x 28 pixels, and a pretrained tail (1x1 convolution from 320 to 1280
//! channels of 7 x 7, then a linear layer). Plain, adversarial at each middle layer, and
//! adversarial with a layer for each sample; what the adversary costs is the ratio to the
//! plain step. `cargo bench --bench steps -- linear` runs the cases whose name
//! holds that word.

use std::hint::black_box;

use fieldtune_benches::{Failure, machine, results, statistics};
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_core::{Error, Kernel};
use serde_json::{Value, json};

/// A case runs this often, each time for a while; the lowest median counts, since
/// whatever else the machine does can only add.
const ROUNDS: usize = 7;
/// Seconds of one round.
const ROUND_SECONDS: f64 = 0.15;

struct Case {
    name: &'static str,
    network: Network,
    batch: usize,
}

/// Where a step is perturbed.
#[derive(Clone, Copy, PartialEq)]
enum Perturbed {
    Nowhere,
    At(usize),
    PerSample,
}

fn main() -> Result<(), Failure> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let mut rows = Vec::new();
    for case in cases()? {
        if !wanted.is_empty() && !wanted.iter().any(|word| case.name.contains(word)) {
            continue;
        }
        for kernel in Kernel::available() {
            for (rule, optimizer) in [("sgd", Optimizer::SGD), ("adamw", Optimizer::ADAMW)] {
                rows.push(measured(&case, kernel, rule, optimizer)?);
            }
        }
    }
    let report = json!({"machine": machine(), "steps": rows});
    if wanted.is_empty() {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(results().join("steps.json"), text)?;
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>, Error> {
    let dense = |inputs, outputs| Layer::Dense { inputs, outputs };
    let convolution = |inputs, outputs, size| {
        Layer::Convolution(Convolution::full(
            inputs,
            outputs,
            Window::square(size, 1, 0),
        ))
    };
    let halved = Layer::MaxPool(Window::square(2, 2, 0));
    let lenet = [
        Layer::Input(Shape::map(1, 28, 28)),
        convolution(1, 20, 5),
        halved,
        convolution(20, 50, 5),
        halved,
        Layer::Flatten,
        dense(800, 500),
        Layer::Relu,
        dense(500, 10),
    ];
    let tail = [
        Layer::Input(Shape::map(320, 7, 7)),
        convolution(320, 1280, 1),
        Layer::Relu6,
        Layer::GlobalAveragePool,
        dense(1280, 6),
    ];
    let case = |name, network, batch| Case {
        name,
        network,
        batch,
    };
    Ok(vec![
        case("linear", Network::mlp(1280, &[], 6)?, 16),
        case("mlp:128", Network::mlp(1280, &[128], 6)?, 16),
        case("784-512x4-10", Network::mlp(784, &[512; 4], 10)?, 32),
        case("lenet", Network::new(&lenet)?, 32),
        case("tail", Network::new(&tail)?, 16),
    ])
}

/// All figures of one case with one kernel and one rule; prints a line.
fn measured(
    case: &Case,
    kernel: Kernel,
    rule: &str,
    optimizer: Optimizer,
) -> Result<Value, Failure> {
    let options = Options {
        optimizer,
        decay: Decay {
            mode: Mode::Structural,
            lambda: 0.01,
        },
        ..Options::new(case.batch, kernel)
    };
    let layers: Vec<usize> = case.network.weighted().collect();
    let mut ways = vec![Perturbed::Nowhere];
    ways.extend(layers.iter().map(|layer| Perturbed::At(*layer)));
    ways.push(Perturbed::PerSample);
    // Rounds of all ways take turns, so that a slow minute does not fall on one alone.
    let mut best_us = vec![f64::INFINITY; ways.len()];
    for _ in 0..ROUNDS {
        for (way, best_us) in ways.iter().zip(&mut best_us) {
            *best_us = best_us.min(median_us(case, options, *way)?);
        }
    }
    let (plain, rest) = (best_us[0], &best_us[1..]);
    let ratios: Vec<f64> = rest.iter().map(|us| us / plain).collect();
    let (at, per_sample) = ratios.split_at(layers.len());
    // What a step at a layer drawn by chance costs on average.
    let mean = at.iter().sum::<f64>() / layers.len() as f64;
    print!(
        "{:9} {:13} {rule:6} plain {plain:9.1} us; adversarial, times plain:",
        kernel.name(),
        case.name
    );
    for (layer, ratio) in layers.iter().zip(at) {
        print!(" layer {layer} {ratio:.2},");
    }
    println!(
        " random layer {mean:.2}, a layer for each sample {:.2}",
        per_sample[0]
    );
    Ok(json!({
        "kernel": kernel.name(), "head": case.name, "batch": case.batch, "optimizer": rule,
        "plain_us": plain, "layers": layers, "ratio_at_layer": at,
        "ratio_random_layer": mean, "ratio_per_sample": per_sample[0],
    }))
}

/// Median time of one round.
fn median_us(case: &Case, options: Options, way: Perturbed) -> Result<f64, Error> {
    let adversary = Adversary {
        per_sample: way == Perturbed::PerSample,
        ..Adversary::new(0.15)
    };
    let options = Options {
        adversary: (way != Perturbed::Nowhere).then_some(adversary),
        ..options
    };
    let network = &case.network;
    let mut arena = vec![0.0; options.plan(network)?.elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, 1)?;
    trainer.prepare_decay();
    let inputs = trainer.inputs_mut().iter_mut().enumerate();
    inputs.for_each(|(i, value)| *value = (i * 37 % 101) as f32 / 101.0);
    let labels: Vec<u16> = (0..case.batch)
        .map(|i| (i % network.classes()) as u16)
        .collect();
    let mut run = || match way {
        Perturbed::At(layer) => {
            trainer.clear_gradients()?;
            trainer.clean_gradients(black_box(&labels))?;
            trainer.adversarial_gradients(layer, black_box(&labels), None)?;
            trainer.apply(1e-4)
        }
        _ => {
            black_box(trainer.step(black_box(&labels), 1e-4)?);
            Ok(())
        }
    };
    run()?;
    statistics::median_us(ROUND_SECONDS, run)
}
