//! One writer a file: a lock that ends with its process, however that ends.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::disk::is_at;
use super::{folder_of, write_error};
use crate::error::{Error, ErrorKind, Result};

/// The right to write one file, until dropped. A hidden file `.NAME.lock` beside it is
/// locked and removed at the end; one that a killed process left behind locks nobody out.
#[derive(Debug)]
pub struct Lock {
    /// `None` where the file system has no locks.
    file: Option<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of `path`, which need not exist.
    ///
    /// # Errors
    /// `Failed`, naming `path`: another process has it, or its folder cannot be written.
    pub fn take(path: &Path) -> Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".lock");
        let lock = folder_of(path).join(name);
        // Between opening and locking the holder may have removed it: then a new one is made.
        for _ in 0..100 {
            let file = open(&lock).map_err(|error| write_error(path, &error))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &lock) => return Ok(Self::of(file, lock)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(path, file)),
                Err(TryLockError::Error(_)) => {
                    let _ = fs::remove_file(&lock);
                    return Ok(Self {
                        file: None,
                        path: lock,
                    });
                }
            }
        }
        Err(Error::at(
            ErrorKind::Failed,
            path,
            "its lock changes hands too quickly",
            "run again",
        ))
    }

    /// As [`Lock::take`], but waits some seconds for a process that has it: for files that
    /// are written in no time.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn wait(path: &Path) -> Result<Self> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match Self::take(path) {
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    fn of(mut file: File, path: PathBuf) -> Self {
        // For the message of whoever comes second; a lock without it is as good.
        let _ = file.set_len(0);
        let _ = write!(file, "{}", std::process::id());
        Self {
            file: Some(file),
            path,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Removed before it is unlocked: whoever opened it sees that it is gone.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Never follows a link that somebody put there: a lock file is new or a regular file.
fn open(lock: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(lock) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    match fs::symlink_metadata(lock) {
        Ok(metadata) if metadata.is_file() => options.open(lock),
        Ok(_) => Err(io::Error::other("its lock file is no regular file")),
        Err(error) => Err(error),
    }
    .or_else(|error| match error.kind() {
        // Removed meanwhile.
        io::ErrorKind::NotFound => options.clone().create(true).truncate(false).open(lock),
        _ => Err(error),
    })
}

fn held(path: &Path, mut file: File) -> Error {
    let mut holder = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(20).read_to_string(&mut holder));
    let process = match (read, holder.parse::<u32>()) {
        (Ok(_), Ok(number)) => format!(" (number {number})"),
        _ => String::new(),
    };
    let what = format_args!("another process{process} is writing this file");
    let remedy = "wait until it has ended, or give another name";
    Error::at(ErrorKind::Failed, path, what, remedy)
}
