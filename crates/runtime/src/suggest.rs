//! Which unlabelled samples are most worth a label: those that the head is unsure of, and
//! that differ from each other, so that no two labels tell the same. Which files there are
//! and what a head says of them is others' work.
//!
//! A sample's doubt is one minus its margin, the difference of the two highest probabilities
//! (Scheffer, Decomain and Wrobel, 2001). Of the most doubtful, `POOL` times as many as
//! wanted, the most doubtful comes first; then always the one whose least distance to those
//! chosen, times its doubt, is largest: the greedy choice of k centres (Gonzalez, 1985;
//! Sener and Savarese, "Active learning for convolutional neural networks: a core-set
//! approach", 2018) with distances weighed by doubt. Distances are between transformed
//! features of length 1.

use std::path::PathBuf;

use fieldtune_core::Kernel;
use fieldtune_kernels::{Matrix, multiply};
use serde::Serialize;

use crate::head::{Head, Prediction};
use crate::samples::Skipped;

/// So many times as many of the most doubtful samples as are wanted may be chosen.
const POOL: usize = 5;
/// The fewest that may be chosen from, where there are as many.
const LEAST_POOL: usize = 100;

/// A sample that is worth a label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// Its file.
    pub file: PathBuf,
    /// What the head takes it for.
    pub label: String,
    /// How likely that is, 0 to 1.
    pub probability: f32,
    /// By how much the likeliest class is likelier than the next, 0 to 1.
    pub margin: f32,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Suggested {
    /// The samples, the one most worth a label first.
    pub suggestions: Vec<Suggestion>,
    /// Samples that could be read.
    pub samples: usize,
    /// Files left out, with the reason.
    pub skipped: Vec<Skipped>,
}

/// The difference of the two highest of these probabilities.
pub fn margin(probabilities: &[f32]) -> f32 {
    let (mut first, mut second) = (0.0f32, 0.0f32);
    for value in probabilities {
        if *value > first {
            (first, second) = (*value, first);
        } else {
            second = second.max(*value);
        }
    }
    first - second
}

/// The places of up to `count` samples, the one most worth a label first. `margins` `[N]`,
/// `features` `[N, width]`, transformed.
pub fn choose(
    margins: &[f32],
    features: &[f32],
    width: usize,
    count: usize,
    kernel: Kernel,
) -> Vec<usize> {
    let mut pool: Vec<usize> = (0..margins.len()).collect();
    // Stable: of equals the first.
    pool.sort_by(|one, other| margins[*one].total_cmp(&margins[*other]));
    pool.truncate(count.saturating_mul(POOL).max(LEAST_POOL));
    let doubts: Vec<f32> = pool.iter().map(|place| 1.0 - margins[*place]).collect();
    let row = |place: usize| place * width..(place + 1) * width;
    let rows: Vec<f32> = pool
        .iter()
        .flat_map(|place| of_length_1(&features[row(*place)]))
        .collect();
    let all = Matrix::new(&rows, pool.len(), width);
    let mut products = vec![0.0; pool.len()];
    let mut distances = vec![f32::INFINITY; pool.len()];
    let mut scratch = vec![0.0; kernel.scratch_elements(width)];
    let mut chosen: Vec<usize> = Vec::new();
    let mut next = (!pool.is_empty()).then_some(0);
    while let Some(place) = next.filter(|_| chosen.len() < count) {
        chosen.push(place);
        let centre = Matrix::new(&rows[row(place)], 1, width);
        multiply(
            kernel,
            all,
            centre.transposed(),
            &mut products,
            false,
            &mut scratch,
        );
        for (distance, product) in distances.iter_mut().zip(&products) {
            *distance = distance.min((2.0 - 2.0 * product).max(0.0f32).sqrt());
        }
        // What is chosen is at a distance of 0 from itself, but so may be its copies.
        let left = (0..pool.len()).filter(|place| !chosen.contains(place));
        let worth = |place: &usize| doubts[*place] * distances[*place];
        next = left.reduce(|best, place| {
            if worth(&place) > worth(&best) {
                place
            } else {
                best
            }
        });
    }
    chosen.into_iter().map(|place| pool[place]).collect()
}

fn of_length_1(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    row.iter().map(|value| factor * value).collect()
}

/// The suggestions among samples that a head judged: files, predictions and raw features
/// `[N, width]` of each.
pub(crate) fn suggestions(
    head: &Head,
    judged: &[(PathBuf, Prediction)],
    mut features: Vec<f32>,
    count: usize,
    kernel: Kernel,
) -> Vec<Suggestion> {
    let width = features.len() / judged.len().max(1);
    // A map of a tail's head has another length than the transform's numbers.
    if !head.reads_map() && width > 0 {
        let transform = head.fitted.transform();
        features
            .chunks_exact_mut(width)
            .for_each(|row| transform.apply(row));
    }
    let margins: Vec<f32> = judged
        .iter()
        .map(|(_, prediction)| margin(&prediction.probabilities))
        .collect();
    let chosen = choose(&margins, &features, width, count, kernel).into_iter();
    chosen
        .map(|place| {
            let (file, prediction) = &judged[place];
            Suggestion {
                file: file.clone(),
                label: head.labels[prediction.label].clone(),
                probability: prediction.probabilities[prediction.label],
                margin: margins[place],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_that_of_the_two_highest() {
        assert_eq!(margin(&[0.25, 0.5, 0.25]), 0.25);
        assert_eq!(margin(&[0.5, 0.5]), 0.0);
        assert_eq!(margin(&[1.0]), 1.0);
    }

    #[test]
    fn doubt_comes_first_and_copies_last() {
        let kernel = Kernel::lanes();
        // Two directions, each twice; the fifth is sure.
        let features = [1.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 2.0, -1.0, 0.0];
        let margins = [0.2, 0.1, 0.3, 0.3, 1.0];
        let chosen = choose(&margins, &features, 2, 3, kernel);
        assert_eq!(chosen[..2], [1, 2]);
        assert_eq!(choose(&margins, &features, 2, 9, kernel).len(), 5);
        assert!(choose(&[], &[], 2, 3, kernel).is_empty());
        assert!(choose(&margins, &features, 2, 0, kernel).is_empty());
    }
}
