//! Every instruction set against the definition, and that against loops over indices.

use super::{BLOCK_CHANNELS as BLOCK, Convolver, Depthwise, Product};

const SIZE: usize = 40_000;

/// Small whole numbers: every sum is exact, so all must agree to the bit.
fn whole_numbers(salt: usize) -> [f32; SIZE] {
    core::array::from_fn(|i| ((i * 7 + salt * 13 + i / 11) % 11) as f32 - 5.0)
}

/// Shape of one case of a product.
struct Case {
    rows: usize,
    columns: usize,
    column_stride: usize,
    whole: usize,
    others: usize,
    rest: usize,
    blocks: usize,
    residual: bool,
}

impl Case {
    fn segments(&self) -> [usize; 6] {
        core::array::from_fn(|index| index * 640 + index % 2 * 16)
    }

    fn row_stride(&self) -> usize {
        self.columns * self.column_stride + 7
    }

    fn work<'a>(
        &self,
        data: &'a Data,
        segments: &'a [usize],
        output: &'a mut [f32],
    ) -> Product<'a> {
        Product {
            rows: self.rows,
            columns: self.columns,
            input: &data.input,
            input_row_stride: self.row_stride(),
            input_column_stride: self.column_stride,
            segments: &segments[..self.whole + self.others],
            whole: self.whole,
            rest: self.rest,
            weights: &data.weights,
            bias: &data.bias,
            blocks: self.blocks,
            residual: self.residual.then_some(data.residual.as_slice()),
            output,
            output_block_stride: self.rows * (self.columns + 2) * BLOCK,
            output_row_stride: (self.columns + 2) * BLOCK,
            low: -40.0,
            high: 90.0,
        }
    }

    /// The element at these indices, by the formula.
    fn expected(&self, data: &Data, [block, row, column, lane]: [usize; 4]) -> f32 {
        let segments = self.segments();
        let depth = self.whole * BLOCK + self.others * self.rest;
        let place = row * self.row_stride() + column * self.column_stride;
        let mut sum = data.bias[block * BLOCK + lane];
        let mut k = 0;
        for (index, start) in segments[..self.whole + self.others].iter().enumerate() {
            let length = if index < self.whole { BLOCK } else { self.rest };
            for offset in 0..length {
                let weight = data.weights[(block * depth + k) * BLOCK + lane];
                sum += data.input[place + start + offset] * weight;
                k += 1;
            }
        }
        if self.residual {
            let row = (block * self.rows + row) * (self.columns + 2);
            sum += data.residual[(row + column) * BLOCK + lane];
        }
        sum.clamp(-40.0, 90.0)
    }
}

struct Data {
    input: [f32; SIZE],
    weights: [f32; SIZE],
    bias: [f32; SIZE],
    residual: [f32; SIZE],
}

/// Of many sizes every one is tried, except by Miri, which takes minutes for one.
const STEP: usize = if cfg!(miri) { 6 } else { 1 };

#[test]
fn products_of_every_shape_follow_the_formula() {
    let [input, weights, bias, residual] = [1, 2, 3, 4].map(whole_numbers);
    let data = Data {
        input,
        weights,
        bias,
        residual,
    };
    let mut output = [0.5; SIZE];
    for convolver in Convolver::available() {
        let columns = [1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 29];
        let sizes = columns.iter().flat_map(|it| [1, 2, 3].map(|b| (*it, b)));
        for (columns, blocks) in sizes.step_by(STEP * STEP) {
            for (whole, others, rest) in [(1, 0, 0), (0, 3, 3), (2, 1, 9), (5, 0, 4), (0, 1, 16)] {
                for column_stride in [BLOCK, 2 * BLOCK, 2] {
                    let residual = (columns + whole) % 2 == 0;
                    let rows = 2;
                    #[rustfmt::skip]
                    let case = Case { rows, columns, column_stride, whole, others, rest, blocks, residual };
                    output.fill(0.5);
                    let segments = case.segments();
                    convolver.product(case.work(&data, &segments, &mut output));
                    compare_product(convolver, &case, &data, &output);
                }
            }
        }
    }
}

