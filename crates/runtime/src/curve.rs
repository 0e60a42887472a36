//! "Are these samples enough?" Heads trained on parts of the samples give a learning
//! curve; a power law through it says what more samples would bring, with an interval.
//! The trainings are in `curve/measure.rs`, the law in `curve/fit.rs`.
//!
//! The interval is meant for this question: somebody collects more samples of the same
//! kind, trains again and measures the new head on many new samples. So it holds what is
//! not known about the curve, that the samples there are may be easier or harder than
//! others, and that two heads trained on as many samples differ.

pub mod fit;
pub mod measure;

use std::fmt;

use serde::Serialize;

use crate::error::Result;
use crate::search::{self, HeldOut};

use fit::Posterior;
pub use fit::{CONFIDENCE, PowerLaw, Range, Rate};
use measure::{Study, Tally};

/// Fewer groups of samples a class, on average, allow no curve.
const FEWEST_GROUPS: usize = 4;
/// Fewer sizes are no curve.
const FEWEST_SIZES: usize = 3;
/// The law is not stretched beyond this multiple of the samples there are.
const REACH: usize = 4;
/// So many samples a class somebody collects in one go.
const HANDFUL: usize = 10;
/// A gain below this is "hardly".
const HARDLY: f64 = 0.005;

/// The learning curve of a recipe on the samples there are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Samples a class there are, the mean over classes.
    pub samples_a_class: f64,
    /// What was measured, the smallest size first; cross-validation is the last.
    pub points: Vec<Point>,
    /// The mean law.
    pub fit: PowerLaw,
    /// The head of all samples there are, and of more, in rising order.
    pub forecasts: Vec<Forecast>,
    /// Share of [`CONFIDENCE`] in the intervals.
    pub confidence: f64,
    /// The class that needs more samples most; `None` when none stands out.
    pub neediest: Option<String>,
    /// What was counted, by size; `points` in detail.
    #[serde(skip)]
    pub tallies: Vec<Tally>,
    #[serde(skip)]
    posterior: Posterior,
}

/// Heads of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Training samples a class, the mean over classes.
    pub samples_a_class: f64,
    /// Share of held-out samples recognised, 0 to 1.
    pub accuracy: f64,
    /// Judgements behind it; a sample counts as often as it was judged.
    pub judgements: usize,
    /// Heads trained.
    pub heads: usize,
}

/// What to expect with more samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Samples that every class gets on top.
    pub more_a_class: usize,
    /// Accuracy on new samples.
    #[serde(flatten)]
    pub accuracy: Range,
}

/// Why there is no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCurve {
    /// Too few samples, or groups of samples, to train on parts of them.
    TooFewSamples,
    /// A part of `--time` would not do.
    NotEnoughTime,
}

impl fmt::Display for NoCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewSamples => write!(
                f,
                "too few samples to say what more would bring: give at least {FEWEST_GROUPS} a \
                 class, of different groups"
            ),
            Self::NotEnoughTime => {
                f.write_str("not enough time to say what more samples would bring: raise --time")
            }
        }
    }
}

/// Measures the curve of the recipe that `held_out` is the cross-validation of. Names of
/// the classes are `labels`.
///
/// # Errors
/// Those of [`crate::recipe::train`].
pub fn curve(
    study: &Study<'_>,
    held_out: Option<&HeldOut>,
    labels: &[String],
) -> Result<std::result::Result<Curve, NoCurve>> {
    let data = &study.data;
    let groups = search::units(data, 0..data.len()).len();
    let Some(held_out) = held_out.filter(|_| groups >= FEWEST_GROUPS * data.classes) else {
        return Ok(Err(NoCurve::TooFewSamples));
    };
    let Some(mut tallies) = study.run()? else {
        return Ok(Err(NoCurve::NotEnoughTime));
    };
    tallies.push(cross_validated(study, held_out));
    tallies.sort_by_key(|tally| tally.trained);
    if tallies.len() < FEWEST_SIZES {
        return Ok(Err(NoCurve::TooFewSamples));
    }
    Ok(Ok(Curve::new(&tallies, data.len(), labels)))
}

