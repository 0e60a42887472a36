//! The one place that writes files, and the reader with a limit. A file is either the
//! old one or the whole new one, never half. What the bytes mean is decided elsewhere.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, ErrorKind, Result};

/// Whether a written file survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the medium before the call returns: file and folder are synchronised.
    Durable,
    /// When the system finds time. After a power cut the file may be missing, empty or
    /// torn; for files whose reader notices that, such as cache entries.
    Eventual,
}

/// Writes `bytes` to `path`: a temporary file in the same folder, written, synchronised,
/// renamed over `path`, and the folder synchronised.
///
/// # Errors
/// `Failed`, naming `path`: no such folder, no permission, full disk. The old file, if
/// there was one, is then untouched and nothing else is left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, bytes, Durability::Durable)
}

/// As [`write_atomically`], with a choice of durability.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_with(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let failed = |error: io::Error| write_error(path, &error);
    if path.is_dir() {
        let remedy = "give the name of a file";
        return Err(Error::at(ErrorKind::Failed, path, "is a folder", remedy));
    }
    let folder = folder_of(path);
    // Dropped on every error below, and with it the temporary file.
    let mut temporary = temporary_in(&folder, path).map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    if durability == Durability::Durable {
        temporary.as_file().sync_all().map_err(failed)?;
    }
    temporary
        .persist(path)
        .map_err(|error| failed(error.error))?;
    if durability == Durability::Durable {
        sync_folder(&folder).map_err(failed)?;
    }
    Ok(())
}

/// Adds `bytes` to the end of the file `path`, which is made if it is not there. A power
/// cut may lose or tear them: for files whose reader notices that.
///
/// # Errors
/// `Failed`, naming `path`.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|error| write_error(path, &error))
}

/// Reads a whole regular file of at most `limit_bytes`.
///
/// # Errors
/// `BadInput`, naming `path`: missing, a folder or a device, no permission, too large.
/// `Failed` when the medium fails.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let failed = |error: io::Error| read_error(path, &error);
    // Before opening: a named pipe would block for ever.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "is a folder, not a file"
        } else {
            "is not a regular file"
        };
        let remedy = "give the name of a file";
        return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit_bytes {
        let what = format_args!("is larger than {limit_bytes} bytes, the limit for such a file");
        let remedy = "give another file";
        return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
    }
    Ok(bytes)
}

/// Whether a file can be written at `path`, asked before work of which it would be the
/// end. Leaves nothing behind.
///
/// # Errors
/// `Failed`, naming `path`: its folder is missing or cannot be written to, the disk is
/// full, or `path` is a folder.
pub fn require_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        let remedy = "give the name of a file";
        return Err(Error::at(ErrorKind::Failed, path, "is a folder", remedy));
    }
    temporary_in(&folder_of(path), path)
        .map(drop)
        .map_err(|error| write_error(path, &error))
}

/// Bytes that this user may still write to the disk that holds the folder `path`. `None`
/// where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(path).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Makes a folder and those above it.
///
/// # Errors
/// `Failed`, naming `path`.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| write_error(path, &error))
}

/// The folder that holds `path`; the current one for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Hidden, so that `watch` and sample folders do not see it while it grows.
fn temporary_in(folder: &Path, path: &Path) -> io::Result<NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    // Long names leave no room for the random part.
    if prefix.len() > 200 {
        prefix = OsString::from(".fieldtune");
    }
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // Like any new file: readable as the user's mask says, not by its owner alone.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Makes a rename last. Some file systems cannot synchronise a folder; they say so.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), IoKind::InvalidInput | IoKind::Unsupported) => Ok(()),
        // A folder that may be written but not read.
        Err(error) if error.kind() == IoKind::PermissionDenied => Ok(()),
        other => other,
    }
}

fn write_error(path: &Path, error: &io::Error) -> Error {
    let (what, remedy) = match error.kind() {
        IoKind::StorageFull => ("disk full", "free some space and run again"),
        IoKind::QuotaExceeded => ("disk quota used up", "free some space and run again"),
        IoKind::ReadOnlyFilesystem => ("the disk is read-only", "choose another place"),
        IoKind::PermissionDenied => ("no permission to write", "choose another place"),
        IoKind::NotFound => ("its folder does not exist", "make the folder first"),
        IoKind::NotADirectory | IoKind::AlreadyExists => (
            "a file stands where a folder is needed",
            "choose another place",
        ),
        _ => {
            let what = format_args!("cannot be written ({error})");
            return Error::at(ErrorKind::Failed, path, what, "check the disk");
        }
    };
    Error::at(ErrorKind::Failed, path, what, remedy)
}

fn read_error(path: &Path, error: &io::Error) -> Error {
    let (kind, what, remedy) = match error.kind() {
        IoKind::NotFound | IoKind::NotADirectory => {
            (ErrorKind::BadInput, "does not exist", "check the path")
        }
        IoKind::PermissionDenied => (
            ErrorKind::BadInput,
            "may not be read (permission denied)",
            "give yourself the right to read it",
        ),
        _ => {
            let what = format_args!("cannot be read ({error})");
            return Error::at(ErrorKind::Failed, path, what, "check the disk");
        }
    };
    Error::at(kind, path, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.bin");
        for bytes in [&b"first"[..], b"", b"third, longer"] {
            write_atomically(&path, bytes).unwrap();
            assert_eq!(read(&path, 100).unwrap(), bytes);
        }
        assert_eq!(names(folder.path()), ["head.bin"]);
        // A name at the limit of the file system still works.
        write_atomically(&folder.path().join("n".repeat(255)), b"x").unwrap();
    }

    #[test]
    fn an_error_names_the_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("taken")).unwrap();
        fs::write(folder.path().join("file"), b"old").unwrap();
        for (name, wanted) in [
            ("taken", "is a folder"),
            ("none/head.bin", "its folder does not exist"),
            ("file/head.bin", "a file stands where a folder is needed"),
        ] {
            let path = folder.path().join(name);
            let error = write_atomically(&path, b"new").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed);
            let line = error.to_string();
            assert!(line.contains(name) && line.contains(wanted), "{line}");
        }
        assert_eq!(names(folder.path()), ["file", "taken"]);
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"old");
    }

    #[test]
    fn reading_refuses_what_is_no_file_or_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("five");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().len(), 5);
        for (path, limit_bytes, wanted) in [
            (path.clone(), 4, "larger than 4 bytes"),
            (folder.path().to_path_buf(), 9, "is a folder"),
            (path.with_file_name("none"), 9, "does not exist"),
            (PathBuf::from("/dev/zero"), 9, "not a regular file"),
        ] {
            let error = read(&path, limit_bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
