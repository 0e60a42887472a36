//! Passes through the layers, forward and backward, over the arena's tensors, and the
//! search for the perturbation that changes the output most.

use crate::Error;
use crate::adversary::{self, Adversary};
use crate::layers::{Job, Manner, Needs, Parameters, dropout};
use crate::loss;
use crate::network::Layer;
use crate::plan::{Activations, Span};
use crate::train::Trainer;
use core::ops::Range;

/// Which set of activations a pass works on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Clean,
    Perturbed,
}

/// What a backward pass computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Gradients of all parameters from the lowest layer up, added to those there.
    Parameters,
    /// The gradient by the lowest layer's input.
    Input,
}

/// Some samples of a batch.
pub(crate) type Rows = Range<usize>;

impl<'a> Trainer<'a> {
    /// Leaves `h + r_max` where the perturbed pass starts.
    pub(crate) fn find_perturbation(
        &mut self,
        layer: usize,
        rows: &Rows,
        adversary: &Adversary,
        direction: Option<&[f32]>,
    ) -> Result<(), Error> {
        self.restore_clean(layer, rows)?;
        let width = self.network.width(layer);
        let h = self.tensor(Pass::Clean, layer, rows);
        let norms = self.plan.norms.part(rows.clone());
        let probe = self.start(layer, rows);
        let [values, lengths] = self.arena.split([h, norms])?;
        adversary::row_norms(values, lengths, width);
        let [values, lengths, out] = self.arena.split([h, norms, probe])?;
        match direction {
            Some(given) if given.len() == out.len() => {
                out.copy_from_slice(given);
                adversary::perturb_along(values, lengths, adversary.xi, out, width);
            }
            Some(_) => return Err(Error::Batch),
            None => adversary::probe(&mut self.random, values, lengths, adversary.xi, out, width),
        }
        self.clean_probabilities(rows)?;
        // The last step's direction is that of the perturbation itself.
        for step in 1..=adversary.steps.max(1) {
            self.begin(layer, rows)?;
            self.forward(Pass::Perturbed, layer, rows)?;
            self.divergence_gradient(rows)?;
            let found = self.backward(Pass::Perturbed, layer, rows, Want::Input)?;
            let last = step >= adversary.steps;
            let length = if last {
                adversary.epsilon
            } else {
                adversary.xi
            };
            let [h, r, norms, out] = self.arena.split([h, found, norms, probe])?;
            adversary::perturb(h, norms, length, r, out, width);
        }
        self.begin(layer, rows)
    }

    /// Softmax of the clean logits.
    pub(crate) fn clean_probabilities(&mut self, rows: &Rows) -> Result<(), Error> {
        let (last, classes) = (self.network.layers().len(), self.network.classes());
        let [clean, p] = self.arena.split([
            self.tensor(Pass::Clean, last, rows),
            self.plan.probabilities.part(0..rows.len() * classes),
        ])?;
        p.copy_from_slice(clean);
        for p in p.chunks_exact_mut(classes) {
            loss::softmax(p);
        }
        Ok(())
    }

    /// Leaves the gradient of KL(clean || perturbed) by the perturbed logits in the
    /// first delta.
    pub(crate) fn divergence_gradient(&mut self, rows: &Rows) -> Result<(), Error> {
        let (last, classes) = (self.network.layers().len(), self.network.classes());
        let elements = rows.len() * classes;
        let [clean, perturbed, p, delta] = self.arena.split([
            self.tensor(Pass::Clean, last, rows),
            self.tensor(Pass::Perturbed, last, rows),
            self.plan.probabilities.part(0..elements),
            self.delta(0, elements),
        ])?;
        for ((delta, clean), perturbed) in delta.iter_mut().zip(clean).zip(perturbed) {
            *delta = *perturbed - *clean;
        }
        for (p, change) in p.chunks_exact(classes).zip(delta.chunks_exact_mut(classes)) {
            loss::divergence(p, change);
        }
        Ok(())
    }

    /// Runs the layers from `from` on, over what stands in their first tensor.
    pub(crate) fn forward(&mut self, pass: Pass, from: usize, rows: &Rows) -> Result<(), Error> {
        for index in from..self.network.layers().len() {
            self.forward_layer(pass, from, index, rows)?;
        }
        Ok(())
    }

