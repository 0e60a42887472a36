//! Where the classes lie in feature space, and how far from them is too far. The score is
//! `fieldtune_core::unknown`'s; this file takes class means and directions from training
//! samples, and the threshold from samples that those did not see.
//!
//! All of it goes into the head file, so sums are f64 in a fixed order, on one thread. A
//! library's eigenvectors would differ in their last digits from one processor to another.

use fieldtune_core::prototype::class_means;
use fieldtune_core::random::Random;
use fieldtune_core::sets::needed;
use fieldtune_core::unknown::{MAX_DIRECTIONS, score_of};

use crate::data::{Data, Fitted};
use crate::head::Unknown;
use crate::recipe::Normalise;
use crate::search::{fold_count, folds};
use crate::views::ViewSet;

/// Share of samples of trained classes called unknown, unless chosen otherwise.
pub const FALSE_ALARMS: f64 = 0.05;
/// Directions are searched among at most this many samples, evenly spaced: more would not
/// move eight directions much and would make a slow board wait.
const MOST_ROWS: usize = 1000;
/// Steps of the search. Convergence to the last digit is not needed: the threshold is taken
/// from scores made in the same way.
const STEPS: usize = 10;
/// Weight of the average variance against the measured one in each direction (shrinkage).
const SHRINKAGE: f64 = 0.6;

/// Means, directions and threshold, and what held-out samples scored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fit {
    /// For the head file.
    pub unknown: Unknown,
    /// Score of each sample `[N]` by means and directions without it; `None` where none
    /// could be held out.
    pub scores: Vec<Option<f32>>,
}

impl Fit {
    /// Nothing is known of so many samples.
    pub fn nothing(samples: usize) -> Self {
        Self {
            unknown: Unknown::default(),
            scores: vec![None; samples],
        }
    }
}

/// Learns where the classes lie. `false_alarms`, 0 to below 1, is the share of new samples
/// of trained classes that may be called unknown; with n held-out samples the least that
/// can be kept is 1 / (n + 1), and a smaller one is treated as that. Nothing is learned
/// when no sample can be held out.
pub fn fit(
    normalise: Normalise,
    views: ViewSet,
    data: &Data<'_>,
    fitted: &Fitted,
    seed: u64,
    false_alarms: f64,
) -> Fit {
    let folds = folds(data, seed);
    let mut scores = vec![None; data.len()];
    for fold in 0..fold_count(&folds) {
        let (held_out, trained): (Vec<usize>, Vec<usize>) =
            (0..data.len()).partition(|row| folds[*row] == fold);
        let fitted = Fitted::new(normalise, data, &trained, views);
        let place = Place::of(data, &trained, views, &fitted);
        let rows = transformed(data, &held_out, views, &fitted);
        for (row, values) in held_out.iter().zip(rows.chunks_exact(data.features)) {
            scores[*row] = Some(score_of(&place.means, &place.directions, values));
        }
    }
    let known: Vec<f32> = scores.iter().copied().flatten().collect();
    let Some(threshold) = threshold(known, false_alarms) else {
        return Fit {
            unknown: Unknown::default(),
            scores,
        };
    };
    let all: Vec<usize> = (0..data.len()).collect();
    let place = Place::of(data, &all, views, fitted);
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let unknown = Unknown {
        means: bytes(&place.means),
        directions: bytes(&place.directions),
        threshold,
        false_alarms: false_alarms as f32,
    };
    Fit { unknown, scores }
}

/// The score that at most this share of new samples exceeds: a conformal quantile, in
/// which the new sample counts as one of them. `None` without finite scores.
fn threshold(mut scores: Vec<f32>, false_alarms: f64) -> Option<f32> {
    scores.retain(|score| score.is_finite());
    scores.sort_by(f32::total_cmp);
    let rank = needed(scores.len(), 1.0 - false_alarms).clamp(1, scores.len().max(1));
    scores.get(rank - 1).copied()
}

/// Class means `[K, F]` and scaled directions `[R, F]`.
struct Place {
    means: Vec<f32>,
    directions: Vec<f32>,
}

