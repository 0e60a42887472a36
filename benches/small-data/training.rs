//! One training run, from its setting to its error. The same setting gives the same
//! result whatever runs beside it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Schedule;
use fieldtune_core::predict;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Samples, Trainer, fit_stopping_early};
use fieldtune_core::{Error, Kernel};
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::data::{DataSet, Images, Source};
use crate::nets;
use crate::setting::{Course, DecayMode, Recipe, Setting, Variant};
use fieldtune_benches::Failure;

/// Batches that the measured decay looks at, as in the engine's own loop.
const MEASURED_BATCHES: usize = 8;
/// Images of one prediction.
const PREDICTED_ROWS: usize = 100;

/// What a run found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Share of the measured images that were not recognised.
    pub error: f64,
    /// Mean cross-entropy of the measured images, in nats.
    pub loss: f64,
    /// Mean clean loss of the last tenth of the steps; with early stopping the smallest
    /// held-out loss.
    pub training_loss: f64,
    /// Whether training ended in numbers that are not finite; `error` is then chance.
    pub diverged: bool,
    /// Time it took.
    pub seconds: f64,
}

/// Trains and measures. `tested` is how many test images are measured on at most.
///
/// # Errors
/// A setting that cannot be read.
pub fn run(setting: &Setting, data: &DataSet, tested: usize) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let network = nets::parse(&setting.network)?;
    let drawn = data.draw(setting.samples, setting.seed);
    let held_out = |position: usize| match &setting.held_out {
        Some(fold) => fold.holds_out(position, data.train.classes),
        None => false,
    };
    let part = |wanted: bool| {
        let rows = drawn.iter().enumerate();
        let rows = rows.filter(|(position, _)| held_out(*position) == wanted);
        rows.map(|(_, row)| *row).collect::<Vec<_>>()
    };
    let scale = Scale::of(setting.source, &data.train, &part(false));
    let start_from = match (&setting.pretrained, &data.before) {
        (Some(recipe), Some(before)) => Some(pretrained(setting, recipe, &network, before)?),
        _ => None,
    };
    let result = train(
        setting,
        &network,
        &data.train,
        &part(false),
        &scale,
        start_from.as_deref(),
    );
    let (measured, rows) = match setting.held_out {
        Some(_) => (&data.train, part(true)),
        None => (
            &data.test,
            (0..tested.min(data.test.labels.len())).collect(),
        ),
    };
    let seconds = || start.elapsed().as_secs_f64();
    let (parameters, training_loss) = match result {
        Ok(trained) => trained,
        Err(Error::Diverged) => return Ok(Outcome::diverged(seconds())),
        Err(error) => return Err(format!("{}: {error:?}", setting.key()).into()),
    };
    let (error, loss) = measure(&network, &parameters, measured, &rows, &scale)
        .map_err(|error| format!("{}: {error:?}", setting.key()))?;
    if !loss.is_finite() {
        return Ok(Outcome::diverged(seconds()));
    }
    Ok(Outcome {
        error,
        loss,
        training_loss,
        diverged: false,
        seconds: seconds(),
    })
}

impl Outcome {
    fn diverged(seconds: f64) -> Self {
        Self {
            error: 0.9,
            loss: 10.0,
            training_loss: 10.0,
            diverged: true,
            seconds,
        }
    }
}

/// Brings grey levels to numbers that networks train well on: digits to 0 (paper) to 1
/// (ink), as their recipes have always done, and each channel of a photograph to mean 0
/// and deviation 1 over the training samples.
struct Scale {
    /// Mean and inverse deviation, one a channel.
    channels: Vec<(f32, f32)>,
}

impl Scale {
    fn of(source: Source, images: &Images, rows: &[usize]) -> Self {
        if source != Source::Cifar10 {
            return Self {
                channels: vec![(0.0, 1.0 / 255.0)],
            };
        }
        let plane = images.elements() / images.shape[0];
        let channel = |channel: usize| {
            let (mut sum, mut squares) = (0u64, 0u64);
            for row in rows {
                for pixel in &images.image(*row)[channel * plane..(channel + 1) * plane] {
                    sum += u64::from(*pixel);
                    squares += u64::from(*pixel).pow(2);
                }
            }
            let count = (rows.len() * plane).max(1) as f64;
            let mean = sum as f64 / count;
            let deviation = (squares as f64 / count - mean * mean).max(1.0).sqrt();
            (mean as f32, (1.0 / deviation) as f32)
        };
        Self {
            channels: (0..images.shape[0]).map(channel).collect(),
        }
    }

