//! One way to train a head, and doing it: features in, trained layers out. Which
//! recipe is best is `search.rs`'s question.

use std::fmt;

use fieldtune_core::Kernel;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::head::Floats;
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::plan::Plan;
use fieldtune_core::predict;
use fieldtune_core::prototype::{class_means, imprint};
use fieldtune_core::train::{Options, Samples, Trainer, fit, fit_stopping_early};
use fieldtune_core::transform::Transform;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::extras::{self, Extras};

/// What happens to features before the first layer. "Length" brings a vector to the
/// square root of F, so that its elements are of size one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Length.
    Length,
    /// Signed square root, then length.
    RootLength,
    /// Each feature to mean 0 and deviation 1 over the training samples.
    Standard,
}

/// The head's layers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Class means, not trained further.
    Prototype,
    /// One dense layer.
    Linear,
    /// Dense layers of these widths with ReLU, then one a class.
    Mlp(Vec<usize>),
}

/// The last layer's decay coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lambda {
    /// This value.
    Fixed(f32),
    /// This value divided by the number of training rows: the pull towards zero weighs
    /// as much as this many samples, however many there are.
    OverRows(f32),
}

impl Lambda {
    /// The coefficient for training on `rows` rows.
    pub fn value(self, rows: usize) -> f32 {
        match self {
            Self::Fixed(value) => value,
            Self::OverRows(value) => value / rows.max(1) as f32,
        }
    }
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(value) => write!(f, "{value}"),
            Self::OverRows(value) => write!(f, "{value}/rows"),
        }
    }
}

/// Everything that decides a head beside the samples and the seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// The head's layers.
    pub shape: Shape,
    /// What happens to features first.
    pub normalise: Normalise,
    /// "sgd", "nesterov" or "adamw".
    #[serde(serialize_with = "optimizer_name")]
    pub optimizer: Optimizer,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// Passes over all samples; more when that makes fewer than `least_steps`.
    pub epochs: u32,
    /// Steps that training takes at least.
    pub least_steps: u32,
    /// Samples a batch.
    pub batch: usize,
    /// Where the decay's coefficients come from.
    #[serde(serialize_with = "mode_name")]
    pub decay: Mode,
    /// The last layer's coefficient.
    pub lambda: Lambda,
    /// Relative length of adversarial perturbations; `None` for none.
    pub adversarial: Option<f32>,
    /// What is off unless asked for.
    #[serde(skip_serializing_if = "Extras::is_default")]
    pub extras: Extras,
}

fn optimizer_name<S: serde::Serializer>(
    optimizer: &Optimizer,
    s: S,
) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(match optimizer {
        Optimizer::Sgd { nesterov: true, .. } => "nesterov",
        Optimizer::Sgd { .. } => "sgd",
        Optimizer::AdamW { .. } => "adamw",
    })
}

/// The mode's name on the command line.
pub fn decay_name(mode: Mode) -> &'static str {
    match mode {
        Mode::None => "none",
        Mode::Uniform => "uniform",
        Mode::Structural => "structural",
        Mode::Measured => "measured",
        Mode::Online => "online",
    }
}

fn mode_name<S: serde::Serializer>(mode: &Mode, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(decay_name(*mode))
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let normalise = match self.normalise {
            Normalise::Length => "features at equal length",
            Normalise::RootLength => "square-rooted features at equal length",
            Normalise::Standard => "standardised features",
        };
        match &self.shape {
            Shape::Prototype => return write!(f, "class means on {normalise}"),
            Shape::Linear => write!(f, "linear head on {normalise}")?,
            Shape::Mlp(hidden) => write!(f, "MLP {hidden:?} on {normalise}")?,
        }
        let optimizer = match self.optimizer {
            Optimizer::Sgd { nesterov: true, .. } => "SGD with Nesterov momentum",
            Optimizer::Sgd { .. } => "SGD",
            Optimizer::AdamW { .. } => "AdamW",
        };
        write!(
            f,
            ", {optimizer} {} for {} epochs of batch {}",
            self.learning_rate, self.epochs, self.batch
        )?;
        match self.decay {
            Mode::None => f.write_str(", no decay")?,
            Mode::Uniform => write!(f, ", uniform decay {}", self.lambda)?,
            mode => write!(
                f,
                ", layer-wise decay {} ({})",
                self.lambda,
                decay_name(mode)
            )?,
        }
        match self.adversarial {
            Some(epsilon) => {
                let words = self.extras.adversarial_words();
                write!(f, ", adversarial features {epsilon}{words}")?;
            }
            None => f.write_str(", no adversarial features")?,
        }
        write!(f, "{}", self.extras)
    }
}

