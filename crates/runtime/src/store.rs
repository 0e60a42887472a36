//! The one place that writes files, and the reader with a limit. A file is either the
//! old one or the whole new one, never half. What the bytes mean is decided elsewhere.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

pub mod disk;
mod lock;
pub mod simulated;

pub use disk::Access;
use disk::{Disk, Entry, Real, SUFFIX, Temporary};
pub use lock::Lock;

/// Whether a written file survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the medium before the call returns: file and folder are synchronised.
    Durable,
    /// When the system finds time. After a power cut the file may be missing, empty or
    /// torn; for files whose reader notices that, such as cache entries.
    Eventual,
}

/// A disk and the rules for using it.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl Default for Store {
    /// On the system's file system.
    fn default() -> Self {
        Self::on(Arc::new(Real))
    }
}

impl Store {
    /// On this disk.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// Writes `bytes` to `path`: a temporary file in the same folder, written,
    /// synchronised, renamed over `path`, and the folder synchronised.
    ///
    /// # Errors
    /// `Failed`, naming `path`: no such folder, no permission, full disk. The old file, if
    /// there was one, is then untouched and nothing else is left behind; only when the
    /// folder cannot be synchronised is the new file there already.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.write_with(path, bytes, Durability::Durable, Access::Usual)
    }

    /// As [`Store::write_atomically`], with a choice of durability and of who may read.
    ///
    /// # Errors
    /// As [`Store::write_atomically`].
    pub fn write_with(
        &self,
        path: &Path,
        bytes: &[u8],
        durability: Durability,
        access: Access,
    ) -> Result<()> {
        self.require_no_folder(path)?;
        let folder = folder_of(path);
        self.sweep(&folder, path);
        let write = || {
            // Dropped on every error, and with it the temporary file.
            let mut temporary = self.temporary(&folder, path, access)?;
            temporary.write_all(bytes)?;
            if durability == Durability::Durable {
                temporary.sync()?;
            }
            temporary.persist(path)?;
            if durability == Durability::Durable {
                self.disk.sync_folder(&folder)?;
            }
            Ok(())
        };
        write().map_err(|error| write_error(path, &error))
    }

    /// Reads a whole regular file of at most `limit_bytes`.
    ///
    /// # Errors
    /// `BadInput`, naming `path`: missing, a folder or a device, no permission, too large.
    /// `Failed` when the medium fails.
    pub fn read(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
        let failed = |error: io::Error| read_error(path, &error);
        let bad =
            |what: &str| Error::at(ErrorKind::BadInput, path, what, "give the name of a file");
        // Before opening: a named pipe would block for ever.
        match self.disk.entry(path).map_err(failed)? {
            Entry::File(_) => {}
            Entry::Folder => return Err(bad("is a folder, not a file")),
            Entry::Other => return Err(bad("is not a regular file")),
        }
        let mut bytes = Vec::new();
        let file = self.disk.open(path).map_err(failed)?;
        file.take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > limit_bytes {
            let what =
                format_args!("is larger than {limit_bytes} bytes, the limit for such a file");
            let remedy = "give another file";
            return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
        }
        Ok(bytes)
    }

    /// A file of exactly so many bytes; `None` when it is anything else or cannot be read.
    /// For files that may be missing or damaged at any time.
    pub fn read_exactly(&self, path: &Path, size_bytes: usize) -> Option<Vec<u8>> {
        // A folder, a pipe or a file of another size is not even opened.
        if self.disk.entry(path).ok()? != Entry::File(size_bytes as u64) {
            return None;
        }
        let mut bytes = Vec::with_capacity(size_bytes);
        let file = self.disk.open(path).ok()?;
        file.take(size_bytes as u64).read_to_end(&mut bytes).ok()?;
        (bytes.len() == size_bytes).then_some(bytes)
    }

    /// As [`Store::read`]; `None` where there is no such file.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_if_there(&self, path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>> {
        match self.disk.entry(path) {
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            _ => self.read(path, limit_bytes).map(Some),
        }
    }

    /// Whether anything stands at `path`.
    pub fn exists(&self, path: &Path) -> bool {
        self.disk.entry(path).is_ok()
    }

    /// Names in a folder, sorted; none when there is no such folder.
    ///
    /// # Errors
    /// `Failed` or `BadInput`, naming the folder, when it cannot be read.
    pub fn names(&self, folder: &Path) -> Result<Vec<OsString>> {
        match self.disk.names(folder) {
            Ok(mut names) => {
                names.sort();
                Ok(names)
            }
            Err(error) if error.kind() == IoKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(read_error(folder, &error)),
        }
    }

    /// Removes what killed writers left in a folder. Failing that, it stays: no harm.
    ///
    /// # Errors
    /// As [`Store::names`].
    pub fn remove_abandoned(&self, folder: &Path) -> Result<()> {
        for name in self.names(folder)? {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b".") && bytes.ends_with(SUFFIX.as_bytes()) {
                let _ = self.disk.remove_abandoned(&folder.join(&name));
            }
        }
        Ok(())
    }

    /// Whether a file can be written at `path`, asked before work of which it would be the
    /// end. Leaves nothing behind.
    ///
    /// # Errors
    /// `Failed`, naming `path`: its folder is missing or cannot be written to, the disk is
    /// full, or `path` is a folder.
    pub fn require_writable(&self, path: &Path) -> Result<()> {
        self.require_no_folder(path)?;
        self.temporary(&folder_of(path), path, Access::OwnerOnly)
            .map(drop)
            .map_err(|error| write_error(path, &error))
    }

    /// Makes a folder and those above it, and makes them last.
    ///
    /// # Errors
    /// `Failed`, naming `path`.
    pub fn make_folder(&self, path: &Path) -> Result<()> {
        self.make_folders(path)
            .map_err(|error| write_error(path, &error))
    }

    /// Renames a file within its folder, for good.
    ///
    /// # Errors
    /// `Failed`, naming `to`.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = self.disk.rename(from, to);
        renamed
            .and_then(|()| self.disk.sync_folder(&folder_of(to)))
            .map_err(|error| write_error(to, &error))
    }

    /// Removes a file. After a power cut it may be there again.
    ///
    /// # Errors
    /// `Failed`, naming `path`.
    pub fn remove(&self, path: &Path) -> Result<()> {
        self.disk
            .remove(path)
            .map_err(|error| write_error(path, &error))
    }

    /// Removes a folder if it holds nothing; else it stays.
    pub fn remove_if_empty(&self, folder: &Path) {
        // A folder that stays although it is empty does no harm.
        let _ = self.disk.remove_folder(folder);
    }

    fn make_folders(&self, path: &Path) -> io::Result<()> {
        match self.disk.entry(path) {
            Ok(Entry::Folder) => return Ok(()),
            Ok(_) => return Err(IoKind::NotADirectory.into()),
            Err(error) if error.kind() == IoKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let parent = folder_of(path);
        if parent != path {
            self.make_folders(&parent)?;
        }
        self.disk.make_folder(path)?;
        self.disk.sync_folder(&parent)
    }

    fn require_no_folder(&self, path: &Path) -> Result<()> {
        match self.disk.entry(path) {
            Ok(Entry::Folder) => {
                let remedy = "give the name of a file";
                Err(Error::at(ErrorKind::Failed, path, "is a folder", remedy))
            }
            _ => Ok(()),
        }
    }

    fn temporary(
        &self,
        folder: &Path,
        path: &Path,
        access: Access,
    ) -> io::Result<Box<dyn Temporary>> {
        self.disk.temporary(folder, &prefix_of(path), access)
    }

    /// Removes what killed writers of `path` left. Failing that, it stays: no harm.
    fn sweep(&self, folder: &Path, path: &Path) {
        let prefix = prefix_of(path);
        let prefix = prefix.as_encoded_bytes();
        for name in self.disk.names(folder).unwrap_or_default() {
            let name_bytes = name.as_encoded_bytes();
            if name_bytes.starts_with(prefix) && name_bytes.ends_with(SUFFIX.as_bytes()) {
                let _ = self.disk.remove_abandoned(&folder.join(&name));
            }
        }
    }
}

