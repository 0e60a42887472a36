//! Tiles of 16 rows by 16 columns with AVX-512: a row of sums is one of the 32 vector
//! registers, one more holds the panel's row; values of A are broadcast on their way to the
//! multiply-add.

use crate::product::{Kernel, Tile};
use core::arch::x86_64::*;

const ROWS: usize = 16;
const WIDTH: usize = 16;

/// The kernel, where this CPU and its operating system support it.
pub(crate) fn detect() -> Option<Kernel> {
    crate::avx2::supports_avx512().then_some(Kernel {
        name: "avx512f",
        rows: ROWS,
        width: WIDTH,
        run,
    })
}

fn run(tile: Tile<'_>) {
    tile.check(WIDTH);
    // SAFETY: 1. `detect` is the only place that hands this function out, after it found
    // AVX-512F. 2. `check` has asserted that every element of the tile lies inside its slice.
    // 3. `rows` is at most 16, by `Kernel::rows`, and each arm reads exactly that many rows.
    unsafe {
        match tile.rows {
            1 => rows::<1>(tile),
            2 => rows::<2>(tile),
            3 => rows::<3>(tile),
            4 => rows::<4>(tile),
            5 => rows::<5>(tile),
            6 => rows::<6>(tile),
            7 => rows::<7>(tile),
            8 => rows::<8>(tile),
            9 => rows::<9>(tile),
            10 => rows::<10>(tile),
            11 => rows::<11>(tile),
            12 => rows::<12>(tile),
            13 => rows::<13>(tile),
            14 => rows::<14>(tile),
            15 => rows::<15>(tile),
            _ => rows::<16>(tile),
        }
    }
}

/// # Safety
/// The CPU has AVX-512F, `tile.rows == R`, and `tile.check(WIDTH)` held.
#[target_feature(enable = "avx512f")]
unsafe fn rows<const R: usize>(tile: Tile<'_>) {
    let mut sums = [_mm512_setzero_ps(); R];
    let c = tile.c.as_mut_ptr();
    // SAFETY: every offset below is one that `check` compared with the slice's length: rows up
    // to R - 1, columns up to WIDTH - 1. Together the steps take `k` positions.
    unsafe {
        if tile.accumulate {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(c.add(i * tile.c_row_stride));
            }
        }
        let strides = [tile.a_row_stride, tile.a_column_stride];
        let steps = Steps {
            a: tile.a.as_ptr(),
            panel: tile.panel.as_ptr(),
            panel_stride: tile.panel_stride,
        };
        match strides {
            [1, _] => steps.take::<R, 1>([1, strides[1]], tile.k, &mut sums),
            [_, 1] => {
                let rest = steps.take::<R, UNROLLED>([strides[0], 1], tile.k / UNROLLED, &mut sums);
                rest.take::<R, 1>([strides[0], 1], tile.k % UNROLLED, &mut sums)
            }
            _ => steps.take::<R, 1>(strides, tile.k, &mut sums),
        };
        for (i, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(c.add(i * tile.c_row_stride), *sum);
        }
    }
}

/// Positions of the sum that are added before the pointers move on. One addition of the row
/// stride after the other gives a row's address, which takes as long as two multiply-adds.
const UNROLLED: usize = 4;

/// Where the sum goes on.
#[derive(Clone, Copy)]
struct Steps {
    a: *const f32,
    panel: *const f32,
    panel_stride: usize,
}

impl Steps {
    /// Adds `count` times `UNROLL` positions to the sums. The strides of A are an argument, so
    /// that those that are 1 are constants.
    ///
    /// # Safety
    /// The CPU has AVX-512F, and all of that is inside what the pointers point to.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn take<const R: usize, const UNROLL: usize>(
        mut self,
        [row_stride, column_stride]: [usize; 2],
        count: usize,
        sums: &mut [__m512; R],
    ) -> Self {
        for _ in 0..count {
            // SAFETY: the caller vouches for the positions. The pointers are advanced with
            // wrapping arithmetic, so that stepping past the last one is defined.
            unsafe {
                let b: [__m512; UNROLL] = core::array::from_fn(|p| {
                    _mm512_loadu_ps(self.panel.add(p * self.panel_stride))
                });
                for (i, sum) in sums.iter_mut().enumerate() {
                    for (p, b) in b.iter().enumerate() {
                        let value = *self.a.add(i * row_stride + p * column_stride);
                        *sum = _mm512_fmadd_ps(_mm512_set1_ps(value), *b, *sum);
                    }
                }
            }
            self.a = self.a.wrapping_add(UNROLL * column_stride);
            self.panel = self.panel.wrapping_add(UNROLL * self.panel_stride);
        }
        self
    }
}