impl Recipe {
    /// The layer table for `features` inputs and `classes` outputs.
    ///
    /// # Errors
    /// `Usage` when the head would be too large or has too many layers or classes.
    pub fn network(&self, features: usize, classes: usize) -> Result<Network> {
        let hidden = match &self.shape {
            Shape::Prototype | Shape::Linear => &[][..],
            Shape::Mlp(hidden) => hidden,
        };
        Network::mlp(features, hidden, classes).map_err(refused)
    }

    /// The engine's options for training on `rows` rows.
    pub fn options(&self, rows: usize, kernel: Kernel) -> Options {
        let options = Options {
            optimizer: self.optimizer,
            decay: Decay {
                mode: self.decay,
                lambda: self.lambda.value(rows),
            },
            ..Options::new(self.batch.min(rows.max(1)), kernel)
        };
        self.extras.add_to(options, self.adversarial)
    }

    /// Passes over `rows` rows.
    pub fn epochs_for(&self, rows: usize) -> u32 {
        let steps_an_epoch = rows.div_ceil(self.batch.max(1)).max(1) as u32;
        self.epochs.max(self.least_steps.div_ceil(steps_an_epoch))
    }

    /// The training arena's plan.
    ///
    /// # Errors
    /// As [`Recipe::network`].
    pub fn plan(&self, features: usize, classes: usize, kernel: Kernel) -> Result<Plan> {
        let network = self.network(features, classes)?;
        self.options(usize::MAX, kernel)
            .plan(&network)
            .map_err(refused)
    }
}

fn refused(error: fieldtune_core::Error) -> Error {
    Error::new(
        ErrorKind::Usage,
        format_args!("this head cannot be trained: {error}; choose another --head or --batch"),
    )
}

/// Features with their labels, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// One matrix a view of the samples, each `[N, F]`, row-major.
    pub views: &'a [&'a [f32]],
    /// `[N]`, each below `classes`.
    pub labels: &'a [u16],
    /// Group of each sample `[N]`, or empty when every one is its own. Samples of one
    /// group are never split.
    pub groups: &'a [usize],
    /// F.
    pub features: usize,
    /// K.
    pub classes: usize,
}

/// A trained head in memory.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The layer table.
    pub network: Network,
    /// Weights and biases, where the network says.
    pub parameters: Vec<f32>,
    /// What happens to features first.
    pub fitted: Fitted,
    /// Size of the arena that training used, in bytes; 0 for class means.
    pub arena_bytes: u64,
}

/// A [`Normalise`] with the numbers it took from the training samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitted {
    /// See [`Transform::signed_root`].
    pub signed_root: bool,
    /// See [`Transform::length`].
    pub length: f32,
    /// Little-endian f32, `[F]` or empty.
    pub shift: Vec<u8>,
    /// Little-endian f32, `[F]` or empty.
    pub scale: Vec<u8>,
}

impl Fitted {
    /// As the core applies it and the head file stores it.
    pub fn transform(&self) -> Transform<'_> {
        Transform {
            signed_root: self.signed_root,
            length: self.length,
            shift: Floats::new(&self.shift),
            scale: Floats::new(&self.scale),
        }
    }

    pub(crate) fn new(normalise: Normalise, data: &Data<'_>, samples: &[usize]) -> Self {
        let length = (data.features as f32).sqrt();
        match normalise {
            Normalise::Length => Self {
                length,
                ..Self::default()
            },
            Normalise::RootLength => Self {
                length,
                signed_root: true,
                ..Self::default()
            },
            Normalise::Standard => {
                let (mean, scale) = moments(data, samples);
                let bytes = |values: Vec<f64>| {
                    values
                        .into_iter()
                        .flat_map(|v| (v as f32).to_le_bytes())
                        .collect()
                };
                Self {
                    shift: bytes(mean),
                    scale: bytes(scale),
                    ..Self::default()
                }
            }
        }
    }
}

