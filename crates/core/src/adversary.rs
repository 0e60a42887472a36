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
//! This file holds the settings and the vector arithmetic; the passes through the
//! layers are in [`crate::train`].

use crate::random::Random;
use core::ops::Range;
use fieldtune_kernels::sqrt;

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
    /// Which layers are drawn from.
    pub layers: Middle,
    /// The share of training over which epsilon rises from 0 to its value; 0 for none.
    pub ramp: f32,
    /// How it rises.
    pub rise: Rise,
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
            layers: Middle::All,
            ramp: 0.0,
            rise: Rise::Linear,
        }
    }

    /// The share of epsilon in force when training is at `progress`, 0 to 1.
    pub(crate) fn ramped(&self, progress: f32) -> f32 {
        if progress >= self.ramp {
            return 1.0;
        }
        let share = progress / self.ramp;
        match self.rise {
            Rise::Linear => share,
            Rise::Cosine => 0.5 * (1.0 - libm::cosf(core::f32::consts::PI * share)),
        }
    }
}

/// How epsilon rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rise {
    /// In a straight line.
    #[default]
    Linear,
    /// As half a cosine: slowly at both ends.
    Cosine,
}

/// Which layers' inputs are perturbed, among those that have a weight matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Middle {
    /// Every one.
    #[default]
    All,
    /// The lowest: the features themselves, or what is computed from them without
    /// weights.
    Lowest,
    /// Every one but the lowest; where there is no other, the lowest.
    AboveLowest,
}

impl Middle {
    /// Positions among `depth` layers; never empty.
    pub(crate) fn positions(self, depth: usize) -> Range<usize> {
        match self {
            Self::All => 0..depth,
            Self::Lowest => 0..1,
            Self::AboveLowest => depth.min(2) - 1..depth,
        }
    }
}

/// Rows narrower than this get numbers instead of signs.
const SIGNS_FROM: usize = 64;

/// Fills `directions` `[B, width]` with random directions, the power iteration's start.
///
/// Normal numbers would favour no direction at all, but cost more than the passes
/// through a small head. Wide rows get random signs, one bit an element: their mean
/// square along any direction is the same, as in Hutchinson's estimate of a trace (1990).
/// In narrow rows a sign vector can stand at a right angle to what is looked for (of two
/// elements in every second draw), so those get independent numbers from -1 to 1, two
/// from one draw.
pub(crate) fn draw(random: &mut Random, directions: &mut [f32], width: usize) {
    const BITS: usize = 32;
    if width >= SIGNS_FROM {
        for part in directions.chunks_mut(BITS) {
            let bits = random.bits();
            for (bit, value) in part.iter_mut().enumerate() {
                *value = if bits & (1 << bit) == 0 { 1.0 } else { -1.0 };
            }
        }
        return;
    }
    let from_half = |bits: u32| (bits & 0xffff) as f32 / 32_768.0 - 1.0;
    for pair in directions.chunks_mut(2) {
        let bits = random.bits();
        for (value, half) in pair.iter_mut().zip([bits, bits >> 16]) {
            *value = from_half(half);
        }
    }
}

/// Writes the norm of every row of `h` `[B, width]` to `lengths` `[B]`.
pub(crate) fn lengths(h: &[f32], lengths: &mut [f32], width: usize) {
    for (row, length) in h.chunks_exact(width).zip(lengths) {
        *length = sqrt(squares(row));
    }
}