impl Place {
    fn of(data: &Data<'_>, samples: &[usize], views: ViewSet, fitted: &Fitted) -> Self {
        let width = data.features;
        let mut rows = transformed(data, samples, views, fitted);
        let labels: Vec<u16> = samples.iter().map(|row| data.labels[*row]).collect();
        let (mut means, mut counts) = (vec![0.0; data.classes * width], vec![0; data.classes]);
        class_means(&rows, &labels, &mut means, &mut counts);
        for (row, label) in rows.chunks_exact_mut(width).zip(&labels) {
            let mean = &means[usize::from(*label) * width..];
            row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
        }
        let freedom = samples.len().saturating_sub(data.classes);
        let step = samples.len().div_ceil(MOST_ROWS).max(1);
        let chosen: Vec<&[f32]> = rows.chunks_exact(width).step_by(step).collect();
        let freedom = freedom as f64 * chosen.len() as f64 / samples.len().max(1) as f64;
        let directions = directions(&chosen, width, freedom);
        Self { means, directions }
    }
}

/// Transformed features of the mean of each sample's views, `[n, F]`.
fn transformed(data: &Data<'_>, samples: &[usize], views: ViewSet, fitted: &Fitted) -> Vec<f32> {
    let mut rows = data.mean_rows(samples, views);
    let transform = fitted.transform();
    rows.chunks_exact_mut(data.features)
        .for_each(|row| transform.apply(row));
    rows
}

/// The directions in which `rows`, differences from class means, spread most, by orthogonal
/// iteration. Each is scaled so that the square of a difference along it, taken off the
/// whole square, leaves the Mahalanobis distance of the shrunk covariance.
fn directions(rows: &[&[f32]], width: usize, freedom: f64) -> Vec<f32> {
    let count = MAX_DIRECTIONS.min(freedom as usize).min(width);
    let squares = rows.iter().flat_map(|row| row.iter());
    let total: f64 = squares.map(|x| f64::from(*x) * f64::from(*x)).sum();
    if count == 0 || total <= 0.0 {
        return Vec::new();
    }
    let average = total / freedom / width as f64;
    let mut random = Random::new(1);
    let mut axes: Vec<Vec<f64>> = (0..count)
        .map(|_| (0..width).map(|_| f64::from(random.normal())).collect())
        .collect();
    let mut lengths = orthonormalise(&mut axes);
    for _ in 0..STEPS {
        axes = axes.iter().map(|axis| spread(rows, axis)).collect();
        lengths = orthonormalise(&mut axes);
    }
    let scaled = axes.iter().zip(lengths).flat_map(|(axis, length)| {
        let variance = (1.0 - SHRINKAGE) * length / freedom + SHRINKAGE * average;
        let kept = (SHRINKAGE * average / variance).min(1.0);
        // The square root is exact on every processor.
        let scale = (1.0 - kept).sqrt();
        axis.iter().map(move |x| (scale * x) as f32)
    });
    scaled.collect()
}

/// `R^T R axis`.
fn spread(rows: &[&[f32]], axis: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; axis.len()];
    for row in rows {
        let along: f64 = dot(row.iter().map(|x| f64::from(*x)), axis);
        for (sum, x) in sum.iter_mut().zip(row.iter()) {
            *sum += along * f64::from(*x);
        }
    }
    sum
}

/// Makes the axes orthogonal and of length 1 (Gram and Schmidt, modified); returns their
/// lengths before the last step. One without a length of its own becomes zero.
fn orthonormalise(axes: &mut [Vec<f64>]) -> Vec<f64> {
    let mut lengths = Vec::with_capacity(axes.len());
    for index in 0..axes.len() {
        let (done, rest) = axes.split_at_mut(index);
        let axis = &mut rest[0];
        let before = dot(axis.iter().copied(), axis).sqrt();
        for other in done.iter() {
            let along = dot(axis.iter().copied(), other);
            axis.iter_mut()
                .zip(other)
                .for_each(|(x, o)| *x -= along * o);
        }
        let length = dot(axis.iter().copied(), axis).sqrt();
        // What is left of an axis inside the others' span is rounding, not direction.
        let scale = if length > 1e-9 * before {
            1.0 / length
        } else {
            0.0
        };
        axis.iter_mut().for_each(|x| *x *= scale);
        lengths.push(if scale > 0.0 { length } else { 0.0 });
    }
    lengths
}

