//! The loop over the samples: order, schedule, the held-out samples that say when to
//! stop. One step is in `train.rs`.

use crate::Error;
use crate::decay::Mode;
use crate::optimizer::Schedule;
use crate::train::Trainer;

/// Batches that the measured decay looks at before the first update.
const MEASURED_BATCHES: usize = 8;

/// Training samples, wherever they are kept.
pub trait Samples {
    /// N, the number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes sample `index`'s features `[F]` and returns its label.
    fn read(&self, index: usize, features: &mut [f32]) -> u16;
}

/// Trains for `epochs` passes over all samples in random order, the learning rate
/// falling as a cosine with a tenth of the steps as warm-up.
///
/// `order` `[N]` and `labels` `[B]` are the caller's space. Returns the last
/// epoch's mean clean loss.
///
/// # Errors
/// [`Error::NoRoom`] when `order` or `labels` is too short; those of
/// [`Trainer::step`].
pub fn fit(
    trainer: &mut Trainer<'_>,
    samples: &impl Samples,
    epochs: u32,
    learning_rate: f32,
    order: &mut [u32],
    labels: &mut [u16],
) -> Result<f32, Error> {
    let mut run = Run::new(trainer, samples, epochs, learning_rate, order, labels)?;
    let mut last = 0.0;
    for _ in 0..epochs {
        last = run.epoch(trainer, samples)?;
    }
    trainer.take_average()?;
    Ok(last)
}

/// As [`fit`], but judges `held_out` after every epoch, keeps the parameters (or their
/// average) with the smallest loss there, stops after `patience` epochs without a smaller
/// one, and ends with the best. Returns that smallest loss.
///
/// # Errors
/// As [`fit`], and [`Error::LayerTable`] without `keep_best` in the options or without
/// held-out samples.
#[expect(clippy::too_many_arguments, reason = "fit's and two more")]
pub fn fit_stopping_early(
    trainer: &mut Trainer<'_>,
    samples: &impl Samples,
    held_out: &impl Samples,
    patience: u32,
    epochs: u32,
    learning_rate: f32,
    order: &mut [u32],
    labels: &mut [u16],
) -> Result<f32, Error> {
    if !trainer.options.keep_best || held_out.is_empty() {
        return Err(Error::LayerTable);
    }
    let mut run = Run::new(trainer, samples, epochs, learning_rate, order, labels)?;
    let (mut best, mut waited) = (f32::INFINITY, 0);
    for _ in 0..epochs {
        run.epoch(trainer, samples)?;
        trainer.swap_average()?;
        let loss = run.judge(trainer, held_out)?;
        if loss < best {
            (best, waited) = (loss, 0);
            trainer.keep_best()?;
        } else {
            waited += 1;
        }
        trainer.swap_average()?;
        if waited >= patience {
            break;
        }
    }
    trainer.take_best()?;
    Ok(best)
}

/// What stays the same over the epochs, and where training is.
struct Run<'s> {
    order: &'s mut [u32],
    labels: &'s mut [u16],
    schedule: Schedule,
    step: u32,
}

impl<'s> Run<'s> {
    fn new(
        trainer: &mut Trainer<'_>,
        samples: &impl Samples,
        epochs: u32,
        learning_rate: f32,
        order: &'s mut [u32],
        labels: &'s mut [u16],
    ) -> Result<Self, Error> {
        let (count, batch) = (samples.len(), trainer.plan.batch);
        if order.len() < count || labels.len() < batch {
            return Err(Error::NoRoom {
                need: count.max(batch),
                have: order.len().min(labels.len()),
            });
        }
        let order = &mut order[..count];
        for (position, index) in order.iter_mut().enumerate() {
            *index = position as u32;
        }
        trainer.start_here()?;
        trainer.prepare_decay();
        if trainer.options.decay.mode == Mode::Measured {
            trainer.random.shuffle(order);
            trainer.clear_gradients()?;
            for rows in order.chunks(batch).take(MEASURED_BATCHES) {
                let labels = gather(trainer, samples, rows, labels);
                trainer.clean_gradients(labels)?;
            }
            trainer.measure_decay();
        }
        let steps = epochs.saturating_mul(count.div_ceil(batch.max(1)) as u32);
        let schedule = Schedule {
            learning_rate,
            warm_up_steps: steps / 10,
            steps,
        };
        Ok(Self {
            order,
            labels,
            schedule,
            step: 0,
        })
    }

    /// One pass over all samples; returns the mean clean loss.
    fn epoch(&mut self, trainer: &mut Trainer<'_>, samples: &impl Samples) -> Result<f32, Error> {
        trainer.random.shuffle(self.order);
        let mut sum = 0.0;
        for rows in self.order.chunks(trainer.plan.batch) {
            let labels = gather(trainer, samples, rows, self.labels);
            trainer.set_progress(self.step as f32 / self.schedule.steps as f32);
            let learning_rate = self.schedule.at(self.step);
            sum += trainer.step(labels, learning_rate)?.loss * rows.len() as f32;
            self.step += 1;
        }
        Ok(sum / self.order.len() as f32)
    }

    /// Mean loss of the held-out samples.
    fn judge(&mut self, trainer: &mut Trainer<'_>, held_out: &impl Samples) -> Result<f32, Error> {
        let (count, batch) = (held_out.len(), trainer.plan.batch);
        let mut sum = 0.0;
        for first in (0..count).step_by(batch) {
            let end = count.min(first + batch);
            let features = trainer.network.inputs();
            let inputs = trainer.inputs_mut().chunks_exact_mut(features);
            let labels = &mut self.labels[..end - first];
            for ((index, input), label) in (first..end).zip(inputs).zip(labels.iter_mut()) {
                *label = held_out.read(index, input);
            }
            sum += trainer.judge(labels)?.loss * labels.len() as f32;
        }
        Ok(sum / count as f32)
    }
}

fn gather<'l>(
    trainer: &mut Trainer<'_>,
    samples: &impl Samples,
    rows: &[u32],
    labels: &'l mut [u16],
) -> &'l [u16] {
    let features = trainer.network.inputs();
    let inputs = trainer.inputs_mut().chunks_exact_mut(features);
    for ((row, input), label) in rows.iter().zip(inputs).zip(labels.iter_mut()) {
        *label = samples.read(*row as usize, input);
    }
    &labels[..rows.len()]
}
