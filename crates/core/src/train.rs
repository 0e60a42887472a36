//! One training step: clean pass, adversarial pass, decay. The passes themselves are in
//! `pass.rs`, the update in `update.rs`, the loop over the samples in `fit.rs`.

use crate::adversary::Adversary;
use crate::decay::{self, Decay, Mode, norm};
pub use crate::fit::{Course, Position, Samples, Space, fit, fit_resumable, fit_stopping_early};
use crate::loss;
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::optimizer::Optimizer;
use crate::pass::{Pass, Rows, Want};
use crate::plan::{Activations, Arena, Demand, Plan, perturbed_layers};
use crate::random::Random;
use crate::structural::{self, Inputs};
use crate::{Error, Kernel};
use fieldtune_kernels::sqrt;
use serde::{Deserialize, Serialize};

/// Memory of the online decay's running average.
const ONLINE_MEMORY: f32 = 0.9;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// B, the rows of a batch.
    pub batch: usize,
    /// The update rule.
    pub optimizer: Optimizer,
    /// The L2 coefficients.
    pub decay: Decay,
    /// Whether the decay pulls towards the weights at the start instead of zero (L2-SP:
    /// Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with
    /// convolutional networks", 2018). The coefficients are the same: they follow
    /// |dw| / |w|, since |w - w0| is 0 at the start.
    pub anchored: bool,
    /// Adversarial features; `None` trains on clean features alone.
    pub adversary: Option<Adversary>,
    /// The part of each label that is spread evenly over all classes (Szegedy et al.,
    /// "Rethinking the Inception architecture", 2016); 0 for none. Adversarial losses use
    /// it too.
    pub label_smoothing: f32,
    /// Longest gradient, over all layers together; a longer one is shortened to this
    /// (Pascanu et al., 2013).
    pub clip_norm: Option<f32>,
    /// Memory of a running average of the parameters, such as 0.99, which [`fit()`] ends
    /// with instead of the last ones (Polyak and Juditsky, 1992). Early on the memory is
    /// shorter, so that the start is forgotten.
    pub average: Option<f32>,
    /// Whether to make room for the best parameters so far: early stopping needs it.
    pub keep_best: bool,
    /// The layers before this one learn at [`Self::slow_rate`] times the learning rate: they
    /// are pretrained. 0 for none.
    pub slow_layers: usize,
    /// See [`Self::slow_layers`].
    pub slow_rate: f32,
    /// Keeps few activations and computes the others again: less memory, more time, the
    /// same numbers.
    pub recompute: bool,
    /// The kernel of the matrix products.
    pub kernel: Kernel,
}

impl Options {
    /// SGD with momentum, no decay, no adversary: what the other fields are added to.
    pub const fn new(batch: usize, kernel: Kernel) -> Self {
        Self {
            batch,
            optimizer: Optimizer::SGD,
            decay: Decay {
                mode: Mode::None,
                lambda: 0.0,
            },
            anchored: false,
            adversary: None,
            label_smoothing: 0.0,
            clip_norm: None,
            average: None,
            keep_best: false,
            slow_layers: 0,
            slow_rate: 1.0,
            recompute: false,
            kernel,
        }
    }

    /// The memory plan for training `network` this way.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, network: &Network) -> Result<Plan, Error> {
        let demand = Demand {
            batch: self.batch,
            state_arrays: self.optimizer.state_arrays(),
            anchored: self.anchored,
            average: self.average.is_some(),
            keep_best: self.keep_best,
            perturbed: self.adversary.map(|adversary| adversary.layers),
            recompute: self.recompute,
            kernel: self.kernel,
        };
        Plan::new(network, &demand)
    }
}

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Mean clean loss of the batch, in nats.
    pub loss: f32,
    /// Mean loss at the perturbed features; 0 without an adversary.
    pub adversarial_loss: f32,
    /// Samples recognised before the update.
    pub correct: usize,
}

/// What changes from step to step beside the arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    random: Random,
    lambdas: heapless::Vec<f32, MAX_LAYERS>,
    ratios: heapless::Vec<f32, MAX_LAYERS>,
    steps: u32,
}

/// Training in progress: the arena with its plan, and what changes from step to
/// step. Nothing in it allocates.
pub struct Trainer<'a> {
    pub(crate) network: &'a Network,
    pub(crate) options: Options,
    pub(crate) plan: Plan,
    pub(crate) arena: Arena<'a>,
    pub(crate) random: Random,
    /// Decides what dropout drops in this step, in all its passes alike.
    pub(crate) mask_seed: u64,
    /// One coefficient a parametrised layer.
    pub(crate) lambdas: heapless::Vec<f32, MAX_LAYERS>,
    /// Running average of |dw| / |w|, one a parametrised layer.
    ratios: heapless::Vec<f32, MAX_LAYERS>,
    pub(crate) steps: u32,
    /// How far training is, 0 to 1.
    progress: f32,
    /// Whether dropout drops; not while held-out samples are judged.
    pub(crate) dropping: bool,
}

