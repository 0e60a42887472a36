//! A power law through a few error rates, with everything that is not sure about it:
//! a posterior over a grid of laws. How the rates are measured is not here.
//!
//! The law: error(n) = a + b n^-c, n samples a class (Cortes et al., "Learning curves:
//! asymptotic values and rate of convergence", 1993). It is laid out as the error e at the
//! samples there are (N), the share f of it that never goes away, and the exponent c:
//! error(n) = e (f + (1 - f) (n / N)^-c).

use libm::{exp, log, pow};
use serde::Serialize;

/// Steps of the error rate, evenly in ln(e / (1 - e)).
const LEVELS: usize = 144;
/// Smallest and largest ln(e / (1 - e)): errors of 0.03 and 95 %.
const LEVEL_ENDS: [f64; 2] = [-8.0, 3.0];
/// Exponents tried. Measured ones lie between a third and one.
const EXPONENTS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5];
/// Middle and spread of what is believed about ln c before any measurement.
const EXPONENT_PRIOR: [f64; 2] = [-0.6, 0.8];
/// Shares of the error that never go away.
const FLOORS: [f64; 6] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75];
/// Belief in a floor falls to 1/e at this share.
const FLOOR_PRIOR: f64 = 0.3;
/// How many judgements each held-out sample counts as, over all sizes together. All sizes
/// judge the same samples, so it is not the number of sizes.
const JUDGEMENTS_A_SAMPLE: f64 = 1.5;
/// Heads trained on different samples differ by a variance of ln(e / (1 - e)) of this,
/// divided by the wrong ones that e makes among as many samples as they were trained on.
/// Measured: 0.1 to 0.5 on four data sets, whatever the error and the number of samples.
const SPREAD: f64 = 0.3;
/// Its square root is not larger than this, however few are wrong.
const LARGEST_SPREAD: f64 = 0.4;
/// Normal quantiles at (2 i + 1) / 18: nine equally likely heads.
const NORMAL: [f64; 9] = [
    -1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 1.593,
];
/// Share of the cases that the interval is meant to hold.
pub const CONFIDENCE: f64 = 0.9;
/// Laws less likely than this, relative to the likeliest, are left out.
const NEGLIGIBLE: f64 = 1e-5;

/// An error rate measured at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Training samples a class, above 0.
    pub samples_a_class: f64,
    /// Share called wrong, 0 to 1.
    pub error: f64,
    /// Different samples that were judged, of all that there are.
    pub judged: f64,
}

/// error(n) = floor + factor n^-exponent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PowerLaw {
    /// a: the error that stays whatever the number of samples.
    pub floor: f64,
    /// b.
    pub factor: f64,
    /// c.
    pub exponent: f64,
}

/// An accuracy with the interval that [`CONFIDENCE`] of heads fall into, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// The middle: as many heads above as below.
    pub expected: f64,
    /// Upper end.
    pub high: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Law {
    level: f64,
    exponent: f64,
    floor: f64,
    weight: f64,
}

/// Every law with its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    laws: Vec<Law>,
    samples_a_class: f64,
    /// All samples there are, of all classes.
    samples: f64,
}

impl Posterior {
    /// What `rates` say about heads trained on about `samples_a_class` samples a class (N).
    /// Rates that are not finite count as nothing.
    pub fn new(rates: &[Rate], samples_a_class: f64) -> Self {
        let here = samples_a_class.max(f64::MIN_POSITIVE);
        let rates: Vec<Rate> = rates.iter().copied().filter(usable).collect();
        let share = JUDGEMENTS_A_SAMPLE / rates.len().max(1) as f64;
        let mut laws = prior();
        let mut logs: Vec<f64> = laws
            .iter()
            .map(|law| log(law.weight) + share * likelihood(law, &rates, here))
            .collect();
        let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        logs.iter_mut()
            .for_each(|value| *value = exp(*value - best));
        laws.iter_mut()
            .zip(&logs)
            .for_each(|(law, weight)| law.weight = *weight);
        laws.retain(|law| law.weight > NEGLIGIBLE);
        let sum: f64 = laws.iter().map(|law| law.weight).sum();
        laws.iter_mut().for_each(|law| law.weight /= sum);
        Self {
            laws,
            samples_a_class: here,
            samples: rates.iter().map(|rate| rate.judged).fold(1.0, f64::max),
        }
    }

    /// Accuracy of one head trained on `samples_a_class` samples a class, measured on many
    /// new samples.
    pub fn accuracy(&self, samples_a_class: f64) -> Range {
        let ratio = samples_a_class / self.samples_a_class;
        let mut errors: Vec<(f64, f64)> = Vec::with_capacity(self.laws.len() * NORMAL.len());
        for law in &self.laws {
            let error = law.error(ratio);
            let odds = log(error / (1.0 - error));
            let wrong = self.samples * ratio * error;
            let spread = (SPREAD / wrong).sqrt().min(LARGEST_SPREAD);
            let heads = NORMAL.iter().map(|z| 1.0 / (1.0 + exp(-odds - spread * z)));
            errors.extend(heads.map(|error| (error, law.weight / NORMAL.len() as f64)));
        }
        errors.sort_by(|one, other| one.0.total_cmp(&other.0));
        let tail = 0.5 * (1.0 - CONFIDENCE);
        let [low, expected, high] =
            [1.0 - tail, 0.5, tail].map(|share| 1.0 - quantile(&errors, share));
        Range {
            low,
            expected,
            high,
        }
    }

