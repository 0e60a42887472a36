//! AVX-512: a block is one vector. Tiles of up to 14 pixels by two blocks of a product: 28
//! of the 32 registers hold sums, two the weights; a value of the input is broadcast.

use core::arch::x86_64::*;

use super::tiles::{Depthwise, DepthwiseTile, Product, ProductTile};
use super::{BLOCK_CHANNELS as BLOCK, Convolver};

/// Pixels of a tile when their distance is known, and when it is not: then each pixel
/// takes a register for its address.
const PIXELS: usize = 14;
const SCATTERED_PIXELS: usize = 7;

/// The kernels, where this CPU and its operating system support them.
pub(super) fn detect() -> Option<Convolver> {
    crate::avx2::supports_avx512().then_some(Convolver {
        name: "avx512f",
        product,
        depthwise,
    })
}

fn product(work: Product<'_>) {
    match work.input_column_stride {
        BLOCK => work.for_each_tile(PIXELS, 2, sized_product::<BLOCK>),
        _ => work.for_each_tile(SCATTERED_PIXELS, 2, sized_product::<0>),
    }
}

fn depthwise(work: Depthwise<'_>) {
    match work.input_column_stride {
        16 => work.for_each_tile(PIXELS, sized_depthwise::<16>),
        32 => work.for_each_tile(PIXELS, sized_depthwise::<32>),
        _ => work.for_each_tile(SCATTERED_PIXELS, sized_depthwise::<0>),
    }
}

/// Makes the tile's number of blocks a constant.
fn sized_product<const STRIDE: usize>(tile: ProductTile<'_>) {
    match tile.blocks {
        1 => sized_product_of::<1, STRIDE>(tile),
        _ => sized_product_of::<2, STRIDE>(tile),
    }
}

/// Makes the tile's number of pixels a constant.
fn sized_product_of<const BLOCKS: usize, const STRIDE: usize>(tile: ProductTile<'_>) {
    // SAFETY: 1. `detect` is the only place that hands this file's functions out, after it
    // found AVX-512F. 2. `Convolver::product` has called `check`, which asserted that all a
    // tile reads and writes lies inside its slices. 3. `for_each_tile` gives at most PIXELS
    // pixels and two blocks, and each arm works on exactly that many.
    unsafe {
        match tile.pixels {
            1 => product_tile::<1, BLOCKS, STRIDE>(tile),
            2 => product_tile::<2, BLOCKS, STRIDE>(tile),
            3 => product_tile::<3, BLOCKS, STRIDE>(tile),
            4 => product_tile::<4, BLOCKS, STRIDE>(tile),
            5 => product_tile::<5, BLOCKS, STRIDE>(tile),
            6 => product_tile::<6, BLOCKS, STRIDE>(tile),
            7 => product_tile::<7, BLOCKS, STRIDE>(tile),
            8 => product_tile::<8, BLOCKS, STRIDE>(tile),
            9 => product_tile::<9, BLOCKS, STRIDE>(tile),
            10 => product_tile::<10, BLOCKS, STRIDE>(tile),
            11 => product_tile::<11, BLOCKS, STRIDE>(tile),
            12 => product_tile::<12, BLOCKS, STRIDE>(tile),
            13 => product_tile::<13, BLOCKS, STRIDE>(tile),
            _ => product_tile::<14, BLOCKS, STRIDE>(tile),
        }
    }
}

/// Makes the tile's number of pixels a constant.
fn sized_depthwise<const STRIDE: usize>(tile: DepthwiseTile<'_>) {
    // SAFETY: as in `sized_product_of`, with `Convolver::depthwise`.
    unsafe {
        match tile.pixels {
            1 => depthwise_tile::<1, STRIDE>(tile),
            2 => depthwise_tile::<2, STRIDE>(tile),
            3 => depthwise_tile::<3, STRIDE>(tile),
            4 => depthwise_tile::<4, STRIDE>(tile),
            5 => depthwise_tile::<5, STRIDE>(tile),
            6 => depthwise_tile::<6, STRIDE>(tile),
            7 => depthwise_tile::<7, STRIDE>(tile),
            8 => depthwise_tile::<8, STRIDE>(tile),
            9 => depthwise_tile::<9, STRIDE>(tile),
            10 => depthwise_tile::<10, STRIDE>(tile),
            11 => depthwise_tile::<11, STRIDE>(tile),
            12 => depthwise_tile::<12, STRIDE>(tile),
            13 => depthwise_tile::<13, STRIDE>(tile),
            _ => depthwise_tile::<14, STRIDE>(tile),
        }
    }
}

