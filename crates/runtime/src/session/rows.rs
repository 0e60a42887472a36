//! Rows of features and the samples behind them: which group each is of, what was left
//! out, what was said about it. The order of a job is `session.rs`'s.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::features::FeatureMatrix;
use crate::head::Head;
use crate::samples::{SampleSet, Skipped};
use crate::search::Found;

use super::Judged;

/// The mean of several views' features, as predictions are made from.
pub(super) fn mean(matrices: Vec<FeatureMatrix>) -> FeatureMatrix {
    let share = 1.0 / matrices.len().max(1) as f32;
    let mut all = matrices.into_iter();
    let mut mean = all.next().unwrap_or_default();
    mean.values.iter_mut().for_each(|value| *value *= share);
    for other in all {
        let pairs = mean.values.iter_mut().zip(&other.values);
        pairs.for_each(|(sum, value)| *sum += share * value);
    }
    mean
}

/// The features of each matrix.
pub(super) fn values(matrices: &[FeatureMatrix]) -> Vec<&[f32]> {
    let values = matrices.iter().map(|matrix| matrix.values.as_slice());
    values.collect()
}

/// Whether enough samples could be read: one of each class.
pub(crate) fn require_classes(set: &SampleSet, matrix: &FeatureMatrix) -> Result<()> {
    let missing = (0..set.labels.len()).find(|label| !matrix.labels.contains(label));
    let Some(label) = missing else {
        return Ok(());
    };
    let reason = matrix.skipped.iter().find(|skipped| {
        set.samples
            .iter()
            .any(|sample| sample.label == label && sample.path == skipped.path)
    });
    let reason = reason.map_or_else(String::new, |skipped| {
        format!(" ({}: {})", skipped.path.display(), skipped.reason)
    });
    let what = format_args!(
        "no sample of class \"{}\" can be read{reason}",
        set.labels[label]
    );
    let remedy = "add readable samples to it or remove the class";
    Err(Error::at(ErrorKind::BadInput, &set.source, what, remedy))
}

/// A number a group for every row; a sample without a group is its own.
pub(super) fn groups(set: &SampleSet, matrix: &FeatureMatrix) -> Vec<usize> {
    let mut numbers = HashMap::new();
    let rows = matrix.rows.iter();
    rows.map(|row| match &set.samples[*row].group {
        Some(group) => {
            let next = set.samples.len() + numbers.len();
            *numbers.entry(group.as_str()).or_insert(next)
        }
        None => *row,
    })
    .collect()
}

pub(super) fn first_skipped<'a>(
    set: &'a SampleSet,
    matrix: &'a FeatureMatrix,
) -> Option<&'a Skipped> {
    set.skipped.iter().chain(&matrix.skipped).next()
}

pub(crate) fn all_skipped(set: &SampleSet, matrix: &FeatureMatrix) -> Vec<Skipped> {
    set.skipped.iter().chain(&matrix.skipped).cloned().collect()
}

/// For each label of the set, its place in the head's list.
pub(super) fn known_labels(head: &Head, head_path: &Path, set: &SampleSet) -> Result<Vec<usize>> {
    let place = |label: &String| {
        head.labels
            .iter()
            .position(|known| known == label)
            .ok_or_else(|| {
                let what = format_args!(
                    "does not know class \"{label}\" of {}; it knows {}",
                    set.source.display(),
                    head.labels.join(", ")
                );
                let remedy = "rename the class or train a head with it";
                Error::at(ErrorKind::Mismatch, head_path, what, remedy)
            })
    };
    set.labels.iter().map(place).collect()
}

/// The held-out samples of the first repeat, with calibrated probabilities.
pub(super) fn judged(
    set: &SampleSet,
    matrix: &FeatureMatrix,
    found: &Found,
    head: &Head,
    scores: &[Option<f32>],
) -> Vec<Judged> {
    let Some(held_out) = found.held_out() else {
        return Vec::new();
    };
    let classes = head.labels.len();
    let probabilities = held_out.probabilities(classes);
    let first = held_out.rows.len() / held_out.repeats.max(1);
    let rows = held_out
        .rows
        .iter()
        .zip(probabilities.chunks_exact(classes))
        .take(first);
    rows.map(|(row, probabilities)| Judged {
        path: set.samples[matrix.rows[*row]].path.clone(),
        truth: matrix.labels[*row],
        prediction: head.judged(probabilities, scores[*row]),
    })
    .collect()
}