    /// Runs layer `index`. A perturbed pass that began at `from` reads tensors below it
    /// from the clean pass.
    fn forward_layer(
        &mut self,
        pass: Pass,
        from: usize,
        index: usize,
        rows: &Rows,
    ) -> Result<(), Error> {
        let layer = self.network.layers()[index];
        let [x, y] = [index, index + 1].map(|tensor| self.tensor(pass, tensor, rows));
        let [w, b, c] = self.parameter_spans(index);
        let job = self.job(index, rows);
        if let Layer::Branch { from: earlier } = layer {
            let earlier = self.earlier(pass, from, earlier, rows);
            let [y, earlier] = self.arena.split([y, earlier])?;
            y.copy_from_slice(earlier);
            return Ok(());
        }
        if layer.manner() == Manner::Moves {
            let [x, y, w, b, c, scratch] = self.arena.split([x, y, w, b, c, self.plan.scratch])?;
            let (weights, biases, constants) = (&*w, &*b, &*c);
            let own = Parameters {
                weights,
                biases,
                constants,
            };
            job.forward(x, y, &own, scratch);
            return Ok(());
        }
        if x != y {
            let [x, y] = self.arena.split([x, y])?;
            y.copy_from_slice(x);
        }
        match layer {
            Layer::Dropout { .. } if !self.dropping => {}
            Layer::Dropout { permille } => {
                let (width, seed) = (self.network.width(index), self.mask_seed(index));
                let values = self.arena.of(y)?;
                dropout::apply(values, width, rows.clone(), permille, seed);
            }
            Layer::Add { from: earlier } => {
                let earlier = self.earlier(pass, from, earlier, rows);
                let [y, earlier] = self.arena.split([y, earlier])?;
                for (y, earlier) in y.iter_mut().zip(earlier) {
                    *y += *earlier;
                }
            }
            _ => {
                let [y, w, b, c] = self.arena.split([y, w, b, c])?;
                let (weights, biases, constants) = (&*w, &*b, &*c);
                let own = Parameters {
                    weights,
                    biases,
                    constants,
                };
                job.change(y, &own);
            }
        }
        Ok(())
    }

    /// Where a perturbed pass that began at `from` finds an earlier tensor.
    fn earlier(&self, pass: Pass, from: usize, earlier: u8, rows: &Rows) -> Span {
        let earlier = usize::from(earlier);
        let pass = if earlier < from { Pass::Clean } else { pass };
        self.tensor(pass, earlier, rows)
    }

    /// Runs the layers down to `to`, from the gradient by the logits in the first
    /// delta. Returns the span that holds the gradient by the input of layer `to` when
    /// that is wanted.
    pub(crate) fn backward(
        &mut self,
        pass: Pass,
        to: usize,
        rows: &Rows,
        want: Want,
    ) -> Result<Span, Error> {
        let lowest = match want {
            Want::Parameters => to.max(self.network.lowest_trained()),
            Want::Input => to,
        };
        let mut current = 0;
        for stretch in (1..self.plan.kept.len()).rev() {
            let [below, above] = [self.plan.kept[stretch - 1], self.plan.kept[stretch]];
            if above <= lowest {
                break;
            }
            if stretch + 1 < self.plan.kept.len() {
                self.restore(pass, to, below.max(to)..above, rows)?;
            }
            for index in (below.max(lowest)..above).rev() {
                let through = index > lowest || want == Want::Input;
                current = self.backward_layer(pass, index, rows, want, current, through)?;
                if through {
                    self.add_waiting(index, rows, current)?;
                }
            }
        }
        Ok(self.delta(current, rows.len() * self.network.width(to)))
    }

    /// The gradient of one layer; returns the delta in which the gradient by its input
    /// stands, which is computed only when it is to go `through`.
    fn backward_layer(
        &mut self,
        pass: Pass,
        index: usize,
        rows: &Rows,
        want: Want,
        current: usize,
        through: bool,
    ) -> Result<usize, Error> {
        let layer = self.network.layers()[index];
        let [below, above] = [index, index + 1].map(|i| rows.len() * self.network.width(i));
        let [x, y] = [index, index + 1].map(|tensor| self.tensor(pass, tensor, rows));
        let dy = self.delta(current, above);
        let job = self.job(index, rows);
        if want == Want::Parameters && !self.network.weights(index).is_empty() {
            let [_, _, c] = self.parameter_spans(index);
            let [dw, db] = self.gradient_spans(index);
            let [x, dy, dw, db, c, scratch] =
                self.arena.split([x, dy, dw, db, c, self.plan.scratch])?;
            job.backward_parameters(x, dy, [dw, db], c, scratch);
        }
        if !through {
            return Ok(current);
        }
        let [w, b, c] = self.parameter_spans(index);
        match (layer, layer.manner()) {
            (_, Manner::Keeps) => {}
            (_, Manner::Moves) => {
                if matches!(layer, Layer::Branch { .. }) {
                    self.wait(index, dy)?;
                }
                let dx = self.delta(1 - current, below);
                let [x, dy, dx, w, scratch] =
                    self.arena.split([x, dy, dx, w, self.plan.scratch])?;
                job.backward(x, dy, dx, w, scratch);
                return Ok(1 - current);
            }
            (Layer::Dropout { permille }, _) => {
                let (width, seed) = (self.network.width(index), self.mask_seed(index));
                let dy = self.arena.of(dy)?;
                dropout::apply(dy, width, rows.clone(), permille, seed);
            }
            (Layer::Add { .. }, _) => self.wait(index, dy)?,
            _ => {
                let kept = if layer.needs() == Needs::Output { y } else { x };
                let [kept, dy, w, b, c] = self.arena.split([kept, dy, w, b, c])?;
                let (weights, biases, constants) = (&*w, &*b, &*c);
                let own = Parameters {
                    weights,
                    biases,
                    constants,
                };
                job.backward_change(kept, dy, &own);
            }
        }
        Ok(current)
    }

