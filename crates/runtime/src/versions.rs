//! Heads that were replaced: kept beside the newest, in the folder `NAME.versions`, so
//! that none is lost by training again, and returned to when the newest is damaged. How a
//! file is written is in `store.rs`, what a head's bytes mean in `head.rs`.
//!
//! `NAME` is always the newest head. Replacing it first copies it to
//! `NAME.versions/N`, N one above the highest, and lets that last; only then is `NAME`
//! replaced, at once. So at every moment, power or not, `NAME` is a whole head and every
//! earlier one is in a file of its own. The numbers tell in which order heads were in use
//! last; no two files hold the same head.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::head::{Head, MAX_HEAD_BYTES};
use crate::signature::Trust;
use crate::store::Store;

/// How many earlier heads are kept.
pub const KEPT: usize = 5;

/// The head in one file and those it replaced. Who writes holds the file's
/// [`Lock`](crate::store::Lock).
#[derive(Clone, Debug)]
pub struct Versions<'a> {
    store: &'a Store,
    path: &'a Path,
}

/// A head as it was found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The head.
    pub head: Head,
    /// Its file's bytes.
    pub bytes: Vec<u8>,
    /// Says that an earlier head had to be taken, and why.
    pub returned: Option<Error>,
}

/// An earlier head.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The head, unless the file is damaged.
    pub head: Result<Head>,
}

impl<'a> Versions<'a> {
    /// Of the head in `path`, which need not exist.
    pub fn of(store: &'a Store, path: &'a Path) -> Self {
        Self { store, path }
    }

    /// Where earlier heads are.
    pub fn folder(&self) -> PathBuf {
        let mut name = OsString::from(self.path);
        name.push(".versions");
        name.into()
    }

    /// Earlier heads, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read; a damaged file in it is no error.
    pub fn list(&self) -> Result<Vec<Version>> {
        let mut found = Vec::new();
        for number in self.numbers()?.into_iter().rev() {
            let path = self.file(number);
            let Ok(bytes) = self.store.read(&path, MAX_HEAD_BYTES) else {
                continue;
            };
            found.push(Version {
                number,
                head: Head::read(&bytes, &path),
                path,
                bytes,
            });
        }
        Ok(found)
    }

    /// The newest sound head: the one in `path`, or, when that file is damaged or gone, the
    /// newest kept one. With `trust` only a head that it accepts.
    ///
    /// # Errors
    /// As [`Head::load`] when no head is sound, or when the file needs another version of
    /// the program; as [`Trust::check`].
    pub fn open(&self, trust: Option<&Trust>) -> Result<Opened> {
        let accepted = |bytes: &[u8]| {
            let checked = trust.map(|trust| trust.check(bytes, self.path));
            checked.transpose().map(drop)
        };
        let error = match self.newest() {
            Newest::Sound(bytes, head) => {
                accepted(&bytes)?;
                return Ok(Opened {
                    head: *head,
                    bytes,
                    returned: None,
                });
            }
            Newest::OtherVersion(_, error) | Newest::Unreadable(error) => return Err(error),
            Newest::Damaged(error, bytes) => match accepted(&bytes) {
                Err(wrong) if !bytes.is_empty() => wrong,
                _ => error,
            },
        };
        for version in self.list()? {
            if let Ok(head) = version.head
                && accepted(&version.bytes).is_ok()
            {
                return Ok(Opened {
                    head,
                    bytes: version.bytes,
                    returned: Some(self.returned_to(&error, version.number)),
                });
            }
        }
        Err(error)
    }

    /// Writes a head, after keeping the one that it replaces.
    ///
    /// # Errors
    /// `Failed`: no permission, full disk. The old head is then still there.
    pub fn replace(&self, bytes: &[u8]) -> Result<()> {
        if let Newest::Sound(old, _) | Newest::OtherVersion(old, _) = self.newest()
            && old != bytes
        {
            self.keep(&old)?;
        }
        self.store.write_atomically(self.path, bytes)?;
        self.prune();
        Ok(())
    }

