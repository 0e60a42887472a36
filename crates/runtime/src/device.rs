//! A microcontroller on a serial line: trains there on features that the backbone makes
//! here, labels with the head that it keeps, takes heads trained here and gives its own.
//! `port.rs` is the line, `client.rs` the conversation, `simulated.rs` a device without
//! hardware, `windows.rs` the files of a sensor. What the device does is in
//! [`fieldtune_core::device`].

mod client;
pub(crate) mod port;
mod simulated;
pub mod windows;

use std::path::Path;
use std::time::Instant;

use fieldtune_core::decay::Decay;
use fieldtune_core::device;
use fieldtune_core::head::{self as file, Backbone};
use fieldtune_core::link::{Fit, Job, Limits, Place, Refusal, Reply, Request, SlotState, Training};
use fieldtune_core::sensor::Window;
use fieldtune_core::transform::Transform;

pub use client::{Client, Info};

use crate::candidates::Wishes;
use crate::data::Fitted;
use crate::error::{Error, ErrorKind, Result};
use crate::features::Source;
use crate::head::{Head, Prediction};
use crate::recipe::{Normalise, PROTOTYPE_GAIN, Recipe, Shape};
use crate::samples::{SampleSet, Skipped};
use crate::senses::{Kind, Sense};
use crate::session::{Progress, Session, Stage, identity};
use crate::signature;
use client::{refused, reply};
use windows::Windows;

/// The batch that is tried first; halved until the device has room, where the user sets
/// none.
const BATCH: usize = 16;

/// No job is longer.
const MAX_JOB_BYTES: u32 = 1 << 20;

/// What training on a device brought.
pub struct Outcome {
    /// The head, read back from the device.
    pub head: Head,
    /// Its file's bytes.
    pub bytes: Vec<u8>,
    /// How it was trained.
    pub recipe: String,
    /// Samples trained on.
    pub samples: usize,
    /// Files left out, with the reason.
    pub skipped: Vec<Skipped>,
    /// Mean loss of the last epoch, in nats.
    pub loss: f32,
    /// Where the device keeps it.
    pub slot: SlotState,
    /// Size of the training arena on the device, in bytes.
    pub arena_bytes: u32,
    /// The most of the device's stack that was in use, in bytes; 0 where it does not know.
    pub stack_used_bytes: u32,
    /// Time of the features here, of sending, and of training there.
    pub seconds: [f64; 3],
}

/// One training, before anything is sent: the job without its borrowed texts.
struct Order {
    labels: Vec<String>,
    backbone: crate::backbone::Identity,
    recipe: Recipe,
    samples: usize,
    seed: u64,
}

impl Order {
    /// The job for a batch of so many samples.
    fn job<'a>(&'a self, words: &'a str, batch: usize) -> Option<Job<'a>> {
        let (recipe, rows) = (&self.recipe, self.samples);
        let features = self.backbone.features;
        let network = recipe.network(features, self.labels.len()).ok()?;
        let fitted = Fitted::by_length(recipe.normalise, features);
        let options = recipe.options(rows, fieldtune_core::Kernel::lanes());
        let linear = recipe.shape == Shape::Linear;
        let labels = self.labels.iter().map(String::as_str);
        Some(Job {
            labels: labels.collect(),
            backbone: Backbone {
                name: &self.backbone.name,
                sha256: self.backbone.sha256,
                cut: &self.backbone.cut,
                features: u32::try_from(features).ok()?,
                preprocessing: &self.backbone.preprocessing,
                views: 0,
            },
            transform: Transform {
                signed_root: fitted.signed_root,
                length: fitted.length,
                ..Transform::default()
            },
            layers: heapless::Vec::from_slice(network.layers()).ok()?,
            training: Training {
                standardise: recipe.normalise == Normalise::Standard,
                imprint_gain: match linear {
                    true => PROTOTYPE_GAIN / features as f32,
                    false => 0.0,
                },
                recipe: words,
                seed: self.seed,
                epochs: recipe.epochs_for(rows),
                batch: u16::try_from(batch).ok()?,
                learning_rate: recipe.learning_rate,
                optimizer: recipe.optimizer,
                decay: Decay {
                    mode: recipe.decay,
                    lambda: recipe.lambda.value(rows),
                },
                adversary: options.adversary,
                temperature: 1.0,
            },
        })
    }

    /// The largest batch that fits, halved from the recipe's until it does, and what the
    /// training takes.
    ///
    /// # Errors
    /// What does not fit, with the smallest batch; with the recipe's own where it is fixed.
    fn batch(&self, fixed: bool, limits: &Limits) -> std::result::Result<(usize, Fit), Refusal> {
        let mut batch = self.recipe.batch.min(self.samples).max(1);
        loop {
            let fit = match self.job("", batch) {
                Some(job) => device::fit(&job, limits),
                None => Err(Refusal::Job),
            };
            match fit {
                Err(Refusal::NoRoom { .. }) if batch > 1 && !fixed => batch = batch.div_ceil(2),
                other => return other.map(|fit| (batch, fit)),
            }
        }
    }
}

