//! What may be wrong with samples, found before or beside training: wrong labels
//! ([`labels`]), copies ([`duplicates`]), samples like no class ([`outliers`]), bad
//! pictures ([`pictures`]), and classes that are too small ([`counts`]). [`means`] is what
//! several of them measure with.
//!
//! The parts know rows and numbers; here they become a list about files. Which of them
//! run, and on what, is the job's business: `session/check.rs` runs all, training runs
//! [`of_features`]. Nothing is decided for the user: a suspect is a file to look at.

pub mod counts;
pub mod duplicates;
pub mod labels;
pub mod means;
pub mod outliers;
pub mod pictures;

use std::path::{Path, PathBuf};

use crate::data::Data;
use crate::samples::{SampleSet, Skipped};
use crate::search::HeldOut;

use duplicates::{Copies, Pair};
use means::Directions;

/// What is suspected. The order is the one in which people should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Cannot be read or decoded.
    Unreadable,
    /// The same file, or the same picture, under two labels.
    DuplicateAcrossClasses,
    /// Almost the same picture under two labels.
    NearDuplicateAcrossClasses,
    /// The label is probably wrong.
    Mislabelled,
    /// The same file, or the same picture, twice in one class.
    Duplicate,
    /// Almost the same picture twice in one class.
    NearDuplicate,
    /// Like none of the classes.
    Outlier,
    /// Almost black.
    Dark,
    /// Almost white.
    Bright,
    /// Almost one colour.
    Flat,
    /// Out of focus or shaken.
    Blurred,
    /// A class with too few samples to learn from or to judge.
    TooFew,
    /// A class with many times fewer samples than the largest.
    Imbalance,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 13] = [
        Self::Unreadable,
        Self::DuplicateAcrossClasses,
        Self::NearDuplicateAcrossClasses,
        Self::Mislabelled,
        Self::Duplicate,
        Self::NearDuplicate,
        Self::Outlier,
        Self::Dark,
        Self::Bright,
        Self::Flat,
        Self::Blurred,
        Self::TooFew,
        Self::Imbalance,
    ];

    /// Stable name for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::DuplicateAcrossClasses => "duplicate-across-classes",
            Self::NearDuplicateAcrossClasses => "near-duplicate-across-classes",
            Self::Mislabelled => "mislabelled",
            Self::Duplicate => "duplicate",
            Self::NearDuplicate => "near-duplicate",
            Self::Outlier => "outlier",
            Self::Dark => "dark",
            Self::Bright => "bright",
            Self::Flat => "flat",
            Self::Blurred => "blurred",
            Self::TooFew => "too-few",
            Self::Imbalance => "imbalance",
        }
    }

    /// What it is and what to do, in plain words.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreadable => "Cannot be read: replace or remove them",
            Self::DuplicateAcrossClasses => {
                "The same picture in two classes: keep it in the right one"
            }
            Self::NearDuplicateAcrossClasses => {
                "Almost the same picture in two classes: keep it in the right one"
            }
            Self::Mislabelled => "Look at these first: their label may be wrong",
            Self::Duplicate => "Copies: remove all but one, they make figures look too good",
            Self::NearDuplicate => {
                "Almost the same picture: remove all but one, or give them one group"
            }
            Self::Outlier => "Like none of the classes: do they belong here?",
            Self::Dark => "Too dark: take them again with more light",
            Self::Bright => "Too bright: take them again with less light",
            Self::Flat => "Almost one colour: is there anything to see?",
            Self::Blurred => "Blurred: take them again, in focus and without shaking",
            Self::TooFew => "Too few samples: collect more of these classes",
            Self::Imbalance => "Much smaller than the largest class: collect more of these",
        }
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// What is suspected.
    pub kind: Kind,
    /// The file; for a class, the folder or list of the samples.
    pub path: PathBuf,
    /// The other file of a pair.
    pub other: Option<PathBuf>,
    /// Why, in a few words.
    pub detail: String,
    /// Larger is worse. Comparable within a kind only.
    pub score: f64,
}

/// Sorts by kind, the worst of each first; equal ones by path, so that the order does
/// not depend on how they were found.
pub fn sort(suspects: &mut [Suspect]) {
    suspects.sort_by(|a, b| {
        let scores = b.score.total_cmp(&a.score);
        let paths = a.path.cmp(&b.path).then_with(|| a.other.cmp(&b.other));
        a.kind.cmp(&b.kind).then(scores).then(paths)
    });
}

/// The samples behind rows of features.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// All samples.
    pub set: &'a SampleSet,
    /// For every row, the index of its sample in `set`.
    pub samples: &'a [usize],
    /// The features.
    pub data: &'a Data<'a>,
}

impl Rows<'_> {
    fn path(&self, row: usize) -> &Path {
        let sample = self
            .samples
            .get(row)
            .and_then(|at| self.set.samples.get(*at));
        sample.map_or(Path::new(""), |sample| &sample.path)
    }

    fn label(&self, class: usize) -> &str {
        self.set.labels.get(class).map_or("", String::as_str)
    }

    fn class(&self, row: usize) -> usize {
        self.data
            .labels
            .get(row)
            .map_or(0, |label| usize::from(*label))
    }
}

