//! Where a sliding window stands: which input element each output element sees
//! through each tap of the kernel. Shared by convolutions and pools.

use crate::layer::{Shape, Window};
use core::ops::Range;

/// One axis of a window over a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    input: usize,
    output: usize,
    stride: usize,
    dilation: usize,
    before: usize,
}

impl Axis {
    /// The vertical and the horizontal axis.
    pub fn both(window: &Window, input: Shape, output: Shape) -> [Self; 2] {
        let sizes = [(input.rows, output.rows), (input.columns, output.columns)];
        core::array::from_fn(|axis| Self {
            input: sizes[axis].0 as usize,
            output: sizes[axis].1 as usize,
            stride: usize::from(window.stride[axis]),
            dilation: usize::from(window.dilation[axis]),
            before: usize::from(window.padding[axis]),
        })
    }

    /// Output positions that see an input element, and not padding, through `tap`.
    pub fn valid(&self, tap: usize) -> Range<usize> {
        let tap = tap * self.dilation;
        let first = self.before.saturating_sub(tap).div_ceil(self.stride);
        let end = (self.input + self.before).saturating_sub(tap);
        let end = end.div_ceil(self.stride).min(self.output);
        first.min(end)..end
    }

    /// The input position that output position `out` sees through `tap`; `out` is valid.
    pub fn source(&self, out: usize, tap: usize) -> usize {
        out * self.stride + tap * self.dilation - self.before
    }

    /// Taps through which output position `out` sees input and not padding.
    pub fn taps(&self, out: usize, kernel: usize) -> Range<usize> {
        let first = self.before.saturating_sub(out * self.stride);
        let end = (self.input + self.before).saturating_sub(out * self.stride);
        first.div_ceil(self.dilation)..end.div_ceil(self.dilation).min(kernel)
    }

    /// Steps from one position to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }
}

/// One output row of one channel through one tap: where it starts in the output and
/// in the input, how many positions, and how far apart they stand in the input.
pub(crate) struct Line {
    pub y: usize,
    pub x: usize,
    pub count: usize,
    pub stride: usize,
}

/// Calls with every tap of the window, counted row by row, and every output row that
/// sees input through it.
pub(crate) fn each_line(
    window: &Window,
    input: Shape,
    output: Shape,
    mut run: impl FnMut(usize, Line),
) {
    let [vertical, horizontal] = Axis::both(window, input, output);
    let width = usize::from(window.kernel[1]);
    for tap in 0..window.positions() {
        let (down, right) = (tap / width, tap % width);
        let valid = horizontal.valid(right);
        if valid.is_empty() {
            continue;
        }
        for row in vertical.valid(down) {
            let line = Line {
                y: row * output.columns as usize + valid.start,
                x: vertical.source(row, down) * input.columns as usize
                    + horizontal.source(valid.start, right),
                count: valid.len(),
                stride: horizontal.stride(),
            };
            run(tap, line);
        }
    }
}

/// Sum of products, in eight columns: quick on every CPU and the same on all.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const COLUMNS: usize = 8;
    let mut sums = [0.0f32; COLUMNS];
    let (a_parts, b_parts) = (a.chunks_exact(COLUMNS), b.chunks_exact(COLUMNS));
    let rest = a_parts.remainder().iter().zip(b_parts.remainder());
    for (a, b) in a_parts.zip(b_parts) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    rest.fold(sums.iter().sum(), |sum, (a, b)| sum + a * b)
}

/// Sum of all values, in eight columns.
pub(crate) fn sum(values: &[f32]) -> f32 {
    const COLUMNS: usize = 8;
    let mut sums = [0.0f32; COLUMNS];
    let parts = values.chunks_exact(COLUMNS);
    let rest = parts.remainder();
    for part in parts {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value;
        }
    }
    rest.iter()
        .fold(sums.iter().sum(), |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_valid_exactly_when_its_source_is_inside() {
        for (input, kernel, stride, padding, gap) in [
            (7, 3, 1, 1, 1),
            (8, 3, 2, 1, 1),
            (5, 5, 3, 2, 1),
            (6, 2, 2, 0, 1),
            (3, 3, 1, 2, 1),
            (9, 3, 1, 2, 2),
            (8, 3, 2, 4, 3),
            (7, 2, 3, 0, 5),
        ] {
            let window = Window {
                dilation: [gap; 2],
                ..Window::square(kernel, stride, padding)
            };
            let shape = Shape::map(1, input, input);
            let [rows, columns] = window.output(shape).expect("fits");
            let [axis, _] = Axis::both(&window, shape, Shape::map(1, rows, columns));
            for tap in 0..usize::from(kernel) {
                for out in 0..rows as usize {
                    let source = out * usize::from(stride) + tap * usize::from(gap);
                    let inside = (usize::from(padding)..usize::from(padding) + input as usize)
                        .contains(&source);
                    assert_eq!(axis.valid(tap).contains(&out), inside, "{tap} {out}");
                    let taps = axis.taps(out, usize::from(kernel));
                    assert_eq!(taps.contains(&tap), inside, "{tap} {out}");
                    if inside {
                        assert_eq!(axis.source(out, tap), source - usize::from(padding));
                    }
                }
            }
        }
    }

    #[test]
    fn sums_in_columns_are_sums() {
        let a: [f32; 19] = core::array::from_fn(|i| i as f32 - 4.0);
        let exact: f32 = a.iter().map(|v| v * v).sum();
        assert_eq!(dot(&a, &a), exact);
        assert_eq!(sum(&a), a.iter().sum::<f32>());
    }
}
