//! Samples from a source into a folder that can be trained on: `SAMPLES/LABEL/` or
//! `SAMPLES/LABEL/group=GROUP/`, where `samples/folder.rs` finds label and group. The name of a
//! file is a number that counts on and the time. Each is written whole or not at all, no file
//! is ever replaced, and the folder stays within its quota.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::samples::{GROUP, label_problem};
use crate::senses::Kind;
use crate::sources::{Event, Live, Sample, utc_in_names};
use crate::store::Store;

/// How long a wait for the source may last before somebody looks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Where samples go.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The folder with a sub-folder a class.
    pub samples: &'a Path,
    /// The class.
    pub label: &'a str,
    /// The group; `None` for samples that vouch for each other.
    pub group: Option<&'a str>,
    /// Most bytes of all files in `samples`.
    pub quota_bytes: Option<u64>,
}

/// A class' folder that samples are added to.
#[derive(Debug)]
pub struct Collection {
    store: Store,
    samples: PathBuf,
    folder: PathBuf,
    kind: Kind,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    count: u64,
    /// Of the next file.
    number: u64,
}

/// A sample that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Samples of the class now.
    pub count: u64,
    /// Bytes of all files in the folder of samples now.
    pub folder_bytes: u64,
}

/// What a walk over a folder finds.
#[derive(Default)]
struct Contents {
    bytes: u64,
    /// Samples of the class.
    count: u64,
    /// The highest number in front of a name of the class.
    number: u64,
    /// A sample of another kind.
    other: Option<PathBuf>,
}

impl Collection {
    /// Looks at what is there and makes what is not; what a killed run left half-written is
    /// removed.
    ///
    /// # Errors
    /// `Usage` for a label or group that is no name of a folder; `BadInput` when the folder
    /// holds samples of another kind; `OverBudget` when the quota is used up; `Failed` when it
    /// cannot be written.
    pub fn open(wanted: &Wanted<'_>, kind: Kind) -> Result<Self> {
        require_name("--label", wanted.label)?;
        let class = wanted.samples.join(wanted.label);
        let folder = match wanted.group {
            Some(group) => {
                require_name("--group", group)?;
                class.join(format!("{GROUP}{group}"))
            }
            None => class.clone(),
        };
        let store = Store::default();
        store.make_folder(&folder)?;
        store.remove_abandoned(&folder)?;
        let mut found = Contents::default();
        found.walk(wanted.samples, kind, &class)?;
        if let Some(other) = &found.other {
            let what = format_args!("holds {}, which is no {}", other.display(), kind.name());
            let remedy = "collect into another folder";
            return Err(Error::at(ErrorKind::BadInput, wanted.samples, what, remedy));
        }
        let collection = Self {
            store,
            samples: wanted.samples.into(),
            folder,
            kind,
            quota_bytes: wanted.quota_bytes,
            used_bytes: found.bytes,
            count: found.count,
            number: found.number + 1,
        };
        collection.require_room(1)?;
        Ok(collection)
    }

    /// Samples of the class.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn require_room(&self, bytes: u64) -> Result<()> {
        let Some(quota) = self.quota_bytes else {
            return Ok(());
        };
        if self.used_bytes.saturating_add(bytes) <= quota {
            return Ok(());
        }
        let used = self.used_bytes;
        let what = format_args!("holds {used} bytes, the quota is {quota}: no room for a sample");
        let remedy = "remove files or give a larger --quota";
        Err(Error::at(
            ErrorKind::OverBudget,
            &self.samples,
            what,
            remedy,
        ))
    }

    /// Writes a sample, for good.
    ///
    /// # Errors
    /// `OverBudget` when it would not fit the quota; `Failed` when it cannot be written.
    pub fn save(&mut self, sample: &Sample) -> Result<Saved> {
        let bytes = sample.bytes.len() as u64;
        self.require_room(bytes)?;
        let extension = match self.kind {
            Kind::Picture => "jpg",
            Kind::Sound => "wav",
            Kind::Series => "csv",
        };
        let time = utc_in_names(sample.time);
        let path = loop {
            let name = format!("{:06}_{time}.{extension}", self.number);
            let path = self.folder.join(name);
            self.number += 1;
            if !self.store.exists(&path) {
                break path;
            }
        };
        self.store.write_atomically(&path, &sample.bytes)?;
        self.used_bytes += bytes;
        self.count += 1;
        Ok(Saved {
            path,
            bytes,
            count: self.count,
            folder_bytes: self.used_bytes,
        })
    }
}

impl Contents {
    /// Adds what is below `folder`, where samples of the class are below `class`; links are not
    /// followed.
    fn walk(&mut self, folder: &Path, kind: Kind, class: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| {
            let remedy = "check its permissions";
            Error::at(ErrorKind::BadInput, folder, error, remedy)
        };
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            // One that vanished meanwhile is no more.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                self.walk(&path, kind, class)?;
                continue;
            }
            self.bytes += metadata.len();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let in_class = path.starts_with(class);
            if in_class {
                let digits = name.split('_').next().unwrap_or_default();
                self.number = self.number.max(digits.parse().unwrap_or(0));
            }
            match Kind::of(&path).filter(|_| !name.starts_with('.')) {
                Some(found) if found == kind => self.count += u64::from(in_class),
                Some(_) => self.other = Some(path),
                None => {}
            }
        }
        Ok(())
    }
}

