//! One training on a device: samples in the workspace, the head file in their place
//! afterwards.

use super::{Memory, NO_LABEL, no_room};
use crate::Error;
use crate::head::{Floats, Head, Trained};
use crate::link::{Fit, Job, Limits, Refusal};
use crate::network::Network;
use crate::prototype::{add_to_mean, scale_means};
use crate::sensor::Window;
use crate::sets::Sets;
use crate::train::{self, Samples, Trainer};
use crate::transform::Transform;
use crate::unknown::Unknown;
use core::cell::{Cell, RefCell};
use core::ops::Range;
use fieldtune_kernels::sqrt;

/// Room in a head file for what is not labels, texts or numbers.
const REST_BYTES: usize = 1024;
/// How often the host is told, in parts of the whole training.
const TOLD: u32 = 64;

/// What training leaves in the workspace.
pub(super) struct Brought {
    pub loss: f32,
    pub arena_elements: usize,
    /// Where the head file stands.
    pub file: Range<usize>,
}

/// See [`super::fit`].
pub(super) fn fit(job: &Job<'_>, limits: &Limits) -> Result<Fit, Refusal> {
    let network = job.network().map_err(|_| Refusal::Job)?;
    let options = job.options();
    let plan = options.plan(&network).map_err(|_| Refusal::Job)?;
    let features = network.inputs();
    let window = Window::from_preprocessing(job.backbone.preprocessing);
    let within = |need: usize, have: u32| {
        if need <= have as usize {
            Ok(())
        } else {
            Err(no_room(need, have as usize))
        }
    };
    let sample = window.map_or(features, |window| window.elements());
    let parameters_bytes = size_of::<f32>() * network.parameter_elements();
    let moments = moments_bytes(job, features);
    let head_bytes = parameters_bytes + moments + text_bytes(job) + REST_BYTES;
    within(usize::from(job.training.batch), limits.batch.into())?;
    within(plan.elements(), limits.arena_elements)?;
    within(
        features + window.map_or(0, |it| it.length),
        limits.arena_elements,
    )?;
    within(size_of::<f32>() * sample, limits.sample_bytes)?;
    within(
        parameters_bytes + head_bytes + moments,
        limits.workspace_bytes,
    )?;
    within(head_bytes, limits.head_bytes)?;
    let rows = (limits.workspace_bytes as usize - moments) / (size_of::<f32>() * features);
    Ok(Fit {
        features: features as u32,
        samples: limits.samples.min(rows as u32),
        arena_elements: plan.elements() as u32,
    })
}

/// Room at the end of the workspace for what standardising subtracts and multiplies by.
fn moments_bytes(job: &Job<'_>, features: usize) -> usize {
    if job.training.standardise {
        2 * size_of::<f32>() * features
    } else {
        0
    }
}

/// What the texts of a head take.
fn text_bytes(job: &Job<'_>) -> usize {
    let backbone = [
        job.backbone.name,
        job.backbone.cut,
        job.backbone.preprocessing,
    ];
    let texts = job
        .labels
        .iter()
        .chain(&backbone)
        .chain([&job.training.recipe]);
    // A length of up to five bytes before each; and the samples of each class.
    texts.map(|text| text.len() + 10).sum()
}

/// Trains on the samples in `memory`, whose job has `job_bytes`, and puts the head file into the workspace. `tell` gets
/// samples passed and samples to pass.
pub(super) fn train(
    job_bytes: usize,
    program: &str,
    memory: &mut Memory<'_>,
    tell: &mut dyn FnMut(u32, u32),
) -> Result<Brought, Refusal> {
    let job = memory.job.get(..job_bytes).unwrap_or_default();
    let job = &Job::decode(job).map_err(|_| Refusal::NoJob)?;
    let network = job.network().map_err(|_| Refusal::Job)?;
    let labels = given(memory.labels)?;
    let count = labels.len();
    let end = memory.workspace.len();
    let moments = end.checked_sub(moments_bytes(job, network.inputs()));
    let (space, moments) = memory.workspace.split_at_mut(moments.ok_or(Refusal::Job)?);
    let moments = standardise(space, count, moments);
    let rows = Rows {
        values: space,
        labels,
        features: network.inputs(),
        done: Cell::new(0),
        all: job.training.epochs.saturating_mul(count as u32),
        tell: RefCell::new(tell),
    };
    let options = job.options();
    let elements = options.plan(&network).map_err(|_| Refusal::Job)?.elements();
    let refused = |error: Error| refusal(&error);
    let trainer = Trainer::new(&network, options, memory.arena, job.training.seed);
    let mut trainer = trainer.map_err(refused)?;
    if job.training.imprint_gain > 0.0 {
        imprint(job, &network, &rows, trainer.parameters_mut());
    }
    let batch = &mut memory.batch_labels[..options.batch.min(count)];
    let (epochs, rate) = (job.training.epochs, job.training.learning_rate);
    let trained = train::fit(&mut trainer, &rows, epochs, rate, memory.order, batch);
    let loss = trained.map_err(refused)?;
    let parameters = trainer.parameters();
    let (place, file) = space.split_at_mut(size_of_val(parameters));
    for (place, value) in place.chunks_exact_mut(4).zip(parameters) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    let start = place.len();
    let length = encode(job, program, (place, moments), labels, file).map_err(refused)?;
    memory.labels.fill(NO_LABEL);
    Ok(Brought {
        loss,
        arena_elements: elements,
        file: start..start + length,
    })
}

