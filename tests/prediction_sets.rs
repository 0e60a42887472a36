//! Promise: on samples like those held out, a prediction set holds the right label at
//! least as often as was asked, and not by naming everything. With too few samples to
//! promise it, the set is all labels.
//!
//! Not here: how the held-out probabilities come about, and sets on real data.

use fieldtune::sets::from_probabilities;
use fieldtune_core::predict::probabilities;
use fieldtune_core::random::Random;

const CLASSES: usize = 5;
const FRESH: usize = 200;

/// `count` samples: probabilities of a classifier that is often wrong and too sure.
fn samples(count: usize, random: &mut Random) -> (Vec<f32>, Vec<u16>) {
    let labels: Vec<u16> = (0..count).map(|i| (i % CLASSES) as u16).collect();
    let mut values = Vec::new();
    for label in &labels {
        let mut row: Vec<f32> = (0..CLASSES).map(|_| 1.5 * random.normal()).collect();
        // The last class is hard.
        row[usize::from(*label)] += if *label == 4 { 1.0 } else { 4.0 };
        values.extend(row);
    }
    probabilities(&mut values, CLASSES, 0.7);
    (values, labels)
}

/// Coverage and mean size of the sets over many draws of `count` held-out samples, and
/// the coverage of the hard class.
fn coverage(count: usize, wanted: f64) -> (f64, f64, f64) {
    const DRAWS: u64 = 300;
    let (mut right, mut size, mut hard) = (0, 0, 0);
    for seed in 0..DRAWS {
        let mut random = Random::new(seed);
        let (held_out, labels) = samples(count, &mut random);
        let sets = from_probabilities(&held_out, &labels, CLASSES);
        let (fresh, truth) = samples(FRESH, &mut random);
        for (row, label) in fresh.chunks_exact(CLASSES).zip(truth) {
            let set = sets.labels(row, wanted);
            let found = usize::from(set.contains(&usize::from(label)));
            right += found;
            size += set.len();
            hard += if label == 4 { found } else { 0 };
        }
    }
    let all = (DRAWS as usize * FRESH) as f64;
    let share = right as f64 / all;
    (share, size as f64 / all, hard as f64 * CLASSES as f64 / all)
}

#[test]
fn coverage_is_kept_over_many_draws_and_sets_are_small() {
    for count in [20, 50, 100, 400] {
        for wanted in [0.8, 0.9, 0.95] {
            let (share, size, _) = coverage(count, wanted);
            // Three standard errors of a mean over 300 draws: that of the quantile's own
            // chance, at most sqrt(c (1 - c) / (n + 2)), and that of the fresh samples.
            let spread = wanted * (1.0 - wanted);
            let error = 3.0 * (spread / (count as f64 + 2.0) / 300.0 + spread / 60_000.0).sqrt();
            let case = format!("{count} {wanted}: {share} {size}");
            assert!(share >= wanted - error, "{case}");
            // Not bought by much more than asked: the new sample's place among those behind
            // its table, the table's steps, and sets that would be empty but name one label.
            let behind = if count < 250 { count } else { count / CLASSES };
            let more = 1.0 / (behind as f64 + 1.0) + 0.04;
            assert!(share <= wanted + more, "{case}");
            assert!(size < 4.0, "{case}");
        }
    }
}

#[test]
fn a_hard_class_with_enough_samples_keeps_its_own_coverage() {
    let (_, _, pooled) = coverage(100, 0.9);
    let (_, _, own) = coverage(400, 0.9);
    assert!(pooled < 0.85, "the class is hard: {pooled}");
    assert!(own >= 0.89, "{own}");
}

#[test]
fn too_few_samples_give_all_labels() {
    let mut random = Random::new(1);
    let (held_out, labels) = samples(15, &mut random);
    let sets = from_probabilities(&held_out, &labels, CLASSES);
    let sure = [0.999, 0.001, 0.0, 0.0, 0.0];
    assert_eq!(sets.labels(&sure, 0.95), [0, 1, 2, 3, 4]);
    assert_eq!(sets.labels(&sure, 0.5), [0]);
    let none = from_probabilities(&[], &[], CLASSES);
    assert_eq!(none.labels(&sure, 0.1), [0, 1, 2, 3, 4]);
}
