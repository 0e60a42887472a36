//! One way to train a head, and doing it: features in, trained layers out. Which
//! recipe is best is `search.rs`'s question.

mod convolutions;

use std::fmt;

use fieldtune_core::Kernel;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::plan::Plan;
use fieldtune_core::predict;
use fieldtune_core::prototype::{class_means, imprint};
use fieldtune_core::train::{Course, Options, Position, Space, Trainer, fit_resumable};
use fieldtune_core::transform::Transform;
use serde::Serialize;

use crate::arena::Arena;
use crate::basis::Basis;
use crate::checkpoint::Checkpoint;
use crate::data::{Data, Fitted, Rows};
use crate::error::{Error, ErrorKind, Result};
use crate::extras::{self, Extras};
use crate::tail::{Pretrained, training};
use crate::views::ViewSet;
use crate::whitening::Whitening;

/// What happens to features before the first layer. "Length" brings a vector to the
/// square root of F, so that its elements are of size one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Nothing: layers that were trained on features as they are come first.
    Untouched,
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
    /// Convolutions along time over values `[channels, points]`, each with ReLU, halved in
    /// length from one to the next; the mean over time; then one layer a class.
    Convolutions {
        /// Channels of the values.
        channels: usize,
        /// Channels of each convolution.
        widths: Vec<usize>,
    },
    /// The backbone's own layers after the cut, then one a class.
    Tail(Pretrained),
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
    /// The views of each sample that are trained on, and averaged at prediction.
    pub views: ViewSet,
    /// What happens to features first.
    pub normalise: Normalise,
    /// How far the scatter within classes is shrunk towards a sphere before features are
    /// whitened by it, above 0 to 1; `None` for no whitening.
    pub whitening: Option<f32>,
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
            Normalise::Untouched => "features as they are",
            Normalise::Length => "features at equal length",
            Normalise::RootLength => "square-rooted features at equal length",
            Normalise::Standard => "standardised features",
        };
        let views = self.views;
        match &self.shape {
            Shape::Prototype => f.write_str("class means")?,
            Shape::Linear => f.write_str("linear head")?,
            Shape::Mlp(hidden) => write!(f, "MLP {hidden:?}")?,
            Shape::Convolutions { widths, .. } => write!(f, "convolutions {widths:?}")?,
            Shape::Tail(tail) => write!(f, "pretrained layers after {:?}", tail.cut())?,
        }
        write!(f, " on {normalise} of {views}")?;
        if let Some(shrinkage) = self.whitening {
            write!(f, ", whitened with shrinkage {shrinkage}")?;
        }
        if self.shape == Shape::Prototype {
            return Ok(());
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
        let of = |layers: Option<Vec<Layer>>| {
            let layers = layers.ok_or(fieldtune_core::Error::LayerTable);
            layers.and_then(|layers| Network::new(&layers))
        };
        let network = match &self.shape {
            Shape::Tail(tail) => of(training::layers(tail, classes)),
            Shape::Convolutions { channels, widths } => {
                of(convolutions::layers(*channels, widths, features, classes))
            }
            Shape::Prototype | Shape::Linear => Network::mlp(features, &[], classes),
            Shape::Mlp(hidden) => Network::mlp(features, hidden, classes),
        };
        network.map_err(refused)
    }

    /// Whether training never leaves the space of the rows, so that coordinates in it do:
    /// one linear layer that starts from class means, and moves by plain gradients.
    pub(crate) fn stays_in_span(&self) -> bool {
        let linear = matches!(self.shape, Shape::Prototype | Shape::Linear);
        linear && matches!(self.optimizer, Optimizer::Sgd { .. })
    }

    /// The pretrained layers, if it trains any.
    pub fn tail(&self) -> Option<&Pretrained> {
        match &self.shape {
            Shape::Tail(tail) => Some(tail),
            _ => None,
        }
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
        let options = match &self.shape {
            Shape::Tail(tail) => Options {
                slow_layers: tail.layers().len(),
                slow_rate: training::SLOW_RATE,
                ..options
            },
            _ => options,
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

/// A trained head in memory.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The layer table.
    pub network: Network,
    /// Weights and biases, where the network says.
    pub parameters: Vec<f32>,
    /// The views whose mean it judges.
    pub views: ViewSet,
    /// What happens to features first.
    pub fitted: Fitted,
    /// Size of the arena that training used, in bytes; 0 for class means.
    pub arena_bytes: u64,
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
    train_from(recipe, data, samples, seed, kernel, None)
}

/// As [`train`], from where the checkpoint says that it stood, and kept there on the way.
///
/// # Errors
/// As [`train`].
pub(crate) fn train_from(
    recipe: &Recipe,
    data: &Data<'_>,
    samples: &[usize],
    seed: u64,
    kernel: Kernel,
    checkpoint: Option<&Checkpoint>,
) -> Result<Trained> {
    let network = recipe.network(data.features, data.classes)?;
    let stops = recipe.extras.early_stopping.is_some() && recipe.shape != Shape::Prototype;
    let split = stops.then(|| extras::held_out(data, samples, seed));
    let (trained, held_out) = match split.flatten() {
        Some([trained, held_out]) => (trained, held_out),
        None => (samples.to_vec(), Vec::new()),
    };
    let views = recipe.views.intersection(data.held);
    let fitted = Fitted::new(recipe.normalise, data, &trained, views);
    let wide = Rows::new(data, &trained, views, &fitted);
    let mut held_out = Rows::new(data, &held_out, views, &fitted);
    // Held-out rows need not lie in the space of the others.
    let narrows = recipe.stays_in_span() && held_out.labels.is_empty();
    let basis = narrows.then(|| Basis::of(&wide, kernel)).flatten();
    let (mut rows, wide) = match &basis {
        Some(basis) => (basis.rows(&wide.labels), Some(wide)),
        None => (wide, None),
    };
    // A tail's features are whitened where its linear head is made.
    let whitening = recipe
        .whitening
        .filter(|_| recipe.tail().is_none())
        .and_then(|shrinkage| Whitening::fit(&rows, data, shrinkage, kernel));
    if let Some(whitening) = &whitening {
        whitening.apply(&mut rows.values);
        whitening.apply(&mut held_out.values);
    }
    let inner = recipe.network(rows.features, data.classes)?;
    let start = match &recipe.shape {
        Shape::Prototype | Shape::Linear => Some(prototype(&rows, &inner, data.features)),
        Shape::Mlp(_) | Shape::Convolutions { .. } => None,
        Shape::Tail(tail) => {
            let start = training::start(recipe, tail, data, &trained, seed, kernel);
            Some(start?)
        }
    };
    let (mut parameters, arena_bytes) = match (&recipe.shape, start) {
        (Shape::Prototype, Some(start)) => (start, 0),
        (_, start) => {
            let job = Gradient {
                recipe,
                network: &inner,
                sets: [&rows, &held_out],
                start,
                checkpoint,
            };
            job.run(seed, kernel)?
        }
    };
    if let Some(whitening) = &whitening {
        // The first layer takes the whitening over: prediction does not know of it.
        whitening.fold(&mut parameters[inner.weights(0)]);
    }
    if let (Some(basis), Some(wide)) = (&basis, &wide) {
        // A linear layer: its weights, then its biases.
        let biases = parameters.split_off(inner.weights(0).end);
        parameters = basis.lifted(&parameters, wide);
        parameters.extend(biases);
    }
    Ok(Trained {
        network,
        parameters,
        views,
        fitted,
        arena_bytes,
    })
}

/// Class means as a linear head. `features` is F: features have length sqrt(F), so
/// distances between them are about that; the gain brings logits to the size where softmax
/// is not flat.
pub(crate) fn prototype(rows: &Rows, network: &Network, features: usize) -> Vec<f32> {
    let classes = network.classes();
    let (mut means, mut counts) = (vec![0.0; classes * rows.features], vec![0; classes]);
    class_means(&rows.values, &rows.labels, &mut means, &mut counts);
    let mut parameters = vec![0.0; network.parameter_elements()];
    let (weights, biases) = parameters.split_at_mut(classes * rows.features);
    imprint(&means, PROTOTYPE_GAIN / features as f32, weights, biases);
    parameters
}

/// Gain of class means over features of mean square one; the temperature fitted on
/// held-out samples corrects it.
pub(crate) const PROTOTYPE_GAIN: f32 = 20.0;

/// Trains on rows as they are, for as long as `recipe` says; for its time only.
///
/// # Errors
/// As [`train`].
pub(crate) fn train_on_rows(
    recipe: &Recipe,
    rows: &Rows,
    classes: usize,
    kernel: Kernel,
) -> Result<()> {
    let none = Rows {
        values: Vec::new(),
        labels: Vec::new(),
        features: rows.features,
    };
    let job = Gradient {
        recipe,
        network: &recipe.network(rows.features, classes)?,
        sets: [rows, &none],
        start: None,
        checkpoint: None,
    };
    job.run(0, kernel).map(drop)
}

/// A training by gradients.
struct Gradient<'a> {
    recipe: &'a Recipe,
    network: &'a Network,
    /// Training samples, and those held out for early stopping.
    sets: [&'a Rows; 2],
    /// The parameters at the start, if they are not drawn.
    start: Option<Vec<f32>>,
    checkpoint: Option<&'a Checkpoint>,
}

impl Gradient<'_> {
    /// The trained parameters and the bytes of the arena.
    fn run(&self, seed: u64, kernel: Kernel) -> Result<(Vec<f32>, u64)> {
        let (recipe, [rows, held_out]) = (self.recipe, self.sets);
        let count = rows.labels.len();
        let options = Options {
            keep_best: !held_out.labels.is_empty(),
            ..recipe.options(count, kernel)
        };
        let plan = options.plan(self.network).map_err(refused)?;
        let mut arena = Arena::take(plan.elements());
        let mut trainer =
            Trainer::new(self.network, options, arena.elements(), seed).map_err(refused)?;
        if let Some(start) = &self.start {
            trainer.parameters_mut().copy_from_slice(start);
        }
        let (mut order, mut labels) = (vec![0; count], vec![0; options.batch]);
        let stood = self.checkpoint.and_then(Checkpoint::training);
        // The checkpoint is this job's, so it fits; if it does not, training begins anew.
        let stood = stood.filter(|stood| {
            stood.order.len() == count && trainer.put_back(&stood.position, &stood.kept).is_ok()
        });
        if let Some(stood) = &stood {
            order.copy_from_slice(&stood.order);
        }
        let course = Course {
            epochs: recipe.epochs_for(count),
            learning_rate: recipe.learning_rate,
            patience: recipe.extras.early_stopping.filter(|_| options.keep_best),
        };
        let space = Space {
            order: &mut order,
            labels: &mut labels,
        };
        let from = stood.as_ref().map(|stood| &stood.position);
        let mut keep = |trainer: &Trainer<'_>, order: &[u32], position: &Position| {
            if let Some(checkpoint) = self.checkpoint {
                checkpoint.keep_training(trainer, order, position);
            }
        };
        fit_resumable(
            &mut trainer,
            [rows, held_out],
            &course,
            space,
            from,
            &mut keep,
        )
        .map_err(|error| {
            let remedy = "lower --lambda or --adversarial, or look for samples with absurd values";
            Error::new(ErrorKind::Failed, format_args!("{error}; {remedy}"))
        })?;
        Ok((trainer.parameters().to_vec(), plan.bytes()))
    }
}