impl<'a> Trainer<'a> {
    /// Starts with He's initialisation (He et al., 2015) and zero biases.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when `arena` is shorter than the plan, and those of
    /// [`Plan::new`].
    pub fn new(
        network: &'a Network,
        options: Options,
        arena: &'a mut [f32],
        seed: u64,
    ) -> Result<Self, Error> {
        let plan = options.plan(network)?;
        if arena.len() < plan.elements() {
            return Err(Error::NoRoom {
                need: plan.elements(),
                have: arena.len(),
            });
        }
        let depth = network.depth();
        let mut trainer = Self {
            network,
            options,
            plan,
            arena: Arena(arena),
            random: Random::new(seed),
            mask_seed: 0,
            lambdas: core::iter::repeat_n(0.0, depth).collect(),
            ratios: core::iter::repeat_n(0.0, depth).collect(),
            steps: 0,
            progress: 1.0,
            dropping: true,
        };
        trainer.initialise()?;
        trainer.start_here()?;
        Ok(trainer)
    }

    fn initialise(&mut self) -> Result<(), Error> {
        let parameters = self.arena.of(self.plan.parameters)?;
        parameters.fill(0.0);
        for layer in self.network.weighted() {
            let deviation = sqrt(2.0 / self.network.fan_in(layer) as f32);
            for weight in &mut parameters[self.network.weights(layer)] {
                *weight = deviation * self.random.normal();
            }
        }
        // Batch norms begin as if the statistics were 0 and 1.
        for (index, layer) in self.network.layers().iter().enumerate() {
            if let Layer::BatchNorm { channels } = *layer {
                parameters[self.network.weights(index)].fill(1.0);
                let constants = &mut parameters[self.network.constants(index)];
                constants[channels as usize..].fill(1.0);
            }
        }
        Ok(())
    }

    /// All weights and biases, where [`Network::weights`] and [`Network::biases`]
    /// say.
    pub fn parameters(&self) -> &[f32] {
        &self.arena.0[self.plan.parameters.range()]
    }

