//! Small heads, trained on generated samples with the kernel that `--reproducible`
//! selects, and printed byte by byte. The same text must come out of every processor;
//! the script `check` beside this crate builds the programs and compares.
//!
//! [`report`] is the whole program but for the place that the text goes to. Nothing
//! here allocates or opens a file, so it runs on a microcontroller as it stands.
//! `cases.rs` says what is trained. Nothing here judges how good a head is.

#![no_std]
#![forbid(unsafe_code)]

mod cases;

use core::fmt::{self, Write};

use fieldtune_core::fold;
use fieldtune_core::head::{Backbone, CrossValidation, Floats, Head, Trained};
use fieldtune_core::network::Network;
use fieldtune_core::predict::{logits, probabilities, workspace_elements};
use fieldtune_core::prototype::{class_means, imprint};
use fieldtune_core::random::Random;
use fieldtune_core::sets::Sets;
use fieldtune_core::train::{Samples, Trainer, fit, fit_stopping_early};
use fieldtune_core::transform::Transform;
use fieldtune_core::unknown::Unknown;
use fieldtune_core::{Error, Kernel};

use cases::{CASES, Case, MAX_CLASSES, Start};

/// N, the samples of every case. The last batch of an epoch is not full.
const SAMPLES: usize = 42;
/// Samples that early stopping judges by.
const HELD_OUT: usize = 12;
/// The most features a sample has. More than the 256 that a product sums at a time.
const MAX_FEATURES: usize = 300;
/// The most elements that any case's plan asks for.
const ARENA_ELEMENTS: usize = 41_000;
/// The most parameters of any case, in bytes.
const MAX_PARAMETER_BYTES: usize = 24_000;
/// The longest head file.
const MAX_FILE_BYTES: usize = MAX_PARAMETER_BYTES + 1_000;
/// Bytes of the file on one line of the report.
const LINE_BYTES: usize = 32;

/// All memory that training and printing take, beside some KB of stack.
pub struct Space {
    features: [f32; SAMPLES * MAX_FEATURES],
    labels: [u16; SAMPLES],
    order: [u32; SAMPLES],
    batch_labels: [u16; SAMPLES],
    arena: [f32; ARENA_ELEMENTS],
    parameters: [u8; MAX_PARAMETER_BYTES],
    file: [u8; MAX_FILE_BYTES],
}

impl Space {
    /// Empty space, all zeros, so that it costs nothing in a program's file.
    pub const fn new() -> Self {
        Self {
            features: [0.0; SAMPLES * MAX_FEATURES],
            labels: [0; SAMPLES],
            order: [0; SAMPLES],
            batch_labels: [0; SAMPLES],
            arena: [0.0; ARENA_ELEMENTS],
            parameters: [0; MAX_PARAMETER_BYTES],
            file: [0; MAX_FILE_BYTES],
        }
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no complete report.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// A case cannot be trained.
    Case(&'static str, Error),
    /// The text cannot be written.
    Output,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(name, error) => write!(f, "{name}: {error}"),
            Self::Output => f.write_str("the report cannot be written"),
        }
    }
}

impl core::error::Error for Failure {}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}

/// Trains every case and writes its head file as text: `CASE OFFSET BYTES`, offset and
/// bytes in hexadecimal, at most 32 bytes a line. The last line is `end`, so that a
/// report cut short is seen.
///
/// # Errors
/// [`Failure::Case`] for the first case that cannot be trained, [`Failure::Output`]
/// when `out` refuses the text.
pub fn report(space: &mut Space, out: &mut impl Write) -> Result<(), Failure> {
    for case in CASES {
        let file = head_file(case, space).map_err(|error| Failure::Case(case.name, error))?;
        for (index, bytes) in file.chunks(LINE_BYTES).enumerate() {
            // One piece of text a line: each costs a stop under semihosting.
            let mut line = heapless::String::<128>::new();
            write!(line, "{} {:06x} ", case.name, index * LINE_BYTES)?;
            for byte in bytes {
                write!(line, "{byte:02x}")?;
            }
            line.push('\n').map_err(|_| Failure::Output)?;
            out.write_str(&line)?;
        }
    }
    out.write_str("end\n")?;
    Ok(())
}

