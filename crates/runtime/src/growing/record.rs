//! What a head was trained on: labels, and of every sample its digest, label, group and
//! file name. Kept in the cache, since it is of use only together with the features there.
//! Joining it with new samples is `growing.rs`'s.
//!
//! Layout: `DIR/heads/DIGEST.samples`, the hexadecimal SHA-256 of the head file's bytes;
//! JSON lines: a header, a line a sample, and the SHA-256 of everything before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::features::{Digest32, FeatureMatrix};
use crate::head::Head;
use crate::manifest::{from_hexadecimal, hexadecimal};
use crate::samples::SampleSet;
use crate::store::Store;

const FORMAT: &str = "fieldtune samples of a head";
const VERSION: u32 = 1;
/// Largest record read, in bytes: some 200,000 samples.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Records that are kept: a device that trains every day would fill its medium. Heads whose
/// record is gone can be used, but not grow.
const KEPT: usize = 64;

/// The samples of a head, in the order of training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Names of the classes, in the order of the head's outputs.
    pub labels: Vec<String>,
    /// Every sample that was trained on.
    pub samples: Vec<Recorded>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// SHA-256 of its bytes, which the cache knows it by.
    pub digest: Digest32,
    /// Index into [`Record::labels`].
    pub label: usize,
    /// Samples of one group never stand on both sides of a split.
    pub group: Option<String>,
    /// Its file when it was trained on; it may be gone.
    pub file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    head: String,
    labels: Vec<String>,
    samples: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sha256: String,
    label: usize,
    group: Option<String>,
    file: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    checksum: String,
}

/// SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> Digest32 {
    Sha256::digest(bytes).into()
}

impl Record {
    /// Of the samples in `set` that have a row in `matrix`.
    pub fn of(set: &SampleSet, matrix: &FeatureMatrix) -> Self {
        let rows = matrix.rows.iter().zip(&matrix.labels).zip(&matrix.digests);
        let sample = |((row, label), digest): ((&usize, &usize), &Digest32)| {
            let sample = set.samples.get(*row)?;
            Some(Recorded {
                digest: *digest,
                label: *label,
                group: sample.group.clone(),
                file: sample.path.clone(),
            })
        };
        Self {
            labels: set.labels.clone(),
            samples: rows.filter_map(sample).collect(),
        }
    }

    /// Where the record of the head with this digest is, in a cache folder.
    pub fn path(cache: &Path, head: &Digest32) -> PathBuf {
        let name = format!("{}.samples", hexadecimal(head));
        cache.join("heads").join(name)
    }

    /// Keeps the record for the head with this digest; all of it or nothing.
    ///
    /// # Errors
    /// `Failed`, naming the file: no permission, full disk.
    pub fn save(&self, store: &Store, cache: &Path, head: &Digest32) -> Result<()> {
        let path = Self::path(cache, head);
        let bytes = self.to_bytes(head).map_err(|error| {
            let what = format_args!("cannot be written ({error})");
            Error::at(ErrorKind::Failed, &path, what, "rename the samples")
        })?;
        let folder = cache.join("heads");
        store.make_folder(&folder)?;
        store.write_atomically(&path, &bytes)?;
        prune(store, &folder, &path);
        Ok(())
    }

    /// The record of a head.
    ///
    /// # Errors
    /// `BadInput`, naming the head when there is no record, and the record when it is
    /// damaged or of another version.
    pub fn load(
        store: &Store,
        cache: &Path,
        digest: &Digest32,
        head: &Head,
        head_path: &Path,
    ) -> Result<Self> {
        let path = Self::path(cache, digest);
        if !store.exists(&path) {
            let what = format_args!(
                "the cache {} does not know what it was trained on: trained elsewhere, with \
                 another cache, or before the cache was emptied",
                cache.display()
            );
            let remedy = "name that cache with --cache, or train on old and new samples together \
                          without --from";
            return Err(Error::at(ErrorKind::BadInput, head_path, what, remedy));
        }
        let bytes = store.read(&path, MAX_RECORD_BYTES)?;
        let damaged = |what: &str| {
            let remedy = "delete it, and train on old and new samples together without --from";
            Error::at(ErrorKind::BadInput, &path, what, remedy)
        };
        let record = Self::from_bytes(&bytes, digest).map_err(damaged)?;
        if record.labels != head.labels {
            return Err(damaged("is not the record of this head"));
        }
        Ok(record)
    }