    /// Sets the gradient by the sum that layer `add` made, or by the branch that began
    /// there, aside, until the way back comes to the other tensor it read.
    fn wait(&mut self, add: usize, dy: Span) -> Result<(), Error> {
        let waiting = self.plan.residuals.iter().find(|r| r.add == add);
        let Some(slot) = waiting.map(|residual| residual.slot) else {
            return Ok(());
        };
        let [slot, dy] = self.arena.split([slot.part(0..dy.range().len()), dy])?;
        slot.copy_from_slice(dy);
        Ok(())
    }

    /// Adds what waits for the gradient by tensor `index`.
    fn add_waiting(&mut self, index: usize, rows: &Rows, current: usize) -> Result<(), Error> {
        let elements = rows.len() * self.network.width(index);
        for position in 0..self.plan.residuals.len() {
            let residual = self.plan.residuals[position];
            if residual.from != index {
                continue;
            }
            let slot = residual.slot.part(0..elements);
            let [slot, dx] = self.arena.split([slot, self.delta(current, elements)])?;
            for (dx, waiting) in dx.iter_mut().zip(slot) {
                *dx += *waiting;
            }
        }
        Ok(())
    }

    /// Computes the tensors between two kept ones again.
    fn restore(
        &mut self,
        pass: Pass,
        from: usize,
        layers: Range<usize>,
        rows: &Rows,
    ) -> Result<(), Error> {
        if pass == Pass::Perturbed && layers.start == from {
            self.begin(from, rows)?;
        }
        let end = self.activations(pass)[layers.end];
        for index in layers {
            if self.activations(pass)[index + 1] == end {
                break;
            }
            self.forward_layer(pass, from, index, rows)?;
        }
        Ok(())
    }

    /// Computes the clean input of layer `layer` again, and what the layers from it on
    /// add from below it, unless they are kept.
    pub(crate) fn restore_clean(&mut self, layer: usize, rows: &Rows) -> Result<(), Error> {
        if self.plan.start.range().is_empty() {
            return Ok(());
        }
        let kept = self.plan.kept.iter().filter(|tensor| **tensor <= layer);
        let below = kept.max().copied().unwrap_or(0);
        for index in below..layer {
            self.forward_layer(Pass::Clean, 0, index, rows)?;
        }
        Ok(())
    }

    /// Where a perturbed pass that begins at `layer` is prepared.
    pub(crate) fn start(&self, layer: usize, rows: &Rows) -> Span {
        if self.plan.start.range().is_empty() {
            return self.tensor(Pass::Perturbed, layer, rows);
        }
        let width = self.network.width(layer);
        self.plan.start.part(rows.start * width..rows.end * width)
    }

    /// Brings what was prepared to where the perturbed pass begins.
    pub(crate) fn begin(&mut self, layer: usize, rows: &Rows) -> Result<(), Error> {
        let [from, to] = [
            self.start(layer, rows),
            self.tensor(Pass::Perturbed, layer, rows),
        ];
        if from != to {
            let [from, to] = self.arena.split([from, to])?;
            to.copy_from_slice(from);
        }
        Ok(())
    }

    /// A part of a delta, from its start.
    pub(crate) fn delta(&self, which: usize, elements: usize) -> Span {
        self.plan.deltas[which].part(0..elements)
    }

    /// Some rows of tensor `index`.
    pub(crate) fn tensor(&self, pass: Pass, index: usize, rows: &Rows) -> Span {
        let width = self.network.width(index);
        self.activations(pass)[index].part(rows.start * width..rows.end * width)
    }

    fn activations(&self, pass: Pass) -> &Activations {
        match pass {
            Pass::Clean => &self.plan.clean,
            Pass::Perturbed => &self.plan.perturbed,
        }
    }

    pub(crate) fn job(&self, index: usize, rows: &Rows) -> Job<'a> {
        Job {
            network: self.network,
            index,
            kernel: self.options.kernel,
            rows: rows.len(),
        }
    }

    fn mask_seed(&self, layer: usize) -> u64 {
        self.mask_seed.wrapping_add((layer as u64) << 52)
    }

    fn parameter_spans(&self, layer: usize) -> [Span; 3] {
        let network = self.network;
        [
            network.weights(layer),
            network.biases(layer),
            network.constants(layer),
        ]
        .map(|range| self.plan.parameters.part(range))
    }

    pub(crate) fn gradient_spans(&self, layer: usize) -> [Span; 2] {
        [self.network.weights(layer), self.network.biases(layer)]
            .map(|range| self.plan.gradients.part(range))
    }
}
