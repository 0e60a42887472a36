//! Depthwise convolution: each output channel sees its own input channel alone, so
//! there is no matrix product in it. Every tap of the kernel is one pass along the
//! rows of the map, which the compiler turns into vectors.

use super::convolution::Convolution;
use super::window::{self, Line, dot};

/// `y += W * x`; the biases are there already.
pub(crate) fn forward(job: &Convolution, x: &[f32], w: &[f32], y: &mut [f32]) {
    each_line(job, |weight, line| {
        let (weight, y) = (w[weight], &mut y[line.y..line.y + line.count]);
        let x = &x[line.x..];
        if line.stride == 1 {
            for (y, x) in y.iter_mut().zip(x) {
                *y += weight * x;
            }
        } else {
            for (y, x) in y.iter_mut().zip(x.iter().step_by(line.stride)) {
                *y += weight * x;
            }
        }
    });
}

/// `dW += dy * x`.
pub(crate) fn backward_parameters(job: &Convolution, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    each_line(job, |weight, line| {
        let dy = &dy[line.y..line.y + line.count];
        let x = &x[line.x..];
        dw[weight] += if line.stride == 1 {
            dot(dy, &x[..line.count])
        } else {
            let pairs = dy.iter().zip(x.iter().step_by(line.stride));
            pairs.fold(0.0, |sum, (dy, x)| sum + dy * x)
        };
    });
}

/// `dx += W^T * dy`.
pub(crate) fn backward_input(job: &Convolution, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    each_line(job, |weight, line| {
        let (weight, dy) = (w[weight], &dy[line.y..line.y + line.count]);
        let dx = &mut dx[line.x..];
        if line.stride == 1 {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += weight * dy;
            }
        } else {
            for (dx, dy) in dx.iter_mut().step_by(line.stride).zip(dy) {
                *dx += weight * dy;
            }
        }
    });
}

fn each_line(job: &Convolution, mut run: impl FnMut(usize, Line)) {
    let (channels, taps) = (job.sizes.inputs as usize, job.sizes.window.positions());
    let (size_in, size_out) = (job.input.positions(), job.output.positions());
    for plane in 0..job.rows * channels {
        window::each_line(&job.sizes.window, job.input, job.output, |tap, line| {
            let line = Line {
                x: plane * size_in + line.x,
                y: plane * size_out + line.y,
                ..line
            };
            run(plane % channels * taps + tap, line);
        });
    }
}
