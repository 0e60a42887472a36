//! NEON with its fused multiply-add: a block is four vectors. Tiles of up to 5 pixels: 20
//! of the 32 registers hold sums. Every aarch64 CPU has NEON, so nothing is detected.

use core::arch::aarch64::*;

use super::tiles::{Depthwise, DepthwiseTile, Product, ProductTile};
use super::{BLOCK_CHANNELS as BLOCK, Convolver};

/// Pixels of a tile.
const PIXELS: usize = 5;
/// Elements of a vector, and vectors of a block.
const VECTOR: usize = 4;

/// Runs on every aarch64 CPU.
pub(super) const CONVOLVER: Convolver = Convolver {
    name: "neon",
    product,
    depthwise,
};

fn product(work: Product<'_>) {
    match work.input_column_stride {
        BLOCK => work.for_each_tile(PIXELS, 1, sized_product::<BLOCK>),
        _ => work.for_each_tile(PIXELS, 1, sized_product::<0>),
    }
}

fn depthwise(work: Depthwise<'_>) {
    match work.input_column_stride {
        16 => work.for_each_tile(PIXELS, sized_depthwise::<16>),
        32 => work.for_each_tile(PIXELS, sized_depthwise::<32>),
        _ => work.for_each_tile(PIXELS, sized_depthwise::<0>),
    }
}

/// Makes the tile's size a constant.
fn sized_product<const STRIDE: usize>(tile: ProductTile<'_>) {
    // SAFETY: 1. NEON is part of the aarch64 base. 2. `Convolver::product` has called `check`, which
    // asserted that all a tile reads and writes lies inside its slices. 3. `for_each_tile`
    // gives at most PIXELS pixels, and each arm works on exactly that many.
    unsafe {
        match tile.pixels {
            1 => product_tile::<1, STRIDE>(tile),
            2 => product_tile::<2, STRIDE>(tile),
            3 => product_tile::<3, STRIDE>(tile),
            4 => product_tile::<4, STRIDE>(tile),
            _ => product_tile::<5, STRIDE>(tile),
        }
    }
}

/// Makes the tile's size a constant.
fn sized_depthwise<const STRIDE: usize>(tile: DepthwiseTile<'_>) {
    // SAFETY: as in `sized_product`, with `Convolver::depthwise`.
    unsafe {
        match tile.pixels {
            1 => depthwise_tile::<1, STRIDE>(tile),
            2 => depthwise_tile::<2, STRIDE>(tile),
            3 => depthwise_tile::<3, STRIDE>(tile),
            4 => depthwise_tile::<4, STRIDE>(tile),
            _ => depthwise_tile::<5, STRIDE>(tile),
        }
    }
}

/// One tile of one block. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// `tile.pixels == PIXELS`, `STRIDE` is 0 or the tile's, and `Product::check` held for the
/// work the tile is a part of.
#[target_feature(enable = "neon")]
unsafe fn product_tile<const PIXELS: usize, const STRIDE: usize>(tile: ProductTile<'_>) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    let mut weights = tile.weights.as_ptr();
    let (whole, rest) = tile.segments.split_at(tile.whole);
    // SAFETY: every offset below is one that `check` compared with the slice's length:
    // pixels up to PIXELS - 1, segments and their lengths. The weights' pointer is advanced
    // with wrapping arithmetic, so that stepping past the last row is defined.
    unsafe {
        let mut sums = [load(tile.bias.as_ptr()); PIXELS];
        for start in whole {
            let values = tile.input.as_ptr().add(*start);
            for k in (0..BLOCK).step_by(VECTOR) {
                four_steps(&mut sums, values.add(k), stride, weights);
                weights = weights.wrapping_add(VECTOR * BLOCK);
            }
        }
        for start in rest {
            let values = tile.input.as_ptr().add(*start);
            for k in 0..tile.rest {
                step(&mut sums, values.add(k), stride, weights);
                weights = weights.wrapping_add(BLOCK);
            }
        }
        for (pixel, sum) in sums.iter_mut().enumerate() {
            let place = pixel * BLOCK;
            if let Some(residual) = tile.residual {
                let residual = load(residual.as_ptr().add(place));
                for (sum, residual) in sum.iter_mut().zip(residual) {
                    *sum = vaddq_f32(*sum, residual);
                }
            }
            store(
                *sum,
                tile.output.as_mut_ptr().add(place),
                tile.low,
                tile.high,
            );
        }
    }
}

