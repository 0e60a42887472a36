//! Tiles of 8 rows by 8 columns with NEON's fused multiply-add: 16 of the 32
//! vector registers hold sums. Every aarch64 CPU has NEON, so nothing is detected.

use crate::product::{Kernel, Tile};
use core::arch::aarch64::*;

const ROWS: usize = 8;
const WIDTH: usize = 8;

/// Runs on every aarch64 CPU.
pub(crate) const KERNEL: Kernel = Kernel {
    name: "neon",
    rows: ROWS,
    width: WIDTH,
    run,
};

fn run(tile: Tile<'_>) {
    tile.check(WIDTH);
    // SAFETY: 1. NEON is part of the aarch64 base. 2. `check` has asserted that
    // every element of the tile lies inside its slice. 3. `rows` is at most 8, by
    // `Kernel::rows`, and each arm reads exactly that many rows.
    unsafe {
        match tile.rows {
            1 => rows::<1>(tile),
            2 => rows::<2>(tile),
            3 => rows::<3>(tile),
            4 => rows::<4>(tile),
            5 => rows::<5>(tile),
            6 => rows::<6>(tile),
            7 => rows::<7>(tile),
            _ => rows::<8>(tile),
        }
    }
}

/// # Safety
/// `tile.rows == R`, and `tile.check(WIDTH)` held.
#[target_feature(enable = "neon")]
unsafe fn rows<const R: usize>(tile: Tile<'_>) {
    let mut sums = [[vdupq_n_f32(0.0); 2]; R];
    let c = tile.c.as_mut_ptr();
    let (mut a, mut panel) = (tile.a.as_ptr(), tile.panel.as_ptr());
    // SAFETY: every offset below is one that `check` compared with the slice's
    // length: rows up to R - 1, positions up to k - 1, columns up to WIDTH - 1.
    // The pointers are advanced with wrapping arithmetic, so that stepping past
    // the last row is defined.
    unsafe {
        if tile.accumulate {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = [
                    vld1q_f32(c.add(i * tile.c_row_stride)),
                    vld1q_f32(c.add(i * tile.c_row_stride + 4)),
                ];
            }
        }
        for _ in 0..tile.k {
            let b = [vld1q_f32(panel), vld1q_f32(panel.add(4))];
            for (i, sum) in sums.iter_mut().enumerate() {
                let value = *a.add(i * tile.a_row_stride);
                sum[0] = vfmaq_n_f32(sum[0], b[0], value);
                sum[1] = vfmaq_n_f32(sum[1], b[1], value);
            }
            a = a.wrapping_add(tile.a_column_stride);
            panel = panel.wrapping_add(tile.panel_stride);
        }
        for (i, sum) in sums.iter().enumerate() {
            vst1q_f32(c.add(i * tile.c_row_stride), sum[0]);
            vst1q_f32(c.add(i * tile.c_row_stride + 4), sum[1]);
        }
    }
}
