//! How good predictions are: accuracy with its interval, confusion, figures of every
//! class, calibration. Computing the probabilities is not here.

use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error, equally wide.
const BINS: usize = 15;

/// Smallest probability whose logarithm is taken; a certain error costs 34.5, not infinity.
const SMALLEST_PROBABILITY: f64 = 1e-15;

/// 97.5 % point of the normal distribution: two-sided 95 %.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// Figures of one class. A figure whose denominator is 0 is 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Name of the class.
    pub label: String,
    /// Of those called this class, the part that was.
    pub precision: f64,
    /// Of those that were this class, the part that was called so.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Samples that are of this class.
    pub samples: usize,
}

/// What [`evaluate`] finds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Part of the samples whose most probable class is theirs; 0 without samples.
    pub accuracy: f64,
    /// Lower end of the 95 % Wilson interval of the accuracy.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Number of samples.
    pub n: usize,
    /// `[true class][predicted class]`, number of samples.
    pub confusion: Vec<Vec<usize>>,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Figures of every class, in the order of `labels`.
    pub per_class: Vec<ClassFigures>,
    /// Expected calibration error of the top probability, 0 to 1, in 15 bins.
    pub ece: f64,
    /// Mean of -ln(probability of the true class), in nats.
    pub log_loss: f64,
}

/// Judges `probabilities`, `[n, classes]` row-major, against the true classes `[n]`.
///
/// A probability that is not a number counts as 0, one beyond 0..=1 as the nearer end; of
/// equal ones the first class is predicted. Samples without a full row, or whose true
/// class is not one of `labels`, are not counted, which shows in `n`.
pub fn evaluate(labels: &[String], truth: &[usize], probabilities: &[f32]) -> Evaluation {
    let classes = labels.len();
    let mut confusion = vec![vec![0_usize; classes]; classes];
    let mut calibration = Calibration::default();
    let (mut n, mut right, mut loss) = (0_usize, 0_usize, 0.0);
    for (&class, row) in truth.iter().zip(probabilities.chunks_exact(classes.max(1))) {
        let (predicted, confidence) = top(row);
        let cell = confusion
            .get_mut(class)
            .and_then(|row| row.get_mut(predicted));
        let (Some(cell), Some(&of_truth)) = (cell, row.get(class)) else {
            continue;
        };
        *cell += 1;
        n += 1;
        right += usize::from(predicted == class);
        loss -= usable(of_truth).max(SMALLEST_PROBABILITY).ln();
        calibration.add(confidence, predicted == class);
    }
    let (low, high) = wilson(right, n);
    Evaluation {
        accuracy: ratio(right, n),
        low,
        high,
        n,
        per_class: per_class(labels, &confusion),
        confusion,
        labels: labels.to_vec(),
        ece: calibration.error(),
        log_loss: if n == 0 { 0.0 } else { loss / n as f64 },
    }
}

/// 95 % Wilson score interval of `right` successes in `n` trials; (0, 1) when `n` is 0.
pub fn wilson(right: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (count, share) = (n as f64, ratio(right, n));
    let square = NORMAL_QUANTILE * NORMAL_QUANTILE;
    let middle = (share + square / (2.0 * count)) / (1.0 + square / count);
    let spread = share * (1.0 - share) / count + square / (4.0 * count * count);
    let half = NORMAL_QUANTILE * spread.sqrt() / (1.0 + square / count);
    // Rounding must not exclude the share itself at 0 and 1.
    (
        (middle - half).clamp(0.0, share),
        (middle + half).clamp(share, 1.0),
    )
}

/// The most probable class and its probability.
fn top(row: &[f32]) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (class, &probability) in row.iter().enumerate() {
        let probability = usable(probability);
        if probability > best.1 {
            best = (class, probability);
        }
    }
    (best.0, best.1.max(0.0))
}

fn usable(probability: f32) -> f64 {
    if probability.is_nan() {
        return 0.0;
    }
    f64::from(probability).clamp(0.0, 1.0)
}

fn per_class(labels: &[String], confusion: &[Vec<usize>]) -> Vec<ClassFigures> {
    let figures = labels.iter().zip(confusion).enumerate();
    figures
        .map(|(class, (label, row))| {
            let right = row.get(class).copied().unwrap_or(0);
            let samples: usize = row.iter().sum();
            let called: usize = confusion.iter().filter_map(|row| row.get(class)).sum();
            ClassFigures {
                label: label.clone(),
                precision: ratio(right, called),
                recall: ratio(right, samples),
                f1: ratio(2 * right, called + samples),
                samples,
            }
        })
        .collect()
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// What the expected calibration error is made from: samples, right ones and summed
/// confidence of every bin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibration {
    bins: [(usize, usize, f64); BINS],
}

