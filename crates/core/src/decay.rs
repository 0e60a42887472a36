//! Layer-wise adaptive decay: each layer's L2 coefficient follows the scale of
//! its gradient.
//!
//! Source: M. Ishii and A. Sato, "Layer-wise weight decay for deep neural
//! networks", PSIVT 2017; A. Sato, NEC Technical Journal 14(1). The update is
//! `w_l <- w_l - mu (dw_l + lambda_l w_l)`; wanted is
//! `|lambda_l w_l| / |dw_l| = c` in every layer. Only the last layer's lambda is
//! tuned, the others follow. Biases are not decayed.
//!
//! The trainer takes [`crate::structural`], which holds for all layers and for batches;
//! here is the published form that it generalises.
//!
//! # The structural form, for dense layers with ReLU
//! Widths `n_0 .. n_L`, weights of rms `s_l`, layer l maps `n_(l-1)` to `n_l`.
//! Let `x_l` be the rms of layer l's input and `d_l` that of the gradient by its
//! output. Then per element
//! - `dw_l` has rms proportional to `d_l x_l`, so
//!   `lambda_l = c |dw_l| / |w_l| = c d_l x_l / s_l` (both norms count the same
//!   `n_l n_(l-1)` elements);
//! - forward, `x_(l+1)^2 = n_(l-1) s_l^2 x_l^2 / 2` (ReLU keeps half of the power);
//! - backward, `d_l^2 = n_(l+1) s_(l+1)^2 d_(l+1)^2 / 2` (ReLU passes half).
//!
//! The ratio of neighbours is therefore
//! `lambda_l / lambda_(l+1) = (d_l / d_(l+1)) (x_l / x_(l+1)) (s_(l+1) / s_l)
//! = sqrt(n_(l+1) / n_(l-1)) s_(l+1)^2 / s_l^2`. With He's
//! initialisation, `s_l^2 = 2 / n_(l-1)`, it becomes
//! `sqrt(n_(l+1) n_(l-1)) / n_l`.

use fieldtune_kernels::sqrt;
use serde::{Deserialize, Serialize};

/// Where the coefficients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// No decay.
    None,
    /// The same coefficient in every layer: plain L2, for comparison.
    Uniform,
    /// Closed form from the widths and the starting weights.
    Structural,
    /// From the gradients of a few batches before the first update.
    Measured,
    /// From a running average of `|dw_l| / |w_l|` during training.
    Online,
}

/// Decay as the user asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decay {
    /// Where the coefficients come from.
    pub mode: Mode,
    /// The last layer's coefficient.
    pub lambda: f32,
}

/// Fills `lambdas` `[L]` by the structural form for He-initialised layers.
/// `widths` is `n_0 .. n_L`.
pub fn structural(widths: &[usize], last: f32, lambdas: &mut [f32]) {
    from_the_top(last, lambdas, |l| {
        let [before, own, after] = [0, 1, 2].map(|i| widths[l + i] as f32);
        sqrt(after * before) / own
    });
}

/// Fills `lambdas` `[L]` by the structural form for weights of the given rms `[L]`.
/// A layer whose weights are all zero takes the coefficient of the layer above.
pub fn structural_from_weights(widths: &[usize], rms: &[f32], last: f32, lambdas: &mut [f32]) {
    from_the_top(last, lambdas, |l| {
        let shape = sqrt(widths[l + 2] as f32 / widths[l] as f32);
        let scale = rms[l + 1] / rms[l];
        shape * scale * scale
    });
}

/// Fills `lambdas` `[L]` so that `lambda_l |w_l| / |dw_l|` is the same in every
/// layer; `ratios` `[L]` are `|dw_l| / |w_l|`.
pub fn measured(ratios: &[f32], last: f32, lambdas: &mut [f32]) {
    let top = ratios.last().copied().unwrap_or(0.0);
    for (lambda, ratio) in lambdas.iter_mut().zip(ratios) {
        let scaled = last * ratio / top;
        *lambda = if scaled.is_finite() { scaled } else { last };
    }
}

fn from_the_top(last: f32, lambdas: &mut [f32], ratio: impl Fn(usize) -> f32) {
    let mut lambda = last;
    for l in (0..lambdas.len()).rev() {
        if l + 1 < lambdas.len() {
            let next = lambda * ratio(l);
            if next.is_finite() {
                lambda = next;
            }
        }
        lambdas[l] = lambda;
    }
}

/// Euclidean norm. Summed in eight columns and in blocks: quick on every CPU, and long
/// vectors lose no digits.
pub fn norm(values: &[f32]) -> f32 {
    const COLUMNS: usize = 8;
    let block = |block: &[f32]| {
        let mut sums = [0.0f32; COLUMNS];
        for part in block.chunks(COLUMNS) {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value * value;
            }
        }
        sums.iter().sum::<f32>()
    };
    sqrt(values.chunks(64 * COLUMNS).map(block).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_structural_forms_agree_on_he_weights() {
        let widths = [16, 12, 8, 5, 4];
        let rms: [f32; 4] = core::array::from_fn(|l| sqrt(2.0 / widths[l] as f32));
        let (mut he, mut weights) = ([0.0; 4], [0.0; 4]);
        structural(&widths, 0.01, &mut he);
        structural_from_weights(&widths, &rms, 0.01, &mut weights);
        for (a, b) in he.iter().zip(weights) {
            assert!((a / b - 1.0).abs() < 1e-5, "{he:?} {weights:?}");
        }
        assert_eq!(he[3], 0.01);
    }

    #[test]
    fn dead_layers_do_not_poison_the_others() {
        let mut lambdas = [0.0; 2];
        measured(&[1.0, 0.0], 0.01, &mut lambdas);
        assert_eq!(lambdas, [0.01, 0.01]);
        structural_from_weights(&[4, 4, 4], &[0.0, 1.0], 0.01, &mut lambdas);
        assert_eq!(lambdas, [0.01, 0.01]);
    }
}
