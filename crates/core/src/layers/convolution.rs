//! Convolution: x `[B, inputs, rows, columns]`, W `[outputs, inputs / groups, kernel
//! rows, kernel columns]`, y `[B, outputs, rows, columns]`, one sample after another.
//!
//! Three ways. Pointwise (1x1, stride 1, no padding): a matrix product with the map
//! itself, of one group in `pointwise.rs`. Depthwise: tap by tap along the rows, in
//! `depthwise.rs`. All others: the map's windows are written out as columns (a few output
//! rows at a time, so that they stay in the cache and the arena stays small), then a matrix
//! product.

use super::depthwise;
use super::pointwise::{Pointwise, Room};
use super::window::{Axis, sum};
use crate::layer::{Convolution as Sizes, Shape};
use core::ops::Range;
use fieldtune_kernels::{Kernel, Matrix, multiply_strided};

/// Elements of written-out columns that are made at a time, where one output row
/// does not need more: 256 KiB. Fewer make narrow products: half of it cost 10 to 25 %
/// of the time of 3x3 convolutions.
const COLUMN_ELEMENTS: usize = 64 * 1024;

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct Convolution {
    pub kernel: Kernel,
    pub rows: usize,
    pub sizes: Sizes,
    pub input: Shape,
    pub output: Shape,
}

/// Weights that stay in a small CPU's second-level cache while all samples pass: 128 KiB.
pub(super) const CACHED_WEIGHTS: usize = 32 * 1024;

/// Gradients of weights that do so: 512 KiB. Each part of them has the map turned around once
/// more, which costs as much as their way to memory.
const CACHED_GRADIENTS: usize = 4 * CACHED_WEIGHTS;

/// One sample and some outputs of one group.
struct Part {
    /// Elements of the group's input.
    x: Range<usize>,
    /// Elements of these outputs.
    y: Range<usize>,
    /// Their weights.
    w: Range<usize>,
    /// How many output channels.
    outputs: usize,
    /// Whether they are the group's first.
    first: bool,
}

impl Convolution {
    /// Working space of all passes, in elements.
    pub fn scratch_elements(&self) -> usize {
        if self.sizes.is_depthwise() {
            return 0;
        }
        let columns = self.column_elements();
        let positions = match columns {
            0 => self.output.positions(),
            _ => self.block_rows() * self.output.columns as usize,
        };
        let longest = [self.sizes.fan_in(), positions, self.outputs()];
        let packing = longest.map(|k| self.kernel.scratch_elements(k));
        let rests = self.pointwise().map_or(0, |it| it.scratch_elements());
        columns + rests + packing.into_iter().fold(0, usize::max)
    }

