//! One training step: clean pass, adversarial pass, decay, update. And the loop
//! over the samples around it.

use crate::adversary::{self, Adversary};
use crate::decay::{self, Decay, Mode, norm};
use crate::layers::{dense::Dense, relu};
use crate::loss;
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::optimizer::{Move, Optimizer, Schedule};
use crate::plan::{Activations, Arena, Demand, Plan, Span};
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
    /// The kernel of the matrix products.
    pub kernel: Kernel,
}

impl Options {
    /// The memory plan for training `network` this way.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, network: &Network) -> Result<Plan, Error> {
        let demand = Demand {
            batch: self.batch,
            state_arrays: self.optimizer.state_arrays(),
            adversarial: self.adversary.is_some(),
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
    network: &'a Network,
    options: Options,
    plan: Plan,
    arena: Arena<'a>,
    random: Random,
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
        for layer in self.network.parametrised() {
            let deviation = sqrt(2.0 / self.network.width(layer) as f32);
            for weight in &mut parameters[self.network.weights(layer)] {
                *weight = deviation * self.random.normal();
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
        let mut step = self.clean_gradients(labels)?;
        if self.options.adversary.is_some() {
            let layers = self.network.depth() as u32;
            let chosen = self.random.below(layers) as usize;
            let layer = self.network.parametrised().nth(chosen).unwrap_or(0);
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
        self.forward(Pass::Clean, 0, rows)?;
        let (classes, scale) = (self.network.classes(), 1.0 / rows as f32);
        let logits = self.plan.clean[self.network.layers().len()].part(0..rows * classes);
        let [logits, delta] = self.arena.split([logits, self.delta(0, rows * classes)])?;
        delta.copy_from_slice(logits);
        let loss = loss::cross_entropy(delta, classes, labels, scale)?;
        self.backward(Pass::Clean, 0, rows, Want::Parameters)?;
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
        self.find_perturbation(layer, rows, &adversary, direction)?;
        self.forward(Pass::Perturbed, layer, rows)?;
        let classes = self.network.classes();
        let logits = self.plan.perturbed[self.network.layers().len()].part(0..rows * classes);
        let [logits, delta] = self.arena.split([logits, self.delta(0, rows * classes)])?;
        delta.copy_from_slice(logits);
        let scale = adversary.weight / rows as f32;
        let loss = loss::cross_entropy(delta, classes, labels, scale)?;
        self.backward(Pass::Perturbed, layer, rows, Want::Parameters)?;
        Ok(loss.sum / rows as f32)
    }

    /// Leaves `h + r_max` where the perturbed pass starts, `[rows, width]`.
    fn find_perturbation(
        &mut self,
        layer: usize,
        rows: usize,
        adversary: &Adversary,
        direction: Option<&[f32]>,
    ) -> Result<(), Error> {
        let width = self.network.width(layer);
        let h = self.plan.clean[layer].part(0..rows * width);
        let start = self.plan.perturbed[layer].part(0..rows * width);
        let mut found = self.delta(0, rows * width);
        match (self.arena.of(found)?, direction) {
            (r, Some(given)) if given.len() == r.len() => r.copy_from_slice(given),
            (_, Some(_)) => return Err(Error::Batch),
            (r, None) => adversary::draw(&mut self.random, r),
        }
        for _ in 0..adversary.steps.max(1) {
            let [h_values, r, probe] = self.arena.split([h, found, start])?;
            adversary::scale(r, h_values, width, adversary.xi);
            adversary::perturb(h_values, r, probe);
            self.forward(Pass::Perturbed, layer, rows)?;
            self.divergence_gradient(rows)?;
            found = self.backward(Pass::Perturbed, layer, rows, Want::Input)?;
        }
        let [h, r, out] = self.arena.split([h, found, start])?;
        adversary::scale(r, h, width, adversary.epsilon);
        adversary::perturb(h, r, out);
        Ok(())
    }

    /// Leaves the gradient of KL(clean || perturbed) by the perturbed logits in the
    /// first delta.
    fn divergence_gradient(&mut self, rows: usize) -> Result<(), Error> {
        let (last, classes) = (self.network.layers().len(), self.network.classes());
        let part = 0..rows * classes;
        let [clean, perturbed, p, delta] = self.arena.split([
            self.plan.clean[last].part(part.clone()),
            self.plan.perturbed[last].part(part.clone()),
            self.plan.probabilities.part(part),
            self.delta(0, rows * classes),
        ])?;
        p.copy_from_slice(clean);
        for ((delta, clean), perturbed) in delta.iter_mut().zip(clean).zip(perturbed) {
            *delta = *perturbed - *clean;
        }
        for (p, change) in p
            .chunks_exact_mut(classes)
            .zip(delta.chunks_exact_mut(classes))
        {
            loss::softmax(p);
            loss::divergence(p, change);
        }
        Ok(())
    }

    fn rows(&self, labels: &[u16]) -> Result<usize, Error> {
        match labels.len() {
            0 => Err(Error::Batch),
            rows if rows > self.plan.batch => Err(Error::Batch),
            rows => Ok(rows),
        }
    }

    fn delta(&self, which: usize, elements: usize) -> Span {
        self.plan.deltas[which].part(0..elements)
    }

    fn activations(&self, pass: Pass) -> &Activations {
        match pass {
            Pass::Clean => &self.plan.clean,
            Pass::Perturbed => &self.plan.perturbed,
        }
    }

    /// Runs the layers from `from` on, over what stands in their first activation.
    fn forward(&mut self, pass: Pass, from: usize, rows: usize) -> Result<(), Error> {
        for index in from..self.network.layers().len() {
            let [x, y] = [index, index + 1].map(|i| self.activations(pass)[i]);
            match self.network.layers()[index] {
                Layer::Dense { .. } => {
                    let [w, b] = self.parameter_spans(index, self.plan.parameters);
                    let [x, w, b, y, scratch] =
                        self.arena.split([x, w, b, y, self.plan.scratch])?;
                    dense(self.network, index, &self.options, rows).forward(x, w, b, y, scratch);
                }
                Layer::Relu => {
                    let elements = rows * self.network.width(index);
                    relu::forward(&mut self.arena.of(y)?[..elements]);
                }
            }
        }
        Ok(())
    }

    /// Runs the layers down to `to`, from the gradient by the logits in the first
    /// delta. Returns the span that holds the gradient by the input of layer `to`
    /// when that is wanted.
    fn backward(&mut self, pass: Pass, to: usize, rows: usize, want: Want) -> Result<Span, Error> {
        let mut current = 0;
        for index in (to..self.network.layers().len()).rev() {
            let [x, y] = [index, index + 1].map(|i| self.activations(pass)[i]);
            let below = rows * self.network.width(index);
            match self.network.layers()[index] {
                Layer::Dense { outputs, .. } => {
                    let job = dense(self.network, index, &self.options, rows);
                    let dy = self.delta(current, rows * outputs as usize);
                    if want == Want::Parameters {
                        let [dw, db] = self.parameter_spans(index, self.plan.gradients);
                        let [x, dy, dw, db, scratch] =
                            self.arena.split([x, dy, dw, db, self.plan.scratch])?;
                        job.backward_parameters(x, dy, dw, db, scratch);
                    }
                    if index > to || want == Want::Input {
                        let [w, _] = self.parameter_spans(index, self.plan.parameters);
                        let dx = self.delta(1 - current, below);
                        let [dy, w, dx, scratch] =
                            self.arena.split([dy, w, dx, self.plan.scratch])?;
                        job.backward_input(dy, w, dx, scratch);
                        current = 1 - current;
                    }
                }
                Layer::Relu => {
                    let [y, dy] = self.arena.split([y, self.delta(current, below)])?;
                    relu::backward(y, dy);
                }
            }
        }
        Ok(self.delta(current, rows * self.network.width(to)))
    }

    fn parameter_spans(&self, layer: usize, of: Span) -> [Span; 2] {
        [self.network.weights(layer), self.network.biases(layer)].map(|range| of.part(range))
    }

    /// Moves the parameters along [`Self::gradients`], with the decay in force.
    ///
    /// # Errors
    /// None after a sound plan.
    pub fn apply(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.steps += 1;
        let arrays = self.options.optimizer.state_arrays();
        let parameters = self.network.parameter_elements();
        for (position, layer) in self.network.parametrised().enumerate() {
            let lambda = self.lambdas[position];
            let ranges = [self.network.weights(layer), self.network.biases(layer)];
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
                let layers = self.network.parametrised();
                let rms: heapless::Vec<f32, MAX_LAYERS> = layers
                    .map(|layer| {
                        let weights = &self.parameters()[self.network.weights(layer)];
                        norm(weights) / sqrt(weights.len() as f32)
                    })
                    .collect();
                let mut widths = heapless::Vec::<usize, { MAX_LAYERS + 1 }>::new();
                widths.extend(self.network.parametrised().map(|l| self.network.width(l)));
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
        let layer = self.network.parametrised().nth(position).unwrap_or(0);
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

fn dense(network: &Network, index: usize, options: &Options, rows: usize) -> Dense {
    Dense {
        kernel: options.kernel,
        rows,
        inputs: network.width(index),
        outputs: network.width(index + 1),
    }
}

/// Which set of activations a pass works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Clean,
    Perturbed,
}

/// What a backward pass computes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Gradients of weights and biases, added to those there.
    Parameters,
    /// The gradient by the lowest layer's input.
    Input,
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
