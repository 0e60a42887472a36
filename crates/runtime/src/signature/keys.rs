//! Key files. A secret key is a file that its owner alone may read; nothing of it is ever
//! printed. Beside it `KEY.counter` holds the last counter that it signed with.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::trust::beside;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Access, Durability, Lock, Store};

const SECRET: &str = "fieldtune secret key 1";
const PUBLIC: &str = "fieldtune public key 1";
/// Largest key file read, in bytes.
const MAX_KEY_BYTES: u64 = 1000;

/// A key that signs.
pub struct SecretKey {
    key: SigningKey,
    path: PathBuf,
}

impl fmt::Debug for SecretKey {
    /// Without the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({})", self.path.display())
    }
}

/// Makes a key pair: `NAME.key`, secret, mode 600, and `NAME.pub` for the boards.
///
/// # Errors
/// `Failed` when either is there already or cannot be written, or the system gives no
/// random numbers.
pub fn generate(name: &Path) -> Result<(PathBuf, PathBuf)> {
    let store = Store::default();
    let (secret, public) = (beside(name, ".key"), beside(name, ".pub"));
    for path in [&secret, &public] {
        if store.exists(path) {
            let remedy = "give another name; a key that is overwritten is lost";
            return Err(Error::at(ErrorKind::Failed, path, "exists already", remedy));
        }
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        let what = format_args!("the system gives no random numbers ({error}); try again later");
        Error::new(ErrorKind::Failed, what)
    })?;
    let key = SigningKey::from_bytes(&seed);
    let write = |path: &Path, kind: &str, bytes: &[u8], access: Access| {
        let text = format!("{kind}\n{}\n", STANDARD.encode(bytes));
        store.write_with(path, text.as_bytes(), Durability::Durable, access)
    };
    write(&secret, SECRET, &seed, Access::OwnerOnly)?;
    let verifying = key.verifying_key().to_bytes();
    write(&public, PUBLIC, &verifying, Access::Usual)?;
    Ok((secret, public))
}

impl SecretKey {
    /// Reads a secret key.
    ///
    /// # Errors
    /// `BadInput` when it is no secret key or others may read it.
    pub fn load(path: &Path) -> Result<Self> {
        let seed = key_bytes(path, SECRET, "made by `fieldtune head keygen`")?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map(|data| data.permissions().mode());
            if mode.is_ok_and(|mode| mode & 0o077 != 0) {
                let what = "others may read this secret key";
                let remedy = "run `chmod 600` on it, and make a new one if others did";
                return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
            }
        }
        Ok(Self {
            key: SigningKey::from_bytes(&seed),
            path: path.to_path_buf(),
        })
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A counter above `floor` and all that this key gave; it is never given again.
    pub(super) fn next_counter(&self, floor: u64) -> Result<u64> {
        let path = beside(&self.path, ".counter");
        let store = Store::default();
        let _lock = Lock::wait(&path)?;
        let mut last = 0;
        if store.exists(&path) {
            let bytes = store.read(&path, 100)?;
            let text = String::from_utf8_lossy(&bytes);
            last = text.trim().parse().map_err(|_| {
                let remedy = "write the last counter into it, which `fieldtune head show` tells";
                Error::at(ErrorKind::BadInput, &path, "is damaged", remedy)
            })?;
        }
        let counter = last.max(floor).checked_add(1).ok_or_else(|| {
            Error::at(
                ErrorKind::Usage,
                &path,
                "no higher counter is left",
                "make a new key",
            )
        })?;
        store.write_atomically(&path, format!("{counter}\n").as_bytes())?;
        Ok(counter)
    }
}

/// A public key.
pub(super) fn load_public(path: &Path) -> Result<VerifyingKey> {
    let remedy = "the .pub file made by `fieldtune head keygen`";
    let bytes = key_bytes(path, PUBLIC, remedy)?;
    let key = VerifyingKey::from_bytes(&bytes).ok();
    // A weak key verifies signatures that nobody made.
    key.filter(|key| !key.is_weak())
        .ok_or_else(|| no_key(path, remedy))
}

fn key_bytes(path: &Path, kind: &str, remedy: &str) -> Result<[u8; 32]> {
    let bytes = Store::default().read(path, MAX_KEY_BYTES)?;
    let decoded = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (first, rest) = text.split_once('\n')?;
        (first.trim_end() == kind).then_some(())?;
        STANDARD.decode(rest.trim()).ok()?.try_into().ok()
    });
    decoded.ok_or_else(|| no_key(path, remedy))
}

fn no_key(path: &Path, remedy: &str) -> Error {
    let remedy = format_args!("give {remedy}");
    Error::at(ErrorKind::BadInput, path, "is no such key", remedy)
}
