//! The loop over the samples: order, schedule, the held-out samples that say when to
//! stop, and going on after a cut. One step is in `train.rs`.

use crate::Error;
use crate::decay::Mode;
use crate::optimizer::Schedule;
use crate::train::Trainer;
use serde::{Deserialize, Serialize};

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

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// Passes over all samples, at most.
    pub epochs: u32,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// Epochs without a smaller loss on held-out samples after which training stops;
    /// `None` trains to the end and looks at no held-out sample.
    pub patience: Option<u32>,
}

/// The caller's space for [`fit_resumable`].
pub struct Space<'s> {
    /// `[N]`.
    pub order: &'s mut [u32],
    /// `[B]`.
    pub labels: &'s mut [u16],
}

/// Where a training stands between two epochs. With the order of the samples and what
/// [`Trainer::kept`] gives it is all that the rest of the training depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    epochs: u32,
    loss: f32,
    best: f32,
    waited: u32,
    step: u32,
    trainer: crate::train::State,
}

impl Position {
    const START: (u32, f32, f32, u32) = (0, 0.0, f32::INFINITY, 0);

    pub(crate) fn trainer(&self) -> &crate::train::State {
        &self.trainer
    }

    /// Epochs done.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }
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
    let course = Course {
        epochs,
        learning_rate,
        patience: None,
    };
    let sets = [samples, samples];
    fit_resumable(
        trainer,
        sets,
        &course,
        Space { order, labels },
        None,
        &mut |_, _, _| {},
    )
}

/// As [`fit`], but judges `held_out` after every epoch, keeps the parameters (or their
/// average) with the smallest loss there, stops after `patience` epochs without a smaller
/// one, and ends with the best. Returns that smallest loss.
///
/// # Errors
/// As [`fit_resumable`].
#[expect(clippy::too_many_arguments, reason = "fit's and two more")]
pub fn fit_stopping_early<S: Samples>(
    trainer: &mut Trainer<'_>,
    samples: &S,
    held_out: &S,
    patience: u32,
    epochs: u32,
    learning_rate: f32,
    order: &mut [u32],
    labels: &mut [u16],
) -> Result<f32, Error> {
    let course = Course {
        epochs,
        learning_rate,
        patience: Some(patience),
    };
    let (sets, space) = ([samples, held_out], Space { order, labels });
    fit_resumable(trainer, sets, &course, space, None, &mut |_, _, _| {})
}

/// As [`fit`], of `[training, held-out]` samples, from where an earlier training stood.
/// After every epoch but the last `keep` is given what is needed to go on from there:
/// the trainer, the order of the samples and the position.
///
/// With patience it stops early, as [`fit_stopping_early`] does.
///
/// To go on, `space.order` holds the order kept and the trainer was put back with
/// [`Trainer::put_back`].
///
/// # Errors
/// As [`fit`], and [`Error::LayerTable`] with patience but without `keep_best` in the
/// options or without held-out samples.
pub fn fit_resumable<S: Samples>(
    trainer: &mut Trainer<'_>,
    [samples, held_out]: [&S; 2],
    course: &Course,
    space: Space<'_>,
    from: Option<&Position>,
    keep: &mut dyn FnMut(&Trainer<'_>, &[u32], &Position),
) -> Result<f32, Error> {
    if course.patience.is_some() && (!trainer.options.keep_best || held_out.is_empty()) {
        return Err(Error::LayerTable);
    }
    let mut run = Run::new(trainer, samples, course, space, from)?;
    let (first, mut loss, mut best, mut waited) = from.map_or(Position::START, |from| {
        (from.epochs, from.loss, from.best, from.waited)
    });
    for epoch in first..course.epochs {
        loss = run.epoch(trainer, samples)?;
        if let Some(patience) = course.patience {
            trainer.swap_average()?;
            let judged = run.judge(trainer, held_out)?;
            if judged < best {
                (best, waited) = (judged, 0);
                trainer.keep_best()?;
            } else {
                waited += 1;
            }
            trainer.swap_average()?;
            if waited >= patience {
                break;
            }
        }
        if epoch + 1 < course.epochs {
            let position = Position {
                epochs: epoch + 1,
                loss,
                best,
                waited,
                step: run.step,
                trainer: trainer.state(),
            };
            keep(trainer, run.order, &position);
        }
    }
    if course.patience.is_some() {
        trainer.take_best()?;
        return Ok(best);
    }
    trainer.take_average()?;
    Ok(loss)
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
        course: &Course,
        space: Space<'s>,
        from: Option<&Position>,
    ) -> Result<Self, Error> {
        let Space { order, labels } = space;
        let (count, batch) = (samples.len(), trainer.plan.batch);
        if order.len() < count || labels.len() < batch {
            return Err(Error::NoRoom {
                need: count.max(batch),
                have: order.len().min(labels.len()),
            });
        }
        let order = &mut order[..count];
        if from.is_none() {
            for (position, index) in order.iter_mut().enumerate() {
                *index = position as u32;
            }
            start(trainer, samples, order, labels)?;
        } else if order.iter().any(|index| *index as usize >= count) {
            return Err(Error::LayerTable);
        }
        let steps = count.div_ceil(batch.max(1)) as u32;
        let steps = course.epochs.saturating_mul(steps);
        let schedule = Schedule {
            learning_rate: course.learning_rate,
            warm_up_steps: steps / 10,
            steps,
        };
        Ok(Self {
            order,
            labels,
            schedule,
            step: from.map_or(0, |from| from.step),
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

/// What comes before the first epoch.
fn start(
    trainer: &mut Trainer<'_>,
    samples: &impl Samples,
    order: &mut [u32],
    labels: &mut [u16],
) -> Result<(), Error> {
    trainer.start_here()?;
    trainer.prepare_decay();
    if trainer.options.decay.mode == Mode::Measured {
        trainer.random.shuffle(order);
        trainer.clear_gradients()?;
        for rows in order.chunks(trainer.plan.batch).take(MEASURED_BATCHES) {
            let labels = gather(trainer, samples, rows, labels);
            trainer.clean_gradients(labels)?;
        }
        trainer.measure_decay();
    }
    Ok(())
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
