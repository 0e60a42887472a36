//! Which recipe is best for these samples: cross-validation on cached features.
//! Also what comes out on the way: honest probabilities of samples a head has not
//! seen, from which accuracy, temperature and the threshold for unknowns follow.

mod folds;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fieldtune_core::Kernel;
use fieldtune_core::head::CrossValidation;
use fieldtune_core::predict::probabilities;
use libm::{exp, log};
use rayon::prelude::*;

use crate::checkpoint::{Checkpoint, Fold};
use crate::data::Data;
use crate::error::Result;
use crate::evaluation::{Evaluation, evaluate, wilson};
use crate::recipe::{Recipe, train};
use folds::{ALWAYS_TRAINED, MAX_FOLDS};
pub(crate) use folds::{Unit, fold_count, folds, units};

/// How long a search goes on where the user does not say.
pub const DEFAULT_TIME: Duration = Duration::from_secs(60);

/// Below this many samples the split is repeated with other folds.
const FEW_SAMPLES: usize = 60;
/// From this many samples on one split is enough.
const MANY_SAMPLES: usize = 400;
/// Splits when samples are few.
const REPEATS: u64 = 3;
/// By how many standard errors another recipe must beat the default.
const STANDARD_ERRORS: f64 = 1.5;

/// What a search needs beside the candidates.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The samples.
    pub data: Data<'a>,
    /// Seed of folds and training.
    pub seed: u64,
    /// Kernel of the matrix products.
    pub kernel: Kernel,
    /// Stop judging candidates after this time; the first is always judged.
    pub time: Duration,
}

/// One candidate and how it did on samples it was not trained on.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The candidate.
    pub recipe: Recipe,
    /// What it said about held-out samples.
    pub held_out: HeldOut,
}

/// Outputs for held-out samples, every sample once a repeat.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Index of the sample behind each row.
    pub rows: Vec<usize>,
    /// Its label.
    pub labels: Vec<u16>,
    /// `[rows, K]`, not yet divided by the temperature.
    pub logits: Vec<f32>,
    /// Temperature that makes these outputs honest.
    pub temperature: f32,
    /// Mean of -ln p(own class) at that temperature, in nats.
    pub log_loss: f64,
    /// Its standard error.
    pub log_loss_error: f64,
    /// Share recognised, 0 to 1.
    pub accuracy: f64,
    /// How often the whole split was repeated.
    pub repeats: usize,
}

/// Held-out samples and their logits `[rows, K]`.
type Judged = (Vec<usize>, Vec<f32>);

/// What heads of one recipe said so far, an entry a split.
#[derive(Clone, Default)]
struct Outputs {
    repeats: Vec<Judged>,
}

/// How many candidates each round of halving judges.
fn rounds(candidates: usize, repeats: usize) -> impl Iterator<Item = usize> {
    let next = |alive: &usize| Some(alive.div_ceil(2));
    std::iter::successors(Some(candidates), next).take(repeats)
}

/// The choice, and everything tried on the way to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The recipe to train on all samples.
    pub recipe: Recipe,
    /// All candidates with figures, in the order tried; empty when no sample could be
    /// held out.
    pub tried: Vec<Tried>,
    /// Which of `tried` was chosen.
    pub chosen: Option<usize>,
    /// Candidates left out because the time was over.
    pub skipped: usize,
}

impl Found {
    /// What the chosen recipe said about held-out samples; `None` when none could be
    /// held out.
    pub fn held_out(&self) -> Option<&HeldOut> {
        self.tried.get(self.chosen?).map(|tried| &tried.held_out)
    }
}