/// The search's judgements as those of one more size.
fn cross_validated(study: &Study<'_>, held_out: &HeldOut) -> Tally {
    let folds = search::fold_count(&search::folds(&study.data, study.seed)).max(1);
    let repeats = held_out.repeats.max(1);
    let a_fold = (held_out.rows.len() / repeats).div_ceil(folds);
    let mut tally = Tally::new(study.data.classes, study.data.len() - a_fold);
    tally.heads = folds * repeats;
    let rows = held_out.logits.chunks_exact(study.data.classes);
    for (label, logits) in held_out.labels.iter().zip(rows) {
        tally.add(*label, logits);
    }
    tally
}

impl Curve {
    /// From tallies in order of their size and the number of samples there are.
    pub fn new(tallies: &[Tally], samples: usize, labels: &[String]) -> Self {
        let classes = labels.len().max(1) as f64;
        let here = samples as f64 / classes;
        let point = |tally: &Tally| Point {
            samples_a_class: tally.trained as f64 / classes,
            accuracy: 1.0 - tally.error(),
            judgements: tally.judged.iter().sum(),
            heads: tally.heads,
        };
        let points: Vec<Point> = tallies.iter().map(point).collect();
        let rate = |point: &Point| Rate {
            samples_a_class: point.samples_a_class,
            error: 1.0 - point.accuracy,
            judged: samples as f64,
        };
        let rates: Vec<Rate> = points.iter().map(rate).collect();
        let posterior = Posterior::new(&rates, here);
        let forecast = |more_a_class: usize| Forecast {
            more_a_class,
            accuracy: posterior.accuracy(here + more_a_class as f64),
        };
        Self {
            samples_a_class: here,
            points,
            fit: posterior.mean(),
            forecasts: steps(here).into_iter().map(forecast).collect(),
            confidence: CONFIDENCE,
            neediest: neediest(tallies, labels),
            tallies: tallies.to_vec(),
            posterior,
        }
    }

    /// What a head of so many samples a class would do on new samples.
    pub fn accuracy(&self, samples_a_class: f64) -> Range {
        self.posterior.accuracy(samples_a_class)
    }

    /// The forecast that people are told: ten more, or as many again where ten are few.
    pub fn headline(&self) -> Option<&Forecast> {
        let enough = |forecast: &&Forecast| {
            forecast.more_a_class as f64 >= (0.5 * self.samples_a_class).max(1.0)
        };
        self.forecasts.iter().find(enough).or(self.forecasts.last())
    }

    /// The curve in one sentence: what more samples would bring and who needs them.
    pub fn sentence(&self) -> String {
        let (Some(now), Some(next)) = (self.forecasts.first(), self.headline()) else {
            return String::new();
        };
        let gain = next.accuracy.expected - now.accuracy.expected;
        let start = if gain < HARDLY {
            "more samples will hardly help: "
        } else {
            ""
        };
        let mut sentence = format!(
            "{start}with {} more samples a class expect {}, now {}",
            next.more_a_class,
            between(&next.accuracy),
            between(&now.accuracy),
        );
        if let Some(label) = &self.neediest {
            sentence += &format!("; class \"{label}\" needs them most");
        }
        sentence
    }
}