impl Trained {
    /// Logits `[n, K]` of samples of `data`.
    ///
    /// # Errors
    /// As [`Trained::logits`].
    pub fn judge(&self, data: &Data<'_>, samples: &[usize], kernel: Kernel) -> Result<Vec<f32>> {
        if !training::reads_map(&self.network) {
            return self.logits(&data.mean_rows(samples, self.views), kernel);
        }
        let views = self.views.views();
        let matrices: Vec<Vec<f32>> = views.map(|v| data.view_rows(samples, v)).collect();
        let of_view = |rows: &Vec<f32>| self.logits(rows, kernel);
        mean_logits(matrices.iter().map(of_view))
    }

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

/// The mean of several views' logits `[n, K]`.
///
/// # Errors
/// The first of theirs.
pub(crate) fn mean_logits(views: impl Iterator<Item = Result<Vec<f32>>>) -> Result<Vec<f32>> {
    let (mut sum, mut count) = (Vec::new(), 0u16);
    for view in views {
        let view = view?;
        count += 1;
        sum.resize(view.len(), 0.0);
        sum.iter_mut()
            .zip(view)
            .for_each(|(sum, value): (&mut f32, f32)| *sum += value);
    }
    let share = 1.0 / f32::from(count.max(1));
    sum.iter_mut().for_each(|value| *value *= share);
    Ok(sum)
}

/// Rows that are judged at once.
const JUDGED_ROWS: usize = 16;

/// Bytes that [`logits`] works in.
pub(crate) fn judging_bytes(network: &Network, kernel: Kernel) -> u64 {
    let workspace = predict::workspace_elements(network, JUDGED_ROWS, kernel);
    (size_of::<f32>() * (workspace + JUDGED_ROWS * network.inputs())) as u64
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
    let (width, classes) = (network.inputs(), network.classes());
    let mut out = vec![0.0; features.len() / width * classes];
    let mut workspace = vec![0.0; predict::workspace_elements(network, JUDGED_ROWS, kernel)];
    let mut block = Vec::with_capacity(JUDGED_ROWS * width);
    for (rows, out) in features
        .chunks(JUDGED_ROWS * width)
        .zip(out.chunks_mut(JUDGED_ROWS * classes))
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
