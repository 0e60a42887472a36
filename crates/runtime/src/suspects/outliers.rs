//! Samples that look like none of the classes: the cosine distance to the nearest class
//! mean is far beyond what is usual in the set. The mean of the sample's own class is
//! taken without it.
//!
//! Tried on sets with two foreign pictures among 20 to 300: the distance to the nearest
//! neighbours finds fewer of them, since foreign pictures may be each other's neighbour.

use super::means::Likeness;

/// Robust standard deviations beyond the median from which a sample is reported.
const LEAST_DEVIATIONS: f64 = 5.0;
/// Below this many samples nothing is usual.
const FEWEST_SAMPLES: usize = 10;
/// Cosine distances that differ by less are equal, however small the deviation is.
const LEAST_SPREAD: f64 = 0.01;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;

/// One sample far from all classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// The sample.
    pub row: usize,
    /// The class it is least far from.
    pub nearest: usize,
    /// Robust standard deviations beyond the median distance.
    pub deviations: f64,
}

/// Outliers among the rows of `likeness` `[N, classes]`, in the order of the rows.
pub fn outliers(likeness: &Likeness, classes: usize) -> Vec<Outlier> {
    let nearest: Vec<(usize, f64)> = likeness.chunks_exact(classes.max(1)).map(nearest).collect();
    if nearest.len() < FEWEST_SAMPLES {
        return Vec::new();
    }
    let distances: Vec<f64> = nearest.iter().map(|(_, distance)| *distance).collect();
    let (middle, deviation) = robust(&distances);
    let deviation = deviation.max(LEAST_SPREAD);
    let rows = nearest.into_iter().enumerate();
    rows.map(|(row, (nearest, distance))| Outlier {
        row,
        nearest,
        deviations: (distance - middle) / deviation,
    })
    .filter(|outlier| outlier.deviations >= LEAST_DEVIATIONS)
    .collect()
}

/// The most similar class and the cosine distance to its mean.
fn nearest(likeness: &[Option<f32>]) -> (usize, f64) {
    let mut nearest = (0, f32::NEG_INFINITY);
    for (class, cosine) in likeness.iter().enumerate() {
        if let Some(cosine) = cosine.filter(|cosine| *cosine > nearest.1) {
            nearest = (class, cosine);
        }
    }
    // A sample without anything to compare with is not far from it.
    let cosine = if nearest.1.is_finite() {
        nearest.1
    } else {
        1.0
    };
    (nearest.0, 1.0 - f64::from(cosine))
}

/// Median, and the standard deviation that the median absolute deviation stands for.
pub(crate) fn robust(values: &[f64]) -> (f64, f64) {
    let middle = median(values.to_vec());
    let deviations = values.iter().map(|value| (value - middle).abs()).collect();
    (middle, NORMAL * median(deviations))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (
        values.get(half),
        half.checked_sub(1).and_then(|below| values.get(below)),
    ) {
        (Some(high), Some(low)) if values.len().is_multiple_of(2) => 0.5 * (low + high),
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_from_every_class_is_an_outlier() {
        let mut likeness = Likeness::new();
        for row in 0..30 {
            let near = 0.80 + 0.002 * (row % 10) as f32;
            likeness.extend(if row % 2 == 0 {
                [Some(near), Some(0.2)]
            } else {
                [Some(0.2), Some(near)]
            });
        }
        assert_eq!(outliers(&likeness, 2), []);
        likeness.extend([Some(0.3), Some(0.31), None, None]);
        let found = outliers(&likeness, 2);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].row, found[0].nearest), (30, 1));
        assert!(found[0].deviations > 10.0);
    }

    #[test]
    fn a_handful_of_samples_has_no_outliers() {
        let mut likeness = vec![Some(0.9); 8];
        likeness.push(Some(-0.5));
        assert_eq!(outliers(&likeness, 1), []);
    }

    #[test]
    fn the_median_is_that_of_textbooks() {
        assert_eq!(robust(&[1.0, 9.0, 2.0]), (2.0, NORMAL));
        assert_eq!(robust(&[4.0, 1.0, 2.0, 3.0]).0, 2.5);
        assert_eq!(robust(&[]), (0.0, 0.0));
    }
}
