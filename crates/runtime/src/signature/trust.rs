//! Whom a board trusts, and the newest signature it has seen of each head.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Fault, Signed, keys, name_of, signed};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Lock, Store};

/// Largest list of seen signatures read, in bytes.
const MAX_SEEN_BYTES: u64 = 16 << 20;

/// A public key that heads must be signed with. Beside it `KEY.seen` holds the highest
/// counter of every head name; who can write there can let older heads pass.
#[derive(Clone, Debug)]
pub struct Trust {
    key: [u8; 32],
    path: PathBuf,
}

impl Trust {
    /// Reads the public key in `path`.
    ///
    /// # Errors
    /// `BadInput` when it is no public key.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self {
            key: keys::load_public(path)?.to_bytes(),
            path: path.to_path_buf(),
        })
    }

    /// Whether the bytes of the head file `path` are signed with this key, for this name,
    /// and not older than what was seen before; remembers the counter.
    ///
    /// # Errors
    /// `Signature`, naming `path`: unsigned, altered, another key, another name, older.
    /// `BadInput` when the list of what was seen is damaged, `Failed` when it cannot be
    /// written: a board that forgets would take older heads.
    pub fn check(&self, bytes: &[u8], path: &Path) -> Result<Signed> {
        let refuse = |what: &dyn std::fmt::Display, remedy: &str| {
            Err(Error::at(ErrorKind::Signature, path, what, remedy))
        };
        let signed = match signed(bytes) {
            Ok(signed) => signed,
            Err(Fault::Missing) => {
                let remedy = "sign it with `fieldtune head sign`, or get the signed file";
                return refuse(&"is not signed", remedy);
            }
            Err(Fault::Wrong) => {
                let remedy = "get the file again from whom you trust";
                return refuse(&"its signature is wrong: the file was altered", remedy);
            }
        };
        if signed.key != self.key {
            let what = format_args!("is signed with another key ({})", signed.key_name());
            return refuse(&what, "get it signed by whom you trust");
        }
        if name_of(path)? != signed.name {
            let what = format_args!("was signed under the name \"{}\"", signed.name);
            return refuse(&what, "rename it back, or sign it under this name");
        }
        let seen = self.seen()?.get(&signed.name).copied().unwrap_or(0);
        if signed.counter < seen {
            let what = format_args!(
                "is older than one seen before (signature {}, seen {seen})",
                signed.counter
            );
            return refuse(&what, "get the newest, or sign this one again");
        }
        if signed.counter > seen {
            self.remember(&signed)?;
        }
        Ok(signed)
    }

    fn remember(&self, signed: &Signed) -> Result<()> {
        let path = self.seen_file();
        let _lock = Lock::wait(&path)?;
        // Read again: another process may have written meanwhile.
        let mut seen = self.seen()?;
        let highest = seen.entry(signed.name.clone()).or_default();
        *highest = signed.counter.max(*highest);
        let text = serde_json::to_string(&seen).unwrap_or_default() + "\n";
        Store::default().write_atomically(&path, text.as_bytes())
    }

    fn seen(&self) -> Result<BTreeMap<String, u64>> {
        let (path, store) = (self.seen_file(), Store::default());
        if !store.exists(&path) {
            return Ok(BTreeMap::new());
        }
        let bytes = store.read(&path, MAX_SEEN_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let remedy = "remove it if you are sure that no older head is about";
            Error::at(ErrorKind::BadInput, &path, "is damaged", remedy)
        })
    }

    fn seen_file(&self) -> PathBuf {
        beside(&self.path, ".seen")
    }
}

/// The file beside `path` whose name has this ending more.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