/// What shows in the features and in the outputs for held-out samples alone: wrong
/// labels, outliers, pictures with the same features, files left out, small classes.
/// Sorted, see [`sort`].
pub fn of_features(
    rows: &Rows<'_>,
    held_out: Option<&HeldOut>,
    skipped: &[Skipped],
) -> Vec<Suspect> {
    let directions = Directions::of(rows.data);
    let mut found = judged(rows, &directions, held_out);
    let pairs = duplicates::same_features(&directions);
    found.extend(copies(rows, &pairs));
    found.extend(unreadable(skipped));
    found.extend(counts::suspects(rows.set, &class_sizes(rows)));
    sort(&mut found);
    found
}

/// Wrong labels and outliers.
pub(crate) fn judged(
    rows: &Rows<'_>,
    directions: &Directions,
    held_out: Option<&HeldOut>,
) -> Vec<Suspect> {
    let likeness = directions.likeness();
    let opinions = labels::opinions(rows.data, directions, held_out);
    let mut found: Vec<Suspect> = labels::doubts(&opinions, rows.data.labels, rows.data.classes)
        .into_iter()
        .map(|doubt| Suspect {
            kind: Kind::Mislabelled,
            path: rows.path(doubt.row).into(),
            other: None,
            detail: format!(
                "labelled \"{}\", looks like \"{}\" ({:.0} % to {:.0} %)",
                rows.label(rows.class(doubt.row)),
                rows.label(doubt.likely),
                100.0 * doubt.likely_probability,
                100.0 * doubt.own_probability,
            ),
            score: f64::from(doubt.margin()),
        })
        .collect();
    let outliers = outliers::outliers(&likeness, rows.data.classes);
    found.extend(outliers.into_iter().map(|outlier| Suspect {
        kind: Kind::Outlier,
        path: rows.path(outlier.row).into(),
        other: None,
        detail: format!(
            "least unlike \"{}\", but {:.1} deviations further than usual",
            rows.label(outlier.nearest),
            outlier.deviations,
        ),
        score: outlier.deviations,
    }));
    found
}

/// Pairs of copies as suspects.
pub(crate) fn copies(rows: &Rows<'_>, pairs: &[Pair]) -> Vec<Suspect> {
    let suspect = |pair: &Pair| {
        let across = rows.class(pair.first) != rows.class(pair.second);
        let (first, second) = (rows.path(pair.first), rows.path(pair.second));
        let kind = match (pair.copies, across) {
            (Copies::Near, true) => Kind::NearDuplicateAcrossClasses,
            (Copies::Near, false) => Kind::NearDuplicate,
            (_, true) => Kind::DuplicateAcrossClasses,
            (_, false) => Kind::Duplicate,
        };
        let mut detail = format!("{} {}", pair.copies.words(), second.display());
        if across {
            let labels = [pair.first, pair.second].map(|row| rows.label(rows.class(row)));
            detail += &format!("; labelled \"{}\" and \"{}\"", labels[0], labels[1]);
        }
        if groups_differ(rows, pair) {
            detail += "; in different groups";
        }
        Suspect {
            kind,
            path: first.into(),
            other: Some(second.into()),
            detail,
            score: f64::from(pair.likeness),
        }
    };
    pairs.iter().map(suspect).collect()
}

/// Whether the user has said that the two are independent of each other.
fn groups_differ(rows: &Rows<'_>, pair: &Pair) -> bool {
    let group = |row: usize| {
        let sample = rows
            .samples
            .get(row)
            .and_then(|at| rows.set.samples.get(*at));
        sample.and_then(|sample| sample.group.as_deref())
    };
    matches!((group(pair.first), group(pair.second)), (Some(a), Some(b)) if a != b)
}

/// Faults of pictures as suspects.
pub(crate) fn pictures(rows: &Rows<'_>, faults: &[pictures::Fault]) -> Vec<Suspect> {
    let suspect = |fault: &pictures::Fault| Suspect {
        kind: fault.kind,
        path: rows.path(fault.picture).into(),
        other: None,
        detail: fault.detail.clone(),
        score: fault.score,
    };
    faults.iter().map(suspect).collect()
}

/// Files left out as suspects.
pub(crate) fn unreadable(skipped: &[Skipped]) -> impl Iterator<Item = Suspect> + '_ {
    skipped.iter().map(|file| Suspect {
        kind: Kind::Unreadable,
        path: file.path.clone(),
        other: None,
        detail: file.reason.clone(),
        score: 0.0,
    })
}

/// Samples of every class that have features.
pub(crate) fn class_sizes(rows: &Rows<'_>) -> Vec<usize> {
    let mut sizes = vec![0; rows.set.labels.len()];
    for label in rows.data.labels {
        if let Some(size) = sizes.get_mut(usize::from(*label)) {
            *size += 1;
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_each_its_own() {
        let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let plain = |name: &&str| name.chars().all(|c| c == '-' || c.is_ascii_lowercase());
        assert!(names.iter().all(plain), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.is_sorted());
    }

    #[test]
    fn the_worst_of_each_kind_comes_first() {
        let suspect = |kind, path: &str, score| Suspect {
            kind,
            path: path.into(),
            other: None,
            detail: String::new(),
            score,
        };
        let mut found = [
            suspect(Kind::Dark, "a", 9.0),
            suspect(Kind::Mislabelled, "c", 0.6),
            suspect(Kind::Mislabelled, "b", 0.9),
            suspect(Kind::Mislabelled, "a", 0.6),
        ];
        sort(&mut found);
        let order =
            found.map(|suspect| format!("{}{}", suspect.kind.name(), suspect.path.display()));
        assert_eq!(
            order,
            ["mislabelledb", "mislabelleda", "mislabelledc", "darka"]
        );
    }
}
