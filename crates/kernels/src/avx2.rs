//! Tiles of 6 rows by 16 columns with AVX2 and fused multiply-add: 12 of the 16
//! vector registers hold sums, two the panel's row, one the broadcast of A.

use crate::product::{Kernel, Tile};
use core::arch::x86_64::*;

const ROWS: usize = 6;
const WIDTH: usize = 16;

/// The kernel, where this CPU and its operating system support it.
pub(crate) fn detect() -> Option<Kernel> {
    supports_avx2().then_some(Kernel {
        name: "avx2+fma",
        rows: ROWS,
        width: WIDTH,
        run,
    })
}

/// Whether this CPU and its operating system support AVX2 and fused multiply-add.
pub(crate) fn supports_avx2() -> bool {
    const AVX2: u32 = 1 << 5;
    const YMM_AND_XMM: u64 = 0b110;
    supports(AVX2, YMM_AND_XMM)
}

/// Whether this CPU and its operating system support AVX-512F as well.
pub(crate) fn supports_avx512() -> bool {
    const AVX2: u32 = 1 << 5;
    const AVX512F: u32 = 1 << 16;
    const ZMM_AND_SMALLER: u64 = 0b1110_0110;
    supports(AVX2 | AVX512F, ZMM_AND_SMALLER)
}

/// Whether the CPU has fused multiply-add and the `extended` features (bits of EBX of leaf
/// 7), and the operating system saves the registers `saved`.
fn supports(extended: u32, saved: u64) -> bool {
    const FMA: u32 = 1 << 12;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    let needed = FMA | OSXSAVE | AVX;
    // Miri interprets plain Rust: for it this processor has nothing more.
    if cfg!(miri) {
        return false;
    }
    if __cpuid(0).eax < 7
        || __cpuid(1).ecx & needed != needed
        || __cpuid_count(7, 0).ebx & extended != extended
    {
        return false;
    }
    // SAFETY: 1. OSXSAVE is set, so the XGETBV instruction exists. 2. Register 0
    // exists on every such CPU.
    let enabled = unsafe { xgetbv() };
    enabled & saved == saved
}

/// Which register sets the operating system saves.
///
/// # Safety
/// The CPU must have the XGETBV instruction.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: the caller vouches for the instruction; register 0 always exists.
    unsafe { _xgetbv(0) }
}

fn run(tile: Tile<'_>) {
    tile.check(WIDTH);
    // SAFETY: 1. `detect` is the only place that hands this function out, after
    // it found AVX2 and FMA. 2. `check` has asserted that every element of the
    // tile lies inside its slice. 3. `rows` is at most 6, by `Kernel::rows`, and
    // each arm reads exactly that many rows.
    unsafe {
        match tile.rows {
            1 => rows::<1>(tile),
            2 => rows::<2>(tile),
            3 => rows::<3>(tile),
            4 => rows::<4>(tile),
            5 => rows::<5>(tile),
            _ => rows::<6>(tile),
        }
    }
}

/// # Safety
/// The CPU has AVX2 and FMA, `tile.rows == R`, and `tile.check(WIDTH)` held.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize>(tile: Tile<'_>) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
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
                    _mm256_loadu_ps(c.add(i * tile.c_row_stride)),
                    _mm256_loadu_ps(c.add(i * tile.c_row_stride + 8)),
                ];
            }
        }
        for _ in 0..tile.k {
            let b = [_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8))];
            for (i, sum) in sums.iter_mut().enumerate() {
                let value = _mm256_set1_ps(*a.add(i * tile.a_row_stride));
                sum[0] = _mm256_fmadd_ps(value, b[0], sum[0]);
                sum[1] = _mm256_fmadd_ps(value, b[1], sum[1]);
            }
            a = a.wrapping_add(tile.a_column_stride);
            panel = panel.wrapping_add(tile.panel_stride);
        }
        for (i, sum) in sums.iter().enumerate() {
            _mm256_storeu_ps(c.add(i * tile.c_row_stride), sum[0]);
            _mm256_storeu_ps(c.add(i * tile.c_row_stride + 8), sum[1]);
        }
    }
}
