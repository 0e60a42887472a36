//! The adversary at the input of the last layer, when that is a wide dense one: the same
//! perturbation and the same gradients as by passes through the layer, for less work.
//!
//! With logits `z = W h + b` the direction of `r` is `W^T q`, where `q` `[K]` is the
//! gradient of the divergence by the logits. It lies in the span of W's rows, so `r`
//! `[F]` is never formed. With the Gram matrix `G = W W^T` `[K, K]`:
//!
//! ```text
//! |W^T q|^2   = q^T G q            the length that is brought to epsilon |h|
//! W (h + r)   = z + s G q          s is that factor; the new logits
//! dW         += g^T h + (g^T s q) W   g is the gradient by the new logits
//! ```
//!
//! Two products over the batch instead of four, and two of `[K, K]` by `[K, F]`. The
//! search for `r` in general is in `pass.rs`.

use crate::Error;
use crate::adversary::{self, Adversary, SIGNS_FROM};
use crate::network::Layer;
use crate::pass::{Pass, Rows};
use crate::plan::Span;
use crate::train::Trainer;
use fieldtune_kernels::{Matrix, multiply, sqrt};

/// Below this share of its largest possible value `q^T G q` is rounding error.
const ROUNDING: f32 = 1e-6;

/// Working space in the second delta.
struct Room {
    /// `[K, K]`.
    square: Span,
    /// `[rows, K]`: q, later s q.
    direction: Span,
    /// `[rows, K]`: G q, later s G q.
    turned: Span,
}

impl Trainer<'_> {
    /// Whether [`Self::adversarial_top`] serves for these rows. The choice depends on
    /// sizes alone, so it is the same on every CPU.
    pub(crate) fn is_top(&self, layer: usize, rows: &Rows, adversary: &Adversary) -> bool {
        let layers = self.network.layers();
        let dense = matches!(layers[layer], Layer::Dense { .. });
        let (classes, width) = (self.network.classes(), self.network.width(layer));
        dense
            && layer + 1 == layers.len()
            && adversary.steps <= 1
            && (SIGNS_FROM.max(3 * classes)..).contains(&width)
            && classes <= rows.len()
    }

    /// Adds the gradients of the loss at `h + r_max` for a layer of which
    /// [`Self::is_top`] holds; returns the sum of the losses.
    pub(crate) fn adversarial_top(
        &mut self,
        layer: usize,
        rows: &Rows,
        labels: &[u16],
        adversary: &Adversary,
        scale: f32,
    ) -> Result<f32, Error> {
        self.probe_divergence(layer, rows, adversary)?;
        self.perturb_logits(layer, rows, adversary.epsilon)?;
        let smoothing = self.options.label_smoothing;
        let loss = self.loss_gradient(Pass::Perturbed, rows, labels, scale, smoothing)?;
        self.add_top_gradients(layer, rows)?;
        Ok(loss.sum)
    }

    /// Leaves q in the first delta and the norms of h in the plan's.
    fn probe_divergence(
        &mut self,
        layer: usize,
        rows: &Rows,
        adversary: &Adversary,
    ) -> Result<(), Error> {
        self.restore_clean(layer, rows)?;
        let [h, norms, probe] = self.arena.split([
            self.tensor(Pass::Clean, layer, rows),
            self.plan.norms.part(rows.clone()),
            self.start(layer, rows),
        ])?;
        let width = self.network.width(layer);
        adversary::row_norms(h, norms, width);
        adversary::probe(&mut self.random, h, norms, adversary.xi, probe, width);
        self.clean_probabilities(rows)?;
        self.begin(layer, rows)?;
        self.forward(Pass::Perturbed, layer, rows)?;
        self.divergence_gradient(rows)
    }

    /// Replaces the probe's logits by those at `h + r_max`.
    fn perturb_logits(&mut self, layer: usize, rows: &Rows, epsilon: f32) -> Result<(), Error> {
        let (classes, width, kernel) = self.top_sizes(layer);
        let room = self.room(rows);
        let [weights, found, gram, q, turned, scratch] = self.arena.split([
            self.plan.parameters.part(self.network.weights(layer)),
            self.delta(0, rows.len() * classes),
            room.square,
            room.direction,
            room.turned,
            self.plan.scratch,
        ])?;
        for (q, found) in q.chunks_exact_mut(classes).zip(found.chunks_exact(classes)) {
            adversary::to_size_one(found, q);
        }
        let weights = Matrix::new(weights, classes, width);
        multiply(kernel, weights, weights.transposed(), gram, false, scratch);
        let directions = Matrix::new(q, rows.len(), classes);
        let by = Matrix::new(gram, classes, classes);
        multiply(kernel, directions, by, turned, false, scratch);

        let last = self.network.layers().len();
        let [gram, q, turned, norms, clean, perturbed] = self.arena.split([
            room.square,
            room.direction,
            room.turned,
            self.plan.norms.part(rows.clone()),
            self.tensor(Pass::Clean, last, rows),
            self.tensor(Pass::Perturbed, last, rows),
        ])?;
        let pairs = q
            .chunks_exact_mut(classes)
            .zip(turned.chunks_exact_mut(classes));
        for ((q, turned), norm) in pairs.zip(norms) {
            let factor = epsilon * *norm * inverse_length(q, turned, gram);
            q.iter_mut()
                .chain(turned)
                .for_each(|value| *value *= factor);
        }
        for ((perturbed, clean), change) in perturbed.iter_mut().zip(clean).zip(turned) {
            *perturbed = *clean + *change;
        }
        Ok(())
    }

    /// From the gradient by the logits in the first delta.
    fn add_top_gradients(&mut self, layer: usize, rows: &Rows) -> Result<(), Error> {
        let (classes, width, kernel) = self.top_sizes(layer);
        let room = self.room(rows);
        let [dw, db] = self.gradient_spans(layer);
        let job = self.job(layer, rows);
        let [weights, h, g, mixed, q, dw, db, scratch] = self.arena.split([
            self.plan.parameters.part(self.network.weights(layer)),
            self.tensor(Pass::Clean, layer, rows),
            self.delta(0, rows.len() * classes),
            room.square,
            room.direction,
            dw,
            db,
            self.plan.scratch,
        ])?;
        job.backward_parameters(h, g, [&mut *dw, db], &[], scratch);
        let gradients = Matrix::new(g, rows.len(), classes).transposed();
        let directions = Matrix::new(q, rows.len(), classes);
        multiply(kernel, gradients, directions, mixed, false, scratch);
        let (mixed, weights) = (
            Matrix::new(mixed, classes, classes),
            Matrix::new(weights, classes, width),
        );
        multiply(kernel, mixed, weights, dw, true, scratch);
        Ok(())
    }

    fn top_sizes(&self, layer: usize) -> (usize, usize, fieldtune_kernels::Kernel) {
        let width = self.network.width(layer);
        (self.network.classes(), width, self.options.kernel)
    }

    /// The second delta is as wide as the layer's input, at least three times K.
    fn room(&self, rows: &Rows) -> Room {
        let classes = self.network.classes();
        let (square, each) = (classes * classes, rows.len() * classes);
        let part =
            |start: usize, elements: usize| self.plan.deltas[1].part(start..start + elements);
        Room {
            square: part(0, square),
            direction: part(square, each),
            turned: part(square + each, each),
        }
    }
}