fn refusal(error: &Error) -> Refusal {
    match *error {
        Error::NoRoom { need, have } => no_room(need, have),
        Error::Diverged => Refusal::Diverged,
        _ => Refusal::Job,
    }
}

/// Brings each feature of `count` rows to mean 0 and deviation 1, one that never changes to
/// 0. Leaves what it subtracted and multiplied by in `moments`, which is empty where nothing
/// is to be done.
fn standardise<'a>(rows: &mut [u8], count: usize, moments: &'a mut [u8]) -> [&'a [u8]; 2] {
    let (shift, scale) = moments.split_at_mut(moments.len() / 2);
    let row_bytes = shift.len();
    let share = 1.0 / count.max(1) as f32;
    for at in (0..row_bytes).step_by(size_of::<f32>()) {
        let places = (0..count).map(|row| row * row_bytes + at);
        let mut sum = 0.0;
        for place in places.clone() {
            sum += number(rows, place);
        }
        let mean = sum * share;
        let mut square = 0.0;
        for place in places.clone() {
            let difference = number(rows, place) - mean;
            square += difference * difference;
        }
        let deviation = sqrt(square * share);
        let factor = if deviation > 1e-6 {
            1.0 / deviation
        } else {
            0.0
        };
        for place in places {
            let value = (number(rows, place) - mean) * factor;
            set_number(rows, place, value);
        }
        set_number(shift, at, mean);
        set_number(scale, at, factor);
    }
    [shift, scale]
}

/// The number at a byte of `bytes`; 0 where there is none.
fn number(bytes: &[u8], at: usize) -> f32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}

fn set_number(bytes: &mut [u8], at: usize, value: f32) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_le_bytes();
    }
}

/// The labels of all samples, of which none may be missing.
fn given(labels: &[u16]) -> Result<&[u16], Refusal> {
    let last = labels.iter().rposition(|label| *label != NO_LABEL);
    let labels = labels.get(..last.map_or(0, |last| last + 1));
    let labels = labels.unwrap_or_default();
    let missing = labels.iter().position(|label| *label == NO_LABEL);
    match (labels.is_empty(), missing) {
        (false, None) => Ok(labels),
        (_, index) => Err(Refusal::SampleMissing {
            index: index.unwrap_or(0) as u32,
        }),
    }
}

/// Puts class means into the one dense layer.
fn imprint(job: &Job<'_>, network: &Network, rows: &Rows<'_>, parameters: &mut [f32]) {
    let (weights, biases) = parameters.split_at_mut(network.weights(0).end);
    weights.fill(0.0);
    for (class, mean) in weights.chunks_exact_mut(rows.features).enumerate() {
        let mut count = 0;
        for (index, label) in rows.labels.iter().enumerate() {
            if usize::from(*label) == class {
                count += 1;
                add_to_mean(mean, count, rows.row(index).iter());
            }
        }
    }
    scale_means(
        job.training.imprint_gain,
        weights,
        &mut biases[..network.classes()],
    );
}

/// Writes the head file and returns its length. A head is some KB: it is not on the stack
/// while training is.
#[inline(never)]
fn encode(
    job: &Job<'_>,
    program: &str,
    (parameters, [shift, scale]): (&[u8], [&[u8]; 2]),
    labels: &[u16],
    file: &mut [u8],
) -> Result<usize, Error> {
    let samples = (0..job.labels.len()).map(|class| {
        let own = labels.iter().filter(|label| usize::from(**label) == class);
        own.count() as u32
    });
    let head = Head {
        labels: job.labels.clone(),
        backbone: job.backbone,
        transform: Transform {
            shift: Floats::new(shift),
            scale: Floats::new(scale),
            ..job.transform
        },
        layers: job.layers.clone(),
        parameters: Floats::new(parameters),
        temperature: job.training.temperature,
        unknown_below: 0.0,
        trained: Trained {
            program,
            recipe: job.training.recipe,
            seed: job.training.seed,
            samples: samples.collect(),
            cross_validation: None,
        },
        unknown: Unknown::default(),
        sets: Sets::default(),
    };
    head.encode(file).map(<[u8]>::len)
}

/// Transformed samples in the workspace; reading them says how far training is.
struct Rows<'a> {
    /// `[N, F]`, little-endian.
    values: &'a [u8],
    labels: &'a [u16],
    features: usize,
    done: Cell<u32>,
    all: u32,
    tell: RefCell<&'a mut dyn FnMut(u32, u32)>,
}

impl<'a> Rows<'a> {
    fn row(&self, index: usize) -> Floats<'a> {
        let bytes = size_of::<f32>() * self.features;
        let row = self.values.get(index * bytes..(index + 1) * bytes);
        Floats::new(row.unwrap_or_default())
    }
}

impl Samples for Rows<'_> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        self.row(index).copy_to(features);
        let done = self.done.get();
        self.done.set(done.saturating_add(1));
        if done.is_multiple_of((self.all / TOLD).max(1)) {
            (self.tell.borrow_mut())(done.min(self.all), self.all);
        }
        self.labels.get(index).copied().unwrap_or(0)
    }
}