    fn apply(&self, image: &mut [f32]) {
        let plane = image.len() / self.channels.len();
        for (values, (mean, factor)) in image.chunks_exact_mut(plane).zip(&self.channels) {
            values.iter_mut().for_each(|v| *v = (*v - mean) * factor);
        }
    }
}

/// Batches without end: all samples in random order, again and again.
struct Batches<'a> {
    setting: &'a Setting,
    images: &'a Images,
    scale: &'a Scale,
    order: Vec<usize>,
    next: usize,
    /// Draws the order: the same for every method.
    random: Random,
    /// Draws what augmentation does.
    changes: Random,
}

impl Batches<'_> {
    /// Fills the trainer's inputs, returns their labels.
    fn load(&mut self, trainer: &mut Trainer<'_>, augmentation: Augmentation) -> Vec<u16> {
        let elements = self.images.elements();
        let inputs = trainer.inputs_mut().chunks_exact_mut(elements);
        let labels = inputs.map(|input| {
            if self.next == self.order.len() {
                self.next = 0;
                self.random.shuffle(&mut self.order);
            }
            let row = self.order[self.next];
            self.next += 1;
            let image = self.images.image(row);
            augmentation.apply(self.setting.source, image, &mut self.changes, input);
            self.scale.apply(input);
            self.images.labels[row]
        });
        labels.collect()
    }
}

/// Returns the parameters and the mean loss of the last tenth of the steps.
fn train(
    setting: &Setting,
    network: &Network,
    images: &Images,
    rows: &[usize],
    scale: &Scale,
    start_from: Option<&[f32]>,
) -> Result<(Vec<f32>, f64), Error> {
    let options = options(setting, rows.len());
    let mut arena = vec![0.0; options.plan(network)?.elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, 0x1417 + setting.seed)?;
    if let (Some(parameters), Some(last)) = (start_from, network.weighted().last()) {
        let below = 0..network.weights(last).start;
        trainer.parameters_mut()[below.clone()].copy_from_slice(&parameters[below]);
    }
    let mut batches = Batches {
        setting,
        images,
        scale,
        order: rows.to_vec(),
        next: rows.len(),
        random: Random::new(0xba7c4 + setting.seed),
        changes: Random::new(0xc4a26e + setting.seed),
    };
    let loss = match setting.variant.changes.patience {
        // Fewer samples have nothing to spare.
        Some(patience) if rows.len() >= 2 * images.classes => {
            stop_early(&mut trainer, setting, &batches, patience)?
        }
        _ => all_steps(&mut trainer, setting, &mut batches)?,
    };
    Ok((trainer.parameters().to_vec(), loss))
}

fn options(setting: &Setting, rows: usize) -> Options {
    let changes = &setting.variant.changes;
    let recipe = changes.apply(&setting.recipe);
    Options {
        optimizer: recipe.rule.optimizer(),
        decay: setting.variant.decay(),
        anchored: changes.anchored,
        adversary: setting.variant.adversary(),
        label_smoothing: changes.label_smoothing.unwrap_or(0.0),
        clip_norm: changes.clip_norm,
        average: changes.average,
        keep_best: changes.patience.is_some(),
        ..Options::new(recipe.batch.min(rows), Kernel::best())
    }
}

/// Networks trained beforehand, by their layers: one for all runs.
static PRETRAINED: Mutex<BTreeMap<String, Vec<f32>>> = Mutex::new(BTreeMap::new());

/// The parameters of `network` after training on all of `images`, plainly.
fn pretrained(
    setting: &Setting,
    recipe: &Recipe,
    network: &Network,
    images: &Images,
) -> Result<Vec<f32>, Failure> {
    let mut finished = PRETRAINED.lock().map_err(|_| "another thread failed")?;
    if let Some(parameters) = finished.get(&setting.network) {
        return Ok(parameters.clone());
    }
    let rows: Vec<usize> = (0..images.labels.len()).collect();
    let scale = Scale::of(setting.source, images, &rows);
    let plain = Setting {
        seed: 0xbef02e,
        recipe: *recipe,
        variant: Variant::PLAIN,
        ..setting.clone()
    };
    let (parameters, _) = train(&plain, network, images, &rows, &scale, None)
        .map_err(|error| format!("training beforehand: {error:?}"))?;
    finished.insert(setting.network.clone(), parameters.clone());
    Ok(parameters)
}