impl Calibration {
    /// One sample: the probability of the class said, 0 to 1, and whether it was right.
    pub fn add(&mut self, confidence: f64, right: bool) {
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        if let Some((samples, hits, sum)) = self.bins.get_mut(bin) {
            *samples += 1;
            *hits += usize::from(right);
            *sum += confidence;
        }
    }

    /// The samples of both.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            *bin = (bin.0 + more.0, bin.1 + more.1, bin.2 + more.2);
        }
        self
    }

    /// How many samples there were.
    pub fn samples(&self) -> usize {
        self.bins.iter().map(|bin| bin.0).sum()
    }

    /// Mean over samples of |accuracy - confidence| of their bin, 0 to 1. Few samples vary
    /// around their confidence, so of few it is more than 0 for the best probabilities too.
    pub fn error(&self) -> f64 {
        let samples = self.samples();
        let gaps = self
            .bins
            .iter()
            .map(|&(_, hits, sum)| (hits as f64 - sum).abs());
        if samples == 0 {
            return 0.0;
        }
        gaps.sum::<f64>() / samples as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        vec!["ant".into(), "bee".into()]
    }

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
    }

    #[test]
    fn figures_of_a_small_case_worked_by_hand() {
        let probabilities = [0.9, 0.1, 0.6, 0.4, 0.3, 0.7, 0.8, 0.2];
        let found = evaluate(&labels(), &[0, 0, 1, 1], &probabilities);
        assert_eq!(found.confusion, [[2, 0], [1, 1]]);
        close(found.accuracy, 0.75);
        // statsmodels proportion_confint(3, 4, method="wilson").
        close(found.low, 0.300_641_84);
        close(found.high, 0.954_412_74);
        close(found.per_class[0].precision, 2.0 / 3.0);
        close(found.per_class[0].recall, 1.0);
        close(found.per_class[0].f1, 0.8);
        close(found.per_class[1].recall, 0.5);
        let logs: f64 = [0.9_f32, 0.6, 0.7, 0.2]
            .iter()
            .map(|&p| f64::from(p).ln())
            .sum();
        close(found.log_loss, -logs / 4.0);
        // Each in a bin of its own: 0.1, 0.4, 0.3 too low, 0.8 too high.
        close(found.ece, (0.1 + 0.4 + 0.3 + 0.8) / 4.0);
    }

    #[test]
    fn calibration_is_judged_a_bin_at_a_time() {
        // Ten samples of one bin, 0.7 sure, seven right: calibrated.
        let probabilities: Vec<f32> = [0.7, 0.3].repeat(10);
        let truth = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1];
        close(evaluate(&labels(), &truth, &probabilities).ece, 0.0);
        close(evaluate(&labels(), &[0; 10], &probabilities).ece, 0.3);
    }

    #[test]
    fn no_samples_say_nothing() {
        let found = evaluate(&labels(), &[], &[]);
        assert_eq!((found.n, found.accuracy, found.ece), (0, 0.0, 0.0));
        assert_eq!((found.low, found.high), (0.0, 1.0));
        assert_eq!(evaluate(&[], &[0], &[1.0]).n, 0);
    }

    #[test]
    fn what_is_no_probability_never_spreads() {
        let odd = [f32::NAN, 0.2, f32::NAN, f32::NAN, f32::INFINITY, -1.0];
        let found = evaluate(&labels(), &[1, 1, 0], &odd);
        assert_eq!(found.confusion, [[1, 0], [1, 1]]);
        let figures = [found.ece, found.log_loss, found.low, found.high];
        assert!(
            figures.iter().all(|figure| figure.is_finite()),
            "{figures:?}"
        );
        // A class that is not there and a row that is cut off are not counted.
        assert_eq!(evaluate(&labels(), &[7, 0, 0], &[0.5; 5]).n, 1);
    }

    #[test]
    fn the_interval_holds_the_share_and_narrows() {
        for n in 1..60 {
            for right in 0..=n {
                let (low, high) = wilson(right, n);
                let share = right as f64 / n as f64;
                assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
            }
        }
        let width = |n: usize| wilson(n / 2, n).1 - wilson(n / 2, n).0;
        assert!(width(10) > width(100) && width(100) > width(1000));
        // All right is no proof of perfection.
        close(wilson(10, 10).0, 0.722_467_2);
    }
}