/// Adds four rows of the weights, times four values of each pixel, which are loaded as one
/// vector.
///
/// # Safety
/// As [`product_tile`]: four `values` are inside the input for every pixel, four rows of
/// `weights` inside the weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_steps<const PIXELS: usize>(
    sums: &mut [[float32x4_t; 4]; PIXELS],
    values: *const f32,
    stride: usize,
    weights: *const f32,
) {
    let mut inputs = [vdupq_n_f32(0.0); PIXELS];
    // SAFETY: the caller vouches for the places.
    unsafe {
        for (pixel, input) in inputs.iter_mut().enumerate() {
            *input = vld1q_f32(values.add(pixel * stride));
        }
        for part in 0..4 {
            let column = weights.add(part * VECTOR);
            let rows = [
                vld1q_f32(column),
                vld1q_f32(column.add(BLOCK)),
                vld1q_f32(column.add(2 * BLOCK)),
                vld1q_f32(column.add(3 * BLOCK)),
            ];
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let mut value = sum[part];
                value = vfmaq_laneq_f32::<0>(value, rows[0], *input);
                value = vfmaq_laneq_f32::<1>(value, rows[1], *input);
                value = vfmaq_laneq_f32::<2>(value, rows[2], *input);
                value = vfmaq_laneq_f32::<3>(value, rows[3], *input);
                sum[part] = value;
            }
        }
    }
}

/// Adds one row of the weights, times a value of each pixel.
///
/// # Safety
/// As [`product_tile`]: `values` is inside the input for every pixel, `weights` inside the
/// weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn step<const PIXELS: usize>(
    sums: &mut [[float32x4_t; 4]; PIXELS],
    values: *const f32,
    stride: usize,
    weights: *const f32,
) {
    // SAFETY: the caller vouches for the places.
    unsafe {
        let row = load(weights);
        for (pixel, sum) in sums.iter_mut().enumerate() {
            let value = *values.add(pixel * stride);
            for (sum, row) in sum.iter_mut().zip(row) {
                *sum = vfmaq_n_f32(*sum, row, value);
            }
        }
    }
}

/// One tile. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// `tile.pixels == PIXELS`, `STRIDE` is 0 or the tile's, and `Depthwise::check` held for
/// the work the tile is a part of.
#[target_feature(enable = "neon")]
unsafe fn depthwise_tile<const PIXELS: usize, const STRIDE: usize>(tile: DepthwiseTile<'_>) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    // SAFETY: every offset below is one that `check` compared with the slice's length:
    // pixels up to PIXELS - 1, and the taps.
    unsafe {
        let mut sums = [load(tile.bias.as_ptr()); PIXELS];
        for (index, start) in tile.taps.iter().enumerate() {
            let weights = load(tile.weights.as_ptr().add(index * BLOCK));
            let values = tile.input.as_ptr().add(*start);
            for (pixel, sum) in sums.iter_mut().enumerate() {
                let value = load(values.add(pixel * stride));
                for part in 0..4 {
                    sum[part] = vfmaq_f32(sum[part], value[part], weights[part]);
                }
            }
        }
        for (pixel, sum) in sums.iter().enumerate() {
            let place = tile.output.as_mut_ptr().add(pixel * BLOCK);
            store(*sum, place, tile.low, tile.high);
        }
    }
}

/// # Safety
/// 16 elements from `place` on can be read.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(place: *const f32) -> [float32x4_t; 4] {
    // SAFETY: the caller vouches for the place.
    unsafe {
        [
            vld1q_f32(place),
            vld1q_f32(place.add(VECTOR)),
            vld1q_f32(place.add(2 * VECTOR)),
            vld1q_f32(place.add(3 * VECTOR)),
        ]
    }
}

/// Clamps, letting what is not a number pass, and stores one block.
///
/// # Safety
/// 16 elements from `place` on can be written.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(sum: [float32x4_t; 4], place: *mut f32, low: f32, high: f32) {
    let (low, high) = (vdupq_n_f32(low), vdupq_n_f32(high));
    for (part, sum) in sum.into_iter().enumerate() {
        let value = vminq_f32(high, vmaxq_f32(low, sum));
        // SAFETY: the caller vouches for the place.
        unsafe { vst1q_f32(place.add(part * VECTOR), value) };
    }
}
