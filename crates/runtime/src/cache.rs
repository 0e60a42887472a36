//! Features that were computed before, one file an entry, in a folder that may be
//! deleted at any time. What a feature is and when it is computed is in `features.rs`.
//!
//! Layout: `DIR/ab/cdef....features`, the hexadecimal digits of the key. An entry:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `FTFC` |
//! | 4 | 4 | format version, little-endian |
//! | 8 | 32 | the key, so that a renamed entry is seen |
//! | 40 | 8 | number of values, little-endian |
//! | 48 | 4 each | values, little-endian f32 |
//! | end - 32 | 32 | SHA-256 of everything before |
//!
//! An entry that is cut off, altered, exchanged or of another version is a miss and is
//! overwritten by the next `put`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::manifest::hexadecimal;
use crate::preprocess::View;
use crate::store::{Access, Durability, Store};

const MAGIC: &[u8; 4] = b"FTFC";
/// Of an entry's layout and of the arithmetic that makes features: older entries are misses.
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 48;
const DIGEST_BYTES: usize = 32;

/// Everything a feature vector depends on, as one SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// What a [`Key`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// SHA-256 of the sample file's bytes; its name does not matter.
    pub sample: &'a [u8; 32],
    /// SHA-256 of the backbone file's bytes.
    pub backbone: &'a [u8; 32],
    /// Name of the cut tensor.
    pub cut: &'a str,
    /// Canonical text of the preprocessing
    /// ([`Preprocessing::identity`](crate::preprocess::Preprocessing::identity)).
    pub preprocessing: &'a str,
    /// Which view of the sample.
    pub view: View,
}

impl Key {
    /// The key of one feature vector. Every part enters with its length in front, so that
    /// no two different sets of parts read the same.
    pub fn of(parts: &KeyParts<'_>) -> Self {
        let mut hasher = Sha256::new();
        let version = VERSION.to_le_bytes();
        let fields: [&[u8]; 6] = [
            &version,
            parts.sample,
            parts.backbone,
            parts.cut.as_bytes(),
            parts.preprocessing.as_bytes(),
            parts.view.name().as_bytes(),
        ];
        for field in fields {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        Self(hasher.finalize().into())
    }
}

/// A folder of entries, or nothing at all. Shared by threads and by processes.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    store: Store,
}

impl Cache {
    /// Opens a cache, making its folder.
    ///
    /// # Errors
    /// `Failed` when the folder cannot be made. A cache is a convenience: callers say so
    /// once and go on with [`Cache::off`].
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_in(Store::default(), folder)
    }

    /// As [`Cache::open`], in any store.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn open_in(store: Store, folder: &Path) -> Result<Self> {
        store.make_folder(folder)?;
        Ok(Self {
            folder: Some(folder.to_path_buf()),
            store,
        })
    }

    /// A cache that never has anything and keeps nothing.
    pub fn off() -> Self {
        Self {
            folder: None,
            store: Store::default(),
        }
    }

    /// `$FIELDTUNE_CACHE`, else `$XDG_CACHE_HOME/fieldtune`, else
    /// `$HOME/.cache/fieldtune`; `None` when none of them is set.
    pub fn default_dir() -> Option<PathBuf> {
        default_dir_from(|name| env::var_os(name))
    }

    /// The folder, unless the cache is off.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Copies the entry of `key` into `features` and returns whether there was one with
    /// exactly this many values. After a miss `features` is unchanged.
    pub fn get(&self, key: &Key, features: &mut [f32]) -> bool {
        self.load(key, features).is_some()
    }

    fn load(&self, key: &Key, features: &mut [f32]) -> Option<()> {
        let path = self.path(key)?;
        let size_bytes = entry_bytes(features.len());
        let entry = self.store.read_exactly(&path, size_bytes)?;
        let (body, digest) = entry.split_at_checked(size_bytes - DIGEST_BYTES)?;
        let intact = Sha256::digest(body).as_slice() == digest;
        let values = body.strip_prefix(header(key, features.len()).as_slice())?;
        if !intact {
            return None;
        }
        let (chunks, _) = values.as_chunks::<4>();
        for (feature, chunk) in features.iter_mut().zip(chunks) {
            *feature = f32::from_le_bytes(*chunk);
        }
        Some(())
    }

    /// Keeps `features` under `key`; does nothing when the cache is off. Not synchronised
    /// with the medium: an entry torn by a power cut is a miss.
    ///
    /// # Errors
    /// `Failed`, naming the entry: full disk, no permission. No half entry is left. The
    /// features are still good: callers report the first such error and go on.
    pub fn put(&self, key: &Key, features: &[f32]) -> Result<()> {
        let Some(path) = self.path(key) else {
            return Ok(());
        };
        let mut entry = Vec::with_capacity(entry_bytes(features.len()));
        entry.extend_from_slice(&header(key, features.len()));
        entry.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        let digest = Sha256::digest(&entry);
        entry.extend_from_slice(&digest);
        if let Some(shard) = path.parent() {
            self.store.make_folder(shard)?;
        }
        self.store
            .write_with(&path, &entry, Durability::Eventual, Access::Usual)
    }

    /// Where the entry of `key` is; `None` when the cache is off.
    pub fn path(&self, key: &Key) -> Option<PathBuf> {
        let digits = hexadecimal(&key.0);
        let (shard, rest) = digits.split_at_checked(2)?;
        let folder = self.folder.as_ref()?;
        Some(folder.join(shard).join(format!("{rest}.features")))
    }
}

