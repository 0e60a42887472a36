//! Which samples are trained on and which are tested, drawn from a seed.

use fieldtune_core::random::Random;

use crate::frozen::Features;

/// Rows of one training and one test set.
pub struct Split {
    /// Training samples of each class.
    pub samples_per_class: usize,
    /// Seed of the draw and of training.
    pub seed: u64,
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to test on, none of them in `train`.
    pub test: Vec<usize>,
}

/// Draws training and test samples from all rows.
pub fn drawn(features: &Features, sizes: &[usize], tested: usize, seeds: u64) -> Vec<Split> {
    each(sizes, seeds, |size, seed| {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for rows in shuffled(features, 0..features.labels.len(), seed) {
            train.extend(rows.iter().take(size));
            test.extend(rows.iter().skip(size).take(tested));
        }
        (train, test)
    })
}

/// Draws training samples from the first `trained` rows, tests on all others.
pub fn from_part(features: &Features, trained: usize, sizes: &[usize], seeds: u64) -> Vec<Split> {
    each(sizes, seeds, |size, seed| {
        let classes = shuffled(features, 0..trained, seed);
        let train = classes
            .iter()
            .flat_map(|rows| rows.iter().take(size).copied())
            .collect();
        (train, (trained..features.labels.len()).collect())
    })
}

/// Draws training samples from all groups but one, in turn, and tests on that one.
pub fn new_groups(features: &Features, sizes: &[usize], seeds: u64) -> Vec<Split> {
    let groups = features.groups.iter().max().map_or(1, |most| most + 1);
    each(sizes, seeds, |size, seed| {
        let held_out = seed as usize % groups;
        let is_tested = |row: &usize| features.groups[*row] == held_out;
        let all = 0..features.labels.len();
        let mut train = Vec::new();
        for mut rows in shuffled(features, all.clone(), seed) {
            rows.retain(|row| !is_tested(row));
            train.extend(rows.into_iter().take(size));
        }
        (train, all.filter(is_tested).collect())
    })
}

/// A split of every size with every seed, as `draw` makes its training and test samples.
pub fn each(
    sizes: &[usize],
    seeds: u64,
    draw: impl Fn(usize, u64) -> (Vec<usize>, Vec<usize>),
) -> Vec<Split> {
    let cells = sizes
        .iter()
        .flat_map(|size| (0..seeds).map(move |seed| (*size, seed)));
    cells
        .map(|(samples_per_class, seed)| {
            let (train, test) = draw(samples_per_class, seed);
            Split {
                samples_per_class,
                seed,
                train,
                test,
            }
        })
        .collect()
}

/// The rows of each class, in random order.
fn shuffled(features: &Features, rows: std::ops::Range<usize>, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Random::new(0xf1e1d + seed);
    let mut classes = vec![Vec::new(); features.classes];
    rows.for_each(|row| classes[usize::from(features.labels[row])].push(row));
    classes.iter_mut().for_each(|rows| random.shuffle(rows));
    classes
}
