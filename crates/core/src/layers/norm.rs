//! Batch normalisation with frozen statistics (Ioffe and Szegedy, 2015):
//! `y = scale (x - mean) inverse + shift` by channel, where inverse is
//! `1 / sqrt(variance + epsilon)`. Scale and shift are trained. In place.

use super::window::{dot, sum};

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct BatchNorm {
    pub channels: usize,
    /// Positions of one channel.
    pub positions: usize,
}

impl BatchNorm {
    /// `constants` are the means, then the inverses, each `[channels]`.
    pub fn forward(&self, values: &mut [f32], scale: &[f32], shift: &[f32], constants: &[f32]) {
        let (means, inverses) = constants.split_at(self.channels);
        for (plane, values) in values.chunks_exact_mut(self.positions).enumerate() {
            let channel = plane % self.channels;
            let factor = scale[channel] * inverses[channel];
            let offset = shift[channel] - means[channel] * factor;
            for value in values {
                *value = *value * factor + offset;
            }
        }
    }

    /// `dscale += sum of dy (x - mean) inverse`, `dshift += sum of dy`.
    pub fn backward_parameters(
        &self,
        x: &[f32],
        dy: &[f32],
        dscale: &mut [f32],
        dshift: &mut [f32],
        constants: &[f32],
    ) {
        let (means, inverses) = constants.split_at(self.channels);
        let planes = x
            .chunks_exact(self.positions)
            .zip(dy.chunks_exact(self.positions));
        for (plane, (x, dy)) in planes.enumerate() {
            let channel = plane % self.channels;
            let total = sum(dy);
            dshift[channel] += total;
            dscale[channel] += (dot(x, dy) - means[channel] * total) * inverses[channel];
        }
    }

    /// `dx = dy scale inverse`, in place.
    pub fn backward_input(&self, dy: &mut [f32], scale: &[f32], constants: &[f32]) {
        let inverses = &constants[self.channels..];
        for (plane, dy) in dy.chunks_exact_mut(self.positions).enumerate() {
            let channel = plane % self.channels;
            let factor = scale[channel] * inverses[channel];
            for value in dy {
                *value *= factor;
            }
        }
    }
}