/// None, then ten, as many again and so on; not beyond [`REACH`].
fn steps(here: f64) -> Vec<usize> {
    let whole = (here.round() as usize).max(1);
    let mut steps = vec![0, HANDFUL, whole, (REACH - 1) * whole];
    steps.retain(|more| *more <= (REACH - 1) * whole);
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// "93 to 95 %", with a decimal where whole percents would be one and the same.
fn between(range: &Range) -> String {
    let [low, high] = [range.low, range.high].map(|share| 100.0 * share);
    if low.round() == high.round() {
        format!("{low:.1} to {high:.1} %")
    } else {
        format!("{low:.0} to {high:.0} %")
    }
}

/// The class that the larger half of the sizes calls wrong most often, if that is more
/// than chance: one standard error above all classes together.
fn neediest(tallies: &[Tally], labels: &[String]) -> Option<String> {
    let largest = tallies.iter().map(|tally| tally.trained).max()?;
    let large = tallies.iter().filter(|tally| 2 * tally.trained >= largest);
    let mut sum = Tally::new(labels.len(), largest);
    let mut times = 0.0;
    for tally in large {
        for class in 0..labels.len() {
            sum.judged[class] += tally.judged[class];
            sum.wrong[class] += tally.wrong[class];
        }
        let heads = tally.judged.iter().sum::<usize>() as f64;
        times += heads / (tally.trained.max(1) as f64);
    }
    let error = |class: usize| sum.wrong[class] as f64 / sum.judged[class].max(1) as f64;
    let worst = (0..labels.len())
        .rev()
        .max_by(|one, other| error(*one).total_cmp(&error(*other)))?;
    // The same samples were judged several times: they do not count as more of them.
    let different = (sum.judged[worst] as f64 / f64::max(times, 1.0)).max(1.0);
    let doubt = (error(worst) * (1.0 - error(worst)) / different).sqrt();
    let stands_out = labels.len() > 1 && error(worst) > sum.error() + doubt;
    stands_out.then(|| labels[worst].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    /// 20 samples a class, so many of 100 judgements wrong in each class and size.
    fn tallies(wrong: &[[usize; 3]]) -> Vec<Tally> {
        let sizes = [15, 30, 45, 48];
        let tally = |(trained, wrong): (usize, &[usize; 3])| Tally {
            trained,
            heads: 4,
            judged: vec![100; 3],
            wrong: wrong.to_vec(),
        };
        sizes.into_iter().zip(wrong).map(tally).collect()
    }

    #[test]
    fn a_falling_curve_promises_more_and_names_the_worst_class() {
        let falling = tallies(&[[40, 40, 60], [20, 20, 45], [12, 12, 38], [11, 11, 36]]);
        let curve = Curve::new(&falling, 60, &names(3));
        let steps: Vec<usize> = curve.forecasts.iter().map(|one| one.more_a_class).collect();
        assert_eq!(steps, [0, 10, 20, 60]);
        let pairs = curve.forecasts.windows(2);
        for pair in pairs {
            assert!(pair[1].accuracy.expected > pair[0].accuracy.expected);
        }
        assert_eq!(curve.neediest.as_deref(), Some("class 2"));
        let sentence = curve.sentence();
        assert!(
            sentence.starts_with("with 10 more samples a class expect "),
            "{sentence}"
        );
        assert!(
            sentence.ends_with("class \"class 2\" needs them most"),
            "{sentence}"
        );
    }

    #[test]
    fn a_flat_curve_says_that_more_hardly_helps_and_blames_nobody() {
        let flat = tallies(&[[5, 5, 5], [5, 5, 5], [5, 5, 5], [5, 5, 5]]);
        let curve = Curve::new(&flat, 60, &names(3));
        assert_eq!(curve.neediest, None);
        // Few judgements do not prove flatness; what is promised stays small.
        let [now, most] = [0, 3].map(|index| curve.forecasts[index].accuracy.expected);
        assert!(most - now < 0.03, "{curve:?}");
        let faultless = tallies(&[[0; 3]; 4]);
        let curve = Curve::new(&faultless, 60, &names(3));
        assert!(
            curve
                .sentence()
                .starts_with("more samples will hardly help")
        );
    }

    #[test]
    fn many_samples_are_told_of_as_many_again() {
        let curve = Curve::new(
            &tallies(&[[30; 3], [20; 3], [15; 3], [14; 3]]),
            600,
            &names(3),
        );
        assert_eq!(curve.headline().map(|one| one.more_a_class), Some(200));
        assert_eq!(steps(5.0), [0, 5, 10, 15]);
        assert_eq!(steps(2.0), [0, 2, 6]);
    }
}