/// `1 / |W^T q|` for one sample; 0 where q is zero or changes no feature.
fn inverse_length(q: &[f32], turned: &[f32], gram: &[f32]) -> f32 {
    let square = q
        .iter()
        .zip(turned)
        .fold(0.0, |sum, (q, turned)| sum + q * turned);
    let diagonal = gram.iter().step_by(q.len() + 1);
    let most = q
        .iter()
        .zip(diagonal)
        .fold(0.0, |sum, (q, own)| sum + q.abs() * sqrt(*own));
    if square > ROUNDING * (most * most) {
        1.0 / sqrt(square)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::network::Network;
    use crate::random::Random;
    use crate::train::Options;
    use fieldtune_kernels::Kernel;
    use std::vec;
    use std::vec::Vec;

    const ROWS: usize = 12;

    /// Loss and gradients at the last layer, by this way or by passes through it.
    fn gradients(network: &Network, kernel: Kernel, short: bool, seed: u64) -> (f32, Vec<f32>) {
        let adversary = Adversary::new(0.3);
        let options = Options {
            adversary: Some(adversary),
            label_smoothing: 0.1,
            ..Options::new(ROWS, kernel)
        };
        let plan = options.plan(network).expect("sound");
        let mut memory = vec![0.0; plan.elements()];
        let mut trainer = Trainer::new(network, options, &mut memory, seed).expect("room");
        let mut random = Random::new(seed + 1);
        // All of a sign, as after a ReLU, and one row of zeros.
        let inputs = trainer.inputs_mut();
        inputs
            .iter_mut()
            .for_each(|value| *value = random.normal().abs());
        inputs[..network.inputs()].fill(0.0);
        let labels: Vec<u16> = (0..ROWS)
            .map(|row| (row % network.classes()) as u16)
            .collect();
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&labels).expect("pass");
        trainer.clear_gradients().expect("plan");
        let (top, rows) = (network.layers().len() - 1, 0..ROWS);
        assert!(trainer.is_top(top, &rows, &adversary));
        let sum = if short {
            trainer.adversarial_top(top, &rows, &labels, &adversary, 0.1)
        } else {
            trainer.adversarial_through(top, &rows, &labels, &adversary, (0.1, None))
        };
        (sum.expect("pass"), trainer.gradients().to_vec())
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes more than ten minutes there")]
    fn gives_what_passes_through_the_layer_give() {
        for kernel in Kernel::available() {
            for (features, hidden, classes) in [(64, &[][..], 2), (200, &[], 12), (30, &[90], 7)] {
                let network = Network::mlp(features, hidden, classes).expect("sound");
                for seed in 0..5 {
                    let [(one, short), (two, long)] =
                        [true, false].map(|short| gradients(&network, kernel, short, seed));
                    assert!((one / two - 1.0).abs() < 1e-4, "{one} {two}");
                    let size = long.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                    for (short, long) in short.iter().zip(&long) {
                        let difference = (short - long).abs() / size;
                        assert!(difference < 2e-4, "{}: {difference}", kernel.name());
                    }
                }
            }
        }
    }

    #[test]
    fn equal_classes_give_no_direction() {
        // q^T G q is the difference of equal numbers there.
        let gram = [3.0, 3.0, 3.0, 3.0];
        assert_eq!(inverse_length(&[1.0, -1.0], &[1e-7, 2e-7], &gram), 0.0);
        assert_eq!(inverse_length(&[0.0, 0.0], &[0.0, 0.0], &gram), 0.0);
        let apart = [3.0, 0.0, 0.0, 1.0];
        assert_eq!(inverse_length(&[1.0, -1.0], &[3.0, -1.0], &apart), 0.5);
    }
}