    /// Puts an earlier head in the place of the newest, which is kept: the one with the
    /// number `to`, or else the one before. Returns its number.
    ///
    /// # Errors
    /// `BadInput` when there is none or it is damaged; `Failed` as [`Versions::replace`].
    pub fn roll_back(&self, to: Option<u64>) -> Result<u64> {
        let before = match self.newest() {
            Newest::Sound(bytes, _) | Newest::OtherVersion(bytes, _) => self.place(&bytes)?,
            Newest::Unreadable(error) => return Err(error),
            // A damaged head is none: the newest kept one is the one before.
            Newest::Damaged(..) => u64::MAX,
        };
        let bad = |path: &Path, what: &str, remedy: &str| {
            Err(Error::at(ErrorKind::BadInput, path, what, remedy))
        };
        let wanted = |version: &Version| match to {
            Some(number) => version.number == number,
            None => version.number < before && version.head.is_ok(),
        };
        let Some(version) = self.list()?.into_iter().find(wanted) else {
            return match to {
                Some(number) => {
                    let what = format!("no version {number} is kept");
                    bad(self.path, &what, "see `fieldtune head rollback --list`")
                }
                None => bad(self.path, "no earlier head is kept", "train again"),
            };
        };
        version.head?;
        self.store.write_atomically(self.path, &version.bytes)?;
        Ok(version.number)
    }

    fn newest(&self) -> Newest {
        let bytes = match self.store.read(self.path, MAX_HEAD_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if self.store.exists(self.path) => return Newest::Unreadable(error),
            Err(error) => return Newest::Damaged(error, Vec::new()),
        };
        match Head::read(&bytes, self.path) {
            Ok(head) => Newest::Sound(bytes, Box::new(head)),
            Err(error) if Head::is_of_other_version(&bytes) => Newest::OtherVersion(bytes, error),
            Err(error) => Newest::Damaged(error, bytes),
        }
    }

    fn returned_to(&self, error: &Error, number: u64) -> Error {
        let what = format_args!("{error}; used version {number} instead");
        let remedy = "`fieldtune head rollback` puts it in place for good";
        Error::new(error.kind(), format_args!("{what}; {remedy}"))
    }

    /// Lets `bytes` be the version with the highest number.
    fn keep(&self, bytes: &[u8]) -> Result<()> {
        let numbers = self.numbers()?;
        let last = numbers.last().copied().unwrap_or(0);
        let next = self.file(last.saturating_add(1));
        match self.find(&numbers, bytes) {
            Some(number) if number == last => Ok(()),
            Some(number) => self.store.rename(&self.file(number), &next),
            None => {
                self.store.make_folder(&self.folder())?;
                let written = self.store.write_atomically(&next, bytes);
                if written.is_err() {
                    self.store.remove_if_empty(&self.folder());
                }
                written
            }
        }
    }

    /// The number of the version that holds `bytes`; keeps them first if none does.
    fn place(&self, bytes: &[u8]) -> Result<u64> {
        let numbers = self.numbers()?;
        if let Some(number) = self.find(&numbers, bytes) {
            return Ok(number);
        }
        self.keep(bytes)?;
        Ok(numbers.last().copied().unwrap_or(0).saturating_add(1))
    }

    fn find(&self, numbers: &[u64], bytes: &[u8]) -> Option<u64> {
        let same = |number: &&u64| {
            let kept = self.store.read_exactly(&self.file(**number), bytes.len());
            kept.is_some_and(|kept| kept == bytes)
        };
        numbers.iter().rev().find(same).copied()
    }

    /// Removes the oldest above [`KEPT`], if that is possible: too many do no harm.
    fn prune(&self) {
        let numbers = self.numbers().unwrap_or_default();
        let surplus = numbers.len().saturating_sub(KEPT);
        for number in numbers.into_iter().take(surplus) {
            let _ = self.store.remove(&self.file(number));
        }
    }

    /// Numbers of the kept heads, rising.
    fn numbers(&self) -> Result<Vec<u64>> {
        let names = self.store.names(&self.folder())?;
        let number = |name: &OsString| {
            let number: u64 = name.to_str()?.parse().ok()?;
            // Not "007" or "+7".
            (number.to_string().as_str() == name).then_some(number)
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder().join(number.to_string())
    }
}

/// What the head file holds.
enum Newest {
    Sound(Vec<u8>, Box<Head>),
    /// A head that this version of the program cannot read.
    OtherVersion(Vec<u8>, Error),
    /// A folder, a pipe, a file that may not be read: an earlier head would hide that.
    Unreadable(Error),
    /// It is gone, without bytes, or damaged.
    Damaged(Error, Vec<u8>),
}
