//! Which samples there are and what each is labelled: a folder with one sub-folder a
//! class (`samples/folder.rs`), or a list in a file (`samples/listing.rs`). All are of one kind
//! (`senses.rs`). Nothing is decoded here; whether a sample can be read shows when its
//! features are computed.

mod folder;
mod listing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fieldtune_core::head;

use crate::error::{Error, ErrorKind, Result, is_hostile};
use crate::senses::Kind;
use crate::windows::Part;

/// Most classes a head can have.
pub const MAX_CLASSES: usize = head::MAX_CLASSES;

/// Longest label in bytes of UTF-8.
pub const MAX_LABEL_BYTES: usize = head::MAX_LABEL_BYTES;

/// How the name of a folder inside of a class begins whose samples are one group.
pub const GROUP: &str = "group=";

/// Where links in a folder and relative paths of a list may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Not out of the folder, or the folder of the list.
    Folder,
    /// Anywhere.
    None,
}

/// One labelled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the file is, as given (folder or list) and followed by its name.
    pub path: PathBuf,
    /// Index into [`SampleSet::labels`].
    pub label: usize,
    /// Samples of one group never stand on both sides of a split. In a folder those below one
    /// named `group=NAME` inside of a class.
    pub group: Option<String>,
    /// The part of the file that it is; `None` for all of it.
    pub part: Option<Part>,
}

/// A file that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file or folder.
    pub path: PathBuf,
    /// Why, in a few words.
    pub reason: String,
}

/// All samples of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleSet {
    /// The folder or list they come from.
    pub source: PathBuf,
    /// Names of the classes, sorted by bytes.
    pub labels: Vec<String>,
    /// Sorted by label and path for a folder; in the order of the file for a list.
    pub samples: Vec<Sample>,
    /// What was left out; hidden files and the litter of file managers are not named.
    pub skipped: Vec<Skipped>,
}

impl SampleSet {
    /// Reads a folder with one sub-folder a class, or a `.csv` or `.jsonl` list with the
    /// columns `path,label[,group]`.
    ///
    /// # Errors
    /// `BadInput`, naming the file (and the line of a list): missing, unreadable, empty,
    /// samples outside of class folders, samples of two kinds, a label that is empty, too long or not plain
    /// text, more than [`MAX_CLASSES`] classes.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, Bounds::Folder)
    }

    /// As [`SampleSet::open`], with a say in where samples may lie.
    ///
    /// # Errors
    /// As [`SampleSet::open`].
    pub fn open_within(path: &Path, bounds: Bounds) -> Result<Self> {
        let bad = |what: &str, remedy: &str| Error::at(ErrorKind::BadInput, path, what, remedy);
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => bad("does not exist", "check the path"),
            _ => bad(
                &format!("cannot be read ({error})"),
                "check its permissions",
            ),
        })?;
        let set = if metadata.is_dir() {
            folder::read(path, bounds)?
        } else {
            match listing::Format::of(path) {
                Some(format) => listing::read(path, format, bounds)?,
                None => {
                    return Err(bad(
                        "is neither a folder nor a .csv or .jsonl list",
                        "give a folder with one sub-folder a class",
                    ));
                }
            }
        };
        if set.labels.len() > MAX_CLASSES {
            let what = format!("has {} classes", set.labels.len());
            return Err(bad(&what, &format!("use at most {MAX_CLASSES}")));
        }
        set.require_one_kind()?;
        Ok(set)
    }

    /// The files of one kind in a folder and its sub-folders, without labels.
    ///
    /// # Errors
    /// `BadInput`, naming the folder: missing, unreadable, no such file in it.
    pub fn unlabelled(path: &Path, kind: Kind, bounds: Bounds) -> Result<Self> {
        if !path.is_dir() {
            let remedy = "give the folder of the unlabelled files";
            return Err(Error::at(
                ErrorKind::BadInput,
                path,
                "is not a folder",
                remedy,
            ));
        }
        let mut set = folder::read_unlabelled(path, bounds)?;
        set.samples
            .retain(|sample| Kind::of(&sample.path) == Some(kind));
        if set.samples.is_empty() {
            let what = format_args!("holds no {}", kind.plural());
            let remedy = format_args!("give a folder of {}", kind.plural());
            return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
        }
        Ok(set)
    }

    /// Of what kind the samples are; pictures where there are none.
    pub fn kind(&self) -> Kind {
        let first = self.samples.first();
        first
            .and_then(|sample| Kind::of(&sample.path))
            .unwrap_or_default()
    }

    fn require_one_kind(&self) -> Result<()> {
        // A list may name files as it likes: those are taken for pictures, as they always were.
        let kind = |sample: &Sample| Kind::of(&sample.path).unwrap_or_default();
        let Some(first) = self.samples.first() else {
            return Ok(());
        };
        let Some(other) = self.samples.iter().find(|one| kind(one) != kind(first)) else {
            return Ok(());
        };
        let what = format_args!(
            "mixes kinds of samples: {} is a {}, {} is a {}",
            first.path.display(),
            kind(first).name(),
            other.path.display(),
            kind(other).name()
        );
        let remedy = "keep one kind";
        Err(Error::at(ErrorKind::BadInput, &self.source, what, remedy))
    }

    /// Samples of every class, in the order of `labels`.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        for sample in &self.samples {
            if let Some(count) = counts.get_mut(sample.label) {
                *count += 1;
            }
        }
        counts
    }

    /// Whether a classifier can be trained: two classes or more, a sample in each.
    ///
    /// # Errors
    /// `BadInput`, saying what is missing.
    pub fn require_trainable(&self) -> Result<()> {
        let bad = |what: String, remedy: &str| {
            Err(Error::at(ErrorKind::BadInput, &self.source, what, remedy))
        };
        if let [only] = self.labels.as_slice() {
            return bad(
                format!("has only one class (\"{only}\")"),
                "add a second class, for example what everything else looks like",
            );
        }
        if self.samples.is_empty() {
            let skipped = self.skipped.len();
            return bad(
                format!("has no usable sample ({skipped} files skipped)"),
                "add pictures, recordings or sensor files, one sub-folder a class",
            );
        }
        let empty = self.counts().iter().position(|&count| count == 0);
        if let Some(label) = empty.and_then(|class| self.labels.get(class)) {
            return bad(
                format!("class \"{label}\" has no usable sample"),
                "add samples to it or remove the class",
            );
        }
        Ok(())
    }
}