    fn to_bytes(&self, head: &Digest32) -> serde_json::Result<Vec<u8>> {
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            head: hexadecimal(head),
            labels: self.labels.clone(),
            samples: self.samples.len(),
        };
        let mut text = serde_json::to_string(&header)? + "\n";
        for sample in &self.samples {
            let line = Line {
                sha256: hexadecimal(&sample.digest),
                label: sample.label,
                group: sample.group.clone(),
                // For people only, so it need not be the name bit for bit.
                file: sample.file.to_string_lossy().into_owned(),
            };
            text += &(serde_json::to_string(&line)? + "\n");
        }
        let checksum = Checksum {
            checksum: hexadecimal(&digest(text.as_bytes())),
        };
        text += &(serde_json::to_string(&checksum)? + "\n");
        Ok(text.into_bytes())
    }

    fn from_bytes(bytes: &[u8], head: &Digest32) -> std::result::Result<Self, &'static str> {
        const DAMAGED: &str = "is damaged";
        let text = std::str::from_utf8(bytes).map_err(|_| DAMAGED)?;
        let body = text.strip_suffix('\n').ok_or(DAMAGED)?;
        let end = body.rfind('\n').ok_or(DAMAGED)? + 1;
        let checksum: Checksum = serde_json::from_str(&body[end..]).map_err(|_| DAMAGED)?;
        if checksum.checksum != hexadecimal(&digest(&text.as_bytes()[..end])) {
            return Err(DAMAGED);
        }
        let mut lines = text[..end].lines();
        let header = lines.next().ok_or(DAMAGED)?;
        let header: Header = serde_json::from_str(header).map_err(|_| "is of another version")?;
        if header.format != FORMAT || header.version != VERSION {
            return Err("is of another version");
        }
        if header.head != hexadecimal(head) {
            return Err("is not the record of this head");
        }
        let samples: Option<Vec<Recorded>> = lines
            .map(|line| sample(line, header.labels.len()))
            .collect();
        let samples = samples.ok_or(DAMAGED)?;
        if samples.len() != header.samples {
            return Err(DAMAGED);
        }
        Ok(Self {
            labels: header.labels,
            samples,
        })
    }
}

fn sample(line: &str, classes: usize) -> Option<Recorded> {
    let line: Line = serde_json::from_str(line).ok()?;
    (line.label < classes).then_some(())?;
    Some(Recorded {
        digest: from_hexadecimal(&line.sha256)?,
        label: line.label,
        group: line.group,
        file: line.file.into(),
    })
}

/// Removes the oldest records above [`KEPT`], but not `newest`; as far as that is possible,
/// since too many do no harm.
fn prune(store: &Store, folder: &Path, newest: &Path) {
    let is_record = |path: &PathBuf| {
        let record = path.extension().is_some_and(|it| it == "samples");
        record && path != newest
    };
    let paths = store.names(folder).unwrap_or_default().into_iter();
    let records = paths.map(|name| folder.join(name)).filter(is_record);
    let mut aged: Vec<(SystemTime, PathBuf)> = records
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    aged.sort();
    let surplus = (aged.len() + 1).saturating_sub(KEPT);
    for (_, path) in aged.into_iter().take(surplus) {
        let _ = store.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let sample = |index: u8| Recorded {
            digest: [index; 32],
            label: usize::from(index % 2),
            group: (index == 3).then(|| "a \"day\"\n".into()),
            file: format!("folder/{index}\u{e9}.jpg").into(),
        };
        Record {
            labels: vec!["ant".into(), "bee".into()],
            samples: (0..5).map(sample).collect(),
        }
    }

    #[test]
    fn a_record_comes_back_and_every_altered_byte_is_seen() {
        let head = [7; 32];
        let bytes = record().to_bytes(&head).unwrap();
        assert_eq!(Record::from_bytes(&bytes, &head), Ok(record()));
        assert!(Record::from_bytes(&bytes, &[8; 32]).is_err());
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert!(Record::from_bytes(&damaged, &head).is_err(), "byte {index}");
            assert!(
                Record::from_bytes(&bytes[..index], &head).is_err(),
                "{index} bytes"
            );
        }
    }

    #[test]
    fn only_the_newest_records_stay() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::default();
        let folder = cache.path().join("heads");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "not ours").unwrap();
        for number in 0..KEPT as u8 + 9 {
            record().save(&store, cache.path(), &[number; 32]).unwrap();
            assert!(Record::path(cache.path(), &[number; 32]).exists());
        }
        assert_eq!(store.names(&folder).unwrap().len(), KEPT + 1);
    }

    #[test]
    fn a_sound_checksum_over_nonsense_is_refused() {
        let sealed = |text: &str| {
            let checksum = hexadecimal(&digest(text.as_bytes()));
            format!("{text}{{\"checksum\":\"{checksum}\"}}\n").into_bytes()
        };
        let head = [7; 32];
        let text = String::from_utf8(record().to_bytes(&head).unwrap()).unwrap();
        let end = text.trim_end().rfind('\n').unwrap() + 1;
        let body = &text[..end];
        assert!(Record::from_bytes(&sealed(body), &head).is_ok());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"samples\":5", "\"samples\":6"),
            ("\"label\":1", "\"label\":2"),
            ("0101", "01"),
            ("0101", "0x01"),
        ] {
            let changed = body.replacen(from, to, 1);
            assert_ne!(changed, body);
            assert!(
                Record::from_bytes(&sealed(&changed), &head).is_err(),
                "{to}"
            );
        }
    }
}