    /// The mean law, for people to look at.
    pub fn mean(&self) -> PowerLaw {
        let mean = |of: &dyn Fn(&Law) -> f64| {
            self.laws
                .iter()
                .map(|law| law.weight * of(law))
                .sum::<f64>()
        };
        let level = exp(mean(&|law| log(law.level)));
        let (exponent, floor) = (mean(&|law| law.exponent), mean(&|law| law.floor));
        PowerLaw {
            floor: level * floor,
            factor: level * (1.0 - floor) * pow(self.samples_a_class, exponent),
            exponent,
        }
    }
}

impl Law {
    /// The error at `ratio` times as many samples as there are, between 0 and 1.
    fn error(&self, ratio: f64) -> f64 {
        let error = self.level * (self.floor + (1.0 - self.floor) * pow(ratio, -self.exponent));
        error.clamp(1e-9, 1.0 - 1e-9)
    }
}

fn usable(rate: &Rate) -> bool {
    let values = [rate.samples_a_class, rate.error, rate.judged];
    values.iter().all(|value| value.is_finite()) && rate.samples_a_class > 0.0
}

/// All laws of the grid, weighted by what is believed before any measurement: Jeffreys'
/// prior for the error rate, a broad hill for the exponent, rather no floor than a high one.
fn prior() -> Vec<Law> {
    let mut laws = Vec::with_capacity(LEVELS * EXPONENTS.len() * FLOORS.len());
    for step in 0..LEVELS {
        let [first, last] = LEVEL_ENDS;
        let odds = first + (last - first) * step as f64 / (LEVELS - 1) as f64;
        let level = 1.0 / (1.0 + exp(-odds));
        for exponent in EXPONENTS {
            let [middle, spread] = EXPONENT_PRIOR;
            let far = (log(exponent) - middle) / spread;
            for floor in FLOORS {
                let weight =
                    (level * (1.0 - level)).sqrt() * exp(-0.5 * far * far - floor / FLOOR_PRIOR);
                laws.push(Law {
                    level,
                    exponent,
                    floor,
                    weight,
                });
            }
        }
    }
    laws
}

/// Logarithm of the binomial likelihood, every judged sample once a size.
fn likelihood(law: &Law, rates: &[Rate], here: f64) -> f64 {
    let terms = rates.iter().map(|rate| {
        let error = law.error(rate.samples_a_class / here);
        rate.judged * (rate.error * log(error) + (1.0 - rate.error) * log(1.0 - error))
    });
    terms.sum()
}

/// The value below which `share` of the weight lies; values sorted.
fn quantile(sorted: &[(f64, f64)], share: f64) -> f64 {
    let mut sum = 0.0;
    for (value, weight) in sorted {
        sum += weight;
        if sum >= share {
            return *value;
        }
    }
    sorted.last().map_or(0.5, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(law: impl Fn(f64) -> f64, judged: f64) -> Vec<Rate> {
        let rate = |samples_a_class| Rate {
            samples_a_class,
            error: law(samples_a_class),
            judged,
        };
        [5.0, 10.0, 13.0, 15.0, 16.0].map(rate).to_vec()
    }

    #[test]
    fn with_many_judgements_the_curve_comes_back() {
        let law = |n: f64| 0.02 + 0.6 * n.powf(-0.8);
        let posterior = Posterior::new(&rates(law, 1e5), 20.0);
        for n in [10.0, 20.0, 40.0] {
            let found = posterior.accuracy(n);
            let error = 1.0 - found.expected;
            assert!(
                (error / law(n) - 1.0).abs() < 0.15,
                "{n}: {found:?} {}",
                law(n)
            );
        }
        let mean = posterior.mean();
        let error = mean.floor + mean.factor * 20f64.powf(-mean.exponent);
        assert!((error / law(20.0) - 1.0).abs() < 0.06, "{mean:?}");
    }

    #[test]
    fn fewer_judgements_and_longer_reach_mean_a_wider_interval() {
        let law = |n: f64| 0.8 * n.powf(-0.6);
        let width = |judged, n| {
            let range = Posterior::new(&rates(law, judged), 20.0).accuracy(n);
            assert!(range.low < range.expected && range.expected < range.high);
            range.high - range.low
        };
        assert!(width(20.0, 40.0) > 1.5 * width(200.0, 40.0));
        let relative = |n| {
            let range = Posterior::new(&rates(law, 200.0), 20.0).accuracy(n);
            (range.high - range.low) / (1.0 - range.expected)
        };
        assert!(relative(160.0) > 1.2 * relative(20.0));
    }

    #[test]
    fn no_error_is_no_certainty_and_nothing_measured_says_nothing() {
        let faultless = Posterior::new(&rates(|_| 0.0, 12.0), 20.0).accuracy(40.0);
        assert!(
            faultless.low < 0.97 && faultless.high < 1.0,
            "{faultless:?}"
        );
        assert!(faultless.expected > 0.95, "{faultless:?}");
        let odd = Rate {
            samples_a_class: f64::NAN,
            error: 0.1,
            judged: 5.0,
        };
        for rates in [&[][..], &[odd]] {
            let range = Posterior::new(rates, 20.0).accuracy(40.0);
            assert!(range.high - range.low > 0.7, "{range:?}");
        }
    }
}
