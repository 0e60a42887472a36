//! Classes that are too small: too few samples to learn from or to judge by, or many
//! times fewer than in the largest class.

use crate::samples::SampleSet;

use super::{Kind, Suspect};

/// Below this many samples a class is reported: figures for it are then chance.
const FEWEST_SAMPLES: usize = 5;
/// The largest class may have this many times the samples of another.
const LARGEST_RATIO: usize = 4;

/// What is wrong with `sizes`, the usable samples of each class of `set`.
pub fn suspects(set: &SampleSet, sizes: &[usize]) -> Vec<Suspect> {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let classes = set.labels.iter().zip(sizes);
    let mut found = Vec::new();
    for (label, size) in classes {
        let suspect = |kind, detail| Suspect {
            kind,
            path: set.source.clone(),
            other: None,
            detail,
            score: -(*size as f64),
        };
        let samples = if *size == 1 { "sample" } else { "samples" };
        if *size < FEWEST_SAMPLES {
            let detail = format!("class \"{label}\" has {size} usable {samples}");
            found.push(suspect(Kind::TooFew, detail));
        }
        if *size * LARGEST_RATIO < largest {
            let detail = format!(
                "class \"{label}\" has {size} usable {samples}, the largest class {largest}"
            );
            found.push(suspect(Kind::Imbalance, detail));
        }
    }
    if let [only] = set.labels.as_slice() {
        found.push(Suspect {
            kind: Kind::TooFew,
            path: set.source.clone(),
            other: None,
            detail: format!("there is only one class, \"{only}\"; a head needs two"),
            score: 0.0,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sizes: &[usize]) -> Vec<(Kind, String)> {
        let set = SampleSet {
            labels: (0..sizes.len()).map(|class| format!("c{class}")).collect(),
            ..SampleSet::default()
        };
        let suspects = suspects(&set, sizes);
        suspects
            .into_iter()
            .map(|one| (one.kind, one.detail))
            .collect()
    }

    #[test]
    fn small_classes_and_much_smaller_classes_are_told_apart() {
        assert_eq!(found(&[5, 20, 8]), []);
        let few = found(&[4, 5]);
        assert_eq!(few.len(), 1);
        assert_eq!(few[0].0, Kind::TooFew);
        assert!(few[0].1.contains("\"c0\" has 4 usable samples"), "{few:?}");
        let uneven = found(&[10, 41]);
        assert_eq!(uneven.len(), 1);
        assert_eq!(uneven[0].0, Kind::Imbalance);
        assert_eq!(found(&[1, 50]).len(), 2);
        assert!(found(&[30])[0].1.contains("only one class"));
    }
}
