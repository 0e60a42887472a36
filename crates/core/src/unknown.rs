//! Whether a sample is of no trained class: its distance from the class means, in
//! transformed features. Where means and directions come from, and which threshold keeps
//! false alarms rare, is the runtime's matter.
//!
//! For a class mean `m_k`, with `d = x - m_k` and directions `u_j` scaled below length 1,
//! `|d|^2 - sum_j (u_j d)^2` is the Mahalanobis distance of Lee et al. (2018), up to a
//! factor, for a covariance of a few large axes and equal variance elsewhere. A quarter of
//! the distance to the centre of all classes is taken off, after the relative distance of
//! Ren et al. (2021): what is unusual in every respect is no worse for it.

use crate::head::Floats;
use serde::{Deserialize, Serialize};

/// The most directions a head keeps.
pub const MAX_DIRECTIONS: usize = 8;
/// Part of the squared distance to the centre that is taken off.
pub const CENTRE_SHARE: f32 = 0.25;

/// What a head knows about the place of its classes. The default knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unknown<'a> {
    /// Class means `[K, F]` of transformed features; empty when nothing is known.
    #[serde(borrow)]
    pub means: Floats<'a>,
    /// Directions in which classes spread, `[R, F]`, R up to [`MAX_DIRECTIONS`].
    #[serde(borrow)]
    pub directions: Floats<'a>,
    /// A score above this means none of the classes.
    pub threshold: f32,
    /// The share of samples of trained classes that the threshold was chosen to lose.
    pub false_alarms: f32,
}

impl Unknown<'_> {
    /// Whether there is anything to judge by.
    pub fn is_known(&self) -> bool {
        !self.means.is_empty()
    }

    /// The score of one transformed sample `[F]`, larger when less like any class; 0
    /// when nothing is known.
    pub fn score(&self, features: &[f32]) -> f32 {
        score(
            |index| self.means.get(index),
            |index| self.directions.get(index),
            [self.means.len(), self.directions.len()],
            features,
        )
    }

    /// Whether sizes and numbers are possible for K classes of F features.
    pub(crate) fn is_sound(&self, classes: usize, features: usize) -> bool {
        let rows = self.directions.len() / features.max(1);
        let empty = self.means.is_empty() && self.directions.is_empty();
        let full = self.means.sound(classes * features)
            && self.directions.sound(rows * features)
            && rows <= MAX_DIRECTIONS;
        (empty || full) && self.threshold.is_finite() && (0.0..1.0).contains(&self.false_alarms)
    }
}

/// The score from means and directions in memory; see [`Unknown::score`].
pub fn score_of(means: &[f32], directions: &[f32], features: &[f32]) -> f32 {
    let at = |values: &[f32], index: usize| values.get(index).copied().unwrap_or(0.0);
    score(
        |index| at(means, index),
        |index| at(directions, index),
        [means.len(), directions.len()],
        features,
    )
}

fn score(
    mean: impl Fn(usize) -> f32,
    direction: impl Fn(usize) -> f32,
    [means, directions]: [usize; 2],
    features: &[f32],
) -> f32 {
    let width = features.len().max(1);
    let (classes, rows) = (means / width, directions / width);
    let mut nearest = f32::INFINITY;
    for class in 0..classes {
        let difference = |i: usize| features[i] - mean(class * width + i);
        let mut distance = square_sum(width, difference);
        for row in 0..rows {
            let along = (0..width).map(|i| direction(row * width + i) * difference(i));
            let along: f32 = along.sum();
            distance -= along * along;
        }
        nearest = nearest.min(distance);
    }
    if classes == 0 {
        return 0.0;
    }
    let share = 1.0 / classes as f32;
    let centre = |i: usize| (0..classes).map(|k| mean(k * width + i)).sum::<f32>() * share;
    let from_centre = square_sum(width, |i| features[i] - centre(i));
    nearest - CENTRE_SHARE * from_centre
}

fn square_sum(width: usize, value: impl Fn(usize) -> f32) -> f32 {
    (0..width).map(|i| value(i) * value(i)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_of_a_small_case_worked_by_hand() {
        // Means (0,0) and (4,0), centre (2,0); a direction that halves squares along x.
        let (means, half) = ([0.0, 0.0, 4.0, 0.0], 0.5f32.sqrt());
        let score = |x: [f32; 2]| score_of(&means, &[half, 0.0], &x);
        // Nearest is (4,0): 1 / 2 + 9 = 9.5; centre: 9 + 9 = 18, a quarter 4.5.
        assert!((score([5.0, 3.0]) - 5.0).abs() < 1e-5);
        assert!(score([0.0, 0.0]) < score([0.0, 2.0]));
        assert_eq!(score_of(&[], &[], &[1.0]), 0.0);
    }
}