/// Generates the samples, trains, judges, encodes. Returns the bytes of the head file.
fn head_file<'a>(case: &Case, space: &'a mut Space) -> Result<&'a [u8], Error> {
    let network = Network::new(case.layers)?;
    let (inputs, classes) = (network.inputs(), network.classes());
    let (need, have) = (SAMPLES * inputs, space.features.len());
    let features = space.features.get_mut(..need);
    let features = features.ok_or(Error::NoRoom { need, have })?;
    let transform = Transform {
        signed_root: case.signed_root,
        length: case.length,
        ..Transform::default()
    };
    generate(case.seed, classes, inputs, features, &mut space.labels);
    for row in features.chunks_exact_mut(inputs) {
        transform.apply(row);
    }
    let samples = Generated {
        features,
        labels: &space.labels,
        width: inputs,
    };
    let mut trainer = Trainer::new(&network, case.options(), &mut space.arena, case.seed)?;
    set_statistics(&mut trainer, &network);
    if case.start == Start::ClassMeans {
        start_from_class_means(&mut trainer, &network, &samples)?;
    }
    train(
        case,
        &mut trainer,
        &samples,
        &mut space.order,
        &mut space.batch_labels,
    )?;
    let parameters = trainer.parameters_mut();
    let network = if case.fold {
        fold::batch_norms(&network, parameters)?
    } else {
        network.clone()
    };
    let trained = &parameters[..network.parameter_elements()];
    let parameters = write_floats(trained, &mut space.parameters)?;
    let judged = judge(&network, parameters, &samples, &mut space.arena)?;
    head(case, &network, transform, parameters, &judged).encode(&mut space.file)
}

/// Trains on all samples, or, to stop early, on all but the last [`HELD_OUT`].
fn train(
    case: &Case,
    trainer: &mut Trainer<'_>,
    samples: &Generated<'_>,
    order: &mut [u32],
    labels: &mut [u16],
) -> Result<f32, Error> {
    let (epochs, learning_rate) = (case.epochs, case.learning_rate);
    let Some(patience) = case.patience else {
        return fit(trainer, samples, epochs, learning_rate, order, labels);
    };
    let (trained, held_out) = samples.split_at(SAMPLES - HELD_OUT);
    fit_stopping_early(
        trainer,
        &trained,
        &held_out,
        patience,
        epochs,
        learning_rate,
        order,
        labels,
    )
}

/// Samples in memory, `[N, F]` with `[N]` labels.
struct Generated<'a> {
    features: &'a [f32],
    labels: &'a [u16],
    width: usize,
}

impl Generated<'_> {
    /// The first `count` samples, and the others.
    fn split_at(&self, count: usize) -> (Self, Self) {
        let features = self.features.split_at(count * self.width);
        let labels = self.labels.split_at(count);
        let part = |features, labels| Self {
            features,
            labels,
            width: self.width,
        };
        (part(features.0, labels.0), part(features.1, labels.1))
    }
}

impl Samples for Generated<'_> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        features.copy_from_slice(&self.features[index * self.width..(index + 1) * self.width]);
        self.labels[index]
    }
}

/// Clouds around one centre a class. Some features are zero, as after ReLU.
fn generate(seed: u64, classes: usize, width: usize, features: &mut [f32], labels: &mut [u16]) {
    let mut noise = Random::new(seed);
    for (index, (row, label)) in features.chunks_exact_mut(width).zip(labels).enumerate() {
        let class = index % classes;
        *label = class as u16;
        let mut centre = Random::new(1000 * seed + class as u64);
        for value in row {
            *value = (centre.normal() + noise.normal()).max(-0.5) + 0.5;
        }
    }
}

/// Gives every batch norm statistics, as a pretrained network has them.
fn set_statistics(trainer: &mut Trainer<'_>, network: &Network) {
    for layer in 0..network.layers().len() {
        let constants = &mut trainer.parameters_mut()[network.constants(layer)];
        let (means, inverse_deviations) = constants.split_at_mut(constants.len() / 2);
        for (channel, (mean, inverse)) in means.iter_mut().zip(inverse_deviations).enumerate() {
            *mean = 0.1 * channel as f32 - 0.3;
            *inverse = 1.0 / (0.7 + 0.2 * channel as f32);
        }
    }
}

