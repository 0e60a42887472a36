//! One training step: clean pass, adversarial pass, decay, update. And the loop
//! over the samples around it.

use crate::adversary::Adversary;
use crate::decay::{self, Decay, Mode, norm};
use crate::loss;
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::optimizer::{Move, Optimizer, Schedule};
use crate::pass::{Pass, Rows, Want};
use crate::plan::{Activations, Arena, Demand, Plan};
use crate::random::Random;
use crate::{Error, Kernel};
use fieldtune_kernels::sqrt;

/// Memory of the online decay's running average.
const ONLINE_MEMORY: f32 = 0.9;
/// Batches that the measured decay looks at before the first update.
const MEASURED_BATCHES: usize = 8;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// B, the rows of a batch.
    pub batch: usize,
    /// The update rule.
    pub optimizer: Optimizer,
    /// The L2 coefficients.
    pub decay: Decay,
    /// Adversarial features; `None` trains on clean features alone.
    pub adversary: Option<Adversary>,
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
            adversary: None,
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
            adversarial: self.adversary.is_some(),
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
    lambdas: heapless::Vec<f32, MAX_LAYERS>,
    /// Running average of |dw| / |w|, one a parametrised layer.
    ratios: heapless::Vec<f32, MAX_LAYERS>,
    steps: u32,
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
        };
        trainer.arena.of(trainer.plan.state)?.fill(0.0);
        trainer.initialise()?;
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

    /// The gradients of the last pass, laid out as the parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.arena.0[self.plan.gradients.range()]
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
        if self.options.adversary.is_some() {
            let layers = self.network.depth() as u32;
            let chosen = self.random.below(layers) as usize;
            let layer = self.network.weighted().nth(chosen).unwrap_or(0);
            step.adversarial_loss = self.adversarial_gradients(layer, labels, None)?;
        }
        if self.options.decay.mode == Mode::Online {
            self.follow_gradients()?;
        }
        self.apply(learning_rate)?;
        Ok(step)
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
        let loss = self.loss_gradient(Pass::Clean, &rows, labels, scale)?;
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
    /// As [`Self::step`]; [`Error::LayerTable`] without an adversary in the options.
    pub fn adversarial_gradients(
        &mut self,
        layer: usize,
        labels: &[u16],
        direction: Option<&[f32]>,
    ) -> Result<f32, Error> {
        let adversary = self.options.adversary.ok_or(Error::LayerTable)?;
        let rows = self.rows(labels)?;
        self.find_perturbation(layer, &rows, &adversary, direction)?;
        self.forward(Pass::Perturbed, layer, &rows)?;
        let scale = adversary.weight / rows.len() as f32;
        let loss = self.loss_gradient(Pass::Perturbed, &rows, labels, scale)?;
        self.backward(Pass::Perturbed, layer, &rows, Want::Parameters)?;
        Ok(loss.sum / rows.len() as f32)
    }

    /// Leaves `scale` times the gradient of the loss by the logits in the first delta.
    fn loss_gradient(
        &mut self,
        pass: Pass,
        rows: &Rows,
        labels: &[u16],
        scale: f32,
    ) -> Result<loss::Loss, Error> {
        let classes = self.network.classes();
        let logits = self.tensor(pass, self.network.layers().len(), rows);
        let delta = self.delta(0, rows.len() * classes);
        let [logits, delta] = self.arena.split([logits, delta])?;
        delta.copy_from_slice(logits);
        loss::cross_entropy(delta, classes, labels, scale)
    }

    /// The rows of the batch that have these labels.
    fn rows(&self, labels: &[u16]) -> Result<Rows, Error> {
        match labels.len() {
            0 => Err(Error::Batch),
            rows if rows > self.plan.batch => Err(Error::Batch),
            rows => Ok(0..rows),
        }
    }

    /// Moves the parameters along [`Self::gradients`], with the decay in force.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn apply(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.steps += 1;
        let arrays = self.options.optimizer.state_arrays();
        let parameters = self.network.parameter_elements();
        let mut lambdas = self.lambdas.clone().into_iter();
        for layer in 0..self.network.layers().len() {
            let ranges = [self.network.weights(layer), self.network.biases(layer)];
            if ranges[0].is_empty() {
                continue;
            }
            // Batch norms are trained, but not decayed.
            let lambda = match self.network.fan_in(layer) {
                0 => 0.0,
                _ => lambdas.next().unwrap_or(0.0),
            };
            for (range, lambda) in ranges.into_iter().zip([lambda, 0.0]) {
                let state = |array: usize| {
                    let offset = array.min(arrays.saturating_sub(1)) * parameters;
                    let range = offset + range.start..offset + range.end;
                    self.plan
                        .state
                        .part(if array < arrays { range } else { 0..0 })
                };
                let [w, dw, first, second] = self.arena.split([
                    self.plan.parameters.part(range.clone()),
                    self.plan.gradients.part(range.clone()),
                    state(0),
                    state(1),
                ])?;
                let move_ = Move {
                    learning_rate,
                    lambda,
                    step: self.steps,
                };
                self.options
                    .optimizer
                    .update(&move_, w, dw, [first, second]);
            }
        }
        Ok(())
    }

    /// Fills [`Self::lambdas`] by the mode that needs no data: none, uniform, and
    /// structural, from the present weights. The other two start as structural.
    pub fn prepare_decay(&mut self) {
        let Decay { mode, lambda } = self.options.decay;
        match mode {
            Mode::None => self.lambdas.fill(0.0),
            Mode::Uniform => self.lambdas.fill(lambda),
            Mode::Structural | Mode::Measured | Mode::Online => {
                let layers = self.network.weighted();
                let rms: heapless::Vec<f32, MAX_LAYERS> = layers
                    .map(|layer| {
                        let weights = &self.parameters()[self.network.weights(layer)];
                        norm(weights) / sqrt(weights.len() as f32)
                    })
                    .collect();
                let mut widths = heapless::Vec::<usize, { MAX_LAYERS + 1 }>::new();
                widths.extend(self.network.weighted().map(|l| self.network.width(l)));
                widths.extend([self.network.classes()]);
                decay::structural_from_weights(&widths, &rms, lambda, &mut self.lambdas);
            }
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
    let (mut step, mut last) = (0, 0.0);
    for _ in 0..epochs {
        trainer.random.shuffle(order);
        last = 0.0;
        for rows in order.chunks(batch) {
            let labels = gather(trainer, samples, rows, labels);
            last += trainer.step(labels, schedule.at(step))?.loss * rows.len() as f32;
            step += 1;
        }
        last /= count as f32;
    }
    Ok(last)
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