/// As [`Store::write_atomically`], on the system's file system.
///
/// # Errors
/// As there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    Store::default().write_atomically(path, bytes)
}

/// As [`Store::read`], on the system's file system.
///
/// # Errors
/// As there.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    Store::default().read(path, limit_bytes)
}

/// As [`Store::write_with`], on the system's file system.
///
/// # Errors
/// As there.
pub fn write_with(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    Store::default().write_with(path, bytes, durability, Access::Usual)
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

/// As [`Store::require_writable`], on the system's file system.
///
/// # Errors
/// As there.
pub fn require_writable(path: &Path) -> Result<()> {
    Store::default().require_writable(path)
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

/// As [`Store::make_folder`], on the system's file system.
///
/// # Errors
/// As there.
pub fn make_folder(path: &Path) -> Result<()> {
    Store::default().make_folder(path)
}

/// The folder that holds `path`; the current one for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        None => path.to_path_buf(),
        Some(_) => PathBuf::from("."),
    }
}

/// How names of temporary files for `path` start: hidden, so that `watch` and sample
/// folders do not see them while they grow.
fn prefix_of(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    // Long names leave no room for the random part.
    if prefix.len() > 200 {
        prefix = OsString::from(".fieldtune");
    }
    prefix.push(".");
    prefix
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
    use std::fs;

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
