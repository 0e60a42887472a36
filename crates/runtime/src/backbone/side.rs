//! Weights that an ONNX file keeps in files beside it ("external data"). A path may not
//! leave the model's folder, links included, and a file must hold what the tensor declares.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataLocation;

use super::check::{declared_elements, element_bytes, is_external};
use super::guard::{guarded, shortened};
use super::onnx::Document;
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of weights that are read from side files.
const MAX_SIDE_BYTES: u64 = 1 << 30;

/// Takes the weights that `document` needs out of its side files. `folder` is that of the
/// model; without one, side files cannot be found.
pub(super) fn read(document: &mut Document, folder: Option<&Path>) -> Result<()> {
    let file = document.file.clone();
    let mut total = 0u64;
    for tensor in document.stored() {
        if !is_external(tensor) {
            continue;
        }
        let wrong = |what: String| {
            let remedy = "keep the model and its weights in one folder, as exported";
            Error::at(ErrorKind::BadInput, &file, what, remedy)
        };
        let bytes = declared_elements(tensor).map_err(wrong)?;
        let bytes = element_bytes(tensor.data_type).and_then(|size| bytes.checked_mul(size));
        let bytes = bytes.ok_or_else(|| {
            wrong(format!(
                "keeps \"{}\" beside it in an unknown type",
                shortened(&tensor.name, 80)
            ))
        })?;
        total = total.saturating_add(bytes as u64);
        if total > MAX_SIDE_BYTES {
            return Err(wrong("has more than 1 GiB of weights beside it".into()));
        }
        let path = located(folder, entry(tensor, "location").unwrap_or_default()).map_err(wrong)?;
        tensor.raw_data = content(tensor, &path, bytes).map_err(wrong)?;
        tensor.data_location = Some(DataLocation::Default as i32);
        tensor.external_data.clear();
    }
    Ok(())
}

/// What tells a model from others: the SHA-256 of its file, or where it has side files, of
/// that digest followed by theirs in the order of their names.
///
/// # Errors
/// `BadInput` when a side file cannot be read or lies outside the folder of `file`.
pub(crate) fn digest(bytes: &[u8], file: &Path) -> Result<[u8; 32]> {
    let own: [u8; 32] = Sha256::digest(bytes).into();
    // Reading the whole structure takes as much memory again; few files need it.
    let key: &[u8] = b"location";
    if !bytes.windows(key.len()).any(|window| window == key) {
        return Ok(own);
    }
    guarded(file, || {
        let mut document = Document::read(bytes, file)?;
        let wrong = |what: String| document_error(file, what);
        let mut paths = BTreeSet::new();
        for tensor in document
            .stored()
            .into_iter()
            .filter(|tensor| is_external(tensor))
        {
            let location = entry(tensor, "location").unwrap_or_default();
            paths.insert((
                location.to_string(),
                located(folder_of(file), location).map_err(wrong)?,
            ));
        }
        if paths.is_empty() {
            return Ok(own);
        }
        let mut all = Sha256::new_with_prefix(own);
        for (location, path) in paths {
            let side = file_digest(&path).map_err(|error| wrong(unreadable(&location, &error)))?;
            all.update(location.as_bytes());
            all.update(side);
        }
        Ok(all.finalize().into())
    })
}

fn file_digest(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut hasher = Sha256::new();
    loop {
        let block = reader.fill_buf()?;
        let length = block.len();
        if length == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(block);
        reader.consume(length);
    }
}

/// The folder of a file; the current one for a plain name.
pub(crate) fn folder_of(file: &Path) -> Option<&Path> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
}

fn document_error(file: &Path, what: String) -> Error {
    let remedy = "keep the model and its weights in one folder, as exported";
    Error::at(ErrorKind::BadInput, file, what, remedy)
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let entry = tensor.external_data.iter().find(|entry| entry.key == key);
    entry.map(|entry| entry.value.as_str())
}

fn unreadable(location: &str, error: &dyn std::fmt::Display) -> String {
    format!(
        "keeps weights in \"{}\", which cannot be read ({error})",
        shortened(location, 80)
    )
}

/// The path of a side file, if it lies below the folder.
fn located(folder: Option<&Path>, location: &str) -> std::result::Result<PathBuf, String> {
    let shown = shortened(location, 80);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let plain = !location.is_empty()
        && !location.contains('\0')
        && Path::new(location).components().all(inside);
    if !plain {
        return Err(format!(
            "keeps weights in \"{shown}\", which is not a path inside its folder"
        ));
    }
    let folder =
        folder.ok_or_else(|| format!("keeps weights in \"{shown}\", which is not at hand"))?;
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| unreadable(location, &error))
    };
    let (folder, path) = (real(folder)?, real(&folder.join(location))?);
    if !path.starts_with(&folder) || !path.is_file() {
        return Err(format!(
            "keeps weights in \"{shown}\", which leads out of its folder or is no file"
        ));
    }
    Ok(path)
}

/// The bytes of one tensor.
fn content(
    tensor: &TensorProto,
    path: &Path,
    bytes: usize,
) -> std::result::Result<Vec<u8>, String> {
    let location = entry(tensor, "location").unwrap_or_default();
    let number = |key: &str| match entry(tensor, key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            format!(
                "gives \"{}\" as the {key} of \"{}\"",
                shortened(text, 40),
                shortened(&tensor.name, 80)
            )
        }),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let failed = |error: std::io::Error| unreadable(location, &error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let length = length.unwrap_or(size.saturating_sub(offset));
    if length != bytes as u64 || offset.checked_add(length).is_none_or(|end| end > size) {
        let (name, location) = (shortened(&tensor.name, 80), shortened(location, 80));
        return Err(format!(
            "wants {length} bytes from {offset} on of \"{location}\" ({size} bytes) for \"{name}\", which has {bytes}"
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut content = Vec::with_capacity(bytes);
    file.take(length)
        .read_to_end(&mut content)
        .map_err(failed)?;
    match content.len() == bytes {
        true => Ok(content),
        false => Err(unreadable(location, &"it ended early")),
    }
}