    /// The same, to start from other weights.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.arena.0[self.plan.parameters.range()]
    }

    /// The numbers in the arena that the next step depends on: parameters, optimiser state,
    /// and the parameters at the start, their average and the best of them where there are
    /// such.
    pub fn kept(&self) -> impl Iterator<Item = &f32> {
        let spans = self.plan.kept_between_steps();
        spans
            .into_iter()
            .flat_map(|span| &self.arena.0[span.range()])
    }

    /// What else it depends on.
    pub(crate) fn state(&self) -> State {
        State {
            random: self.random.clone(),
            lambdas: self.lambdas.clone(),
            ratios: self.ratios.clone(),
            steps: self.steps,
        }
    }

    /// Puts the trainer where one of the same network and options stood. `kept` are the
    /// numbers that [`Self::kept`] gave.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when they are of another network or other options; the trainer
    /// is then to be made again.
    pub fn put_back(&mut self, position: &Position, kept: &[f32]) -> Result<(), Error> {
        let state = position.trainer();
        let spans = self.plan.kept_between_steps();
        let need = spans.iter().map(|span| span.range().len()).sum();
        let depth = self.lambdas.len();
        if kept.len() != need || state.lambdas.len() != depth || state.ratios.len() != depth {
            return Err(Error::NoRoom {
                need,
                have: kept.len(),
            });
        }
        let mut kept = kept.iter();
        for span in spans {
            let place = self.arena.of(span)?;
            place
                .iter_mut()
                .zip(&mut kept)
                .for_each(|(to, from)| *to = *from);
        }
        self.random = state.random.clone();
        self.lambdas.copy_from_slice(&state.lambdas);
        self.ratios.copy_from_slice(&state.ratios);
        self.steps = state.steps;
        Ok(())
    }

    /// The gradients of the last pass, laid out as the parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.arena.0[self.plan.gradients.range()]
    }

    /// The batch, `[B, F]`.
    pub fn inputs(&self) -> &[f32] {
        &self.arena.0[self.plan.clean[0].range()]
    }

    /// The batch to fill, `[B, F]`.
    pub fn inputs_mut(&mut self) -> &mut [f32] {
        &mut self.arena.0[self.plan.clean[0].range()]
    }

    /// The decay coefficients in force, one a parametrised layer.
    pub fn lambdas(&self) -> &[f32] {
        &self.lambdas
    }

    /// Logits of the last clean pass, `[B, K]`.
    pub fn logits(&self) -> &[f32] {
        &self.arena.0[self.plan.clean[self.network.layers().len()].range()]
    }

    /// `r_max` of the last adversarial pass at `layer`, element by element of
    /// `[rows, width]`.
    pub fn perturbation(&self, layer: usize) -> impl Iterator<Item = f32> + '_ {
        let of = |activations: &Activations| {
            activations
                .get(layer)
                .map_or(&[][..], |span| &self.arena.0[span.range()])
        };
        let (clean, perturbed) = (of(&self.plan.clean), of(&self.plan.perturbed));
        perturbed
            .iter()
            .zip(clean)
            .map(|(perturbed, clean)| perturbed - clean)
    }

    /// One step on the batch in [`Self::inputs_mut`], whose rows have `labels`.
    ///
    /// # Errors
    /// [`Error::Batch`], [`Error::Label`], [`Error::Diverged`].
    pub fn step(&mut self, labels: &[u16], learning_rate: f32) -> Result<Step, Error> {
        self.clear_gradients()?;
        let drops = |layer: &Layer| matches!(layer, Layer::Dropout { .. });
        if self.network.layers().iter().any(drops) {
            self.mask_seed = u64::from(self.random.bits());
        }
        let mut step = self.clean_gradients(labels)?;
        if let Some(adversary) = self.options.adversary {
            step.adversarial_loss = self.at_random_layers(&adversary, labels)?;
        }
        if self.options.decay.mode == Mode::Online {
            self.follow_gradients()?;
        }
        self.clip_gradients()?;
        self.apply(learning_rate)?;
        self.average()?;
        Ok(step)
    }

    /// The adversarial gradients at a middle layer chosen by chance, one for the batch or
    /// one for each sample. Returns the mean loss.
    fn at_random_layers(&mut self, adversary: &Adversary, labels: &[u16]) -> Result<f32, Error> {
        let allowed = adversary.layers.positions(self.network.depth());
        let layers = allowed.len() as u32;
        if !adversary.per_sample {
            let chosen = allowed.start + self.random.below(layers) as usize;
            let layer = self.network.weighted().nth(chosen).unwrap_or(0);
            return self.adversarial_gradients(layer, labels, None);
        }
        let mut counts = [0usize; MAX_LAYERS];
        for _ in labels {
            counts[allowed.start + self.random.below(layers) as usize] += 1;
        }
        // The batch is in random order already: the first rows can go to the first layer.
        let (mut sum, mut first, all) = (0.0, 0, self.rows(labels)?.len());
        for (layer, count) in self.network.weighted().zip(counts) {
            let rows = first..first + count;
            if count > 0 {
                sum += self.adversarial_rows(layer, &rows, &labels[rows.clone()], all, None)?;
            }
            first += count;
        }
        Ok(sum / all as f32)
    }

    /// Says how far training is, 0 to 1: the adversary's strength can depend on it.
    pub fn set_progress(&mut self, progress: f32) {
        self.progress = progress;
    }

    /// Mean loss and recognised samples of the batch in [`Self::inputs_mut`], without
    /// dropout and label smoothing; moves nothing.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn judge(&mut self, labels: &[u16]) -> Result<Step, Error> {
        let rows = self.rows(labels)?;
        self.dropping = false;
        let passed = self.forward(Pass::Clean, 0, &rows);
        self.dropping = true;
        passed?;
        let loss = self.loss_gradient(Pass::Clean, &rows, labels, 1.0, 0.0)?;
        Ok(Step {
            loss: loss.sum / rows.len() as f32,
            adversarial_loss: 0.0,
            correct: loss.correct,
        })
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn clear_gradients(&mut self) -> Result<(), Error> {
        self.arena.of(self.plan.gradients)?.fill(0.0);
        Ok(())
    }

    /// Adds the gradients of the mean clean loss; moves nothing.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn clean_gradients(&mut self, labels: &[u16]) -> Result<Step, Error> {
        let rows = self.rows(labels)?;
        let scale = 1.0 / rows.len() as f32;
        self.forward(Pass::Clean, 0, &rows)?;
        let smoothing = self.options.label_smoothing;
        let loss = self.loss_gradient(Pass::Clean, &rows, labels, scale, smoothing)?;
        self.backward(Pass::Clean, 0, &rows, Want::Parameters)?;
        Ok(Step {
            loss: loss.sum * scale,
            adversarial_loss: 0.0,
            correct: loss.correct,
        })
    }

    /// Adds the gradients of the loss at `h + r_max`, where h is the input of
    /// `layer` in the last clean pass; returns the mean of that loss. Layers below
    /// are not touched. `direction` `[B, width]` starts the power iteration; `None`
    /// draws it.
    ///
    /// # Errors
    /// As [`Self::step`]; [`Error::LayerTable`] when the options have no adversary at that
    /// layer.
    pub fn adversarial_gradients(
        &mut self,
        layer: usize,
        labels: &[u16],
        direction: Option<&[f32]>,
    ) -> Result<f32, Error> {
        let rows = self.rows(labels)?;
        let sum = self.adversarial_rows(layer, &rows, labels, rows.len(), direction)?;
        Ok(sum / rows.len() as f32)
    }

    /// The same for some rows of a batch of `all`; returns the sum of the losses.
    fn adversarial_rows(
        &mut self,
        layer: usize,
        rows: &Rows,
        labels: &[u16],
        all: usize,
        direction: Option<&[f32]>,
    ) -> Result<f32, Error> {
        let mut adversary = self.options.adversary.ok_or(Error::LayerTable)?;
        let mut planned = perturbed_layers(self.network, Some(adversary.layers));
        if !planned.any(|planned| planned == layer) {
            return Err(Error::LayerTable);
        }
        adversary.epsilon *= adversary.ramped(self.progress);
        let scale = adversary.weight / all as f32;
        if direction.is_none() && self.is_top(layer, rows, &adversary) {
            return self.adversarial_top(layer, rows, labels, &adversary, scale);
        }
        self.adversarial_through(layer, rows, labels, &adversary, (scale, direction))
    }

    /// The same by passes through the layers.
    pub(crate) fn adversarial_through(
        &mut self,
        layer: usize,
        rows: &Rows,
        labels: &[u16],
        adversary: &Adversary,
        (scale, direction): (f32, Option<&[f32]>),
    ) -> Result<f32, Error> {
        self.find_perturbation(layer, rows, adversary, direction)?;
        self.forward(Pass::Perturbed, layer, rows)?;
        let smoothing = self.options.label_smoothing;
        let loss = self.loss_gradient(Pass::Perturbed, rows, labels, scale, smoothing)?;
        self.backward(Pass::Perturbed, layer, rows, Want::Parameters)?;
        Ok(loss.sum)
    }

    /// Leaves `scale` times the gradient of the loss by the logits in the first delta.
    pub(crate) fn loss_gradient(
        &mut self,
        pass: Pass,
        rows: &Rows,
        labels: &[u16],
        scale: f32,
        smoothing: f32,
    ) -> Result<loss::Loss, Error> {
        let classes = self.network.classes();
        let logits = self.tensor(pass, self.network.layers().len(), rows);
        let delta = self.delta(0, rows.len() * classes);
        let [logits, delta] = self.arena.split([logits, delta])?;
        delta.copy_from_slice(logits);
        loss::cross_entropy(delta, classes, labels, scale, smoothing)
    }

    /// The rows of the batch that have these labels.
    fn rows(&self, labels: &[u16]) -> Result<Rows, Error> {
        match labels.len() {
            0 => Err(Error::Batch),
            rows if rows > self.plan.batch => Err(Error::Batch),
            rows => Ok(0..rows),
        }
    }

    /// Fills [`Self::lambdas`] by the mode that needs no data: none, uniform, and
    /// [`structural`], from the present weights. The other two start as structural.
    pub fn prepare_decay(&mut self) {
        let Decay { mode, lambda } = self.options.decay;
        match mode {
            Mode::None => self.lambdas.fill(0.0),
            Mode::Uniform => self.lambdas.fill(lambda),
            Mode::Structural | Mode::Measured | Mode::Online => structural::coefficients(
                self.network,
                &self.arena.0[self.plan.parameters.range()],
                self.options.batch,
                &Inputs::USUAL,
                lambda,
                &mut self.lambdas,
            ),
        }
    }

    /// Sets the coefficients from the gradients that stand in [`Self::gradients`]:
    /// the measured mode, after [`Self::clean_gradients`] on a few batches.
    pub fn measure_decay(&mut self) {
        for position in 0..self.ratios.len() {
            self.ratios[position] = self.ratio(position);
        }
        decay::measured(&self.ratios, self.options.decay.lambda, &mut self.lambdas);
    }

    /// |dw| / |w| of one parametrised layer; 0 for a layer of zeros.
    fn ratio(&self, position: usize) -> f32 {
        let layer = self.network.weighted().nth(position).unwrap_or(0);
        let range = self.network.weights(layer);
        let ratio = norm(&self.gradients()[range.clone()]) / norm(&self.parameters()[range]);
        if ratio.is_finite() { ratio } else { 0.0 }
    }

    fn follow_gradients(&mut self) -> Result<(), Error> {
        for position in 0..self.ratios.len() {
            let now = self.ratio(position);
            let old = if self.steps == 0 {
                now
            } else {
                self.ratios[position]
            };
            self.ratios[position] = ONLINE_MEMORY * old + (1.0 - ONLINE_MEMORY) * now;
        }
        decay::measured(&self.ratios, self.options.decay.lambda, &mut self.lambdas);
        Ok(())
    }
}