/// Puts class means into the one dense layer of a linear head.
fn start_from_class_means(
    trainer: &mut Trainer<'_>,
    network: &Network,
    samples: &Generated<'_>,
) -> Result<(), Error> {
    let classes = network.classes();
    let mut means = [0.0; MAX_CLASSES * MAX_FEATURES];
    let (need, have) = (classes * samples.width, means.len());
    let means = means.get_mut(..need).ok_or(Error::NoRoom { need, have })?;
    let mut counts = [0; MAX_CLASSES];
    let counts = counts.get_mut(..classes).ok_or(Error::Classes)?;
    class_means(samples.features, samples.labels, means, counts);
    let parameters = trainer.parameters_mut();
    let (weights, biases) = parameters.split_at_mut(network.weights(0).end);
    imprint(means, 0.5, weights, &mut biases[..classes]);
    Ok(())
}

/// `values` as a head file holds them.
fn write_floats<'a>(values: &[f32], bytes: &'a mut [u8]) -> Result<&'a [u8], Error> {
    let (need, have) = (4 * values.len(), bytes.len());
    let bytes = bytes.get_mut(..need).ok_or(Error::NoRoom { need, have })?;
    for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    Ok(bytes)
}

/// How the head does on the samples that it was trained on. Of no use for a user, but
/// it brings inference into the file.
struct Judged {
    counts: [u32; MAX_CLASSES],
    correct: u32,
    lowest: f32,
    mean: f32,
}

/// Predicts every sample on its own, as a board would.
fn judge(
    network: &Network,
    parameters: &[u8],
    samples: &Generated<'_>,
    arena: &mut [f32],
) -> Result<Judged, Error> {
    let kernel = Kernel::lanes();
    let need = network.parameter_elements() + workspace_elements(network, 1, kernel);
    let have = arena.len();
    let (weights, workspace) = arena
        .get_mut(..need)
        .ok_or(Error::NoRoom { need, have })?
        .split_at_mut(network.parameter_elements());
    Floats::new(parameters).copy_to(weights);
    let mut judged = Judged {
        counts: [0; MAX_CLASSES],
        correct: 0,
        lowest: 1.0,
        mean: 0.0,
    };
    let mut output = [0.0; MAX_CLASSES];
    let output = &mut output[..network.classes()];
    let rows = samples.features.chunks_exact(samples.width);
    for (row, label) in rows.zip(samples.labels) {
        logits(network, weights, kernel, row, workspace, output)?;
        probabilities(output, network.classes(), 1.25);
        let top = output.iter().copied().fold(0.0, f32::max);
        judged.counts[usize::from(*label)] += 1;
        judged.correct += u32::from(output[usize::from(*label)] == top);
        judged.lowest = judged.lowest.min(top);
        judged.mean += top / SAMPLES as f32;
    }
    Ok(judged)
}

/// A head file's content. The place of cross-validated figures is taken by those of
/// [`judge`].
fn head<'a>(
    case: &Case,
    network: &Network,
    transform: Transform<'a>,
    parameters: &'a [u8],
    judged: &Judged,
) -> Head<'a> {
    let classes = network.classes();
    Head {
        labels: cases::LABELS.iter().copied().take(classes).collect(),
        backbone: Backbone {
            name: "generated samples",
            sha256: [0; 32],
            cut: "features",
            features: network.inputs() as u32,
            preprocessing: "none",
            views: 0,
        },
        transform,
        layers: network.layers().iter().copied().collect(),
        parameters: Floats::new(parameters),
        temperature: 1.25,
        unknown_below: judged.lowest,
        trained: Trained {
            program: "fieldtune-reproducible",
            recipe: case.name,
            seed: case.seed,
            samples: judged.counts.iter().copied().take(classes).collect(),
            cross_validation: Some(CrossValidation {
                accuracy: judged.correct as f32 / SAMPLES as f32,
                low: judged.lowest,
                high: judged.mean,
                n: SAMPLES as u32,
            }),
        },
        unknown: Unknown::default(),
        sets: Sets::default(),
    }
}
