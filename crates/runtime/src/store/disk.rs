//! What the store needs from a disk, and the real one. Everything that can fail on a
//! medium goes through here, so that [`Simulated`](super::simulated::Simulated) can make
//! it fail. When to synchronise and what an error means is the store's matter.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A pipe, a device, a socket.
    Other,
}

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whom the user's mask lets.
    Usual,
    /// Its owner alone (mode 600), for secrets.
    OwnerOnly,
}

/// A file that nobody sees until it is whole. Dropped before [`Temporary::persist`], it
/// is gone.
pub trait Temporary: Write {
    /// Brings the bytes written so far to the medium.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync(&mut self) -> io::Result<()>;

    /// Gives it its name, replacing the file of that name at once.
    ///
    /// # Errors
    /// Whatever the system says; the temporary file is then gone.
    fn persist(self: Box<Self>, path: &Path) -> io::Result<()>;
}

/// A disk: files, folders, and when they last. A rename replaces its target at once, as
/// POSIX demands; nothing else is assumed to last before it is synchronised.
pub trait Disk: Debug + Send + Sync {
    /// What stands at `path`, links followed.
    ///
    /// # Errors
    /// Whatever the system says.
    fn entry(&self, path: &Path) -> io::Result<Entry>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Whatever the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>>;

    /// Names in a folder, in no order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes one folder whose parent is there; one that is there already is no error.
    ///
    /// # Errors
    /// Whatever the system says.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// A new temporary file in `folder`; its name starts with `prefix` and ends with
    /// [`SUFFIX`].
    ///
    /// # Errors
    /// Whatever the system says.
    fn temporary(
        &self,
        folder: &Path,
        prefix: &OsStr,
        access: Access,
    ) -> io::Result<Box<dyn Temporary>>;

    /// Removes a temporary file that its writer left behind when it was killed; leaves one
    /// that is being written.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove_abandoned(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing the one at `to`.
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder that holds nothing.
    ///
    /// # Errors
    /// Whatever the system says, such as that it holds something.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder last: files made, renamed and removed before.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// How the name of a temporary file ends.
pub const SUFFIX: &str = ".tmp";

/// The system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Disk for Real {
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let metadata = fs::metadata(path)?;
        Ok(if metadata.is_file() {
            Entry::File(metadata.len())
        } else if metadata.is_dir() {
            Entry::Folder
        } else {
            Entry::Other
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(path)?))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == IoKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn temporary(
        &self,
        folder: &Path,
        prefix: &OsStr,
        access: Access,
    ) -> io::Result<Box<dyn Temporary>> {
        let mut builder = Builder::new();
        builder.prefix(prefix).suffix(SUFFIX);
        #[cfg(unix)]
        if access == Access::Usual {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        // Another process may take the new file for an abandoned one before it is locked.
        for _ in 0..10 {
            let file = builder.tempfile_in(folder)?;
            let locked = match file.as_file().try_lock() {
                Ok(()) => is_at(file.as_file(), file.path()),
                Err(TryLockError::WouldBlock) => false,
                // No locks on this file system: nobody else can lock it either.
                Err(TryLockError::Error(_)) => true,
            };
            if locked {
                return Ok(Box::new(RealTemporary(file)));
            }
        }
        Err(io::Error::new(
            IoKind::ResourceBusy,
            "temporary files vanish",
        ))
    }

    fn remove_abandoned(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_file() {
            return Ok(());
        }
        let file = OpenOptions::new().read(true).open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => fs::remove_file(path),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    /// Some file systems cannot synchronise a folder; they say so, and it is no error.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(error) if matches!(error.kind(), IoKind::InvalidInput | IoKind::Unsupported) => {
                Ok(())
            }
            // A folder that may be written but not read.
            Err(error) if error.kind() == IoKind::PermissionDenied => Ok(()),
            other => other,
        }
    }
}

/// Locked while it is written, so that others can tell it from an abandoned one.
struct RealTemporary(NamedTempFile);

impl Write for RealTemporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_file_mut().flush()
    }
}

impl Temporary for RealTemporary {
    fn sync(&mut self) -> io::Result<()> {
        self.0.as_file().sync_all()
    }

    fn persist(self: Box<Self>, path: &Path) -> io::Result<()> {
        self.0.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// Whether the open file is still the one at `path`.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        open.dev() == named.dev() && open.ino() == named.ino()
    }
    #[cfg(not(unix))]
    {
        open.len() == named.len()
    }
}