impl Session {
    /// Trains a head on the device: the backbone's features of `set` are computed here and
    /// sent. Nothing but questions is sent before it is known that all fits.
    ///
    /// # Errors
    /// `OverBudget` when the device has not the room, before anything is sent; `BadInput`
    /// when samples cannot be read; `Usage` for heads that a device cannot train; `Failed`
    /// when the line fails.
    pub fn train_on_device(
        &self,
        client: &mut Client,
        limits: &Limits,
        set: &SampleSet,
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        set.require_trainable()?;
        let start = Instant::now();
        let sources = Source::of_set(set);
        let backbone = self.backbone(set, &sources)?;
        require_pictures(backbone.sense(), &set.source)?;
        let wishes = &self.settings().wishes;
        let recipe = wishes.for_device(BATCH)?;
        let order = Order {
            labels: set.labels.clone(),
            backbone: identity(&backbone, backbone.features(self.cache())?),
            recipe,
            samples: set.samples.len(),
            seed: self.settings().seed,
        };
        require_fit(&order, wishes, limits, client.name())?;
        let views = order.recipe.views;
        let matrices = self.features(&backbone, set, &sources, views, progress)?;
        let matrix = &matrices[0];
        crate::session::require_classes(set, matrix)?;
        let features = start.elapsed().as_secs_f64();
        let rows = matrix.values.chunks_exact(matrix.features.max(1));
        let rows = rows.zip(&matrix.labels).map(|(row, label)| (row, *label));
        let order = Order {
            samples: matrix.rows.len(),
            ..order
        };
        let outcome = train(client, limits, wishes, &order, rows, progress)?;
        Ok(Outcome {
            skipped: crate::session::all_skipped(set, matrix),
            seconds: [features, outcome.seconds[1], outcome.seconds[2]],
            ..outcome
        })
    }
}

/// Trains a head on the device on windows of a sensor, whose features it computes itself.
///
/// # Errors
/// As [`Session::train_on_device`].
pub fn train_on_windows(
    client: &mut Client,
    limits: &Limits,
    windows: &Windows,
    wishes: &Wishes,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let order = Order {
        labels: windows.labels.clone(),
        backbone: windows::identity(&windows.shape),
        recipe: wishes.for_windows(BATCH)?,
        samples: windows.rows.len(),
        seed,
    };
    let rows = windows.rows.iter();
    let rows = rows.map(|(values, label)| (values.as_slice(), *label));
    train(client, limits, wishes, &order, rows, progress)
}

/// Whether samples are of the kind that goes over the line.
///
/// # Errors
/// `Usage` when not.
pub(crate) fn require_pictures(sense: &Sense, samples: &Path) -> Result<()> {
    if sense.kind() == Kind::Picture {
        return Ok(());
    }
    let what = format_args!("is of {}, which no device takes", sense.kind().plural());
    let remedy = "train and predict here, with `fieldtune train` and `fieldtune predict`";
    Err(Error::at(ErrorKind::Usage, samples, what, remedy))
}

/// Whether the device has room for a training.
///
/// # Errors
/// `OverBudget` when not.
fn require_fit(order: &Order, wishes: &Wishes, limits: &Limits, port: &Path) -> Result<usize> {
    let fit = order.batch(wishes.batch.is_some(), limits);
    let (batch, fit) = fit.map_err(|refusal| match refusal {
        Refusal::NoRoom { need, have } => {
            let what = format_args!(
                "the head of {} features and {} classes does not fit into the device: it needs {need}, there are {have}",
                order.backbone.features,
                order.labels.len()
            );
            let remedy = "give a --cut with fewer features, or a smaller --head or --batch";
            Error::at(ErrorKind::OverBudget, port, what, remedy)
        }
        other => refused(other, port),
    })?;
    if order.samples > fit.samples as usize {
        let what = format_args!(
            "the device has room for {} samples of {} features, not for {}",
            fit.samples, fit.features, order.samples
        );
        let remedy = "give fewer samples, or a --cut with fewer features";
        return Err(Error::at(ErrorKind::OverBudget, port, what, remedy));
    }
    Ok(batch)
}

