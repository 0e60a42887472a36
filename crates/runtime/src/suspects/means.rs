//! How much a sample looks like each class: the cosine between its features and the mean
//! of the class's other samples. No training, and no sample vouches for itself or for
//! its group. What follows from it is in `labels.rs` and `outliers.rs`.

use std::collections::BTreeMap;

use fieldtune_core::transform::Transform;
use rayon::prelude::*;

use crate::data::Data;

/// The features of every sample as a direction: the views' mean, square-rooted, of length 1.
#[derive(Clone, Debug)]
pub struct Directions {
    /// `[N, F]`.
    values: Vec<f32>,
    features: usize,
    classes: usize,
    labels: Vec<u16>,
    /// Rows of each group.
    groups: Vec<Vec<usize>>,
}

/// `[N, K]`: how much each sample looks like each class, -1 to 1. `None` where the class
/// has no sample outside of the sample's group.
pub type Likeness = Vec<Option<f32>>;

impl Directions {
    /// Those of all samples.
    pub fn of(data: &Data<'_>) -> Self {
        let all: Vec<usize> = (0..data.len()).collect();
        let mut values = data.mean_rows(&all, data.held);
        let transform = Transform {
            signed_root: true,
            length: 1.0,
            ..Transform::default()
        };
        let rows = values.par_chunks_exact_mut(data.features.max(1));
        rows.for_each(|row| transform.apply(row));
        let mut groups = BTreeMap::<usize, Vec<usize>>::new();
        for row in 0..data.len() {
            groups.entry(data.group(row)).or_default().push(row);
        }
        Self {
            values,
            features: data.features,
            classes: data.classes,
            labels: data.labels.to_vec(),
            groups: groups.into_values().collect(),
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One sample's direction `[F]`.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row * self.features;
        self.values
            .get(start..start + self.features)
            .unwrap_or_default()
    }

    /// Label of a sample.
    fn label(&self, row: usize) -> usize {
        self.labels.get(row).map_or(0, |label| usize::from(*label))
    }

    /// Cosine to each class mean, the sample's group left out.
    pub fn likeness(&self) -> Likeness {
        self.likeness_around(&vec![0.0; self.features])
    }

    /// The same after the centre of all classes is taken away, so that what all pictures
    /// of a set have in common does not count.
    pub fn centred_likeness(&self) -> Likeness {
        self.likeness_around(&self.centre())
    }

    /// The mean of the class means `[F]`.
    fn centre(&self) -> Vec<f32> {
        let (sums, counts) = self.sums(&vec![0.0; self.features]);
        let mut centre = vec![0.0; self.features];
        let filled = counts.iter().filter(|count| **count > 0).count().max(1);
        for (sum, count) in sums.chunks_exact(self.features.max(1)).zip(&counts) {
            let share = 1.0 / (filled * (*count).max(1)) as f32;
            add(&mut centre, sum, share);
        }
        centre
    }

    /// A row less `centre`, of length 1 again.
    fn around(&self, row: usize, centre: &[f32]) -> Vec<f32> {
        let pairs = self.row(row).iter().zip(centre);
        let mut moved: Vec<f32> = pairs.map(|(value, middle)| value - middle).collect();
        let length = dot(&moved, &moved).sqrt();
        if length > 0.0 {
            moved.iter_mut().for_each(|value| *value /= length);
        }
        moved
    }

    /// Sums `[K, F]` of the rows around `centre`, and their number a class.
    fn sums(&self, centre: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let mut sums = vec![0.0; self.classes * self.features];
        let mut counts = vec![0; self.classes];
        for row in 0..self.len() {
            let label = self.label(row);
            let moved = self.around(row, centre);
            let start = label * self.features;
            if let Some(sum) = sums.get_mut(start..start + self.features) {
                add(sum, &moved, 1.0);
                counts[label] += 1;
            }
        }
        (sums, counts)
    }

    fn likeness_around(&self, centre: &[f32]) -> Likeness {
        let (sums, counts) = self.sums(centre);
        let of_groups: Vec<Vec<(usize, Vec<Option<f32>>)>> = self
            .groups
            .par_iter()
            .map(|group| self.of_group(group, centre, &sums, &counts))
            .collect();
        let mut likeness = vec![None; self.len() * self.classes];
        for (row, values) in of_groups.into_iter().flatten() {
            let start = row * self.classes;
            likeness[start..start + self.classes].copy_from_slice(&values);
        }
        likeness
    }

    /// The rows of one group and what they look like without each other.
    fn of_group(
        &self,
        group: &[usize],
        centre: &[f32],
        sums: &[f32],
        counts: &[usize],
    ) -> Vec<(usize, Vec<Option<f32>>)> {
        let moved: Vec<Vec<f32>> = group.iter().map(|row| self.around(*row, centre)).collect();
        let mut found: Vec<(usize, Vec<Option<f32>>)> = group
            .iter()
            .map(|row| (*row, vec![None; self.classes]))
            .collect();
        for (class, sum) in sums.chunks_exact(self.features.max(1)).enumerate() {
            let mut others = sum.to_vec();
            let mut left = counts[class];
            for (row, values) in group.iter().zip(&moved) {
                if self.label(*row) == class {
                    add(&mut others, values, -1.0);
                    left -= 1;
                }
            }
            let length = dot(&others, &others).sqrt();
            if left == 0 || length <= f32::EPSILON {
                continue;
            }
            for ((_, likeness), values) in found.iter_mut().zip(&moved) {
                likeness[class] = Some(dot(values, &others) / length);
            }
        }
        found
    }
}

fn add(sum: &mut [f32], values: &[f32], factor: f32) {
    sum.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += factor * value);
}

/// Sum of products, in eight lanes so that it vectorises, always in the same order.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a_parts.remainder().iter().zip(b_parts.remainder());
    let rest: f32 = rest.map(|(x, y)| x * y).sum();
    for (x, y) in a_parts.zip(b_parts) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data<'a>(view: &'a [&'a [f32]], labels: &'a [u16], groups: &'a [usize]) -> Data<'a> {
        Data {
            views: view,
            held: crate::views::ViewSet::ORIGINAL,
            labels,
            groups,
            features: 2,
            classes: 2,
        }
    }

    #[test]
    fn nobody_vouches_for_himself_or_his_group() {
        // Two samples at (1, 0), one at (0, 1) with the same label, one of the other class.
        let view: &[f32] = &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
        let labels = [0, 0, 0, 1];
        let views = [view];
        let alone = Directions::of(&data(&views, &labels, &[])).likeness();
        let expected = 2.0 / 5f32.sqrt();
        assert!(
            (alone[0].unwrap() - 1.0 / 2f32.sqrt()).abs() < 1e-6,
            "{alone:?}"
        );
        assert!(
            alone[4].unwrap().abs() < 1e-6 && alone[5] == Some(1.0),
            "{alone:?}"
        );
        assert!(
            (alone[6].unwrap() - 1.0 / 5f32.sqrt()).abs() < 1e-6,
            "{alone:?} {expected}"
        );
        assert_eq!(alone[7], None, "the only sample of its class");
        // The first two are one group: only the third is left to compare with.
        let grouped = Directions::of(&data(&views, &labels, &[7, 7, 8, 9])).likeness();
        assert!(grouped[0].unwrap().abs() < 1e-6, "{grouped:?}");
    }

    #[test]
    fn the_dot_product_has_its_rest() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), 2109.0);
    }
}
