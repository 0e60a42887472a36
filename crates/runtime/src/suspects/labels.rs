//! Labels that are probably wrong: another class is much more likely, in the opinion of
//! two judges that have not seen the sample's own label. One is the head trained in
//! cross-validation, the other the mean of each class's other samples, which a few wrong
//! labels hardly move. Both are calibrated on the labels as they are, so that noise makes
//! them more careful, and averaged.
//!
//! Confident learning (Northcutt, Jiang, Chuang, 2021) compares with a threshold for each
//! class, counted from the same outputs. With 10 samples a class such a count is itself
//! chance. One threshold for all classes, which falls where the judges are less sure, found
//! more wrong labels with fewer false alarms (`benches/README.md`, suspects).

use fieldtune_core::predict::probabilities;

use crate::data::Data;
use crate::search::{HeldOut, best, fit_temperature};

use super::means::{Directions, Likeness};

/// By how much the likely class must be more probable than the label, as a share of the
/// mean probability of the most likely class.
const LEAST_MARGIN: f32 = 0.55;

/// Cosines differ by tenths; logits of this gain are in the range where temperatures are
/// sought.
const GAIN: f32 = 20.0;

/// One label that may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doubt {
    /// The sample.
    pub row: usize,
    /// The class it looks like.
    pub likely: usize,
    /// Probability of that class, 0 to 1.
    pub likely_probability: f32,
    /// Probability of the label it has.
    pub own_probability: f32,
}

impl Doubt {
    /// How much more probable the likely class is, 0 to 1.
    pub fn margin(&self) -> f32 {
        self.likely_probability - self.own_probability
    }
}

/// Probabilities `[N, K]` of every sample's classes, its own label unseen. Equal for all
/// classes where nothing can be said: no sample of its class is left to compare with.
pub fn opinions(data: &Data<'_>, directions: &Directions, held_out: Option<&HeldOut>) -> Vec<f32> {
    let classes = data.classes;
    let (mut opinions, known) = of_means(&directions.centred_likeness(), data.labels, classes);
    let heads = held_out.map(|held_out| of_heads(held_out, data.len(), classes));
    for (row, opinion) in opinions.chunks_exact_mut(classes).enumerate() {
        if !known[row] {
            opinion.fill(1.0 / classes as f32);
            continue;
        }
        let head = heads.as_ref().and_then(|heads| heads.get(row)?.as_deref());
        for (mean, head) in opinion.iter_mut().zip(head.unwrap_or_default()) {
            *mean = 0.5 * (*mean + head);
        }
    }
    opinions
}

/// Every label that another class clearly beats, see `LEAST_MARGIN`; the most doubtful
/// first.
pub fn doubts(opinions: &[f32], labels: &[u16], classes: usize) -> Vec<Doubt> {
    let mut doubts: Vec<Doubt> = ranking(opinions, labels, classes);
    let sure = doubts
        .iter()
        .map(|doubt| doubt.likely_probability.max(doubt.own_probability));
    let least = LEAST_MARGIN * sure.sum::<f32>() / doubts.len().max(1) as f32;
    doubts.retain(|doubt| doubt.margin() > least);
    doubts
}

/// All samples by how doubtful their label is, the most doubtful first.
pub fn ranking(opinions: &[f32], labels: &[u16], classes: usize) -> Vec<Doubt> {
    let rows = opinions
        .chunks_exact(classes.max(1))
        .zip(labels)
        .enumerate();
    let mut ranking: Vec<Doubt> = rows
        .map(|(row, (opinion, label))| {
            let own = usize::from(*label);
            let mut others = opinion.to_vec();
            if let Some(value) = others.get_mut(own) {
                *value = f32::NEG_INFINITY;
            }
            let likely = best(&others);
            Doubt {
                row,
                likely,
                likely_probability: opinion.get(likely).copied().unwrap_or(0.0),
                own_probability: opinion.get(own).copied().unwrap_or(0.0),
            }
        })
        .collect();
    // The sort is stable: equal ones stay in the order of the samples.
    ranking.sort_by(|a, b| b.margin().total_cmp(&a.margin()));
    ranking
}

/// Calibrated probabilities `[N, K]` from class means, and whether each sample's own
/// class had a mean.
fn of_means(likeness: &Likeness, labels: &[u16], classes: usize) -> (Vec<f32>, Vec<bool>) {
    // A class without a mean is as unlike as can be.
    let logit = |cosine: &Option<f32>| GAIN * cosine.unwrap_or(-1.0);
    let mut logits: Vec<f32> = likeness.iter().map(logit).collect();
    let own = likeness.chunks_exact(classes).zip(labels);
    let known: Vec<bool> = own
        .map(|(row, label)| row.get(usize::from(*label)).is_some_and(Option::is_some))
        .collect();
    let (mut fitted, mut fitted_labels) = (Vec::new(), Vec::new());
    let rows = logits.chunks_exact(classes).zip(labels).zip(&known);
    for ((row, label), _) in rows.filter(|(_, known)| **known) {
        fitted.extend_from_slice(row);
        fitted_labels.push(*label);
    }
    let temperature = fit_temperature(&fitted, &fitted_labels, classes);
    probabilities(&mut logits, classes, temperature);
    (logits, known)
}

