//! What the cross-validated figures mean for somebody who wants to use the head, in one
//! sentence.

use crate::evaluation::Evaluation;

use super::page::{count, name, percent};

/// Fewer held-out samples than this allow no statement.
const FEWEST_SAMPLES: usize = 10;
/// A wider interval allows no firm statement.
const WIDEST: f64 = 0.3;
/// Lower end of the interval from which a head is called good.
const GOOD: f64 = 0.8;
/// Lower end from which it is called usable.
const USABLE: f64 = 0.6;

/// A sentence and the class of the page's style it is shown in.
pub(super) struct Verdict {
    /// "good", "fair", "bad", or "open" when the samples do not tell.
    pub(super) class: &'static str,
    /// HTML.
    pub(super) sentence: String,
}

/// The verdict on what is expected of new samples.
pub(super) fn verdict(expected: Option<&Evaluation>) -> Verdict {
    let Some(expected) = expected.filter(|expected| expected.n > 0) else {
        let sentence = "No statement is possible: no sample could be held out; \
                        give at least two samples of every class, better ten or more.";
        return Verdict {
            class: "open",
            sentence: sentence.into(),
        };
    };
    let (class, meaning) = meaning(expected);
    let figures = format!(
        " (cross-validated accuracy {}, 95 % interval {} to {}, {}).",
        percent(expected.accuracy),
        percent(expected.low),
        percent(expected.high),
        count(expected.n, "sample"),
    );
    Verdict {
        class,
        sentence: meaning + &figures,
    }
}

fn meaning(expected: &Evaluation) -> (&'static str, String) {
    let range = of_hundred(expected);
    if expected.n < FEWEST_SAMPLES || expected.high - expected.low > WIDEST {
        let sentence = format!(
            "Too few samples to tell: anything from {range} of 100 new samples may be recognised"
        );
        return ("open", sentence);
    }
    let (label, share) = most_frequent(expected);
    if expected.low <= share {
        let sentence = format!(
            "Not yet usable: no better than always answering \"{}\"",
            name(label)
        );
        return ("bad", sentence);
    }
    let (class, word) = match expected.low {
        low if low >= GOOD => ("good", "Good"),
        low if low >= USABLE => ("fair", "Usable with care"),
        _ => ("bad", "Not yet usable"),
    };
    (
        class,
        format!("{word}: expect {range} of 100 new samples to be recognised"),
    )
}

/// The interval in whole samples of a hundred, rounded outwards.
fn of_hundred(expected: &Evaluation) -> String {
    const ROUNDING: f64 = 1e-9;
    let low = (100.0 * expected.low + ROUNDING).floor();
    let high = (100.0 * expected.high - ROUNDING).ceil();
    format!("{low:.0} to {high:.0}")
}

/// The class with most samples and its share of all: what guessing achieves.
fn most_frequent(expected: &Evaluation) -> (&str, f64) {
    let all: usize = expected.per_class.iter().map(|class| class.samples).sum();
    let largest = expected.per_class.iter().max_by_key(|class| class.samples);
    largest.map_or(("", 0.0), |class| {
        (
            class.label.as_str(),
            class.samples as f64 / all.max(1) as f64,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::evaluate;

    /// Two classes, `n` samples each, of which `right` each are recognised.
    fn said(n: usize, right: usize) -> Verdict {
        let truth: Vec<usize> = (0..2 * n).map(|row| row % 2).collect();
        let row = |row: usize| {
            let called = if row / 2 < right {
                row % 2
            } else {
                1 - row % 2
            };
            [[0.9, 0.1], [0.1, 0.9]][called]
        };
        let probabilities: Vec<f32> = (0..2 * n).flat_map(row).collect();
        verdict(Some(&evaluate(
            &["ant".into(), "<b>".into()],
            &truth,
            &probabilities,
        )))
    }

    #[test]
    fn says_what_the_interval_supports_and_no_more() {
        let cases = [
            (100, 96, "good", "Good: expect 92 to 98 of 100"),
            (100, 75, "fair", "Usable with care: expect 68 to 81"),
            (100, 58, "bad", "Not yet usable: expect 51 to 65"),
            (
                100,
                50,
                "bad",
                "Not yet usable: no better than always answering",
            ),
            (
                6,
                4,
                "open",
                "Too few samples to tell: anything from 39 to 87",
            ),
            (
                4,
                4,
                "open",
                "Too few samples to tell: anything from 67 to 100",
            ),
        ];
        for (n, right, class, start) in cases {
            let found = said(n, right);
            assert!(
                found.sentence.starts_with(start),
                "{n} {right}: {}",
                found.sentence
            );
            assert_eq!(found.class, class, "{n} {right}");
            assert!(!found.sentence.contains("<b>"));
        }
    }

    #[test]
    fn without_held_out_samples_nothing_is_claimed() {
        let nothing = evaluate(&["ant".into()], &[], &[]);
        for expected in [None, Some(&nothing)] {
            let found = verdict(expected);
            assert_eq!(found.class, "open");
            assert!(found.sentence.starts_with("No statement is possible"));
            assert!(!found.sentence.contains('%'));
        }
    }
}
