//! Plain Rust: the definition. Each sum starts with the bias, goes through the segments
//! (or taps) in order, multiplies, then adds.

use super::BLOCK_CHANNELS as BLOCK;
use super::tiles::{Depthwise, DepthwiseTile, Product, ProductTile};

pub(super) fn product(work: Product<'_>) {
    work.for_each_tile(1, 1, product_tile);
}

pub(super) fn depthwise(work: Depthwise<'_>) {
    work.for_each_tile(1, depthwise_tile);
}

fn product_tile(tile: ProductTile<'_>) {
    let mut sums = block(tile.bias);
    let mut weights = tile.weights.chunks_exact(BLOCK);
    for (index, start) in tile.segments.iter().enumerate() {
        let length = if index < tile.whole { BLOCK } else { tile.rest };
        let values = &tile.input[*start..start + length];
        for (value, weights) in values.iter().zip(&mut weights) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
    }
    if let Some(residual) = tile.residual {
        for (sum, value) in sums.iter_mut().zip(residual) {
            *sum += value;
        }
    }
    store(sums, tile.output, tile.low, tile.high);
}

fn depthwise_tile(tile: DepthwiseTile<'_>) {
    let mut sums = block(tile.bias);
    for (start, weights) in tile.taps.iter().zip(tile.weights.chunks_exact(BLOCK)) {
        let values = &tile.input[*start..start + BLOCK];
        for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weights) {
            *sum += value * weight;
        }
    }
    store(sums, tile.output, tile.low, tile.high);
}

fn block(values: &[f32]) -> [f32; BLOCK] {
    core::array::from_fn(|lane| values[lane])
}

/// Clamps, letting what is not a number pass, and stores.
fn store(sums: [f32; BLOCK], output: &mut [f32], low: f32, high: f32) {
    for (target, sum) in output.iter_mut().zip(sums) {
        let sum = if sum < low { low } else { sum };
        *target = if sum > high { high } else { sum };
    }
}