/// The engine's own loop reads samples that are never changed; this one augments.
fn all_steps(
    trainer: &mut Trainer<'_>,
    setting: &Setting,
    batches: &mut Batches<'_>,
) -> Result<f64, Error> {
    let recipe = setting.variant.changes.apply(&setting.recipe);
    trainer.start_here()?;
    trainer.prepare_decay();
    if setting.variant.decay == DecayMode::Measured {
        trainer.clear_gradients()?;
        for _ in 0..MEASURED_BATCHES {
            let labels = batches.load(trainer, Augmentation::None);
            trainer.clean_gradients(&labels)?;
        }
        trainer.measure_decay();
    }
    let last = recipe.steps - recipe.steps.div_ceil(10);
    let mut sum = 0.0;
    for step in 0..recipe.steps {
        let labels = batches.load(trainer, setting.variant.augmentation);
        trainer.set_progress(step as f32 / recipe.steps as f32);
        let found = trainer.step(&labels, learning_rate(&recipe, step))?;
        if step >= last {
            sum += f64::from(found.loss);
        }
    }
    trainer.take_average()?;
    Ok(sum / f64::from((recipe.steps - last).max(1)))
}

fn learning_rate(recipe: &Recipe, step: u32) -> f32 {
    let cosine = |warm_up_steps| {
        let schedule = Schedule {
            learning_rate: recipe.learning_rate,
            warm_up_steps,
            steps: recipe.steps,
        };
        schedule.at(step)
    };
    match recipe.course {
        Course::Cosine => cosine(recipe.steps / 10),
        Course::Cold => cosine(0),
        Course::Constant => recipe.learning_rate,
        Course::Inverse => recipe.learning_rate * (1.0 + 1e-4 * step as f32).powf(-0.75),
    }
}

/// The engine's early stopping: a fifth of the samples says when.
fn stop_early(
    trainer: &mut Trainer<'_>,
    setting: &Setting,
    batches: &Batches<'_>,
    patience: u32,
) -> Result<f64, Error> {
    let classes = batches.images.classes;
    let part = |held_out: bool| {
        let rows = batches.order.iter().enumerate();
        let rows = rows.filter(|(position, _)| (position / classes).is_multiple_of(5) == held_out);
        Rows {
            rows: rows.map(|(_, row)| *row).collect(),
            images: batches.images,
            scale: batches.scale,
        }
    };
    let (train, held_out) = (part(false), part(true));
    let recipe = setting.variant.changes.apply(&setting.recipe);
    let batch = recipe.batch.min(batches.order.len());
    let epochs = recipe.steps.div_ceil(train.len().div_ceil(batch) as u32);
    let mut order = vec![0; train.len()];
    let mut labels = vec![0; batch];
    let rate = recipe.learning_rate;
    let loss = fit_stopping_early(
        trainer,
        &train,
        &held_out,
        patience,
        epochs,
        rate,
        &mut order,
        &mut labels,
    )?;
    Ok(f64::from(loss))
}

/// Images as the engine's loop reads them.
struct Rows<'a> {
    rows: Vec<usize>,
    images: &'a Images,
    scale: &'a Scale,
}

impl Samples for Rows<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        let row = self.rows[index];
        for (value, pixel) in features.iter_mut().zip(self.images.image(row)) {
            *value = f32::from(*pixel);
        }
        self.scale.apply(features);
        self.images.labels[row]
    }
}

/// Share of errors and mean cross-entropy over some images.
fn measure(
    network: &Network,
    parameters: &[f32],
    images: &Images,
    rows: &[usize],
    scale: &Scale,
) -> Result<(f64, f64), Error> {
    let (elements, classes, kernel) = (network.inputs(), network.classes(), Kernel::best());
    let mut inputs = vec![0.0; PREDICTED_ROWS * elements];
    let mut logits = vec![0.0; PREDICTED_ROWS * classes];
    let mut workspace = vec![0.0; predict::workspace_elements(network, PREDICTED_ROWS, kernel)];
    let (mut wrong, mut loss) = (0usize, 0.0);
    for rows in rows.chunks(PREDICTED_ROWS) {
        let inputs = &mut inputs[..rows.len() * elements];
        let read = Rows {
            rows: rows.to_vec(),
            images,
            scale,
        };
        for (index, input) in inputs.chunks_exact_mut(elements).enumerate() {
            read.read(index, input);
        }
        let logits = &mut logits[..rows.len() * classes];
        predict::logits(network, parameters, kernel, inputs, &mut workspace, logits)?;
        for (row, logits) in rows.iter().zip(logits.chunks_exact(classes)) {
            let own = logits[usize::from(images.labels[*row])];
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
            loss += sum.ln() + f64::from(largest - own);
            let as_large = logits.iter().filter(|logit| **logit >= own).count();
            wrong += usize::from(as_large > 1 || !own.is_finite());
        }
    }
    let count = rows.len().max(1) as f64;
    Ok((wrong as f64 / count, loss / count))
}