/// One tile. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// The CPU has AVX-512F, `tile.pixels == PIXELS`, `tile.blocks == BLOCKS`, `STRIDE` is 0 or
/// the tile's, and `Product::check` held for the work the tile is a part of.
#[target_feature(enable = "avx512f")]
unsafe fn product_tile<const PIXELS: usize, const BLOCKS: usize, const STRIDE: usize>(
    tile: ProductTile<'_>,
) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    let mut sums = [[_mm512_setzero_ps(); BLOCKS]; PIXELS];
    let mut weights = tile.weights.as_ptr();
    let (whole, rest) = tile.segments.split_at(tile.whole);
    // SAFETY: every offset below is one that `check` compared with the slice's length:
    // pixels up to PIXELS - 1, blocks up to BLOCKS - 1, segments and their lengths. The
    // weights' pointer is advanced with wrapping arithmetic, so that stepping past the last
    // row is defined.
    unsafe {
        for block in 0..BLOCKS {
            let bias = _mm512_loadu_ps(tile.bias.as_ptr().add(block * BLOCK));
            for sum in &mut sums {
                sum[block] = bias;
            }
        }
        for start in whole {
            let values = tile.input.as_ptr().add(*start);
            for k in 0..BLOCK {
                step(
                    &mut sums,
                    values.add(k),
                    stride,
                    weights,
                    tile.weights_stride,
                );
                weights = weights.wrapping_add(BLOCK);
            }
        }
        for start in rest {
            let values = tile.input.as_ptr().add(*start);
            for k in 0..tile.rest {
                step(
                    &mut sums,
                    values.add(k),
                    stride,
                    weights,
                    tile.weights_stride,
                );
                weights = weights.wrapping_add(BLOCK);
            }
        }
        let (low, high) = (_mm512_set1_ps(tile.low), _mm512_set1_ps(tile.high));
        for block in 0..BLOCKS {
            for (pixel, sum) in sums.iter().enumerate() {
                let place = block * tile.output_stride + pixel * BLOCK;
                let mut value = sum[block];
                if let Some(residual) = tile.residual {
                    let residual = _mm512_loadu_ps(residual.as_ptr().add(place));
                    value = _mm512_add_ps(value, residual);
                }
                // The second operand is given back when one is not a number.
                let value = _mm512_min_ps(high, _mm512_max_ps(low, value));
                _mm512_storeu_ps(tile.output.as_mut_ptr().add(place), value);
            }
        }
    }
}

/// Adds one row of the weights, times a value of each pixel.
///
/// # Safety
/// As [`product_tile`]: `values` is inside the input for every pixel, `weights` inside the
/// weights for every block.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn step<const PIXELS: usize, const BLOCKS: usize>(
    sums: &mut [[__m512; BLOCKS]; PIXELS],
    values: *const f32,
    stride: usize,
    weights: *const f32,
    weights_stride: usize,
) {
    let mut row = [_mm512_setzero_ps(); BLOCKS];
    // SAFETY: the caller vouches for the places.
    unsafe {
        for (block, row) in row.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(weights.add(block * weights_stride));
        }
        for (pixel, sum) in sums.iter_mut().enumerate() {
            let value = _mm512_set1_ps(*values.add(pixel * stride));
            for (sum, row) in sum.iter_mut().zip(&row) {
                *sum = _mm512_fmadd_ps(value, *row, *sum);
            }
        }
    }
}

/// One tile. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// The CPU has AVX-512F, `tile.pixels == PIXELS`, `STRIDE` is 0 or the tile's, and
/// `Depthwise::check` held for the work the tile is a part of.
#[target_feature(enable = "avx512f")]
unsafe fn depthwise_tile<const PIXELS: usize, const STRIDE: usize>(tile: DepthwiseTile<'_>) {
    let stride = if STRIDE == 0 {
        tile.pixel_stride
    } else {
        STRIDE
    };
    // SAFETY: every offset below is one that `check` compared with the slice's length:
    // pixels up to PIXELS - 1, and the taps.
    unsafe {
        let mut sums = [_mm512_loadu_ps(tile.bias.as_ptr()); PIXELS];
        for (index, start) in tile.taps.iter().enumerate() {
            let weights = _mm512_loadu_ps(tile.weights.as_ptr().add(index * BLOCK));
            let values = tile.input.as_ptr().add(*start);
            for (pixel, sum) in sums.iter_mut().enumerate() {
                let value = _mm512_loadu_ps(values.add(pixel * stride));
                *sum = _mm512_fmadd_ps(value, weights, *sum);
            }
        }
        let (low, high) = (_mm512_set1_ps(tile.low), _mm512_set1_ps(tile.high));
        for (pixel, sum) in sums.iter().enumerate() {
            let value = _mm512_min_ps(high, _mm512_max_ps(low, *sum));
            _mm512_storeu_ps(tile.output.as_mut_ptr().add(pixel * BLOCK), value);
        }
    }
}