/// What is wrong with the name of a class, or `None`.
pub(crate) fn label_problem(label: &str) -> Option<String> {
    if label.is_empty() {
        return Some("the label is empty".into());
    }
    if label.chars().any(is_hostile) {
        return Some(format!(
            "the label \"{label}\" holds a line break or another control character"
        ));
    }
    if label.len() > MAX_LABEL_BYTES {
        return Some(format!(
            "the label \"{label}\" has {} bytes, more than {MAX_LABEL_BYTES}",
            label.len()
        ));
    }
    None
}

/// Gives every label its place in the sorted list and builds the set; samples keep their order.
fn assemble(
    source: &Path,
    labels: BTreeSet<String>,
    found: Vec<(PathBuf, String, Option<String>)>,
    skipped: Vec<Skipped>,
) -> SampleSet {
    let labels: Vec<String> = labels.into_iter().collect();
    let samples = found
        .into_iter()
        .filter_map(|(path, label, group)| {
            let label = labels.binary_search(&label).ok()?;
            Some(Sample {
                path,
                label,
                group,
                part: None,
            })
        })
        .collect();
    SampleSet {
        source: source.to_path_buf(),
        labels,
        samples,
        skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[&str], samples: &[usize]) -> SampleSet {
        SampleSet {
            source: "set".into(),
            labels: labels.iter().map(ToString::to_string).collect(),
            samples: samples
                .iter()
                .map(|&label| Sample {
                    path: "x.png".into(),
                    label,
                    group: None,
                    part: None,
                })
                .collect(),
            skipped: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_trained_is_told_apart() {
        let message = |set: SampleSet| set.require_trainable().unwrap_err().to_string();
        assert!(message(set(&["a"], &[0])).contains("only one class (\"a\")"));
        assert!(message(set(&["a", "b"], &[])).contains("no usable sample (0 files"));
        assert!(message(set(&["a", "b"], &[0])).contains("class \"b\" has no usable sample"));
        assert_eq!(set(&["a", "b"], &[0, 1]).require_trainable(), Ok(()));
        assert_eq!(set(&["a", "b", "c"], &[2, 0, 2]).counts(), [1, 0, 2]);
    }

    #[test]
    fn labels_are_plain_short_text() {
        assert_eq!(label_problem("Blattläuse (früh)"), None);
        assert_eq!(label_problem(&"x".repeat(MAX_LABEL_BYTES)), None);
        for bad in ["", "a\nb", "a\u{202e}b", &"x".repeat(MAX_LABEL_BYTES + 1)] {
            assert!(label_problem(bad).is_some(), "{bad:?}");
        }
    }
}
