//! Numbers that describe the channels of a window: how its values are spread, what its
//! spectrum and its autocorrelation look like, and how its channels go together.
//!
//! Of each channel x of n values, already divided by the training data's spread:
//! - mean, deviation, least, largest, five quantiles, mean of |x\[t\] - x\[t - 1\]|, share of
//!   steps that cross the mean, skewness, kurtosis, slope from one end to the other;
//! - mean and deviation in each of `SEGMENTS` equal parts of time;
//! - ln of the power in `BANDS` bands of the spectrum, each as many times as high as the
//!   one below, and the spectrum's mean frequency, entropy and strongest frequency;
//! - the autocorrelation at the `LAGS`.
//!
//! Then the correlation of every two channels, where they are at most `MOST_PAIRED`.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Equal parts of time.
const SEGMENTS: usize = 8;
/// Bands of the spectrum.
const BANDS: usize = 12;
/// Lags of the autocorrelation, in values.
const LAGS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/// Numbers that describe the spread of values.
const SPREAD: usize = 14;
/// Numbers of a channel.
const EACH: usize = SPREAD + 2 * SEGMENTS + BANDS + 3 + LAGS.len();
/// Most channels of which every two are compared.
const MOST_PAIRED: usize = 8;
/// Deviations below this are none.
const LEAST: f64 = 1e-6;
/// Added to powers before the logarithm, as a share of a deviation of 1.
const FLOOR: f64 = 1e-6;

/// Numbers that [`Statistics::of`] gives for so many channels.
pub fn count(channels: usize) -> usize {
    let pairs = match channels {
        0..=MOST_PAIRED => channels * channels.saturating_sub(1) / 2,
        _ => 0,
    };
    channels * EACH + pairs
}

/// What computes them; one a thread.
pub struct Statistics {
    planner: RealFftPlanner<f64>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            planner: RealFftPlanner::new(),
        }
    }
}

impl Statistics {
    /// The numbers of a window, [`count`] of them. `channels` have the same number of values,
    /// one or more.
    pub fn of(&mut self, channels: &[&[f32]]) -> Vec<f32> {
        let mut out: Vec<f64> = Vec::with_capacity(count(channels.len()));
        let mut centred: Vec<(Vec<f64>, f64)> = Vec::new();
        for values in channels {
            let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let (mean, deviation) = moments(&values);
            let rest: Vec<f64> = values.iter().map(|value| value - mean).collect();
            spread(&values, &rest, (mean, deviation), &mut out);
            segments(&values, &mut out);
            let power = self.power(&rest);
            spectrum(&power, rest.len(), &mut out);
            self.autocorrelation(&rest, &mut out);
            centred.push((rest, deviation));
        }
        if channels.len() <= MOST_PAIRED {
            for (index, (first, first_deviation)) in centred.iter().enumerate() {
                for (second, second_deviation) in &centred[index + 1..] {
                    let product = first.iter().zip(second).map(|(a, b)| a * b).sum::<f64>();
                    let product = product / first.len().max(1) as f64;
                    let both = first_deviation * second_deviation;
                    out.push(if both > LEAST * LEAST {
                        product / both
                    } else {
                        0.0
                    });
                }
            }
        }
        out.into_iter().map(|value| value as f32).collect()
    }

    /// |X\[k\]|^2 / n^2 of the values under a Hann window, for k from 0 to n / 2.
    fn power(&mut self, values: &[f64]) -> Vec<f64> {
        let n = values.len();
        let turn = std::f64::consts::TAU / n as f64;
        let hann = |index: usize| 1.0 - (turn * (index as f64 + 0.5)).cos();
        let weighted = values
            .iter()
            .enumerate()
            .map(|(index, value)| value * hann(index));
        let transform = self.planner.plan_fft_forward(n);
        let lines = transformed(&transform, weighted.collect());
        let share = 1.0 / (n * n) as f64;
        lines.iter().map(|line| line.norm_sqr() * share).collect()
    }

    /// The autocorrelation by the theorem of Wiener and Khinchin: the inverse transform of
    /// the power, with zeros behind the values so that they do not wrap around.
    fn autocorrelation(&mut self, values: &[f64], out: &mut Vec<f64>) {
        let padded = (2 * values.len()).next_power_of_two();
        let mut long = values.to_vec();
        long.resize(padded, 0.0);
        let forward = self.planner.plan_fft_forward(padded);
        let lines = transformed(&forward, long).into_iter();
        let mut power: Vec<Complex<f64>> = lines
            .map(|line| Complex::new(line.norm_sqr(), 0.0))
            .collect();
        let inverse = self.planner.plan_fft_inverse(padded);
        let mut found = inverse.make_output_vec();
        // It fails only for buffers of a wrong length, which these are not.
        let _ = inverse.process(&mut power, &mut found);
        let whole = found.first().copied().unwrap_or(0.0);
        let least = LEAST * LEAST * (values.len() * padded) as f64;
        for lag in LAGS {
            let value = found
                .get(lag)
                .filter(|_| lag < values.len() && whole > least);
            out.push(value.map_or(0.0, |value| value / whole));
        }
    }
}

fn transformed(transform: &Arc<dyn RealToComplex<f64>>, mut values: Vec<f64>) -> Vec<Complex<f64>> {
    let mut lines = transform.make_output_vec();
    // It fails only for buffers of a wrong length, which these are not.
    let _ = transform.process(&mut values, &mut lines);
    lines
}