/// Sends job and samples, has them trained, and reads the head back.
fn train<'a>(
    client: &mut Client,
    limits: &Limits,
    wishes: &Wishes,
    order: &Order,
    rows: impl Iterator<Item = (&'a [f32], usize)>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let start = Instant::now();
    let batch = require_fit(order, wishes, limits, client.name())?;
    let recipe = Recipe {
        batch,
        epochs: order.recipe.epochs_for(order.samples),
        least_steps: 0,
        ..order.recipe.clone()
    };
    let words = recipe.to_string();
    let job = order.job(&words, batch);
    let job = job.ok_or_else(|| refused(Refusal::Job, client.name()))?;
    send(client, limits, &job, rows)?;
    drop(job);
    let sent = start.elapsed().as_secs_f64();
    let tell = &mut |done: u32, all: u32| progress.at(Stage::Device, done as usize, all as usize);
    let message = client.train(tell)?;
    let trained = match reply(&message) {
        Ok(Reply::Trained(trained)) => trained,
        other => return Err(client.unexpected(&other)),
    };
    let training = start.elapsed().as_secs_f64() - sent;
    let bytes = client.head()?;
    Ok(Outcome {
        head: Head::read(&bytes, client.name())?,
        bytes,
        recipe: words,
        samples: order.samples,
        skipped: Vec::new(),
        loss: trained.loss,
        slot: trained.slot,
        arena_bytes: trained.arena_bytes,
        stack_used_bytes: trained.stack_used_bytes,
        seconds: [0.0, sent, training],
    })
}

/// Sends a job and its samples.
fn send<'a>(
    client: &mut Client,
    limits: &Limits,
    job: &Job<'_>,
    rows: impl Iterator<Item = (&'a [f32], usize)>,
) -> Result<()> {
    // What a device says of itself is no reason to take any amount of memory.
    let mut bytes = vec![0; limits.job_bytes.min(MAX_JOB_BYTES) as usize];
    let job = job.encode(&mut bytes).map_err(|_| {
        let what = "labels and names take more room than the device has for them";
        let remedy = "shorten the labels";
        Error::at(ErrorKind::OverBudget, client.name(), what, remedy)
    })?;
    let job_bytes = job.len() as u32;
    client.write(Place::Job, job)?;
    let message = client.ask(&Request::Begin { job_bytes })?;
    match reply(&message) {
        Ok(Reply::Began(_)) => {}
        other => return Err(client.unexpected(&other)),
    }
    for (index, (row, label)) in rows.enumerate() {
        write_sample(client, row)?;
        let (index, label) = (index as u32, label as u16);
        client.done(&Request::Add { index, label })?;
    }
    Ok(())
}

fn write_sample(client: &mut Client, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    client.write(Place::Sample, &bytes)
}

/// Puts a head file onto the device, without its signature: the device checks none.
///
/// # Errors
/// `Mismatch` for heads that judge maps instead of feature vectors; `OverBudget` when it
/// does not fit, before anything is sent; `BadInput` when it is damaged.
pub fn load(client: &mut Client, limits: &Limits, bytes: &[u8], path: &Path) -> Result<SlotState> {
    let head = Head::read(bytes, path)?;
    if head.reads_map() {
        let what = "judges maps of the backbone's own layers; a device takes feature vectors";
        let remedy = "train with --head linear or mlp";
        return Err(Error::at(ErrorKind::Mismatch, path, what, remedy));
    }
    let bytes = signature::without(bytes);
    let damaged = |error: fieldtune_core::Error| {
        Error::at(ErrorKind::BadInput, path, error, "copy the file again")
    };
    let decoded = file::Head::decode(bytes).map_err(damaged)?;
    device::holds(&decoded, bytes.len(), limits).map_err(|refusal| match refusal {
        Refusal::NoRoom { need, have } => {
            let what =
                format_args!("does not fit into the device: it needs {need}, there are {have}");
            let remedy = "train with a --cut of fewer features";
            Error::at(ErrorKind::OverBudget, path, what, remedy)
        }
        other => refused(other, client.name()),
    })?;
    client.write(Place::Workspace, bytes)?;
    let head_bytes = bytes.len() as u32;
    let message = client.ask(&Request::Install { head_bytes })?;
    match reply(&message) {
        Ok(Reply::Installed(slot)) => Ok(slot),
        other => Err(client.unexpected(&other)),
    }
}

/// The head that the device uses.
///
/// # Errors
/// `BadInput` when it has none, `Failed` when the line fails.
pub fn head(client: &mut Client) -> Result<(Head, Vec<u8>)> {
    let bytes = client.head()?;
    Ok((Head::read(&bytes, client.name())?, bytes))
}

/// Has the device label one sample: features, or a window.
///
/// # Errors
/// What it refuses, or `Failed` when the line fails.
pub fn predict(client: &mut Client, sample: &[f32]) -> Result<Prediction> {
    write_sample(client, sample)?;
    let message = client.ask(&Request::Predict)?;
    match reply(&message) {
        Ok(Reply::Prediction(prediction)) => {
            let probabilities = file::Floats::new(prediction.probabilities);
            Ok(Prediction {
                label: prediction.label.into(),
                probabilities: probabilities.iter().collect(),
                unknown: prediction.unknown,
                unknown_score: prediction.unknown_score,
                windows: Vec::new(),
            })
        }
        other => Err(client.unexpected(&other)),
    }
}

/// The window that a head takes; `None` for features of a backbone.
pub fn window_of(head: &Head) -> Option<Window> {
    Window::from_preprocessing(&head.backbone.preprocessing)
}