    /// `y = W * x + b`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        let positions = self.output.positions();
        for sample in y.chunks_exact_mut(self.output.elements()).take(self.rows) {
            for (channel, bias) in sample.chunks_exact_mut(positions).zip(b) {
                channel.fill(*bias);
            }
        }
        if self.sizes.is_depthwise() {
            return depthwise::forward(self, x, w, y);
        }
        if let Some(pointwise) = self.pointwise() {
            return pointwise.forward(x, w, y, room(&pointwise, scratch));
        }
        let (columns, packing) = scratch.split_at_mut(self.column_elements());
        self.each_part(CACHED_WEIGHTS, |part| {
            let weights = Matrix::new(&w[part.w], part.outputs, self.sizes.fan_in());
            let x = &x[part.x];
            self.each_block(|block, seen_by| {
                let seen = self.columns(x, &block, columns);
                let y = &mut y[part.y.start + seen_by.start..part.y.end];
                multiply_strided(self.kernel, weights, seen, y, positions, true, packing);
            });
        });
    }

    /// `dW += dy * x` and `db += sum of dy` over the batch and the positions.
    pub fn backward_parameters(
        &self,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        db: &mut [f32],
        scratch: &mut [f32],
    ) {
        let positions = self.output.positions();
        for sample in dy.chunks_exact(self.output.elements()).take(self.rows) {
            for (channel, db) in sample.chunks_exact(positions).zip(db.iter_mut()) {
                *db += sum(channel);
            }
        }
        if self.sizes.is_depthwise() {
            return depthwise::backward_parameters(self, x, dy, dw);
        }
        let (columns, packing) = scratch.split_at_mut(self.column_elements());
        let fan_in = self.sizes.fan_in();
        self.each_part(CACHED_GRADIENTS, |part| {
            let (x, dy, dw) = (&x[part.x], &dy[part.y], &mut dw[part.w]);
            self.each_block(|block, by| {
                let seen = self.columns(x, &block, columns).transposed();
                let out = Matrix::strided(&dy[by.start..], part.outputs, by.len(), positions);
                multiply_strided(self.kernel, out, seen, dw, fan_in, true, packing);
            });
        });
    }

    /// `dx = W^T * dy`.
    pub fn backward_input(&self, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        if self.sizes.is_depthwise() {
            dx.fill(0.0);
            return depthwise::backward_input(self, dy, w, dx);
        }
        if let Some(pointwise) = self.pointwise() {
            return pointwise.backward_input(dy, w, dx, room(&pointwise, scratch));
        }
        let (columns, packing) = scratch.split_at_mut(self.column_elements());
        let (fan_in, positions) = (self.sizes.fan_in(), self.output.positions());
        self.each_part(CACHED_WEIGHTS, |part| {
            let weights = Matrix::new(&w[part.w], part.outputs, fan_in).transposed();
            let (dy, dx) = (&dy[part.y], &mut dx[part.x]);
            if columns.is_empty() {
                let out = Matrix::new(dy, part.outputs, positions);
                let more = !part.first;
                multiply_strided(self.kernel, weights, out, dx, positions, more, packing);
                return;
            }
            dx.fill(0.0);
            self.each_block(|block, by| {
                let out = Matrix::strided(&dy[by.start..], part.outputs, by.len(), positions);
                let width = by.len();
                multiply_strided(self.kernel, weights, out, columns, width, false, packing);
                self.add_columns(columns, &block, dx);
            });
        });
    }

    /// The same as a product with the whole map, where it is one.
    fn pointwise(&self) -> Option<Pointwise> {
        let is_one = self.sizes.window.is_pointwise() && self.sizes.groups == 1;
        is_one.then(|| Pointwise {
            kernel: self.kernel,
            samples: self.rows,
            inputs: self.sizes.inputs as usize,
            outputs: self.outputs(),
            positions: self.output.positions(),
        })
    }

    /// Output channels of one group.
    fn outputs(&self) -> usize {
        (self.sizes.outputs / self.sizes.groups) as usize
    }

    /// Space for written-out windows; 0 where the map itself serves.
    fn column_elements(&self) -> usize {
        if self.sizes.window.is_pointwise() {
            return 0;
        }
        self.sizes.fan_in() * self.block_rows() * self.output.columns as usize
    }

    /// Output rows whose windows are written out at a time.
    fn block_rows(&self) -> usize {
        let one = self.sizes.fan_in() * self.output.columns as usize;
        (COLUMN_ELEMENTS / one).clamp(1, self.output.rows as usize)
    }

    /// Calls with every sample and group. Where the map itself is the product's operand,
    /// the outputs are cut so that so many elements of their weights are used for all samples
    /// before the next.
    fn each_part(&self, cached: usize, mut run: impl FnMut(Part)) {
        let (groups, all, fan_in) = (
            self.sizes.groups as usize,
            self.outputs(),
            self.sizes.fan_in(),
        );
        let step = if self.sizes.window.is_pointwise() {
            (cached / fan_in).clamp(1, all)
        } else {
            all
        };
        let (width, positions) = (self.input.elements() / groups, self.output.positions());
        for first in (0..all).step_by(step) {
            let outputs = step.min(all - first);
            for index in 0..self.rows * groups {
                let (y, w) = (index * all + first, index % groups * all + first);
                run(Part {
                    x: index * width..(index + 1) * width,
                    y: y * positions..(y + outputs) * positions,
                    w: w * fan_in..(w + outputs) * fan_in,
                    outputs,
                    first: first == 0,
                });
            }
        }
    }

    /// Calls with a block of output rows and the positions they cover in a channel.
    fn each_block(&self, mut run: impl FnMut(Range<usize>, Range<usize>)) {
        let (rows, width) = (self.output.rows as usize, self.output.columns as usize);
        if self.sizes.window.is_pointwise() {
            return run(0..rows, 0..rows * width);
        }
        let step = self.block_rows();
        for first in (0..rows).step_by(step) {
            let end = rows.min(first + step);
            run(first..end, first * width..end * width);
        }
    }

    /// What each output position of a block of rows sees, `[fan in, positions]`.
    fn columns<'c>(
        &self,
        x: &'c [f32],
        block: &Range<usize>,
        columns: &'c mut [f32],
    ) -> Matrix<'c> {
        let fan_in = self.sizes.fan_in();
        let width = self.output.columns as usize;
        let positions = block.len() * width;
        if self.sizes.window.is_pointwise() {
            return Matrix::new(x, fan_in, positions);
        }
        let mut lines = columns.chunks_exact_mut(positions);
        self.each_tap(|channel, taps, [vertical, horizontal]| {
            let Some(line) = lines.next() else { return };
            let source = &x[channel * self.input.positions()..];
            let (valid_rows, valid) = (vertical.valid(taps[0]), horizontal.valid(taps[1]));
            for (row, out) in block.clone().zip(line.chunks_exact_mut(width)) {
                if !valid_rows.contains(&row) || valid.is_empty() {
                    out.fill(0.0);
                    continue;
                }
                out[..valid.start].fill(0.0);
                out[valid.end..].fill(0.0);
                let from = vertical.source(row, taps[0]) * self.input.columns as usize
                    + horizontal.source(valid.start, taps[1]);
                gather(
                    &source[from..],
                    horizontal.stride(),
                    &mut out[valid.clone()],
                );
            }
        });
        Matrix::new(columns, fan_in, positions)
    }

    /// The reverse of [`Self::columns`]: adds each element to the input element it came
    /// from.
    fn add_columns(&self, columns: &[f32], block: &Range<usize>, dx: &mut [f32]) {
        let width = self.output.columns as usize;
        let mut lines = columns.chunks_exact(block.len() * width);
        self.each_tap(|channel, taps, [vertical, horizontal]| {
            let Some(line) = lines.next() else { return };
            let target = &mut dx[channel * self.input.positions()..];
            let (valid_rows, valid) = (vertical.valid(taps[0]), horizontal.valid(taps[1]));
            for (row, values) in block.clone().zip(line.chunks_exact(width)) {
                if !valid_rows.contains(&row) || valid.is_empty() {
                    continue;
                }
                let to = vertical.source(row, taps[0]) * self.input.columns as usize
                    + horizontal.source(valid.start, taps[1]);
                scatter(
                    &values[valid.clone()],
                    horizontal.stride(),
                    &mut target[to..],
                );
            }
        });
    }

    /// Calls with every input channel of a group and every tap of the kernel, in the
    /// order of the weights.
    fn each_tap(&self, mut run: impl FnMut(usize, [usize; 2], [Axis; 2])) {
        let axes = Axis::both(&self.sizes.window, self.input, self.output);
        let [height, width] = self.sizes.window.kernel.map(usize::from);
        for channel in 0..(self.sizes.inputs / self.sizes.groups) as usize {
            for vertical in 0..height {
                for horizontal in 0..width {
                    run(channel, [vertical, horizontal], axes);
                }
            }
        }
    }
}

fn room<'a>(pointwise: &Pointwise, scratch: &'a mut [f32]) -> Room<'a> {
    let (rests, packing) = scratch.split_at_mut(pointwise.scratch_elements());
    Room { rests, packing }
}

fn gather(source: &[f32], stride: usize, out: &mut [f32]) {
    if stride == 1 {
        out.copy_from_slice(&source[..out.len()]);
    } else {
        for (out, value) in out.iter_mut().zip(source.iter().step_by(stride)) {
            *out = *value;
        }
    }
}

fn scatter(values: &[f32], stride: usize, target: &mut [f32]) {
    if stride == 1 {
        for (target, value) in target.iter_mut().zip(values) {
            *target += value;
        }
    } else {
        for (target, value) in target.iter_mut().step_by(stride).zip(values) {
            *target += value;
        }
    }
}
