//! Adversarial features: the perturbation of a middle layer that changes the
//! output most.
//!
//! Source: M. Ishii and A. Sato, "Training deep neural networks with
//! adversarially augmented features for small-scale training datasets", IJCNN
//! 2019. With h a middle layer's output and g the layers above it,
//! `r_max = argmax KL(g(h) || g(h + r))` subject to `|r| <= epsilon |h|`, by power
//! iteration: from a random direction of length `xi |h|`, one step is the
//! gradient of the divergence by r, brought to length `epsilon |h|`. A sample
//! whose gradient is exactly zero gets no perturbation.
//!
//! This file holds the vector arithmetic; the passes through the layers are in
//! [`crate::train`].

use crate::decay::norm;
use crate::random::Random;

/// How to perturb.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adversary {
    /// Length of the perturbation, relative to |h|.
    pub epsilon: f32,
    /// Length of the probe, relative to |h|.
    pub xi: f32,
    /// Steps of power iteration, at least 1.
    pub steps: u32,
    /// Weight of the adversarial loss beside the clean loss.
    pub weight: f32,
    /// Whether every sample draws its own layer; else one is drawn for a batch.
    pub per_sample: bool,
    /// The share of training over which epsilon rises from 0 to its value; 0 for none.
    pub ramp: f32,
}

impl Adversary {
    /// One power-iteration step with a probe of 0.01, as published.
    pub const fn new(epsilon: f32) -> Self {
        Self {
            epsilon,
            xi: 0.01,
            steps: 1,
            weight: 1.0,
            per_sample: false,
            ramp: 0.0,
        }
    }

    /// The share of epsilon in force when training is at `progress`, 0 to 1.
    pub(crate) fn ramped(&self, progress: f32) -> f32 {
        if progress < self.ramp {
            progress / self.ramp
        } else {
            1.0
        }
    }
}

/// Fills `directions` with independent numbers from -1 to 1. Normal numbers would favour
/// no direction at all, but cost more than the passes through a small head; with many
/// elements the difference is not felt. For the same reason one draw serves two elements.
pub(crate) fn draw(random: &mut Random, directions: &mut [f32]) {
    let from_half = |bits: u32| (bits & 0xffff) as f32 / 32_768.0 - 1.0;
    for pair in directions.chunks_mut(2) {
        let bits = random.bits();
        for (value, half) in pair.iter_mut().zip([bits, bits >> 16]) {
            *value = from_half(half);
        }
    }
}

/// Brings every row of `directions` `[B, width]` to `length` times the norm of the
/// same row of `h`; rows of zeros stay.
pub(crate) fn scale(directions: &mut [f32], h: &[f32], width: usize, length: f32) {
    for (row, h) in directions
        .chunks_exact_mut(width)
        .zip(h.chunks_exact(width))
    {
        // Gradients can be so small that their squares vanish; divide first.
        let largest = largest_size(row);
        if largest == 0.0 {
            continue;
        }
        let up = 1.0 / largest;
        if up.is_infinite() {
            row.fill(0.0);
            continue;
        }
        for value in row.iter_mut() {
            *value *= up;
        }
        let factor = length * norm(h) / norm(row);
        for value in row.iter_mut() {
            *value *= factor;
        }
    }
}

/// The largest absolute value. Compared as whole numbers, in which positive floats have
/// the same order: the compiler makes vectors of that, and not of a maximum of floats.
fn largest_size(values: &[f32]) -> f32 {
    let sizes = values.iter().map(|value| value.abs().to_bits());
    f32::from_bits(sizes.fold(0, u32::max))
}

/// `out = h + r`.
pub(crate) fn perturb(h: &[f32], r: &[f32], out: &mut [f32]) {
    for ((out, h), r) in out.iter_mut().zip(h).zip(r) {
        *out = h + r;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_h_even_for_tiny_gradients() {
        let h = [3.0, 4.0, 0.0, 2.0, 1.0, 1.0];
        let mut r = [1e-30, 0.0, 0.0, -5.0, 0.0, 0.0];
        scale(&mut r, &h, 2, 0.1);
        assert_eq!(r[..2], [0.5, 0.0]);
        assert_eq!(r[2], 0.0);
        assert!((r[3] + 0.2).abs() < 1e-7);
        assert_eq!(r[4..], [0.0, 0.0]);
    }
}
