//! Which three cuts to try first. Rules of thumb: nothing is trained to find them.

use super::{Cut, Suggestions};

/// Most elements of a feature vector that a head is quickly trained on and a cache holds
/// for thousands of samples: 64 KiB each.
const MAX_FEATURES: usize = 16_384;

/// Largest bytes a sample at a cut whose tail is trained: 500 samples take 512 MiB.
const MAX_TAIL_BYTES: usize = 1 << 20;

/// Chooses among `cuts`, which are in the order of the network, its output last. A default
/// is the best guess.
pub(super) fn suggest(cuts: &[Cut], default_cut: Option<&str>) -> Suggestions {
    let name = |cut: &Cut| cut.tensor.clone();
    let small = |cut: &&Cut| cut.bytes_per_sample <= 4 * MAX_FEATURES;
    let fastest = cuts.iter().filter(small).min_by_key(|cut| cut.macs_before);
    // The last place with work behind it: before the classifier.
    let classified = |cut: &&Cut| cut.macs_after > 0 && cut.parameters_after > 0;
    let best = cuts.iter().rfind(|cut| small(cut) && classified(cut));
    let tails = || cuts.iter().filter(|cut| cut.trainable);
    let kept = tails().filter(|cut| cut.bytes_per_sample <= MAX_TAIL_BYTES);
    // Of several with the same weights, the one that takes the least space.
    let order = |cut: &&Cut| {
        (
            cut.parameters_after,
            std::cmp::Reverse(cut.bytes_per_sample),
        )
    };
    let most = kept.max_by_key(order).or_else(|| tails().max_by_key(order));
    Suggestions {
        fastest: fastest.map(name),
        best_guess: default_cut.map(str::to_string).or(best.map(name)),
        most_trainable: most.map(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tensor: &str, features: usize, macs: u64, parameters: u64, trainable: bool) -> Cut {
        Cut {
            tensor: tensor.into(),
            shape: vec![features],
            bytes_per_sample: 4 * features,
            macs_before: 1000 - macs,
            macs_after: macs,
            parameters_before: 100 - parameters,
            parameters_after: parameters,
            trainable,
            reason: String::new(),
            alone: true,
        }
    }

    #[test]
    fn each_suggestion_has_its_reason() {
        let cuts = [
            cut("stem", 400_000, 900, 90, true),
            cut("map", 200_000, 700, 80, true),
            cut("act", 200_000, 700, 80, true),
            cut("small", 16_000, 500, 40, true),
            cut("pool", 1280, 20, 10, true),
            cut("logits", 10, 0, 0, false),
        ];
        let found = suggest(&cuts, None);
        assert_eq!(found.fastest.as_deref(), Some("small"));
        assert_eq!(found.best_guess.as_deref(), Some("pool"));
        assert_eq!(found.most_trainable.as_deref(), Some("act"));
        assert_eq!(
            suggest(&cuts, Some("small")).best_guess.as_deref(),
            Some("small")
        );
        assert_eq!(suggest(&[], None), Suggestions::default());
    }
}