/// Mean and deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>();
    (mean, (square / n).sqrt())
}

fn spread(values: &[f64], rest: &[f64], (mean, deviation): (f64, f64), out: &mut Vec<f64>) {
    let n = values.len() as f64;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| sorted[(share * (n - 1.0)).round() as usize];
    let steps = rest.windows(2);
    let path = steps
        .clone()
        .map(|pair| (pair[1] - pair[0]).abs())
        .sum::<f64>();
    let crossings = steps
        .filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0))
        .count();
    let between = (n - 1.0).max(1.0);
    let scale = if deviation > LEAST {
        1.0 / deviation
    } else {
        0.0
    };
    let power = |exponent: i32| {
        let powers = rest.iter().map(|value| (scale * value).powi(exponent));
        powers.sum::<f64>() / n
    };
    let middle = (n - 1.0) / 2.0;
    let along = rest.iter().enumerate();
    let along = along
        .map(|(index, value)| (index as f64 - middle) * value)
        .sum::<f64>();
    let squares = n * (n * n - 1.0) / 12.0;
    let slope = if squares > 0.0 {
        along / squares * between
    } else {
        0.0
    };
    out.extend([mean, deviation, quantile(0.0), quantile(1.0)]);
    out.extend([0.1, 0.25, 0.5, 0.75, 0.9].map(quantile));
    out.extend([path / between, crossings as f64 / between]);
    out.extend([power(3), power(4).min(100.0), slope]);
}

fn segments(values: &[f64], out: &mut Vec<f64>) {
    let n = values.len();
    for segment in 0..SEGMENTS {
        // Never empty: short windows share values.
        let start = (n * segment / SEGMENTS).min(n - 1);
        let end = (n * (segment + 1)).div_ceil(SEGMENTS).max(start + 1);
        let (mean, deviation) = moments(&values[start..end]);
        out.extend([mean, deviation]);
    }
}

/// Bands over lines 1 to n / 2 of a spectrum of n values, and three numbers of its shape.
fn spectrum(power: &[f64], n: usize, out: &mut Vec<f64>) {
    let lines = power.get(1..).unwrap_or_default();
    let highest = lines.len().max(1) as f64;
    let edge = |band: usize| highest.powf(band as f64 / BANDS as f64);
    for band in 0..BANDS {
        // Line 1 + i lies from i to i + 1: bands narrower than a line share it.
        let (low, high) = (edge(band) - 1.0, edge(band + 1));
        let sum = lines.iter().enumerate().map(|(index, power)| {
            let index = index as f64;
            let share = (high.min(index + 1.0) - low.max(index)).max(0.0);
            share * power
        });
        out.push((sum.sum::<f64>() + FLOOR).ln());
    }
    let whole = lines.iter().sum::<f64>();
    if whole < LEAST * LEAST {
        return out.extend([0.0; 3]);
    }
    let of_half = |line: usize| (line + 1) as f64 / (n as f64 / 2.0);
    let lined = || lines.iter().enumerate();
    let mean = lined()
        .map(|(line, power)| of_half(line) * power)
        .sum::<f64>()
        / whole;
    let entropy = lines
        .iter()
        .map(|power| power / whole)
        .filter(|share| *share > 0.0);
    let entropy = entropy.map(|share| -share * share.ln()).sum::<f64>();
    let strongest = lined().max_by(|one, other| one.1.total_cmp(other.1));
    out.extend([
        mean,
        entropy,
        strongest.map_or(0.0, |(line, _)| of_half(line)),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(step: f32, count: usize) -> Vec<f32> {
        (0..count).map(|t| (step * t as f32).sin()).collect()
    }

    #[test]
    fn a_sine_has_its_frequency_and_its_period() {
        let step = std::f32::consts::TAU / 16.0;
        let found = Statistics::default().of(&[&sine(step, 128)]);
        assert_eq!(found.len(), count(1));
        assert!(found[0].abs() < 1e-6, "mean");
        assert!((found[1] - 0.5f32.sqrt()).abs() < 1e-3, "deviation");
        let strongest = found[SPREAD + 2 * SEGMENTS + BANDS + 2];
        assert!((strongest - 0.125).abs() < 0.02, "{strongest}");
        // Against itself after half a period of 16 values, with itself after a whole one.
        let lags = &found[count(1) - LAGS.len()..];
        assert!(lags[5] < -0.9 && lags[7] > 0.85, "{lags:?}");
    }

    #[test]
    fn short_and_flat_windows_give_finite_numbers() {
        let mut statistics = Statistics::default();
        for length in [1, 2, 3, 7, 9] {
            for values in [vec![3.0; length], sine(1.0, length), vec![1e6; length]] {
                let found = statistics.of(&[&values, &values]);
                assert_eq!(found.len(), count(2));
                assert!(
                    found.iter().all(|value| value.is_finite()),
                    "{length} {found:?}"
                );
            }
        }
    }

    #[test]
    fn channels_that_go_together_are_told() {
        let (one, other) = (
            sine(0.4, 100),
            sine(0.4, 100).iter().map(|v| -v).collect::<Vec<_>>(),
        );
        let found = Statistics::default().of(&[&one, &other, &one]);
        let pairs = &found[found.len() - 3..];
        assert!(pairs[0] < -0.999 && pairs[1] > 0.999, "{pairs:?}");
        assert_eq!(count(9), 9 * EACH);
    }
}
