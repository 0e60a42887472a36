//! The definition of a tile, in plain Rust: sums in order, multiply then add.
//! The compiler turns the inner loop into whatever vectors the target has.

use crate::product::{Kernel, Tile};

const ROWS: usize = 4;
const WIDTH: usize = 8;

/// Runs everywhere.
pub(crate) const KERNEL: Kernel = Kernel {
    name: "lanes",
    rows: ROWS,
    width: WIDTH,
    run,
};

fn run(tile: Tile<'_>) {
    tile.check(WIDTH);
    match tile.rows {
        1 => rows::<1>(tile),
        2 => rows::<2>(tile),
        3 => rows::<3>(tile),
        _ => rows::<4>(tile),
    }
}

#[inline(always)]
fn rows<const R: usize>(tile: Tile<'_>) {
    let mut sums = [[0.0f32; WIDTH]; R];
    if tile.accumulate {
        for (i, sum) in sums.iter_mut().enumerate() {
            let start = i * tile.c_row_stride;
            sum.copy_from_slice(&tile.c[start..start + WIDTH]);
        }
    }
    for p in 0..tile.k {
        let row = &tile.panel[p * tile.panel_stride..p * tile.panel_stride + WIDTH];
        for (i, sum) in sums.iter_mut().enumerate() {
            let a = tile.a[i * tile.a_row_stride + p * tile.a_column_stride];
            for (value, b) in sum.iter_mut().zip(row) {
                *value += a * b;
            }
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        let start = i * tile.c_row_stride;
        tile.c[start..start + WIDTH].copy_from_slice(sum);
    }
}