fn dot(a: impl Iterator<Item = f64>, b: &[f64]) -> f64 {
    a.zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes around means 20 apart along the first axes, wide along the last.
    fn cloud(per_class: usize, seed: u64) -> (Vec<f32>, Vec<u16>) {
        let mut random = Random::new(seed);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for index in 0..2 * per_class {
            let mut row: Vec<f32> = (0..12).map(|_| 10.0 + random.normal()).collect();
            row[index % 2] += 20.0;
            row[11] += 6.0 * random.normal();
            values.extend(row);
            labels.push((index % 2) as u16);
        }
        (values, labels)
    }

    fn fitted_on(values: &[f32], labels: &[u16], false_alarms: f64) -> Fit {
        let views = [values];
        let data = Data {
            views: &views,
            held: ViewSet::ORIGINAL,
            labels,
            groups: &[],
            features: 12,
            classes: 2,
        };
        let rows: Vec<usize> = (0..labels.len()).collect();
        let fitted = Fitted::new(Normalise::Standard, &data, &rows, ViewSet::ORIGINAL);
        fit(
            Normalise::Standard,
            ViewSet::ORIGINAL,
            &data,
            &fitted,
            3,
            false_alarms,
        )
    }

    #[test]
    fn false_alarms_are_as_chosen_on_average() {
        let share: f64 = (0..40)
            .map(|seed| {
                let (values, labels) = cloud(20, seed);
                let (fresh, _) = cloud(100, 1000 + seed);
                let unknown = fitted_on(&values, &labels, 0.1).unknown;
                let rows: Vec<usize> = (0..labels.len()).collect();
                let data = Data {
                    views: &[&values],
                    held: ViewSet::ORIGINAL,
                    labels: &labels,
                    groups: &[],
                    features: 12,
                    classes: 2,
                };
                let fitted = Fitted::new(Normalise::Standard, &data, &rows, ViewSet::ORIGINAL);
                let alarms = fresh.chunks_exact(12).filter(|row| {
                    let mut row = row.to_vec();
                    fitted.transform().apply(&mut row);
                    unknown.as_file().score(&row) > unknown.threshold
                });
                alarms.count() as f64 / 200.0
            })
            .sum::<f64>()
            / 40.0;
        // Means from fewer samples score held-out ones higher, so fewer than chosen.
        assert!((0.02..0.13).contains(&share), "{share}");
    }

    #[test]
    fn the_widest_direction_is_found() {
        let mut random = Random::new(5);
        let rows: Vec<Vec<f32>> = (0..200)
            .map(|_| {
                let mut row: Vec<f32> = (0..9).map(|_| random.normal()).collect();
                row[4] *= 5.0;
                row
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let found = directions(&rows, 9, 199.0);
        let first = &found[..9];
        let length = first.iter().map(|x| x * x).sum::<f32>();
        assert!(first[4] * first[4] > 0.98 * length, "{first:?}");
        // Variance 25 there, (25 + 8) / 9 on average: 1 - 0.6 * 3.67 / (0.4 * 25 + 2.2).
        assert!((length - 0.82).abs() < 0.03, "{length}");
    }

    #[test]
    fn single_samples_say_nothing() {
        let (values, labels) = cloud(1, 1);
        let found = fitted_on(&values, &labels, 0.05);
        assert_eq!(found.unknown, Unknown::default());
        assert!(found.scores.iter().all(Option::is_none));
    }

    #[test]
    fn no_sample_is_scored_by_itself() {
        let (values, labels) = cloud(3, 2);
        let found = fitted_on(&values, &labels, 0.05);
        assert!(found.scores.iter().all(Option::is_some));
        let mut moved = values.clone();
        moved[..12].iter_mut().for_each(|x| *x += 100.0);
        let again = fitted_on(&moved, &labels, 0.05);
        // Had it helped to make its own mean, moving it would move its score less.
        assert!(again.scores[0] > found.scores[0]);
    }
}
