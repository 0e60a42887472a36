//! Time of one training step: `cargo bench --bench steps`. 1280 features, 6 classes,
//! batch 16, one thread; plain and adversarial, with every kernel this CPU has.

use std::hint::black_box;
use std::time::Instant;

use fieldtune_benches::{machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Trainer};
use serde_json::json;

const FEATURES: usize = 1280;
const CLASSES: usize = 6;
const BATCH: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    for kernel in Kernel::available() {
        for (head, hidden) in [("linear", &[][..]), ("mlp:128", &[128])] {
            for (rule, optimizer) in [("sgd", Optimizer::SGD), ("adamw", Optimizer::ADAMW)] {
                for adversary in [None, Some(Adversary::new(0.15))] {
                    let options = Options {
                        optimizer,
                        decay: Decay {
                            mode: Mode::Structural,
                            lambda: 0.01,
                        },
                        adversary,
                        ..Options::new(BATCH, kernel)
                    };
                    let median_us = median_us(hidden, options)?;
                    let adversarial = adversary.is_some();
                    println!(
                        "{:9} {head:8} {rule:6} adversarial {adversarial:5} {median_us:8.1} us",
                        kernel.name()
                    );
                    rows.push(json!({
                        "kernel": kernel.name(), "head": head, "optimizer": rule,
                        "adversarial": adversarial, "median_us": median_us,
                    }));
                }
            }
        }
    }
    let report = json!({"machine": machine(), "batch": BATCH, "features": FEATURES, "steps": rows});
    std::fs::write(
        results().join("steps.json"),
        serde_json::to_string_pretty(&report)? + "\n",
    )?;
    Ok(())
}

fn median_us(hidden: &[usize], options: Options) -> Result<f64, fieldtune_core::Error> {
    let network = Network::mlp(FEATURES, hidden, CLASSES)?;
    let mut arena = vec![0.0; options.plan(&network)?.elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, 1)?;
    trainer.prepare_decay();
    let inputs = trainer.inputs_mut().iter_mut().enumerate();
    inputs.for_each(|(i, value)| *value = (i * 37 % 101) as f32 / 101.0);
    let labels: [u16; BATCH] = std::array::from_fn(|i| (i % CLASSES) as u16);
    let mut times = Vec::new();
    for step in 0..600 {
        let start = Instant::now();
        black_box(trainer.step(black_box(&labels), 1e-4)?);
        if step >= 100 {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
