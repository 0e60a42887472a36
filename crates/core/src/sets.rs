//! Prediction sets: labels of which one is right in a chosen share of new samples
//! (split conformal prediction with the least ambiguous sets of Sadinle, Lei and
//! Wasserman, 2019). A label is in the set when its probability is not among the lowest
//! that held-out samples gave their own label. Making sets takes a table of such
//! probabilities; filling it is the runtime's matter.

use crate::head::{Floats, MAX_CLASSES};
use serde::{Deserialize, Serialize};

/// The most probabilities a table keeps.
pub const MAX_QUANTILES: usize = 64;

/// Probabilities that held-out samples gave their own label. The default has none, and
/// every set is then all labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sets<'a> {
    /// Held-out samples behind each table: first that of all classes without their own,
    /// then one a class, 0 where a class has none. `K + 1`, or empty.
    pub counts: heapless::Vec<u32, { MAX_CLASSES + 1 }>,
    /// The tables, one after another, each falling, of [`entries`] probabilities.
    #[serde(borrow)]
    pub tables: Floats<'a>,
}

/// How many probabilities the table of `count` samples keeps.
pub fn entries(count: usize) -> usize {
    count.min(MAX_QUANTILES)
}

/// Which of `count` probabilities, counted from 1 for the highest, stands at `entry`:
/// all of up to 64, else closer together towards the lowest, where coverages in use are.
pub fn rank(entry: usize, count: usize) -> usize {
    if count <= MAX_QUANTILES {
        return entry + 1;
    }
    let left = (MAX_QUANTILES - 1).saturating_sub(entry) as u64;
    let all = (MAX_QUANTILES * MAX_QUANTILES) as u64;
    count - (count as u64 * left * left / all) as usize
}

impl Sets<'_> {
    /// The least probability with which label `class` is in a set of this coverage, a
    /// share below 1. Zero means always: there are too few samples to promise more. It is
    /// rounded down to the next entry, so sets are never smaller than promised.
    pub fn least(&self, class: usize, coverage: f64) -> f32 {
        let own = self.counts.get(class + 1).copied().unwrap_or(0);
        let table = if own > 0 { class + 1 } else { 0 };
        let count = self.counts.get(table).copied().unwrap_or(0) as usize;
        let wanted = needed(count, coverage);
        let start: usize = self.counts[..table.min(self.counts.len())]
            .iter()
            .map(|count| entries(*count as usize))
            .sum();
        let entry = (0..entries(count)).find(|entry| rank(*entry, count) >= wanted);
        entry.map_or(0.0, |entry| self.tables.get(start + entry))
    }

    /// Whether the tables are possible for K classes.
    pub(crate) fn is_sound(&self, classes: usize) -> bool {
        let all = self.counts.iter().map(|count| entries(*count as usize));
        let sized = self.counts.is_empty() || self.counts.len() == classes + 1;
        let mut values = self.tables.iter();
        sized && self.tables.sound(all.sum()) && values.all(|p| (0.0..=1.0).contains(&p))
    }
}

/// The rank that covers this share of new samples: the smallest whole number not below
/// `(n + 1) coverage`. The new sample counts as one of them.
pub fn needed(count: usize, coverage: f64) -> usize {
    let exact = (count as f64 + 1.0) * coverage;
    // What rounding made larger than a whole number is that number.
    let whole = (exact - 1e-9).max(0.0) as usize;
    whole + usize::from(exact - 1e-9 > whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_rise_to_the_last_and_bound_the_loss() {
        for count in [1, 9, 64, 65, 100, 1000, 50_000] {
            let ranks: [usize; MAX_QUANTILES] = core::array::from_fn(|e| rank(e, count));
            let ranks = &ranks[..entries(count)];
            assert!(ranks.is_sorted() && ranks[0] >= 1, "{count}");
            assert_eq!(ranks.last(), Some(&count));
            let wanted = needed(count, 0.9);
            if let Some(found) = ranks.iter().find(|rank| **rank >= wanted) {
                assert!(found - wanted <= count / 90 + 1, "{count} {found} {wanted}");
            }
        }
    }

    #[test]
    fn too_few_samples_promise_nothing() {
        assert_eq!(
            (needed(9, 0.9), needed(8, 0.9), needed(19, 0.95)),
            (9, 9, 19)
        );
        let bytes: [[u8; 4]; 9] = core::array::from_fn(|i| (0.9 - 0.1 * i as f32).to_le_bytes());
        let sets = Sets {
            counts: [9, 0, 0].into_iter().collect(),
            tables: Floats::new(bytes.as_flattened()),
        };
        assert!((sets.least(1, 0.9) - 0.1).abs() < 1e-6);
        assert_eq!(sets.least(1, 0.91), 0.0);
        assert_eq!(Sets::default().least(0, 0.5), 0.0);
    }
}