/// `out = h + r`, all `[B, width]`, with `r` the row of `directions` brought to `length`
/// times the norm of the row of `h`, which stands in `lengths` `[B]`. Rows of zeros stay
/// zero.
pub(crate) fn perturb(
    h: &[f32],
    lengths: &[f32],
    length: f32,
    directions: &[f32],
    out: &mut [f32],
    width: usize,
) {
    let rows = h.chunks_exact(width).zip(directions.chunks_exact(width));
    let rows = rows.zip(lengths).zip(out.chunks_exact_mut(width));
    for (((h, r), norm), out) in rows {
        let square = squares(r);
        let (up, square) = if (1e-30..1e30).contains(&square) {
            (1.0, square)
        } else {
            // Gradients can be so small that their squares vanish; divide first.
            let up = 1.0 / largest_size(r);
            (up, r.iter().map(|value| (value * up) * (value * up)).sum())
        };
        if !up.is_finite() || up == 0.0 {
            out.copy_from_slice(h);
            continue;
        }
        let factor = length * norm / sqrt(square);
        if up == 1.0 {
            for ((out, h), r) in out.iter_mut().zip(h).zip(r) {
                *out = h + r * factor;
            }
        } else {
            for ((out, h), r) in out.iter_mut().zip(h).zip(r) {
                *out = h + (r * up) * factor;
            }
        }
    }
}

/// Sum of squares, in columns: quick on every CPU, and long rows lose no digits.
fn squares(values: &[f32]) -> f32 {
    const COLUMNS: usize = 32;
    let mut sums = [0.0f32; COLUMNS];
    let (parts, rest) = values.as_chunks::<COLUMNS>();
    for part in parts {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value * value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value * value;
    }
    sums.iter().sum()
}

/// The largest absolute value. Compared as whole numbers, in which positive floats have
/// the same order: the compiler makes vectors of that, and not of a maximum of floats.
fn largest_size(values: &[f32]) -> f32 {
    let sizes = values.iter().map(|value| value.abs().to_bits());
    f32::from_bits(sizes.fold(0, u32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_h_even_for_tiny_gradients() {
        let h = [3.0, 4.0, 0.0, 2.0, 1.0, 1.0, 0.6, 0.8];
        let r = [1e-30, 0.0, 0.0, -5.0, 0.0, 0.0, 1e30, 0.0];
        let (mut norms, mut out) = ([0.0; 4], [f32::NAN; 8]);
        lengths(&h, &mut norms, 2);
        perturb(&h, &norms, 0.1, &r, &mut out, 2);
        let found: [f32; 8] = core::array::from_fn(|i| out[i] - h[i]);
        let expected = [0.5, 0.0, 0.0, -0.2, 0.0, 0.0, 0.1, 0.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn directions_have_no_preference() {
        for width in [4, 100] {
            let (mut random, mut sums) = (Random::new(1), [0.0f32; 3]);
            let mut row = [0.0f32; 100];
            for _ in 0..2000 {
                draw(&mut random, &mut row[..width], width);
                sums[0] += row[0];
                sums[1] += row[1] * row[width - 1];
                sums[2] += row[0] * row[0] / row[..width].iter().map(|v| v * v).sum::<f32>();
            }
            let means = sums.map(|sum| sum / 2000.0);
            assert!(means[0].abs() < 0.1 && means[1].abs() < 0.1, "{means:?}");
            let even = 1.0 / width as f32;
            assert!((means[2] / even - 1.0).abs() < 0.1, "{means:?}");
        }
    }

    #[test]
    fn ramps_rise_to_one() {
        assert_eq!(Adversary::new(0.1).ramped(0.0), 1.0);
        let at = |rise, progress| {
            let ramp = 0.5;
            let plain = Adversary::new(0.1);
            Adversary {
                ramp,
                rise,
                ..plain
            }
            .ramped(progress)
        };
        for rise in [Rise::Linear, Rise::Cosine] {
            assert_eq!(
                [0.0, 0.5, 1.0].map(|share| at(rise, share)),
                [0.0, 1.0, 1.0]
            );
            assert!((at(rise, 0.25) - 0.5).abs() < 1e-6);
        }
        assert!(at(Rise::Cosine, 0.05) < at(Rise::Linear, 0.05));
    }

    #[test]
    fn layers_are_never_missing() {
        for (depth, above) in [(1, 0..1), (2, 1..2), (5, 1..5)] {
            assert_eq!(Middle::AboveLowest.positions(depth), above);
            assert_eq!(Middle::Lowest.positions(depth), 0..1);
            assert_eq!(Middle::All.positions(depth), 0..depth);
        }
    }
}