/// The mean over repeats of what heads said about each sample; `None` where it was never
/// held out.
fn of_heads(held_out: &HeldOut, samples: usize, classes: usize) -> Vec<Option<Vec<f32>>> {
    let mut sums: Vec<Option<(Vec<f32>, f32)>> = vec![None; samples];
    let values = held_out.probabilities(classes);
    for (row, said) in held_out.rows.iter().zip(values.chunks_exact(classes)) {
        let Some(sum) = sums.get_mut(*row) else {
            continue;
        };
        let (sum, count) = sum.get_or_insert_with(|| (vec![0.0; classes], 0.0));
        sum.iter_mut()
            .zip(said)
            .for_each(|(sum, value)| *sum += value);
        *count += 1.0;
    }
    let mean = |(mut sum, count): (Vec<f32>, f32)| {
        sum.iter_mut().for_each(|value| *value /= count);
        sum
    };
    sums.into_iter().map(|sum| sum.map(mean)).collect()
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;

    use super::*;

    /// Directions of `classes` clusters in 32 dimensions, and the true labels.
    fn clusters(samples: usize, classes: usize, spread: f32) -> (Vec<f32>, Vec<u16>) {
        const FEATURES: usize = 32;
        let mut random = Random::new(5);
        let centres: Vec<f32> = (0..classes * FEATURES).map(|_| random.normal()).collect();
        let labels: Vec<u16> = (0..samples).map(|row| (row % classes) as u16).collect();
        let mut values = Vec::new();
        for label in &labels {
            let start = usize::from(*label) * FEATURES;
            let centre = &centres[start..start + FEATURES];
            values.extend(centre.iter().map(|value| value + spread * random.normal()));
        }
        (values, labels)
    }

    fn found(values: &[f32], labels: &[u16], classes: usize) -> Vec<Doubt> {
        let views = [values];
        let data = Data {
            views: &views,
            held: crate::views::ViewSet::ORIGINAL,
            labels,
            groups: &[],
            features: 32,
            classes,
        };
        let opinions = opinions(&data, &Directions::of(&data), None);
        doubts(&opinions, labels, classes)
    }

    #[test]
    fn flipped_labels_are_found_and_right_ones_are_left_alone() {
        let (values, truth) = clusters(60, 3, 0.7);
        assert_eq!(found(&values, &truth, 3), []);
        let mut labels = truth.clone();
        for row in [4, 17, 33, 50] {
            labels[row] = (labels[row] + 1) % 3;
        }
        let doubts = found(&values, &labels, 3);
        let mut rows: Vec<usize> = doubts.iter().map(|doubt| doubt.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, [4, 17, 33, 50]);
        assert!(
            doubts
                .iter()
                .all(|doubt| doubt.likely == usize::from(truth[doubt.row]))
        );
    }

    #[test]
    fn features_that_say_nothing_raise_no_alarm() {
        let mut random = Random::new(2);
        let values: Vec<f32> = (0..40 * 32).map(|_| random.normal()).collect();
        let labels: Vec<u16> = (0..40).map(|row| row % 2).collect();
        assert_eq!(found(&values, &labels, 2), []);
    }

    #[test]
    fn a_class_of_one_is_not_judged() {
        let (values, mut labels) = clusters(20, 2, 0.3);
        labels[7] = 2;
        assert!(
            found(&values, &labels, 3)
                .iter()
                .all(|doubt| doubt.row != 7)
        );
    }

    #[test]
    fn heads_are_averaged_over_repeats() {
        let held_out = HeldOut {
            rows: vec![0, 1, 0],
            labels: vec![0, 1, 0],
            logits: vec![0.0, 0.0, 9.0, -9.0, 40.0, 0.0],
            temperature: 1.0,
            log_loss: 0.0,
            log_loss_error: 0.0,
            accuracy: 1.0,
            repeats: 2,
        };
        let heads = of_heads(&held_out, 3, 2);
        assert!(
            (heads[0].as_ref().unwrap()[0] - 0.75).abs() < 1e-6,
            "{heads:?}"
        );
        assert_eq!(heads[2], None);
    }

    #[test]
    fn the_ranking_starts_with_the_largest_margin() {
        let opinions = [0.6, 0.4, 0.1, 0.9, 0.3, 0.7];
        let ranking = ranking(&opinions, &[0, 0, 0], 2);
        assert_eq!(
            ranking.iter().map(|doubt| doubt.row).collect::<Vec<_>>(),
            [1, 2, 0]
        );
        assert!((ranking[0].margin() - 0.8).abs() < 1e-6);
        assert_eq!(doubts(&opinions, &[0, 0, 0], 2).len(), 1);
    }
}
