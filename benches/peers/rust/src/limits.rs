//! What one thread of this machine can do at most.

use std::hint::black_box;
use std::time::Instant;

/// Billions of floating point operations a second in multiply-adds on `LANES` numbers at once,
/// 2 a multiply-add.
fn multiply_adds<const LANES: usize>() -> f64 {
    const CHAINS: usize = 12;
    const TURNS: usize = 200_000;
    let factor = black_box([0.999_f32; LANES]);
    let term = black_box([0.001_f32; LANES]);
    let mut best = 0.0f64;
    for _ in 0..40 {
        let mut sums = black_box([[1.0f32; LANES]; CHAINS]);
        let start = Instant::now();
        for _ in 0..TURNS {
            for sum in &mut sums {
                for lane in 0..LANES {
                    sum[lane] = sum[lane].mul_add(factor[lane], term[lane]);
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        black_box(&sums);
        best = best.max((2 * CHAINS * TURNS * LANES) as f64 / seconds / 1e9);
    }
    best
}

/// The best of vectors of 8 and of 16 numbers.
pub fn gflops() -> f64 {
    multiply_adds::<8>().max(multiply_adds::<16>())
}

/// Billions of bytes a second, read and written, of `a = a s + b` over `bytes` of memory.
pub fn bandwidth(bytes: usize) -> f64 {
    let count = (bytes / 8).max(64);
    let (mut a, b) = (vec![1.0f32; count], vec![0.001f32; count]);
    let (mut best, all) = (0.0f64, Instant::now());
    let turns = (4_000_000 / count).max(1);
    let mut runs = 0;
    while runs < 5 || all.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        for _ in 0..turns {
            for (a, b) in a.iter_mut().zip(&b) {
                *a = a.mul_add(0.999, *b);
            }
            black_box(&mut a);
        }
        best = best.max((12 * count * turns) as f64 / start.elapsed().as_secs_f64() / 1e9);
        runs += 1;
    }
    best
}