/// Mean and inverse deviation of every feature over some samples; features that never
/// change get 0.
fn moments(data: &Data<'_>, samples: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (mut sum, mut square) = (vec![0.0; data.features], vec![0.0; data.features]);
    for (row, _) in data.rows(samples) {
        for ((sum, square), value) in sum.iter_mut().zip(&mut square).zip(row) {
            *sum += f64::from(*value);
            *square += f64::from(*value) * f64::from(*value);
        }
    }
    let n = (samples.len() * data.views.len()).max(1) as f64;
    sum.iter_mut().for_each(|sum| *sum /= n);
    let inverse = square.iter().zip(&sum).map(|(square, mean)| {
        let deviation = (square / n - mean * mean).max(0.0).sqrt();
        if deviation > 1e-6 {
            1.0 / deviation
        } else {
            0.0
        }
    });
    let inverse = inverse.collect();
    (sum, inverse)
}

impl<'a> Data<'a> {
    /// N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The group of a sample.
    pub fn group(&self, sample: usize) -> usize {
        self.groups.get(sample).copied().unwrap_or(sample)
    }

    /// The features of one view of one sample `[F]`.
    fn row(&self, view: &'a [f32], index: usize) -> &'a [f32] {
        &view[index * self.features..(index + 1) * self.features]
    }

    /// Every view of the given samples, one after another.
    fn rows(&self, samples: &'a [usize]) -> impl Iterator<Item = (&'a [f32], u16)> {
        let data = *self;
        let views = data.views.iter();
        views.flat_map(move |view| {
            samples
                .iter()
                .map(move |sample| (data.row(view, *sample), data.labels[*sample]))
        })
    }

    /// The features that a sample is judged by, its views' mean, appended to `out`.
    pub fn mean_row(&self, sample: usize, out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + self.features, 0.0);
        let share = 1.0 / self.views.len() as f32;
        for view in self.views {
            for (sum, value) in out[start..].iter_mut().zip(self.row(view, sample)) {
                *sum += share * value;
            }
        }
    }
}

/// Transformed rows, as the trainer reads them.
struct Rows {
    values: Vec<f32>,
    labels: Vec<u16>,
    features: usize,
}

impl Rows {
    /// Every view of the given samples.
    fn new(data: &Data<'_>, samples: &[usize], fitted: &Fitted) -> Self {
        let transform = fitted.transform();
        let count = samples.len() * data.views.len();
        let mut rows = Self {
            values: Vec::with_capacity(count * data.features),
            labels: Vec::with_capacity(count),
            features: data.features,
        };
        for (row, label) in data.rows(samples) {
            let start = rows.values.len();
            rows.values.extend_from_slice(row);
            transform.apply(&mut rows.values[start..]);
            rows.labels.push(label);
        }
        rows
    }
}

impl Samples for Rows {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        let start = index * self.features;
        features.copy_from_slice(&self.values[start..start + self.features]);
        self.labels[index]
    }
}

/// Trains a head on the given samples of `data`, every view of each. With early stopping,
/// and where there are enough, a fifth of them is held out and trains nothing.
///
/// # Errors
/// `Usage` when the head cannot be planned; `Failed` when training diverges.
pub fn train(
    recipe: &Recipe,
    data: &Data<'_>,
    samples: &[usize],
    seed: u64,
    kernel: Kernel,
) -> Result<Trained> {
    let network = recipe.network(data.features, data.classes)?;
    let stops = recipe.extras.early_stopping.is_some() && recipe.shape != Shape::Prototype;
    let split = stops.then(|| extras::held_out(data, samples, seed));
    let (trained, held_out) = match split.flatten() {
        Some([trained, held_out]) => (trained, held_out),
        None => (samples.to_vec(), Vec::new()),
    };
    let fitted = Fitted::new(recipe.normalise, data, &trained);
    let rows = Rows::new(data, &trained, &fitted);
    let held_out = Rows::new(data, &held_out, &fitted);
    let (parameters, arena_bytes) = match recipe.shape {
        Shape::Prototype => (prototype(&rows, &network), 0),
        Shape::Linear | Shape::Mlp(_) => {
            gradient(recipe, &network, [&rows, &held_out], seed, kernel)?
        }
    };
    Ok(Trained {
        network,
        parameters,
        fitted,
        arena_bytes,
    })
}

