//! AVX2 with fused multiply-add: a block is two vectors. Tiles of up to 6 pixels: 12 of the
//! 16 registers hold sums, two the weights, one a value of the input, broadcast.

use core::arch::x86_64::*;

use super::tiles::{Depthwise, DepthwiseTile, Product, ProductTile};
use super::{BLOCK_CHANNELS as BLOCK, Convolver};

/// Pixels of a tile.
const PIXELS: usize = 6;
/// Elements of a vector.
const VECTOR: usize = 8;

/// The kernels, where this CPU and its operating system support them.
pub(super) fn detect() -> Option<Convolver> {
    crate::avx2::supports_avx2().then_some(Convolver {
        name: "avx2+fma",
        product,
        depthwise,
    })
}

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
    // SAFETY: 1. `detect` is the only place that hands this file's functions out, after it
    // found AVX2 and FMA. 2. `Convolver::product` has called `check`, which
    // asserted that all a tile reads and writes lies inside its slices. 3. `for_each_tile`
    // gives at most PIXELS pixels, and each arm works on exactly that many.
    unsafe {
        match tile.pixels {
            1 => product_tile::<1, STRIDE>(tile),
            2 => product_tile::<2, STRIDE>(tile),
            3 => product_tile::<3, STRIDE>(tile),
            4 => product_tile::<4, STRIDE>(tile),
            5 => product_tile::<5, STRIDE>(tile),
            _ => product_tile::<6, STRIDE>(tile),
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
            5 => depthwise_tile::<5, STRIDE>(tile),
            _ => depthwise_tile::<6, STRIDE>(tile),
        }
    }
}

/// One tile of one block. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// The CPU has AVX2 and FMA, `tile.pixels == PIXELS`, `STRIDE` is 0 or the tile's, and
/// `Product::check` held for the work the tile is a part of.
#[target_feature(enable = "avx2,fma")]
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
            for k in 0..BLOCK {
                step(&mut sums, values.add(k), stride, weights);
                weights = weights.wrapping_add(BLOCK);
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
                *sum = [
                    _mm256_add_ps(sum[0], residual[0]),
                    _mm256_add_ps(sum[1], residual[1]),
                ];
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

/// Adds one row of the weights, times a value of each pixel.
///
/// # Safety
/// As [`product_tile`]: `values` is inside the input for every pixel, `weights` inside the
/// weights.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn step<const PIXELS: usize>(
    sums: &mut [[__m256; 2]; PIXELS],
    values: *const f32,
    stride: usize,
    weights: *const f32,
) {
    // SAFETY: the caller vouches for the places.
    unsafe {
        let row = load(weights);
        for (pixel, sum) in sums.iter_mut().enumerate() {
            let value = _mm256_set1_ps(*values.add(pixel * stride));
            sum[0] = _mm256_fmadd_ps(value, row[0], sum[0]);
            sum[1] = _mm256_fmadd_ps(value, row[1], sum[1]);
        }
    }
}

/// One tile. `STRIDE` is the distance of two pixels, 0 for any.
///
/// # Safety
/// The CPU has AVX2 and FMA, `tile.pixels == PIXELS`, `STRIDE` is 0 or the tile's, and
/// `Depthwise::check` held for the work the tile is a part of.
#[target_feature(enable = "avx2,fma")]
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
                sum[0] = _mm256_fmadd_ps(value[0], weights[0], sum[0]);
                sum[1] = _mm256_fmadd_ps(value[1], weights[1], sum[1]);
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
#[target_feature(enable = "avx2,fma")]
unsafe fn load(place: *const f32) -> [__m256; 2] {
    // SAFETY: the caller vouches for the place.
    unsafe { [_mm256_loadu_ps(place), _mm256_loadu_ps(place.add(VECTOR))] }
}

/// Clamps and stores one block.
///
/// # Safety
/// 16 elements from `place` on can be written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(sum: [__m256; 2], place: *mut f32, low: f32, high: f32) {
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    for (half, sum) in sum.into_iter().enumerate() {
        // The second operand is given back when one is not a number.
        let value = _mm256_min_ps(high, _mm256_max_ps(low, sum));
        // SAFETY: the caller vouches for the place.
        unsafe { _mm256_storeu_ps(place.add(half * VECTOR), value) };
    }
}
