//! Samples in a folder with one sub-folder a class. Sub-folders inside of a class are
//! walked, and those named `group=NAME` say a group; links to folders are not, so the walk ends.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::{Bounds, GROUP, SampleSet, Skipped, assemble, label_problem};
use crate::error::{Error, ErrorKind, Result};
use crate::senses::Kind;

/// What file managers leave behind.
const LITTER: [&str; 3] = ["thumbs.db", "ehthumbs.db", "desktop.ini"];

const NOT_A_SAMPLE: &str = "not a picture (jpg, jpeg, png, webp, bmp), a recording (wav, flac, ogg, mp3) or a sensor file (csv)";

/// One walk over a folder.
struct Walk<'a> {
    root: &'a Path,
    /// `root` without links, to see whether a link stays inside.
    real_root: PathBuf,
    bounds: Bounds,
    skipped: Vec<Skipped>,
}

/// Reads the folder `root`; see [`SampleSet::open`].
pub(super) fn read(root: &Path, bounds: Bounds) -> Result<SampleSet> {
    let mut walk = Walk {
        root,
        real_root: fs::canonicalize(root).map_err(|error| unreadable(root, &error))?,
        bounds,
        skipped: Vec::new(),
    };
    let (classes, loose) = walk.top()?;
    if classes.is_empty() {
        return Err(no_classes(root, loose));
    }
    let mut labels = BTreeSet::new();
    let mut found = Vec::new();
    for (label, folder) in classes {
        let mut paths = walk.class(&folder)?;
        paths.sort();
        let labelled = paths.into_iter();
        found.extend(labelled.map(|(path, group)| (path, label.clone(), group)));
        labels.insert(label);
    }
    walk.skipped.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(assemble(root, labels, found, walk.skipped))
}

/// All samples below the folder `root`, of one class without a name.
pub(super) fn read_unlabelled(root: &Path, bounds: Bounds) -> Result<SampleSet> {
    let mut walk = Walk {
        root,
        real_root: fs::canonicalize(root).map_err(|error| unreadable(root, &error))?,
        bounds,
        skipped: Vec::new(),
    };
    let mut paths = walk.class(root)?;
    paths.sort();
    let found = paths.into_iter();
    let found = found.map(|(path, group)| (path, String::new(), group));
    let labels = BTreeSet::from([String::new()]);
    Ok(assemble(root, labels, found.collect(), walk.skipped))
}

impl Walk<'_> {
    /// Class folders sorted by label, and how many samples lie beside them.
    fn top(&mut self) -> Result<(Vec<(String, PathBuf)>, usize)> {
        let mut classes = Vec::new();
        let mut loose = 0;
        for entry in entries(self.root)? {
            let (path, file_type) = (entry.path(), kind(&entry)?);
            if is_litter(&entry) {
                continue;
            }
            if file_type.is_dir() {
                classes.push((class_label(&path)?, path));
            } else if file_type.is_symlink() && path.is_dir() {
                self.skip(path, "a link to a folder; put the folder itself here");
            } else if Kind::of(&path).is_some() {
                loose += 1;
                self.skip(path, "not inside of a class folder");
            } else {
                self.skip(path, NOT_A_SAMPLE);
            }
        }
        classes.sort();
        Ok((classes, loose))
    }

    /// The usable files of one class with their groups, in no order.
    fn class(&mut self, folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
        let mut found = Vec::new();
        let mut waiting = vec![(folder.to_path_buf(), None)];
        while let Some((folder, group)) = waiting.pop() {
            for entry in entries(&folder)? {
                let (path, file_type) = (entry.path(), kind(&entry)?);
                if is_litter(&entry) {
                    continue;
                }
                if file_type.is_dir() {
                    let own = group_of(&entry).or_else(|| group.clone());
                    waiting.push((path, own));
                } else if let Some(reason) = self.refusal(&path, file_type) {
                    self.skip(path, &reason);
                } else {
                    found.push((path, group.clone()));
                }
            }
        }
        Ok(found)
    }

    /// Why something that is no folder is not used, or `None`.
    fn refusal(&self, path: &Path, file_type: FileType) -> Option<String> {
        if path.file_name().is_none_or(|name| name.to_str().is_none()) {
            return Some("its name is not UTF-8 text; rename it".into());
        }
        if file_type.is_symlink() {
            let Ok(target) = fs::canonicalize(path) else {
                return Some("a link that leads nowhere or in a circle".into());
            };
            if self.bounds == Bounds::Folder && !target.starts_with(&self.real_root) {
                return Some("a link that leaves the folder; --follow-outside allows it".into());
            }
            if target.is_dir() {
                return Some("a link to a folder; put the folder itself here".into());
            }
        }
        if Kind::of(path).is_none() {
            return Some(NOT_A_SAMPLE.into());
        }
        let regular = fs::metadata(path).is_ok_and(|data| data.is_file());
        (!regular).then(|| "not a regular file".into())
    }

    fn skip(&mut self, path: PathBuf, reason: &str) {
        let reason = reason.to_string();
        self.skipped.push(Skipped { path, reason });
    }
}

/// The name of a class folder as a label.
fn class_label(folder: &Path) -> Result<String> {
    let bad = |what: &str, remedy: &str| Error::at(ErrorKind::BadInput, folder, what, remedy);
    let name = folder.file_name().unwrap_or_default();
    let Some(label) = name.to_str() else {
        let what = "the name of this class folder is not UTF-8 text";
        return Err(bad(what, "rename the folder"));
    };
    match label_problem(label) {
        Some(problem) => Err(bad(&problem, "rename the folder")),
        None => Ok(label.to_string()),
    }
}

/// The group that the name of a folder says.
fn group_of(entry: &DirEntry) -> Option<String> {
    let name = entry.file_name().to_string_lossy().into_owned();
    let group = name.strip_prefix(GROUP)?;
    (!group.is_empty()).then(|| group.to_string())
}

fn no_classes(root: &Path, loose: usize) -> Error {
    let (what, remedy) = if loose > 0 {
        (
            format!("holds {loose} samples but no sub-folders"),
            "make one sub-folder a class and move the samples there",
        )
    } else {
        (
            "holds no class folders".to_string(),
            "make one sub-folder a class and put its samples there",
        )
    };
    Error::at(ErrorKind::BadInput, root, what, remedy)
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    fs::read_dir(folder)
        .and_then(Iterator::collect)
        .map_err(|error: io::Error| unreadable(folder, &error))
}

fn kind(entry: &DirEntry) -> Result<FileType> {
    entry
        .file_type()
        .map_err(|error| unreadable(&entry.path(), &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let (what, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            "may not be read (permission denied)".to_string(),
            "give yourself the right to read it",
        ),
        _ => (format!("cannot be read ({error})"), "check the disk"),
    };
    Error::at(ErrorKind::BadInput, path, what, remedy)
}

/// Hidden, or left by a file manager: not worth a word.
fn is_litter(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy().to_lowercase();
    name.starts_with('.') || name.starts_with("__macosx") || LITTER.contains(&name.as_str())
}
