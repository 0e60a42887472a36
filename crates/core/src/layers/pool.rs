//! Pools: the mean over a whole map, the maximum over windows.

use super::window::{Axis, each_line, sum};
use crate::layer::{Shape, Window};

/// `y = mean of x` over each channel's `positions`.
pub(crate) fn global_average(x: &[f32], y: &mut [f32], positions: usize) {
    let scale = 1.0 / positions as f32;
    for (y, x) in y.iter_mut().zip(x.chunks_exact(positions)) {
        *y = sum(x) * scale;
    }
}

/// `dx = dy / positions` at every position.
pub(crate) fn global_average_backward(dy: &[f32], dx: &mut [f32], positions: usize) {
    let scale = 1.0 / positions as f32;
    for (dx, dy) in dx.chunks_exact_mut(positions).zip(dy) {
        dx.fill(dy * scale);
    }
}

/// Maximum over windows; padding never wins.
#[derive(Clone, Copy)]
pub(crate) struct MaxPool {
    pub window: Window,
    pub input: Shape,
    pub output: Shape,
}

impl MaxPool {
    /// `y = max of x` in each window.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        y.fill(f32::NEG_INFINITY);
        let (size_in, size_out) = (self.input.positions(), self.output.positions());
        for (x, y) in x.chunks_exact(size_in).zip(y.chunks_exact_mut(size_out)) {
            each_line(&self.window, self.input, self.output, |_, line| {
                let y = &mut y[line.y..line.y + line.count];
                for (y, x) in y.iter_mut().zip(x[line.x..].iter().step_by(line.stride)) {
                    *y = if *x > *y { *x } else { *y };
                }
            });
        }
    }

    /// `dx = dy` at the first largest element of each window, 0 elsewhere.
    pub fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        dx.fill(0.0);
        let (size_in, size_out) = (self.input.positions(), self.output.positions());
        let planes = x.chunks_exact(size_in).zip(dy.chunks_exact(size_out));
        for ((x, dy), dx) in planes.zip(dx.chunks_exact_mut(size_in)) {
            self.each_winner(x, |position, winner| dx[winner] += dy[position]);
        }
    }

    /// Calls with every output position of one channel and the input position of the
    /// first largest element it sees.
    fn each_winner(&self, x: &[f32], mut run: impl FnMut(usize, usize)) {
        let [vertical, horizontal] = Axis::both(&self.window, self.input, self.output);
        let [height, width] = self.window.kernel.map(usize::from);
        let width_out = self.output.columns as usize;
        for position in 0..self.output.positions() {
            let (row, column) = (position / width_out, position % width_out);
            let (mut best, mut largest) = (0, f32::NEG_INFINITY);
            for down in vertical.taps(row, height) {
                let line = vertical.source(row, down) * self.input.columns as usize;
                for right in horizontal.taps(column, width) {
                    let source = line + horizontal.source(column, right);
                    if x[source] > largest {
                        (best, largest) = (source, x[source]);
                    }
                }
            }
            run(position, best);
        }
    }
}
