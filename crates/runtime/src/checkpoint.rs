//! What a training job needs to go on after its process ended half-way: what the search
//! has judged so far, and where the last training stood. Features are in the cache, not
//! here. A checkpoint is only read with `--resume`, only by the same job (samples,
//! features, recipes, seed, kernel, version of the program), and then the head has the
//! same bytes as if nothing had happened. When it is written is decided by time, so
//! short jobs write none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fieldtune_core::Kernel;
use fieldtune_core::train::{Position, Trainer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::recipe::Recipe;
use crate::store::Store;

/// First bytes of the file, with its format.
const MAGIC: &[u8; 8] = b"FTCHECK\x01";
const DIGEST_BYTES: usize = 32;
/// Largest file that is read: more than the largest tail with all its copies.
const LIMIT_BYTES: u64 = 1 << 30;
/// Time between two writes, unless said otherwise: little work lost, few writes to a card.
pub const USUAL_INTERVAL: Duration = Duration::from_secs(20);

/// Whether and where a job keeps a checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// Its file.
    pub path: PathBuf,
    /// Least time between two writes.
    pub interval: Duration,
    /// Whether to go on from what is there.
    pub resume: bool,
}

impl Checkpoints {
    /// Beside the head: `HEAD.checkpoint`.
    pub fn beside(head: &Path, interval: Duration, resume: bool) -> Self {
        let mut name = head.as_os_str().to_os_string();
        name.push(".checkpoint");
        Self {
            path: name.into(),
            interval,
            resume,
        }
    }
}

/// What an interrupted run had done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resumed {
    /// Folds of the search that were judged.
    pub folds: usize,
    /// Epochs of the last training.
    pub epochs: u32,
}

/// A fold of the search: which candidate, split and fold of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Fold {
    pub candidate: u32,
    pub repeat: u32,
    pub fold: u32,
}

/// Where a training stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stand {
    pub position: Position,
    /// See [`Trainer::kept`].
    pub kept: Vec<f32>,
    /// Of the samples, `[N]`.
    pub order: Vec<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    job: [u8; DIGEST_BYTES],
    /// Logits of held-out samples.
    judged: BTreeMap<Fold, Vec<f32>>,
    training: Option<Stand>,
}

#[derive(Debug)]
struct State {
    content: Content,
    written: Instant,
    failure: Option<Error>,
}

/// The checkpoint of one job.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    store: Store,
    settings: Checkpoints,
    state: Mutex<State>,
}