/// Bytes of an entry with `count` values.
fn entry_bytes(count: usize) -> usize {
    HEADER_BYTES + 4 * count + DIGEST_BYTES
}

fn header(key: &Key, count: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header[8..40].copy_from_slice(&key.0);
    header[40..].copy_from_slice(&(count as u64).to_le_bytes());
    header
}

/// An empty variable counts as unset; the XDG specification wants absolute paths only.
fn default_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("FIELDTUNE_CACHE")
        .or_else(|| {
            set("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("fieldtune"))
        })
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("fieldtune")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_key() {
        let (sample, other) = ([1; 32], [2; 32]);
        let parts = KeyParts {
            sample: &sample,
            backbone: &other,
            cut: "features",
            preprocessing: "v1 rgb",
            view: View::Original,
        };
        let key = Key::of(&parts);
        assert_eq!(key, Key::of(&parts));
        let changed = [
            KeyParts {
                sample: &other,
                ..parts
            },
            KeyParts {
                backbone: &sample,
                ..parts
            },
            KeyParts {
                cut: "feature",
                ..parts
            },
            // The same bytes in a row, parted elsewhere.
            KeyParts {
                cut: "featuresv",
                preprocessing: "1 rgb",
                ..parts
            },
            KeyParts {
                view: View::Mirrored,
                ..parts
            },
        ];
        for parts in changed {
            assert_ne!(key, Key::of(&parts), "{parts:?}");
        }
    }

    #[test]
    fn the_default_folder_follows_the_environment() {
        let folder = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set
                .iter()
                .map(|(name, value)| (name.to_string(), value.into()))
                .collect();
            default_dir_from(move |name| {
                let found = set.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            })
        };
        let home = ("HOME", "/home/x");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        let own = ("FIELDTUNE_CACHE", "/own");
        assert_eq!(folder(&[home, xdg, own]), Some("/own".into()));
        assert_eq!(folder(&[home, xdg]), Some("/xdg/fieldtune".into()));
        assert_eq!(
            folder(&[home, ("XDG_CACHE_HOME", "relative")]),
            Some("/home/x/.cache/fieldtune".into())
        );
        assert_eq!(
            folder(&[home, ("FIELDTUNE_CACHE", "")]),
            Some("/home/x/.cache/fieldtune".into())
        );
        assert_eq!(folder(&[]), None);
    }
}
