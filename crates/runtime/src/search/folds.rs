//! Which samples are held out together: folds of a cross-validation, and the groups that
//! must stay whole. What is trained on them is `search.rs`'s.

use fieldtune_core::random::Random;

use crate::data::Data;

/// Most folds of one split.
pub(super) const MAX_FOLDS: usize = 5;
/// A sample that is always trained on, never held out: its class has no other.
pub(super) const ALWAYS_TRAINED: usize = usize::MAX;

/// Folds of a split that [`folds`] made.
pub(crate) fn fold_count(folds: &[usize]) -> usize {
    let held_out = folds.iter().filter(|fold| **fold != ALWAYS_TRAINED);
    held_out.max().map_or(0, |fold| fold + 1)
}

/// A fold for each sample: groups stay whole, classes are spread evenly, and samples that
/// alone stand for a class are never held out.
pub(crate) fn folds(data: &Data<'_>, seed: u64) -> Vec<usize> {
    let mut units = units(data, 0..data.len());
    let mut per_class = vec![0; data.classes];
    for unit in &units {
        unit.classes(data)
            .iter()
            .for_each(|class| per_class[*class] += 1);
    }
    let several = per_class.iter().copied().filter(|count| *count > 1);
    let count = several.min().unwrap_or(0).clamp(2, MAX_FOLDS);
    Random::new(seed).shuffle(&mut units);
    // Large groups first, so that small ones even out the folds.
    units.sort_by_key(|unit| std::cmp::Reverse(unit.rows.len()));
    let mut filled = vec![vec![0; data.classes]; count];
    let mut folds = vec![ALWAYS_TRAINED; data.len()];
    for unit in &units {
        let classes = unit.classes(data);
        if classes.iter().any(|class| per_class[*class] < 2) {
            continue;
        }
        let size = |fold: &Vec<usize>| {
            let alike: usize = classes.iter().map(|class| fold[*class]).sum();
            (alike, fold.iter().sum::<usize>())
        };
        let fold = (0..count)
            .min_by_key(|fold| size(&filled[*fold]))
            .unwrap_or(0);
        for row in &unit.rows {
            folds[*row] = fold;
            filled[fold][usize::from(data.labels[*row])] += 1;
        }
    }
    train_every_class(data, &units, &mut folds);
    folds
}

/// Where groups hold several classes, one fold may have got all samples of a class: its
/// smallest such group is then always trained.
fn train_every_class(data: &Data<'_>, units: &[Unit], folds: &mut [usize]) {
    for class in 0..data.classes {
        let of_class = |unit: &&Unit| unit.classes(data).contains(&class);
        let mut its: Vec<&Unit> = units.iter().filter(of_class).collect();
        its.sort_by_key(|unit| unit.rows.len());
        let Some(first) = its.first().filter(|unit| {
            let fold = folds[unit.rows[0]];
            its.iter().all(|other| folds[other.rows[0]] == fold)
        }) else {
            continue;
        };
        first
            .rows
            .iter()
            .for_each(|row| folds[*row] = ALWAYS_TRAINED);
    }
}

/// Samples that must stay together, with the label most of them have.
pub(crate) struct Unit {
    pub label: usize,
    /// Never empty.
    pub rows: Vec<usize>,
}

impl Unit {
    /// The classes of its samples, each once.
    fn classes(&self, data: &Data<'_>) -> Vec<usize> {
        let labels = self.rows.iter().map(|row| usize::from(data.labels[*row]));
        let mut classes: Vec<usize> = labels.collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// The groups among `rows`.
pub(crate) fn units(data: &Data<'_>, rows: impl Iterator<Item = usize>) -> Vec<Unit> {
    let mut by_group = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for row in rows {
        by_group.entry(data.group(row)).or_default().push(row);
    }
    let unit = |rows: Vec<usize>| {
        let counts = data.counts(rows.iter().copied());
        let label = (0..data.classes)
            .rev()
            .max_by_key(|class| counts[*class])
            .unwrap_or(0);
        Unit { label, rows }
    };
    by_group.into_values().map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_even_and_never_split_a_group() {
        let labels: Vec<u16> = (0..60).map(|i| (i % 3) as u16).collect();
        let groups: Vec<usize> = (0..60).map(|i| (i % 3) * 10 + i / 12).collect();
        let data = Data::of_labels(&labels, &groups, 3);
        let folds = folds(&data, 7);
        assert_eq!(fold_count(&folds), 5);
        for row in 0..60 {
            for other in 0..60 {
                assert!(groups[row] != groups[other] || folds[row] == folds[other]);
            }
        }
        for fold in 0..5 {
            for class in 0..3u16 {
                let held = (0..60)
                    .filter(|r| folds[*r] == fold && labels[*r] == class)
                    .count();
                assert_eq!(held, 4, "fold {fold} class {class}");
            }
        }
    }

    #[test]
    fn groups_of_all_classes_are_held_out_whole() {
        // Three speakers, four words each, an unequal number of times.
        let labels: Vec<u16> = (0..60).map(|i| (i * 7 % 4) as u16).collect();
        let groups: Vec<usize> = (0..60).map(|i| i / 7 % 3).collect();
        for seed in 0..20 {
            let folds = folds(&Data::of_labels(&labels, &groups, 4), seed);
            assert_eq!(fold_count(&folds), 3);
            for fold in 0..3 {
                let held: Vec<usize> = (0..60).filter(|row| folds[*row] == fold).collect();
                assert!(held.iter().all(|row| groups[*row] == groups[held[0]]));
                for class in 0..4 {
                    let trained = |row: &usize| folds[*row] != fold && labels[*row] == class;
                    assert!((0..60).any(|row| trained(&row)), "class {class}");
                }
            }
        }
    }

    #[test]
    fn no_fold_takes_the_last_of_a_class() {
        let mut random = Random::new(4);
        for seed in 0..200 {
            let count = 5 + random.below(20) as usize;
            let labels: Vec<u16> = (0..count)
                .map(|i| {
                    if i < 4 {
                        i as u16
                    } else {
                        random.below(4) as u16
                    }
                })
                .collect();
            let groups: Vec<usize> = (0..count).map(|_| random.below(6) as usize).collect();
            let folds = folds(&Data::of_labels(&labels, &groups, 4), seed);
            for fold in 0..fold_count(&folds) {
                for class in 0..4 {
                    let trained = |row: &usize| folds[*row] != fold && labels[*row] == class;
                    assert!((0..count).any(|row| trained(&row)), "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn a_class_with_one_sample_is_always_trained() {
        let labels = [0, 0, 0, 1, 1, 2];
        let data = Data::of_labels(&labels, &[], 3);
        let found = folds(&data, 1);
        assert_eq!(found[5], ALWAYS_TRAINED);
        assert!(found[..5].iter().all(|fold| *fold < 2));
    }
}