impl Checkpoint {
    /// For `job`, see [`job`]. With `resume` what an interrupted run kept is there.
    ///
    /// # Errors
    /// `BadInput`, naming the file, when it is damaged; where the wish is to go on from
    /// it, to begin anew unasked would be wrong. One of another job is not used.
    pub fn open(settings: &Checkpoints, store: Store, job: [u8; DIGEST_BYTES]) -> Result<Self> {
        let wrong = |what: &str, remedy: &str| {
            Err(Error::at(ErrorKind::BadInput, &settings.path, what, remedy))
        };
        let content = match store.read_if_there(&settings.path, LIMIT_BYTES)? {
            // It would be written over, and removed at the end.
            Some(bytes) if !bytes.starts_with(MAGIC) && !settings.resume => {
                let remedy = "move it away, or write the head elsewhere with -o";
                return wrong("is there and is no checkpoint", remedy);
            }
            Some(bytes) if settings.resume => match parsed(&bytes) {
                Some(content) => Some(content).filter(|content| content.job == job),
                None => return wrong("is damaged", "remove it, or run without --resume"),
            },
            _ => None,
        };
        Ok(Self {
            store,
            settings: settings.clone(),
            state: Mutex::new(State {
                content: content.unwrap_or_else(|| Content {
                    job,
                    ..Content::default()
                }),
                written: Instant::now(),
                failure: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there; `None` when nothing is.
    pub fn resumed(&self) -> Option<Resumed> {
        let state = self.state();
        let training = state.content.training.as_ref();
        let resumed = Resumed {
            folds: state.content.judged.len(),
            epochs: training.map_or(0, |stand| stand.position.epochs()),
        };
        Some(resumed).filter(|it| it.folds > 0 || it.epochs > 0)
    }

    /// The logits of a fold that was judged before.
    pub fn judged(&self, fold: Fold) -> Option<Vec<f32>> {
        self.state().content.judged.get(&fold).cloned()
    }

    /// Where the last training stood.
    pub fn training(&self) -> Option<Stand> {
        self.state().content.training.clone()
    }

    /// Keeps the logits of a fold.
    pub fn keep_judged(&self, fold: Fold, logits: &[f32]) {
        let mut state = self.state();
        state.content.judged.insert(fold, logits.to_vec());
        if self.is_due(&state) {
            self.write(&mut state);
        }
    }

    /// Keeps where a training stands, when it is time to write.
    pub fn keep_training(&self, trainer: &Trainer<'_>, order: &[u32], position: &Position) {
        let mut state = self.state();
        if self.is_due(&state) {
            // The old one first: the two are as large as the arena.
            state.content.training = None;
            state.content.training = Some(Stand {
                position: position.clone(),
                kept: trainer.kept().copied().collect(),
                order: order.to_vec(),
            });
            self.write(&mut state);
        }
    }

    fn is_due(&self, state: &State) -> bool {
        state.written.elapsed() >= self.settings.interval
    }

    /// A checkpoint that cannot be written is no reason to end the job.
    fn write(&self, state: &mut State) {
        let bytes = written(&state.content);
        let wrote =
            bytes.and_then(|bytes| self.store.write_atomically(&self.settings.path, &bytes));
        if let Err(error) = wrote {
            state.failure.get_or_insert(error);
        }
        state.written = Instant::now();
    }

    /// Why a write failed, if one did.
    pub fn failure(&self) -> Option<Error> {
        self.state().failure.clone()
    }
}

/// What decides the bytes of a head: another job's checkpoint is of no use.
pub(crate) fn job(
    data: &Data<'_>,
    candidates: &[Recipe],
    seed: u64,
    kernel: Kernel,
) -> [u8; DIGEST_BYTES] {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // The length too, so that no two jobs run into one.
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(kernel.name().as_bytes());
    add(&seed.to_le_bytes());
    add(format!("{candidates:?} {:?} {}", data.held, data.classes).as_bytes());
    add(format!("{:?} {:?}", data.labels, data.groups).as_bytes());
    for row in data
        .views
        .iter()
        .flat_map(|view| view.chunks(data.features.max(1)))
    {
        let values: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        add(&values);
    }
    digest.finalize().into()
}

fn parsed(bytes: &[u8]) -> Option<Content> {
    let (magic, rest) = bytes.split_first_chunk()?;
    let (digest, payload) = rest.split_first_chunk::<DIGEST_BYTES>()?;
    let intact = magic == MAGIC && Sha256::digest(payload).as_slice() == digest;
    intact.then(|| postcard::from_bytes(payload).ok()).flatten()
}

/// The bytes of the file, in one buffer of the right size: they may be as large as the arena.
fn written(content: &Content) -> Result<Vec<u8>> {
    let refused = |error| Error::new(ErrorKind::Failed, format_args!("no checkpoint: {error}"));
    let start = MAGIC.len() + DIGEST_BYTES;
    let size = postcard::ser_flavors::Size::default();
    let size = postcard::serialize_with_flavor(content, size).map_err(refused)?;
    let mut bytes = vec![0; start + size];
    postcard::to_slice(content, &mut bytes[start..]).map_err(refused)?;
    let digest = Sha256::digest(&bytes[start..]);
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..start].copy_from_slice(&digest);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::simulated::Simulated;

    const PATH: &str = "/head.checkpoint";

    fn open(disk: &Simulated, resume: bool, job: u8) -> Result<Checkpoint> {
        let settings = Checkpoints {
            path: PATH.into(),
            interval: Duration::ZERO,
            resume,
        };
        Checkpoint::open(&settings, disk.store(), [job; DIGEST_BYTES])
    }

    #[test]
    fn only_the_same_job_goes_on_and_only_when_asked() {
        let disk = Simulated::new();
        let fold = Fold {
            candidate: 1,
            repeat: 0,
            fold: 3,
        };
        let first = open(&disk, false, 7).expect("nothing to read");
        first.keep_judged(fold, &[1.5, -2.0]);
        assert!(first.failure().is_none());
        let judged = |resume, job| open(&disk, resume, job).expect("sound").judged(fold);
        assert_eq!(judged(true, 7), Some(vec![1.5, -2.0]));
        assert_eq!(judged(true, 8), None);
        assert_eq!(judged(false, 7), None);
    }

    #[test]
    fn a_power_cut_leaves_the_old_or_the_new_one() {
        let fold = |number| Fold {
            candidate: 0,
            repeat: 0,
            fold: number,
        };
        let (mut cuts, mut disks) = (0, 0);
        loop {
            let disk = Simulated::new();
            let kept = open(&disk, false, 7).expect("nothing to read");
            kept.keep_judged(fold(0), &[1.0]);
            disk.limit_transfer(20);
            disk.cut_after(cuts);
            kept.keep_judged(fold(1), &[2.0]);
            let finished = kept.failure().is_none();
            for survivor in disk.survivors(cuts as u64) {
                let there = open(&survivor, true, 7).expect("never half");
                assert_eq!(there.judged(fold(0)), Some(vec![1.0]));
                assert!(!finished || there.judged(fold(1)) == Some(vec![2.0]));
                disks += 1;
            }
            if finished {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 4 && disks > 20, "{cuts} {disks}");
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let disk = Simulated::new();
        let fold = Fold {
            candidate: 0,
            repeat: 0,
            fold: 0,
        };
        let kept = open(&disk, false, 7).expect("nothing to read");
        kept.keep_judged(fold, &[0.25]);
        let length = disk.files()[Path::new(PATH)].len();
        for place in 0..length {
            let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
                disk.damage(Path::new(PATH), |bytes| change(bytes));
            };
            damaged(&|bytes| bytes[place] ^= 1);
            let error = open(&disk, true, 7).expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
            damaged(&|bytes| bytes[place] ^= 1);
        }
        disk.damage(Path::new(PATH), |bytes| bytes.truncate(length - 1));
        assert!(open(&disk, true, 7).is_err());
    }
}
