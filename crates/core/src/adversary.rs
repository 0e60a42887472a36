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
use serde::{Deserialize, Serialize};

/// How to perturb.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rise {
    /// In a straight line.
    #[default]
    Linear,
    /// As half a cosine: slowly at both ends.
    Cosine,
}

/// Which layers' inputs are perturbed, among those that have a weight matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Rows narrower than this start from numbers instead of signs.
pub(crate) const SIGNS_FROM: usize = 64;

/// `out = h + d`, all `[B, width]`, with `d` a random direction for each row, of `length`
/// times its norm, which stands in `norms` `[B]`: the power iteration's start.
///
/// Normal numbers would favour no direction at all, but cost more than the passes
/// through a small head. Wide rows get random signs, one bit an element: their mean
/// square along any direction is the same, as in Hutchinson's estimate of a trace (1990).
/// In narrow rows a sign vector can stand at a right angle to what is looked for (of two
/// elements in every second draw), so those get independent numbers from -1 to 1, two
/// from one draw.
pub(crate) fn probe(
    random: &mut Random,
    h: &[f32],
    norms: &[f32],
    length: f32,
    out: &mut [f32],
    width: usize,
) {
    if width < SIGNS_FROM {
        draw_numbers(random, out);
        return perturb_along(h, norms, length, out, width);
    }
    const BITS: usize = 32;
    let own = length / sqrt(width as f32);
    let rows = h.chunks_exact(width).zip(out.chunks_exact_mut(width));
    for ((h, out), norm) in rows.zip(norms) {
        let size = (own * norm).to_bits();
        let add = |h: f32, bits: u32, bit: usize| {
            let sign = if bits & (1 << bit) == 0 { 0 } else { 1 << 31 };
            h + f32::from_bits(size | sign)
        };
        let (blocks, rest) = h.as_chunks::<BITS>();
        let (out_blocks, out_rest) = out.as_chunks_mut::<BITS>();
        for (h, out) in blocks.iter().zip(out_blocks) {
            let bits = random.bits();
            for bit in 0..BITS {
                out[bit] = add(h[bit], bits, bit);
            }
        }
        if !rest.is_empty() {
            let bits = random.bits();
            for (bit, (h, out)) in rest.iter().zip(out_rest).enumerate() {
                *out = add(*h, bits, bit);
            }
        }
    }
}

fn draw_numbers(random: &mut Random, numbers: &mut [f32]) {
    let from_half = |bits: u32| (bits & 0xffff) as f32 / 32_768.0 - 1.0;
    for pair in numbers.chunks_mut(2) {
        let bits = random.bits();
        for (value, half) in pair.iter_mut().zip([bits, bits >> 16]) {
            *value = from_half(half);
        }
    }
}

/// Writes the norm of every row of `h` `[B, width]` to `norms` `[B]`.
pub(crate) fn row_norms(h: &[f32], norms: &mut [f32], width: usize) {
    for (row, norm) in h.chunks_exact(width).zip(norms) {
        *norm = sqrt(squares(row));
    }
}

/// `out = h + r`, all `[B, width]`, with `r` the row of `directions` brought to `length`
/// times the norm of the row of `h`, which stands in `norms` `[B]`. Rows of zeros stay
/// zero.
pub(crate) fn perturb(
    h: &[f32],
    norms: &[f32],
    length: f32,
    directions: &[f32],
    out: &mut [f32],
    width: usize,
) {
    let rows = h.chunks_exact(width).zip(directions.chunks_exact(width));
    let rows = rows.zip(norms).zip(out.chunks_exact_mut(width));
    for (((h, r), norm), out) in rows {
        let [up, factor] = factors(r, length * norm);
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

/// The same with the directions in `out`.
pub(crate) fn perturb_along(h: &[f32], norms: &[f32], length: f32, out: &mut [f32], width: usize) {
    let rows = h.chunks_exact(width).zip(out.chunks_exact_mut(width));
    for ((h, out), norm) in rows.zip(norms) {
        let [up, factor] = factors(out, length * norm);
        for (out, h) in out.iter_mut().zip(h) {
            *out = h + (*out * up) * factor;
        }
    }
}

/// Two factors that, one after the other, bring a vector to `length`; zeros for a vector
/// of zeros, and for one so small that its inverse is not a number.
fn factors(r: &[f32], length: f32) -> [f32; 2] {
    let square = squares(r);
    if (1e-30..1e30).contains(&square) {
        return [1.0, length / sqrt(square)];
    }
    // Gradients can be so small that their squares vanish; divide first.
    let up = 1.0 / largest_size(r);
    if !up.is_finite() || up == 0.0 {
        return [0.0, 0.0];
    }
    let square: f32 = r.iter().map(|value| (value * up) * (value * up)).sum();
    [up, length / sqrt(square)]
}

/// `out` = `r` divided by its largest size, or zeros where that cannot be done.
pub(crate) fn to_size_one(r: &[f32], out: &mut [f32]) {
    let up = 1.0 / largest_size(r);
    let up = if up.is_finite() { up } else { 0.0 };
    for (out, r) in out.iter_mut().zip(r) {
        *out = r * up;
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
        let mut norms = [0.0; 4];
        row_norms(&h, &mut norms, 2);
        let expected = [0.5, 0.0, 0.0, -0.2, 0.0, 0.0, 0.1, 0.0];
        let (mut apart, mut along) = ([f32::NAN; 8], r);
        perturb(&h, &norms, 0.1, &r, &mut apart, 2);
        perturb_along(&h, &norms, 0.1, &mut along, 2);
        for out in [apart, along] {
            for ((out, h), expected) in out.iter().zip(h).zip(expected) {
                assert!((out - h - expected).abs() < 1e-6, "{out} {h} {expected}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "so many draws take minutes")]
    fn probes_have_their_length_and_no_preference() {
        const DRAWS: usize = 2000;
        for width in [4, 100] {
            let (mut random, mut sums) = (Random::new(1), [0.0f32; 3]);
            let (h, mut out) = ([0.0; 100], [0.0f32; 100]);
            for _ in 0..DRAWS {
                let row = &mut out[..width];
                probe(&mut random, &h[..width], &[4.0], 0.5, row, width);
                assert!((sqrt(squares(row)) - 2.0).abs() < 1e-5);
                sums[0] += row[0];
                sums[1] += row[1] * row[width - 1];
                sums[2] += row[0] * row[0];
            }
            let means = sums.map(|sum| sum / DRAWS as f32);
            assert!(means[0].abs() < 0.1 && means[1].abs() < 0.1, "{means:?}");
            let even = 4.0 / width as f32;
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