fn compare_product(convolver: Convolver, case: &Case, data: &Data, output: &[f32]) {
    let name = convolver.name();
    for (index, found) in output.iter().enumerate() {
        let (lane, column) = (index % BLOCK, index / BLOCK % (case.columns + 2));
        let row = index / BLOCK / (case.columns + 2);
        let (block, row) = (row / case.rows, row % case.rows);
        let expected = match column < case.columns && block < case.blocks {
            true => case.expected(data, [block, row, column, lane]),
            false => 0.5,
        };
        assert_eq!(*found, expected, "{name}: {block} {row} {column} {lane}");
    }
}

#[test]
fn depthwise_convolutions_of_every_shape_follow_the_formula() {
    let [input, weights, bias] = [5, 6, 7].map(whole_numbers);
    let mut output = [0.5; SIZE];
    for convolver in Convolver::available() {
        let sizes = [1, 2, 4, 5, 6, 7, 8, 13, 14, 15, 28, 31];
        for columns in sizes.into_iter().step_by(STEP) {
            for (pixel_stride, side) in [(16, 3), (32, 3), (16, 5), (48, 2), (16, 1)] {
                let line = 40 * BLOCK * 3;
                let mut taps = [0; 25];
                for (index, tap) in taps[..side * side].iter_mut().enumerate() {
                    *tap = index / side * line + index % side * BLOCK;
                }
                let taps = &taps[..side * side];
                let output_row_stride = (columns + 1) * BLOCK;
                output.fill(0.5);
                convolver.depthwise(Depthwise {
                    rows: 3,
                    columns,
                    input: &input,
                    input_row_stride: line,
                    input_column_stride: pixel_stride,
                    taps,
                    weights: &weights,
                    bias: &bias,
                    output: &mut output,
                    output_row_stride,
                    low: -30.0,
                    high: 60.0,
                });
                for (index, found) in output.iter().enumerate() {
                    let (lane, column) = (index % BLOCK, index / BLOCK % (columns + 1));
                    let row = index / output_row_stride;
                    let mut expected = 0.5;
                    if row < 3 && column < columns {
                        let place = row * line + column * pixel_stride + lane;
                        let tap = |(tap, start): (usize, &usize)| {
                            input[place + start] * weights[tap * BLOCK + lane]
                        };
                        let sum: f32 = taps.iter().enumerate().map(tap).sum();
                        expected = (bias[lane] + sum).clamp(-30.0, 60.0);
                    }
                    assert_eq!(
                        *found, expected,
                        "{convolver:?} {columns} {side} at {index}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_hidden_by_the_clamp() {
    for convolver in Convolver::available() {
        let mut output = [0.0; 2 * BLOCK];
        let input = [f32::NAN; 2 * BLOCK];
        convolver.product(Product {
            rows: 1,
            columns: 2,
            input: &input,
            input_row_stride: 2 * BLOCK,
            input_column_stride: BLOCK,
            segments: &[0],
            whole: 1,
            rest: 0,
            weights: &[1.0; BLOCK * BLOCK],
            bias: &[0.0; BLOCK],
            blocks: 1,
            residual: None,
            output: &mut output,
            output_block_stride: 2 * BLOCK,
            output_row_stride: 2 * BLOCK,
            low: 0.0,
            high: 6.0,
        });
        assert!(output.iter().all(|value| value.is_nan()), "{convolver:?}");
    }
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slice_that_is_too_short_is_refused() {
    Convolver::best().depthwise(Depthwise {
        rows: 2,
        columns: 2,
        input: &[0.0; 63],
        input_row_stride: 2 * BLOCK,
        input_column_stride: BLOCK,
        taps: &[0],
        weights: &[0.0; BLOCK],
        bias: &[0.0; BLOCK],
        output: &mut [0.0; 4 * BLOCK],
        output_row_stride: 2 * BLOCK,
        low: 0.0,
        high: 6.0,
    });
}