impl Search<'_> {
    /// Tries `candidates`, the default first, and chooses. By successive halving (Jamieson
    /// and Talwalkar, 2016): all are judged on the folds of one split, the better half of
    /// them on those of another, and so on. `progress` is told (done, all).
    ///
    /// # Errors
    /// Those of [`train`].
    pub fn run(
        &self,
        candidates: &[Recipe],
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Found> {
        self.run_from(candidates, progress, None)
    }

    /// As [`Search::run`], without judging again what the checkpoint has.
    ///
    /// # Errors
    /// As [`Search::run`].
    pub(crate) fn run_from(
        &self,
        candidates: &[Recipe],
        progress: &(dyn Fn(usize, usize) + Sync),
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Found> {
        let start = Instant::now();
        let splits = self.splits(candidates.len());
        let mut found = Found {
            recipe: candidates[0].clone(),
            tried: Vec::new(),
            chosen: None,
            skipped: 0,
        };
        if splits.is_empty() {
            return Ok(found);
        }
        let all = rounds(candidates.len(), splits.len()).sum();
        let mut done = 0;
        let mut alive: Vec<usize> = (0..candidates.len()).collect();
        let mut outputs: Vec<Outputs> = vec![Outputs::default(); candidates.len()];
        for (repeat, folds) in splits.iter().enumerate() {
            let mut in_time = true;
            for index in &alive {
                in_time = (*index, repeat) == (0, 0) || start.elapsed() <= self.time;
                if !in_time {
                    break;
                }
                let recipe = (&candidates[*index], *index);
                let judged = self.try_one(recipe, folds, repeat, checkpoint)?;
                outputs[*index].repeats.push(judged);
                done += 1;
                progress(done, all);
            }
            if !in_time {
                if repeat > 0 {
                    // A round that some did not finish compares nothing.
                    outputs
                        .iter_mut()
                        .for_each(|one| one.repeats.truncate(repeat));
                }
                break;
            }
            alive = self.better_half(&alive, &outputs);
        }
        for (recipe, outputs) in candidates.iter().zip(outputs) {
            if outputs.repeats.is_empty() {
                found.skipped += 1;
                continue;
            }
            found.tried.push(Tried {
                recipe: recipe.clone(),
                held_out: self.judged(&outputs),
            });
        }
        let chosen = choose(&found.tried, self.data.classes);
        found.recipe = found.tried[chosen].recipe.clone();
        found.chosen = Some(chosen);
        Ok(found)
    }

    /// The folds of every repeat; empty when no class has two groups of samples.
    fn splits(&self, candidates: usize) -> Vec<Vec<usize>> {
        let repeats = repeats(&self.data, candidates);
        let splits = (0..repeats).map(|r| folds(&self.data, self.seed + r));
        splits
            .filter(|folds| folds.iter().any(|fold| *fold != ALWAYS_TRAINED))
            .collect()
    }

    /// The first, and of the others those with the lowest log loss, half of all together.
    fn better_half(&self, alive: &[usize], outputs: &[Outputs]) -> Vec<usize> {
        let others = alive.iter().filter(|index| **index != 0);
        let mut others: Vec<(f64, usize)> = others
            .map(|index| (self.judged(&outputs[*index]).log_loss, *index))
            .collect();
        others.sort_by(|one, other| one.0.total_cmp(&other.0));
        others.truncate(alive.len().div_ceil(2) - 1);
        let mut kept: Vec<usize> = others.into_iter().map(|(_, index)| index).collect();
        kept.push(0);
        kept.sort_unstable();
        kept
    }

    /// What heads of one recipe say about the held-out samples of one split.
    fn try_one(
        &self,
        (recipe, candidate): (&Recipe, usize),
        folds: &[usize],
        repeat: usize,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Judged> {
        let judge = |fold: usize| {
            let fold = Fold {
                candidate: candidate as u32,
                repeat: repeat as u32,
                fold: fold as u32,
            };
            self.fold(recipe, folds, fold, checkpoint)
        };
        let found: Vec<Judged> = (0..fold_count(folds))
            .into_par_iter()
            .map(judge)
            .collect::<Result<_>>()?;
        let mut all = Judged::default();
        for (rows, logits) in found {
            all.0.extend(rows);
            all.1.extend(logits);
        }
        Ok(all)
    }

    fn judged(&self, outputs: &Outputs) -> HeldOut {
        let (mut rows, mut logits) = Judged::default();
        for repeat in &outputs.repeats {
            rows.extend_from_slice(&repeat.0);
            logits.extend_from_slice(&repeat.1);
        }
        let labels: Vec<u16> = rows.iter().map(|row| self.data.labels[*row]).collect();
        let repeats = outputs.repeats.len();
        HeldOut::judge(rows, labels, logits, self.data.classes, repeats)
    }

    fn fold(
        &self,
        recipe: &Recipe,
        folds: &[usize],
        fold: Fold,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Judged> {
        let (held_out, trained): (Vec<usize>, Vec<usize>) =
            (0..folds.len()).partition(|row| folds[*row] == fold.fold as usize);
        let known = checkpoint.and_then(|checkpoint| checkpoint.judged(fold));
        if let Some(logits) = known.filter(|it| it.len() == held_out.len() * self.data.classes) {
            return Ok((held_out, logits));
        }
        let number = 1000 * u64::from(fold.repeat) + u64::from(fold.fold) + 1;
        let seed = self.seed.wrapping_add(number);
        let head = train(recipe, &self.data, &trained, seed, self.kernel)?;
        let logits = head.judge(&self.data, &held_out, self.kernel)?;
        if let Some(checkpoint) = checkpoint {
            checkpoint.keep_judged(fold, &logits);
        }
        Ok((held_out, logits))
    }
}

impl HeldOut {
    fn judge(
        rows: Vec<usize>,
        labels: Vec<u16>,
        logits: Vec<f32>,
        classes: usize,
        repeats: usize,
    ) -> Self {
        let temperature = fit_temperature(&logits, &labels, classes);
        let losses = losses(&logits, &labels, classes, temperature);
        let (log_loss, log_loss_error) = mean_and_error(&losses, repeats);
        let mut judged = Self {
            rows,
            labels,
            logits,
            temperature,
            log_loss,
            log_loss_error,
            accuracy: 0.0,
            repeats,
        };
        let hits = judged.hits(classes);
        let hits = hits.iter().map(|hit| f64::from(*hit));
        judged.accuracy = hits.sum::<f64>() / losses.len().max(1) as f64;
        judged
    }

    /// Accuracy with its 95 % interval and the number of samples behind it.
    pub fn interval(&self) -> (f64, f64, usize) {
        let n = self.labels.len() / self.repeats.max(1);
        let right = (self.accuracy * n as f64).round() as usize;
        let (low, high) = wilson(right, n);
        (low, high, n)
    }

    /// -ln p(own class) of every row, in nats.
    pub fn losses(&self, classes: usize) -> Vec<f64> {
        losses(&self.logits, &self.labels, classes, self.temperature)
    }

    /// Whether these outputs give held-out samples' classes more probability than `other`'s
    /// do, by more than [`STANDARD_ERRORS`] of the paired difference. Both are of the same
    /// samples; each may have judged them as often as it likes.
    pub(crate) fn surely_better(&self, other: &Self, classes: usize) -> bool {
        let (own, others) = (self.mean_losses(classes), other.mean_losses(classes));
        let paired = own
            .iter()
            .filter_map(|(row, own)| Some(others.get(row)? - own));
        let (gain, error) = mean_and_error(&paired.collect::<Vec<_>>(), 1);
        gain > STANDARD_ERRORS * error
    }

    /// -ln p(own class) of every sample, the mean over the repeats, in nats.
    fn mean_losses(&self, classes: usize) -> BTreeMap<usize, f64> {
        let share = 1.0 / self.repeats.max(1) as f64;
        let mut means = BTreeMap::new();
        for (row, loss) in self.rows.iter().zip(self.losses(classes)) {
            *means.entry(*row).or_default() += share * loss;
        }
        means
    }

    /// For every row 1 where its own class was said, else 0.
    pub fn hits(&self, classes: usize) -> Vec<u8> {
        let rows = self.logits.chunks_exact(classes).zip(&self.labels);
        rows.map(|(row, label)| u8::from(best(row) == usize::from(*label)))
            .collect()
    }

    /// Accuracy and interval as a head file keeps them.
    pub fn cross_validation(&self) -> CrossValidation {
        let (low, high, n) = self.interval();
        CrossValidation {
            accuracy: self.accuracy as f32,
            low: low as f32,
            high: high as f32,
            n: u32::try_from(n).unwrap_or(u32::MAX),
        }
    }

    /// Confusion, per-class figures and calibration over all repeats, the interval that
    /// of the samples behind them.
    pub fn evaluation(&self, labels: &[String]) -> Evaluation {
        let truth: Vec<usize> = self
            .labels
            .iter()
            .map(|label| usize::from(*label))
            .collect();
        let (low, high, n) = self.interval();
        let all = evaluate(labels, &truth, &self.probabilities(labels.len()));
        Evaluation {
            low,
            high,
            n,
            ..all
        }
    }

    /// Calibrated probabilities `[rows, K]`.
    pub fn probabilities(&self, classes: usize) -> Vec<f32> {
        let mut values = self.logits.clone();
        probabilities(&mut values, classes, self.temperature);
        values
    }
}

/// The position of the largest value; the first where several are equal.
pub fn best(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

fn repeats(data: &Data<'_>, candidates: usize) -> u64 {
    if data.len() < FEW_SAMPLES {
        REPEATS
    } else if candidates > 1 && data.len() < MANY_SAMPLES {
        REPEATS - 1
    } else {
        1
    }
}

/// At most how many trainings the search takes, each on most of the samples.
pub fn fits(data: &Data<'_>, candidates: usize) -> usize {
    let repeats = repeats(data, candidates) as usize;
    MAX_FOLDS * rounds(candidates, repeats).sum::<usize>()
}

/// The first candidate, unless another gives held-out samples' classes more probability
/// by more than [`STANDARD_ERRORS`] of the paired difference: then the best such. With few
/// samples differences are chance, and the first is the one that did best over many jobs.
fn choose(tried: &[Tried], classes: usize) -> usize {
    let Some(default) = tried.first() else {
        return 0;
    };
    let repeats = default.held_out.repeats;
    let default = default.held_out.losses(classes);
    let mut chosen = (0, 0.0);
    for (index, other) in tried.iter().enumerate().skip(1) {
        if other.held_out.repeats < repeats {
            // Left out by halving.
            continue;
        }
        let losses = other.held_out.losses(classes);
        let gains: Vec<f64> = default.iter().zip(&losses).map(|(a, b)| a - b).collect();
        let (gain, error) = mean_and_error(&gains, repeats);
        if gain > STANDARD_ERRORS * error && gain > chosen.1 {
            chosen = (index, gain);
        }
    }
    chosen.0
}

/// The mean of values, and its standard error where samples were judged so many times each:
/// judging the same ones again does not make more of them.
fn mean_and_error(values: &[f64], repeats: usize) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / n;
    let independent = (n / repeats.max(1) as f64).max(1.0);
    (mean, (variance / independent).sqrt())
}

/// -ln p(label) of every row, in nats.
fn losses(logits: &[f32], labels: &[u16], classes: usize, temperature: f32) -> Vec<f64> {
    let rows = logits.chunks_exact(classes).zip(labels);
    rows.map(|(row, label)| {
        log_sum(row, temperature) - f64::from(row[usize::from(*label)]) / f64::from(temperature)
    })
    .collect()
}

/// ln of the sum of exp(logit / temperature).
fn log_sum(row: &[f32], temperature: f32) -> f64 {
    let scaled = |value: &f32| f64::from(*value) / f64::from(temperature);
    let largest = row.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let terms = row.iter().map(|value| exp(scaled(value) - largest));
    largest + log(terms.sum())
}

/// The temperature with the lowest log loss on held-out outputs (Guo et al., 2017), by
/// golden-section search on its logarithm. Half a sample of unknown class is added, so
/// that a handful of samples without an error does not give certainty.
///
/// The temperature goes into the head file, so it must have the same bits everywhere:
/// exp and ln come from `libm`, since those of the standard library are the system's,
/// whose last digit depends on the processor.
pub(crate) fn fit_temperature(logits: &[f32], labels: &[u16], classes: usize) -> f32 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let cost = |log_temperature: f64| {
        let temperature = exp(log_temperature) as f32;
        let sum: f64 = losses(logits, labels, classes, temperature).iter().sum();
        sum + doubt(logits, classes, temperature)
    };
    let (mut low, mut high) = (-3.0, 4.0);
    for _ in 0..40 {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        if cost(left) < cost(right) {
            high = right;
        } else {
            low = left;
        }
    }
    exp(0.5 * (low + high)) as f32
}

/// Half the loss of one sample that could be of any class: the weight of the doubt.
fn doubt(logits: &[f32], classes: usize, temperature: f32) -> f64 {
    let rows = logits.chunks_exact(classes);
    let count = rows.len().max(1) as f64;
    let any = rows.map(|row| {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / classes as f64;
        log_sum(row, temperature) - mean / f64::from(temperature)
    });
    0.5 * any.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;

    use super::*;

    #[test]
    fn temperature_recovers_overconfidence() {
        // Logits that claim 98 % and are right in 3 of 4 cases: honest at ln 3.
        let logits: Vec<f32> = (0..400).flat_map(|_| [4.0, 0.0]).collect();
        let labels: Vec<u16> = (0..400).map(|i| u16::from(i % 4 == 0)).collect();
        let temperature = fit_temperature(&logits, &labels, 2);
        let honest = 4.0 / 3f32.ln();
        assert!(
            (temperature / honest - 1.0).abs() < 0.02,
            "{temperature} {honest}"
        );
    }

    #[test]
    fn the_temperature_has_the_same_bits_on_every_processor() {
        // With the system's exp and ln, the first of these differs from the value here on
        // all processors tried, the second between x86-64 with and without FMA.
        for (seed, expected) in [(24, 0x415a_4398), (1739, 0x4247_d395)] {
            let mut random = Random::new(seed);
            let labels: Vec<u16> = (0..30).map(|i| i % 3).collect();
            let logits: Vec<f32> = (0..90).map(|_| 2.0 * random.normal()).collect();
            let temperature = fit_temperature(&logits, &labels, 3);
            assert_eq!(temperature.to_bits(), expected, "{temperature}");
        }
    }

    #[test]
    fn a_few_right_answers_do_not_give_certainty() {
        let temperature = fit_temperature(&[3.0, 0.0, 0.0, 3.0], &[0, 1], 2);
        let top = 1.0 / (1.0 + (-3.0 / temperature).exp());
        assert!((0.6..0.99).contains(&top), "{top}");
    }
}
