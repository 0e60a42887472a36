//! Fills the tables that prediction sets are made from, out of what heads said about
//! samples they had not seen (cross-conformal prediction, Vovk, 2015). Reading a table is
//! `fieldtune_core::sets`.
//!
//! The held-out samples judge heads trained without them, the user's head was trained on
//! all, so a coverage is kept as well as cross-validation predicts new samples: tested, but
//! not a theorem. Where samples of a new day differ from those trained on, it does not hold.

use fieldtune_core::sets::{entries, rank};

use crate::head::Sets;
use crate::search::HeldOut;

/// Held-out samples from which on a class has a table of its own, and so its own coverage.
/// With fewer, coverages over 98 % could not be promised and sets would vary much.
const OWN_TABLE: usize = 50;

/// The tables for `classes` labels.
pub fn tables(held_out: &HeldOut, classes: usize) -> Sets {
    // Repeats judge the same samples again: only the first counts.
    let first = held_out.labels.len() / held_out.repeats.max(1);
    from_probabilities(
        &held_out.probabilities(classes),
        &held_out.labels[..first],
        classes,
    )
}

/// The tables from probabilities `[n, K]` of samples with these labels `[n]`, none of
/// which the head behind them had seen.
pub fn from_probabilities(probabilities: &[f32], labels: &[u16], classes: usize) -> Sets {
    let mut own: Vec<Vec<f32>> = vec![Vec::new(); classes];
    for (row, label) in probabilities.chunks_exact(classes.max(1)).zip(labels) {
        own[usize::from(*label)].push(row[usize::from(*label)]);
    }
    let mut groups = vec![Vec::new(); classes + 1];
    for (class, values) in own.into_iter().enumerate() {
        if values.len() >= OWN_TABLE {
            groups[class + 1] = values;
        } else {
            groups[0].extend(values);
        }
    }
    let mut sets = Sets::default();
    for mut values in groups {
        values.sort_by(|a, b| b.total_cmp(a));
        let chosen = (0..entries(values.len())).map(|e| values[rank(e, values.len()) - 1]);
        sets.tables.extend(chosen.flat_map(f32::to_le_bytes));
        sets.counts.push(values.len() as u32);
    }
    sets
}
