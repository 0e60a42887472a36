//! The same questions, answered by this project's trainer.

use std::hint::black_box;
use std::time::Instant;

use fieldtune_benches::Failure;
use fieldtune_core::Error;
use fieldtune_core::predict;
use fieldtune_core::train::Trainer;

use crate::learning::{Learned, Lesson};
use fieldtune_benches::cases::{CLASSES, Case, FEATURES};
use fieldtune_benches::statistics::median_us;

/// Median time of a step in microseconds, over `seconds` and at least 5 steps.
pub fn step_us(case: &Case, seconds: f64) -> Result<f64, Error> {
    case.with_trainer(|trainer, labels| {
        let mut step = || trainer.step(black_box(labels), 1e-4).map(drop);
        (0..4).try_for_each(|_| step())?;
        median_us(seconds, step)
    })
}

/// Trains until the held-out rows are recognised well enough.
pub fn learn(case: &Case, lesson: &Lesson, seed: u64) -> Result<Learned, Failure> {
    let (network, options) = (case.head.network()?, case.options());
    let mut arena = vec![0.0; options.plan(&network)?.elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, seed)?;
    trainer.prepare_decay();
    let (rows, tested) = (lesson.rows, lesson.labels.len() - lesson.rows);
    let mut logits = vec![0.0; tested * CLASSES];
    let mut workspace = vec![0.0; predict::workspace_elements(&network, tested, options.kernel)];
    let mut labels = Vec::with_capacity(case.batch);
    let (mut seconds, mut accuracy) = (0.0, 0.0);
    for (epoch, order) in lesson.order.chunks(rows).enumerate() {
        let start = Instant::now();
        for chosen in order.chunks(case.batch) {
            labels.clear();
            let places = trainer.inputs_mut().chunks_exact_mut(FEATURES);
            for (row, place) in chosen.iter().zip(places) {
                place.copy_from_slice(lesson.row(usize::from(*row)));
                labels.push(lesson.labels[usize::from(*row)]);
            }
            trainer.step(&labels, lesson.learning_rate)?;
        }
        seconds += start.elapsed().as_secs_f64();
        let held_out = &lesson.values[rows * FEATURES..];
        let parameters = trainer.parameters();
        predict::logits(
            &network,
            parameters,
            options.kernel,
            held_out,
            &mut workspace,
            &mut logits,
        )?;
        accuracy = lesson.accuracy(&logits);
        if accuracy >= lesson.wanted {
            return Ok(Learned {
                seconds: Some(seconds),
                epochs: Some(epoch as u64 + 1),
                accuracy,
            });
        }
    }
    Ok(Learned {
        seconds: None,
        epochs: None,
        accuracy,
    })
}