/// Class means as a linear head. Features have length sqrt(F), so distances between
/// them are about that; the gain brings logits to the size where softmax is not flat.
fn prototype(rows: &Rows, network: &Network) -> Vec<f32> {
    let classes = network.classes();
    let (mut means, mut counts) = (vec![0.0; classes * rows.features], vec![0; classes]);
    class_means(&rows.values, &rows.labels, &mut means, &mut counts);
    let mut parameters = vec![0.0; network.parameter_elements()];
    let (weights, biases) = parameters.split_at_mut(classes * rows.features);
    imprint(
        &means,
        PROTOTYPE_GAIN / rows.features as f32,
        weights,
        biases,
    );
    parameters
}

/// Gain of class means over features of mean square one; the temperature fitted on
/// held-out samples corrects it.
const PROTOTYPE_GAIN: f32 = 20.0;

fn gradient(
    recipe: &Recipe,
    network: &Network,
    [rows, held_out]: [&Rows; 2],
    seed: u64,
    kernel: Kernel,
) -> Result<(Vec<f32>, u64)> {
    let count = rows.labels.len();
    let options = Options {
        keep_best: !held_out.is_empty(),
        ..recipe.options(count, kernel)
    };
    let plan = options.plan(network).map_err(refused)?;
    let mut arena = vec![0.0; plan.elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, seed).map_err(refused)?;
    if recipe.shape == Shape::Linear {
        trainer
            .parameters_mut()
            .copy_from_slice(&prototype(rows, network));
    }
    let (mut order, mut labels) = (vec![0; count], vec![0; options.batch]);
    let (order, labels) = (&mut order[..], &mut labels[..]);
    let (epochs, rate) = (recipe.epochs_for(count), recipe.learning_rate);
    let trained = match recipe.extras.early_stopping {
        Some(patience) if options.keep_best => fit_stopping_early(
            &mut trainer,
            rows,
            held_out,
            patience,
            epochs,
            rate,
            order,
            labels,
        ),
        _ => fit(&mut trainer, rows, epochs, rate, order, labels),
    };
    trained.map_err(|error| {
        let remedy = "lower --lambda or --adversarial, or look for samples with absurd values";
        Error::new(ErrorKind::Failed, format_args!("{error}; {remedy}"))
    })?;
    Ok((trainer.parameters().to_vec(), plan.bytes()))
}

impl Trained {
    /// Logits `[n, K]` of raw features `[n, F]`.
    ///
    /// # Errors
    /// `Failed` when the features do not fit the head.
    pub fn logits(&self, features: &[f32], kernel: Kernel) -> Result<Vec<f32>> {
        logits(
            &self.network,
            &self.parameters,
            &self.fitted.transform(),
            features,
            kernel,
        )
    }
}

/// Logits `[n, K]` of raw features `[n, F]` by any head, a few rows at a time so that
/// memory does not grow with n.
///
/// # Errors
/// `Failed` when the features do not fit the head.
pub fn logits(
    network: &Network,
    parameters: &[f32],
    transform: &Transform<'_>,
    features: &[f32],
    kernel: Kernel,
) -> Result<Vec<f32>> {
    const ROWS: usize = 16;
    let (width, classes) = (network.inputs(), network.classes());
    let mut out = vec![0.0; features.len() / width * classes];
    let mut workspace = vec![0.0; predict::workspace_elements(network, ROWS, kernel)];
    let mut block = Vec::with_capacity(ROWS * width);
    for (rows, out) in features
        .chunks(ROWS * width)
        .zip(out.chunks_mut(ROWS * classes))
    {
        block.clear();
        block.extend_from_slice(rows);
        block
            .chunks_exact_mut(width)
            .for_each(|row| transform.apply(row));
        predict::logits(network, parameters, kernel, &block, &mut workspace, out).map_err(
            |error| {
                Error::new(
                    ErrorKind::Failed,
                    format_args!("features do not fit the head: {error}; train it again"),
                )
            },
        )?;
    }
    Ok(out)
}