/// Whether a text can be the name of a folder that is looked into.
fn require_name(flag: &str, name: &str) -> Result<()> {
    let problem = label_problem(name).or_else(|| {
        let unusable = name.starts_with('.') || name.contains(['/', '\\', '\0']);
        unusable.then(|| format!("\"{name}\" begins with a dot or holds a slash"))
    });
    match problem {
        Some(problem) => {
            let what = format_args!("{flag}: {problem}; give the name of a folder");
            Err(Error::new(ErrorKind::Usage, what))
        }
        None => Ok(()),
    }
}

/// When samples are taken.
#[derive(Debug)]
pub enum Trigger {
    /// Pictures so far apart, the first at once; windows as they come.
    Every(Duration),
    /// When something is received: then the next picture, or the window that begins now.
    Key(Receiver<()>),
}

/// When it is enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until {
    /// Samples of the class, with those that were there.
    pub count: Option<u64>,
    /// Time since it began.
    pub time: Option<Duration>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A sample was written.
    Saved(&'a Saved, &'a Sample),
    /// Something about the source.
    Note(&'a str),
}

/// Takes samples of a source into a collection, until it is enough, the source or the keys
/// end, `stop` is set, or `tell` answers that nobody listens.
///
/// # Errors
/// As [`Live::next`] and [`Collection::save`]; what `tell` returns.
pub fn collect(
    live: &Live,
    collection: &mut Collection,
    (trigger, until): (Trigger, Until),
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Told<'_>) -> Result<bool>,
) -> Result<()> {
    let (start, mut due) = (Instant::now(), Instant::now());
    let mut pressed = false;
    let paced = live.is_paced();
    let enough = |count: u64| until.count.is_some_and(|most| count >= most);
    let over = || until.time.is_some_and(|most| start.elapsed() >= most);
    while !stop.load(Ordering::Relaxed) && !enough(collection.count()) && !over() {
        match &trigger {
            Trigger::Every(_) if paced && Instant::now() < due => {
                std::thread::sleep(NAP.min(due.saturating_duration_since(Instant::now())));
                continue;
            }
            Trigger::Key(keys) if !pressed => match keys.try_recv() {
                Ok(()) => {
                    pressed = true;
                    live.anew();
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {}
            },
            _ => {}
        }
        let heard = match live.next(NAP)? {
            Event::Nothing => true,
            Event::Note(note) => tell(Told::Note(&note))?,
            Event::Sample(_) if matches!(trigger, Trigger::Key(_)) && !pressed => true,
            Event::Sample(sample) => {
                pressed = false;
                if let Trigger::Every(time) = trigger {
                    due = Instant::now() + time;
                }
                let saved = collection.save(&sample)?;
                tell(Told::Saved(&saved, &sample))?
            }
            Event::Ended => false,
        };
        if !heard {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn wanted<'a>(samples: &'a Path, quota_bytes: Option<u64>) -> Wanted<'a> {
        Wanted {
            samples,
            label: "a",
            group: Some("day 1"),
            quota_bytes,
        }
    }

    fn sample(bytes: &[u8]) -> Sample {
        Sample {
            bytes: bytes.into(),
            time: SystemTime::UNIX_EPOCH,
            done: Instant::now(),
            dropped: 0,
        }
    }

    #[test]
    fn numbers_count_on_and_nothing_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let name = |saved: &Saved| {
            let path = saved.path.strip_prefix(place.path()).unwrap();
            path.display().to_string()
        };
        for round in 0..2u64 {
            let mut collection =
                Collection::open(&wanted(place.path(), None), Kind::Sound).unwrap();
            assert_eq!(collection.count(), 2 * round);
            for file in 1..3 {
                let saved = collection.save(&sample(b"1234")).unwrap();
                let number = 2 * round + file;
                assert_eq!(
                    name(&saved),
                    format!("a/group=day 1/{number:06}_19700101T000000.000Z.wav")
                );
                assert_eq!((saved.count, saved.folder_bytes), (number, 4 * number));
            }
        }
    }

    #[test]
    fn the_quota_holds_for_all_that_is_there() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("notes.txt"), [0; 90]).unwrap();
        let mut collection =
            Collection::open(&wanted(place.path(), Some(100)), Kind::Sound).unwrap();
        collection.save(&sample(&[1; 10])).unwrap();
        let refused = collection.save(&sample(&[1; 1])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::OverBudget);
        let again = Collection::open(&wanted(place.path(), Some(100)), Kind::Sound);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::OverBudget);
    }

    #[test]
    fn other_kinds_and_odd_names_are_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("b")).unwrap();
        fs::write(place.path().join("b/1.png"), [0]).unwrap();
        let refused = Collection::open(&wanted(place.path(), None), Kind::Sound).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BadInput);
        for label in ["", ".", "..", ".a", "a/b", "a\nb"] {
            let wanted = Wanted {
                label,
                ..wanted(place.path(), None)
            };
            let refused = Collection::open(&wanted, Kind::Picture).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Usage, "{label:?}");
        }
    }
}
