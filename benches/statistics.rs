//! Means with confidence intervals over few draws, and how many samples a method saves.

use std::time::Instant;

/// Quantiles of Student's t distribution, two-sided 95 %, for 1 to 10 degrees of freedom.
const T: [f64; 10] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
];

/// A mean and half the width of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the interval's width; 0 for a single value.
    pub half: f64,
}

impl Estimate {
    /// Of independent values, by Student's t distribution.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half = match values.len() {
            0 | 1 => 0.0,
            n => {
                let t = T.get(n - 2).copied().unwrap_or(2.2);
                t * (squares / (count - 1.0) / count).sqrt()
            }
        };
        Self { mean, half }
    }
}

/// How many times as many samples plain training needs for the same error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Saving {
    /// This many times as many.
    Times(f64),
    /// More: plain training does not come so low at its largest N.
    More(f64),
    /// Fewer: plain training is better already at its smallest N.
    Less(f64),
}

/// Where a curve of plain errors `(N, error)`, N rising, meets `error`; straight between
/// points in log N and log error.
pub fn saving(plain: &[(usize, f64)], samples: usize, error: f64) -> Saving {
    let times = |n: f64| n / samples as f64;
    for pair in plain.windows(2) {
        let [(n, e), (more, less)] = [pair[0], pair[1]];
        if e >= error && error >= less && error > 0.0 {
            let way = if e > less {
                (e / error).ln() / (e / less).ln()
            } else {
                0.0
            };
            let ratio = more as f64 / n as f64;
            return Saving::Times(times(n as f64 * ratio.powf(way)));
        }
    }
    match plain {
        [(first, e), ..] if error > *e => Saving::Less(times(*first as f64)),
        [.., (last, _)] => Saving::More(times(*last as f64)),
        [] => Saving::More(0.0),
    }
}

/// The relative change from each baseline to its value, `value / baseline - 1`.
pub fn changes(values: &[f64], baselines: &[f64]) -> Vec<f64> {
    let pairs = values.iter().zip(baselines);
    pairs.map(|(value, base)| value / base - 1.0).collect()
}

/// Median time of a step in microseconds, over `seconds` and at least 5 steps.
///
/// # Errors
/// The step's.
pub fn median_us<E>(seconds: f64, mut step: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let (mut times, all) = (Vec::new(), Instant::now());
    while times.len() < 5 || all.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        step()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(estimate.mean, 3.0);
        // t = 2.776 at 4 degrees of freedom, standard error sqrt(2.5 / 5).
        assert!((estimate.half - 1.963).abs() < 1e-3, "{estimate:?}");
        assert_eq!(Estimate::of(&[7.0]).half, 0.0);
    }

    #[test]
    fn savings_follow_the_curve_in_logarithms() {
        // Error falls as 1 / sqrt(N).
        let plain = [(100, 10.0), (400, 5.0), (1600, 2.5)];
        let Saving::Times(times) = saving(&plain, 100, 5.0) else {
            panic!("on the curve");
        };
        assert!((times - 4.0).abs() < 1e-9, "{times}");
        let Saving::Times(times) = saving(&plain, 400, 50f64.sqrt()) else {
            panic!("on the curve");
        };
        assert!((times - 0.5).abs() < 1e-9, "{times}");
        assert_eq!(saving(&plain, 400, 2.0), Saving::More(4.0));
        assert_eq!(saving(&plain, 200, 11.0), Saving::Less(0.5));
    }

    #[test]
    fn a_flat_stretch_saves_nothing() {
        let plain = [(100, 10.0), (200, 10.0), (400, 5.0)];
        assert_eq!(saving(&plain, 100, 10.0), Saving::Times(1.0));
    }

    #[test]
    fn changes_are_relative_and_paired() {
        let changes = changes(&[8.0, 22.0], &[10.0, 20.0]);
        assert!((changes[0] + 0.2).abs() < 1e-12 && (changes[1] - 0.1).abs() < 1e-12);
    }
}
