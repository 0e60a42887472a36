//! 1x1 convolutions of one group: a product of the weights with each sample's map. A map of
//! 7x7 has 49 columns, three tiles of 16 and one column more. Columns that fill no tile are
//! taken from several samples at once.

use super::convolution::CACHED_WEIGHTS;
use fieldtune_kernels::{Kernel, Matrix, multiply, multiply_strided};

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(super) struct Pointwise {
    pub kernel: Kernel,
    pub samples: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub positions: usize,
}

/// Some channels of every sample: all of them, and the first that counts.
#[derive(Clone, Copy)]
struct Channels {
    all: usize,
    first: usize,
}

impl Channels {
    fn all(all: usize) -> Self {
        Self { all, first: 0 }
    }
}

/// Room to work in.
pub(super) struct Room<'a> {
    /// [`Pointwise::scratch_elements`].
    pub rests: &'a mut [f32],
    /// What the products need.
    pub packing: &'a mut [f32],
}

impl Pointwise {
    /// Room for the columns that fill no tile and for what becomes of them, in elements.
    pub fn scratch_elements(&self) -> usize {
        match self.rest() {
            0 => 0,
            _ => (self.inputs + self.step()) * self.kernel.width(),
        }
    }

    /// `y += W x`.
    pub fn forward(&self, x: &[f32], w: &[f32], y: &mut [f32], mut room: Room<'_>) {
        self.each_step(w, |weights, part| {
            let (x, y) = ((x, Channels::all(self.inputs)), (&mut *y, part));
            self.product(weights, x, y, true, &mut room);
        });
    }

    /// `dx = W^T dy`.
    pub fn backward_input(&self, dy: &[f32], w: &[f32], dx: &mut [f32], mut room: Room<'_>) {
        self.each_step(w, |weights, part| {
            let (dy, dx) = ((dy, part), (&mut *dx, Channels::all(self.inputs)));
            let more = part.first > 0;
            self.product(weights.transposed(), dy, dx, more, &mut room);
        });
    }

    /// Columns of each map that fill no tile; 0 where two samples' do not fit into one.
    fn rest(&self) -> usize {
        let (rest, width) = (self.positions % self.kernel.width(), self.kernel.width());
        if 2 * rest <= width { rest } else { 0 }
    }

    /// Outputs whose weights stay in the cache for all samples.
    fn step(&self) -> usize {
        (CACHED_WEIGHTS / self.inputs).clamp(1, self.outputs)
    }

    /// Calls with some outputs' weights, and where those outputs are.
    fn each_step(&self, w: &[f32], mut run: impl FnMut(Matrix<'_>, Channels)) {
        for first in (0..self.outputs).step_by(self.step()) {
            let outputs = self.step().min(self.outputs - first);
            let weights = Matrix::new(&w[first * self.inputs..], outputs, self.inputs);
            let all = self.outputs;
            run(weights, Channels { all, first });
        }
    }

    /// `to = a from` for every sample, or `to += a from` for `more`.
    fn product(
        &self,
        a: Matrix<'_>,
        (from, seen): (&[f32], Channels),
        (to, made): (&mut [f32], Channels),
        more: bool,
        room: &mut Room<'_>,
    ) {
        let (kernel, positions, rest) = (self.kernel, self.positions, self.rest());
        if positions > rest {
            for sample in 0..self.samples {
                let x = &from[self.start(sample, seen)..];
                let x = Matrix::strided(x, a.columns(), positions - rest, positions);
                let y = &mut to[self.start(sample, made)..];
                multiply_strided(kernel, a, x, y, positions, more, room.packing);
            }
        }
        if rest == 0 {
            return;
        }
        let together = kernel.width() / rest;
        for first in (0..self.samples).step_by(together) {
            let samples = first..self.samples.min(first + together);
            let columns = samples.len() * rest;
            let (x, y) = room.rests.split_at_mut(a.columns() * columns);
            let y = &mut y[..a.rows() * columns];
            for (place, sample) in samples.clone().enumerate() {
                let inputs = from[self.start(sample, seen)..].chunks_exact(positions);
                for (row, channel) in x.chunks_exact_mut(columns).zip(inputs) {
                    row[place * rest..][..rest].copy_from_slice(&channel[positions - rest..]);
                }
                let outputs = to[self.start(sample, made)..].chunks_exact(positions);
                for (row, channel) in y.chunks_exact_mut(columns).zip(outputs) {
                    row[place * rest..][..rest].copy_from_slice(&channel[positions - rest..]);
                }
            }
            multiply(
                kernel,
                a,
                Matrix::new(x, a.columns(), columns),
                y,
                more,
                room.packing,
            );
            for (place, sample) in samples.enumerate() {
                let outputs = to[self.start(sample, made)..].chunks_exact_mut(positions);
                for (row, channel) in y.chunks_exact(columns).zip(outputs) {
                    channel[positions - rest..].copy_from_slice(&row[place * rest..][..rest]);
                }
            }
        }
    }

    /// Where the channels of a sample begin.
    fn start(&self, sample: usize, channels: Channels) -> usize {
        (sample * channels.all + channels.first) * self.positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: usize = 11;
    const INPUTS: usize = 3;
    const OUTPUTS: usize = 5;

    /// Numbers whose sums are rounded.
    fn numbers<const N: usize>(salt: usize) -> [f32; N] {
        core::array::from_fn(|i| ((i * 37 + salt) % 101) as f32 * 0.013 - 0.6)
    }

    #[test]
    fn columns_taken_from_several_samples_have_the_sums_of_each() {
        // Tiles of the plain kernel have 8 columns: all columns, some or none fill no tile.
        for positions in [1, 4, 8, 9, 12, 13, 49] {
            let kernel = Kernel::lanes();
            let layer = Pointwise {
                kernel,
                samples: SAMPLES,
                inputs: INPUTS,
                outputs: OUTPUTS,
                positions,
            };
            let w = numbers::<{ INPUTS * OUTPUTS }>(1);
            let x = numbers::<{ SAMPLES * INPUTS * 49 }>(2);
            let start = numbers::<{ SAMPLES * OUTPUTS * 49 }>(3);
            let (mut y, mut dx) = (start, x);
            let (mut rests, mut packing) = ([f32::NAN; 64], [f32::NAN; 2048]);
            let rests = &mut rests[..layer.scratch_elements()];
            let packing = &mut packing;
            layer.forward(&x, &w, &mut y, Room { rests, packing });
            layer.backward_input(&start, &w, &mut dx, Room { rests, packing });
            for sample in 0..SAMPLES {
                for p in 0..positions {
                    let input = |i: usize| (sample * INPUTS + i) * positions + p;
                    let output = |o: usize| (sample * OUTPUTS + o) * positions + p;
                    for o in 0..OUTPUTS {
                        let terms = (0..INPUTS).map(|i| w[o * INPUTS + i] * x[input(i)]);
                        let sum = terms.fold(start[output(o)], |sum, term| sum + term);
                        assert_eq!(y[output(o)].to_bits(), sum.to_bits(), "{positions}");
                    }
                    for i in 0..INPUTS {
                        let terms = (0..OUTPUTS).map(|o| w[o * INPUTS + i] * start[output(o)]);
                        let sum = terms.fold(0.0, |sum, term| sum + term);
                        assert_eq!(dx[input(i)].to_bits(), f32::to_bits(sum), "{positions}");
                    }
                }
            }
        }
    }
}
