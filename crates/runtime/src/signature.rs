//! Signed heads: keys, signing, and whom a board trusts. A signature follows the head in
//! the same file, so that no power cut and no copying parts them; `crates/core/SPEC.md`
//! says it byte by byte. Against whom that helps is in `THREATS.md` beside the crate.
//!
//! Ed25519 (RFC 8032) by `ed25519-dalek`. What is signed is the head's name and a counter
//! that rises with every signature as well as its bytes: a sound head of another name or
//! an older one is refused.

mod keys;
mod trust;

use std::path::Path;

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use fieldtune_core::head::HEADER_BYTES;

use crate::error::{Error, ErrorKind, Result, is_hostile};
use crate::manifest::hexadecimal;
use crate::store::{Lock, Store};

pub use keys::{SecretKey, generate};
pub use trust::Trust;

const MAGIC: &[u8; 8] = b"FTSIGN\r\n";
const FORMAT: u16 = 1;
/// What every signed message starts with: signatures for other ends never fit.
const PURPOSE: &[u8] = b"fieldtune head\0";
/// Longest name of a head file, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A signature as it stands in a file. It agrees with the head before it; whether its key
/// is to be trusted is another question, see [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Name of the file that was signed, without its folder.
    pub name: String,
    /// Rises with every signature of a key.
    pub counter: u64,
    /// The public key.
    pub key: [u8; 32],
}

impl Signed {
    /// The start of the key, for people to compare.
    pub fn key_name(&self) -> String {
        hexadecimal(&self.key[..8])
    }
}

/// What is wrong with the signature in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Missing,
    /// It is cut off, altered, or of another head.
    Wrong,
}

/// The head's bytes without the signature behind them.
pub fn without(bytes: &[u8]) -> &[u8] {
    split(bytes).0
}

/// The signature of a head file, checked against the head and its own key.
///
/// # Errors
/// See [`Fault`].
pub fn signed(bytes: &[u8]) -> std::result::Result<Signed, Fault> {
    let (head, block) = split(bytes);
    let block = block.ok_or(Fault::Missing)?;
    let (signed, signature) = parse(block).ok_or(Fault::Wrong)?;
    let key = VerifyingKey::from_bytes(&signed.key).map_err(|_| Fault::Wrong)?;
    let message = message(&signed.name, signed.counter, head);
    // Strict: a key or a signature that verifies several messages is refused.
    key.verify_strict(&message, &signature)
        .map_err(|_| Fault::Wrong)?;
    Ok(signed)
}

/// Signs the head in `path`, instead of a signature that it may have. The counter is one
/// above the last that this key gave and any in the file, or `counter` where that is more.
///
/// # Errors
/// `BadInput` when the file is no sound head or has no plain name; `Failed` when it or the
/// key's counter cannot be written.
pub fn sign(path: &Path, key: &SecretKey, counter: Option<u64>) -> Result<Signed> {
    let store = Store::default();
    let _lock = Lock::take(path)?;
    let bytes = store.read(path, crate::head::MAX_HEAD_BYTES)?;
    let head = without(&bytes);
    crate::head::Head::read(head, path)?;
    let name = name_of(path)?;
    let last = signed(&bytes).map_or(0, |signed| signed.counter);
    let counter = key.next_counter(last.max(counter.unwrap_or(0).saturating_sub(1)))?;
    let signature = key.key().sign(&message(&name, counter, head));
    let signed = Signed {
        name,
        counter,
        key: key.key().verifying_key().to_bytes(),
    };
    let mut file = head.to_vec();
    file.extend(block(&signed, &signature));
    // The same head: there is no earlier one to keep.
    store.write_atomically(path, &file)?;
    Ok(signed)
}

/// The name that stands for a head: its file's.
fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) if name.len() <= MAX_NAME_BYTES && !name.contains(is_hostile) => {
            Ok(name.to_string())
        }
        _ => Err(Error::at(
            ErrorKind::BadInput,
            path,
            "its name is not plain text, so it cannot be signed",
            "rename it",
        )),
    }
}

fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let length = bytes.get(12..16).and_then(<[u8]>::first_chunk::<4>);
    let end =
        length.map(|length| HEADER_BYTES.saturating_add(u32::from_le_bytes(*length) as usize));
    match end.and_then(|end| bytes.split_at_checked(end)) {
        Some((head, block)) if block.starts_with(MAGIC) => (head, Some(block)),
        _ => (bytes, None),
    }
}

fn message(name: &str, counter: u64, head: &[u8]) -> Vec<u8> {
    let length = (name.len() as u64).to_le_bytes();
    let counter = counter.to_le_bytes();
    [PURPOSE, &length, name.as_bytes(), &counter, head].concat()
}

fn block(signed: &Signed, signature: &Signature) -> Vec<u8> {
    // A name has at most 255 bytes.
    let length = (signed.name.len() as u16).to_le_bytes();
    [
        &MAGIC[..],
        &FORMAT.to_le_bytes(),
        &length,
        signed.name.as_bytes(),
        &signed.counter.to_le_bytes(),
        &signed.key,
        &signature.to_bytes(),
    ]
    .concat()
}

fn parse(block: &[u8]) -> Option<(Signed, Signature)> {
    let rest = block.strip_prefix(MAGIC)?;
    let rest = rest.strip_prefix(&FORMAT.to_le_bytes())?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (counter, rest) = rest.split_first_chunk::<8>()?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let signature: &[u8; 64] = rest.try_into().ok()?;
    let name = std::str::from_utf8(name).ok()?;
    if name.len() > MAX_NAME_BYTES || name.contains(is_hostile) {
        return None;
    }
    let signed = Signed {
        name: name.to_string(),
        counter: u64::from_le_bytes(*counter),
        key: *key,
    };
    Some((signed, Signature::from_bytes(signature)))
}
