//! Samples listed in a file, `path,label[,group]`: CSV with a header, or one JSON object
//! a line. Paths are relative to the file or absolute.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{Bounds, SampleSet, Skipped, assemble, label_problem};
use crate::error::{Error, ErrorKind, Result};
use crate::store;

/// Largest list that is read, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

const REMEDY: &str = "correct that line";

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    JsonLines,
}

impl Format {
    /// By the extension of the name, in any case.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// One line of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    path: String,
    label: String,
    #[serde(default)]
    group: Option<String>,
}

/// Reads the list `source`; see [`SampleSet::open`].
pub(super) fn read(source: &Path, format: Format, bounds: Bounds) -> Result<SampleSet> {
    let bytes = store::read(source, MAX_LIST_BYTES)?;
    let text = text_of(&bytes, source)?;
    let rows = match format {
        Format::Csv => csv_rows(text, source)?,
        Format::JsonLines => json_rows(text, source)?,
    };
    if rows.is_empty() {
        let what = "lists no samples";
        return Err(Error::at(ErrorKind::BadInput, source, what, "add some"));
    }
    let folder = source.parent().unwrap_or(Path::new(""));
    let (mut labels, mut found, mut skipped) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (line, row) in rows {
        let wrong = |what: &str| at_line(source, line, what);
        if let Some(problem) = label_problem(&row.label) {
            return Err(wrong(&problem));
        }
        let path = resolve(folder, &row.path, bounds).map_err(wrong)?;
        labels.insert(row.label.clone());
        let outside = bounds == Bounds::Folder && leaves(folder, &row.path);
        let reason = outside
            .then_some("a link that leaves the folder of the list; --follow-outside allows it")
            .or_else(|| missing(&path));
        match reason {
            Some(reason) => skipped.push(Skipped {
                reason: format!("{reason} (line {line} of the list)"),
                path,
            }),
            None => found.push((path, row.label, row.group.filter(|group| !group.is_empty()))),
        }
    }
    Ok(assemble(source, labels, found, skipped))
}

fn at_line(source: &Path, line: u64, what: &str) -> Error {
    let what = format_args!("line {line}: {what}");
    Error::at(ErrorKind::BadInput, source, what, REMEDY)
}

/// The text without a byte order mark.
fn text_of<'a>(bytes: &'a [u8], source: &Path) -> Result<&'a str> {
    let bad = |what: String| {
        let remedy = "save it as UTF-8";
        Error::at(ErrorKind::BadInput, source, what, remedy)
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(bad("is UTF-16 text".into()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        bad(format!("line {line}: is not UTF-8 text"))
    })
}

/// Where each column stands.
struct Columns {
    path: usize,
    label: usize,
    group: Option<usize>,
}

impl Columns {
    fn of(header: &csv::StringRecord) -> std::result::Result<Self, String> {
        let wanted = "the first line must name the columns path,label or path,label,group";
        let place = |name: &str| header.iter().position(|column| column == name);
        let known = |column: &&str| ["path", "label", "group"].contains(column);
        if let Some(unknown) = header.iter().find(|column| !known(column)) {
            return Err(format!("unknown column \"{unknown}\", {wanted}"));
        }
        match (place("path"), place("label")) {
            (Some(path), Some(label)) if header.len() <= 3 => Ok(Self {
                path,
                label,
                group: place("group"),
            }),
            _ => Err(wanted.into()),
        }
    }
}

fn csv_rows(text: &str, source: &Path) -> Result<Vec<(u64, Row)>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let broken = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at_line(source, line, &error.to_string())
    };
    let header = reader.headers().map_err(broken)?.clone();
    let columns = Columns::of(&header).map_err(|what| at_line(source, 1, &what))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != header.len() {
            let (have, need) = (record.len(), header.len());
            let what = format!("has {have} columns, the first line has {need}");
            return Err(at_line(source, line, &what));
        }
        let field = |index: usize| record.get(index).unwrap_or_default().to_string();
        let row = Row {
            path: field(columns.path),
            label: field(columns.label),
            group: columns.group.map(field),
        };
        rows.push((line, row));
    }
    Ok(rows)
}

fn json_rows(text: &str, source: &Path) -> Result<Vec<(u64, Row)>> {
    let lines = text.lines().zip(1..);
    lines
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(line, number)| match serde_json::from_str(line) {
            Ok(row) => Ok((number, row)),
            Err(error) => {
                let message = error.to_string();
                // "... at line 1 column 9": the line is the list's, not the object's.
                let what = message.split(" at line ").next().unwrap_or_default();
                Err(at_line(source, number, what))
            }
        })
        .collect()
}

/// `folder` joined with a path of the list, unless it climbs out of the folder.
fn resolve(
    folder: &Path,
    path: &str,
    bounds: Bounds,
) -> std::result::Result<PathBuf, &'static str> {
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.contains('\0') {
        return Err("the path holds a zero byte");
    }
    let path = Path::new(path);
    let mut depth = 0_usize;
    if !path.is_absolute() && bounds == Bounds::Folder {
        for component in path.components() {
            match component {
                Component::Normal(_) => depth += 1,
                Component::ParentDir if depth == 0 => {
                    return Err(
                        "the path leaves the folder of the list; write it absolute, or allow it with --follow-outside",
                    );
                }
                Component::ParentDir => depth -= 1,
                _ => {}
            }
        }
    }
    Ok(folder.join(path))
}

/// Whether a relative path leads out of `folder` through links.
fn leaves(folder: &Path, path: &str) -> bool {
    if Path::new(path).is_absolute() {
        return false;
    }
    // The folder of a list that is named without one.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    match (folder.canonicalize(), folder.join(path).canonicalize()) {
        (Ok(folder), Ok(target)) => !target.starts_with(folder),
        // What is not there is said by another.
        _ => false,
    }
}

/// Why a listed file cannot be used, or `None`.
fn missing(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() => None,
        Ok(data) if data.is_dir() => Some("is a folder"),
        Ok(_) => Some("not a regular file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist"),
        Err(_) => Some("cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_stays_in_the_folder_of_the_list() {
        let folder = Path::new("/data");
        for inside in ["a.png", "./a.png", "x/../a.png", "x/y/../../a.png"] {
            assert_eq!(
                resolve(folder, inside, Bounds::Folder),
                Ok(folder.join(inside))
            );
        }
        for outside in ["../a.png", "x/../../a.png", "./../a.png", "", "a\0.png"] {
            assert!(resolve(folder, outside, Bounds::Folder).is_err());
        }
        let allowed = resolve(folder, "../a.png", Bounds::None);
        assert_eq!(allowed, Ok(folder.join("../a.png")));
        let absolute = resolve(folder, "/else/a.png", Bounds::Folder);
        assert_eq!(absolute, Ok(PathBuf::from("/else/a.png")));
    }

    #[test]
    fn a_header_must_name_the_columns() {
        let columns = |names: &[&str]| Columns::of(&csv::StringRecord::from(names.to_vec()));
        let reordered = columns(&["group", "label", "path"]).unwrap();
        assert_eq!((reordered.path, reordered.label), (2, 1));
        assert_eq!(reordered.group, Some(0));
        // A list without its header would lose its first sample.
        for wrong in [
            &["a.png", "cat"][..],
            &["path"],
            &["path;label"],
            &["path", "label", "path", "label"],
        ] {
            assert!(columns(wrong).is_err(), "{wrong:?}");
        }
    }
}
