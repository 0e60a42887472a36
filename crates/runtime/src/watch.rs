//! Files that appear in a folder: which are there, which are whole, which had their turn.
//! The folder is listed again and again instead of asking the system to tell: that works
//! on network folders too, and a file that grows shows by its size. What is done with a
//! file is the caller's.
//!
//! A record on disk holds the files that had their turn, so that after a restart only the
//! others have theirs. It is written after the turn: a file may get a second turn when
//! the process is killed in between, but none goes without. Lines of files that are gone
//! are dropped when there are many, so that it does not grow for as long as files come.

pub mod live;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::features::Source;
use crate::head::Prediction;
use crate::senses::Kind;
use crate::session::{Predictor, Silent};
use crate::store::{self, Durability};

/// A file that cannot be read and has not changed for so long is given up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The name of the record inside of the folder that is watched. Hidden, so that it is no
/// sample.
pub const RECORD: &str = ".fieldtune-watch";

/// Largest record that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// Lines of the record beyond two for each file that is there, before it is written anew.
const SPARE_LINES: usize = 1000;

/// How long one sleep may last before somebody looks whether to stop.
const NAP: Duration = Duration::from_millis(100);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// Since 1970, 0 where the system does not say.
    modified_ns: u64,
}

/// One line of the record.
#[derive(Serialize, Deserialize)]
struct Line {
    file: String,
    #[serde(flatten)]
    stamp: Stamp,
}

/// A file that was not handled yet.
struct Waiting {
    stamp: Stamp,
    /// When it was first seen like this.
    since: Instant,
    /// Why its content could not be used, if that was tried.
    failure: Option<String>,
}

/// A folder whose files have a turn each. Sub-folders and hidden files are not looked at.
pub struct Folder {
    path: PathBuf,
    record: PathBuf,
    kind: Kind,
    patience: Duration,
    /// Lines of the record.
    lines: usize,
    handled: HashMap<String, Stamp>,
    waiting: BTreeMap<String, Waiting>,
}

/// A file whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where it is.
    pub path: PathBuf,
    name: String,
    stamp: Stamp,
}

/// What a look at the folder brought.
#[derive(Debug, Default)]
pub struct Look {
    /// Files that did not change since the last look.
    pub ready: Vec<Turn>,
    /// Files that could not be used and did not change for [`PATIENCE`], with the reason.
    pub given_up: Vec<(Turn, String)>,
}

impl Folder {
    /// Watches the folder `path` for files of one kind with the record `record`; `None` for
    /// one inside of it.
    ///
    /// # Errors
    /// `BadInput` when the folder cannot be listed or the record is of something else;
    /// `Failed` when the record cannot be written.
    pub fn open(path: &Path, kind: Kind, record: Option<&Path>) -> Result<Self> {
        let record = record.map_or_else(|| path.join(RECORD), Path::to_path_buf);
        let mut folder = Self {
            path: path.into(),
            record,
            kind,
            patience: PATIENCE,
            lines: 0,
            handled: HashMap::new(),
            waiting: BTreeMap::new(),
        };
        let present = folder.list()?;
        for line in folder.recorded()? {
            // What is gone would only make the record grow.
            if present.contains_key(&line.file) {
                folder.handled.insert(line.file, line.stamp);
            }
        }
        folder.rewrite()?;
        Ok(folder)
    }

    /// Looks at the folder once. A file is ready when two looks find it the same, so a
    /// file that grows waits.
    ///
    /// # Errors
    /// `BadInput` when the folder cannot be listed, as when its medium is gone.
    pub fn look(&mut self) -> Result<Look> {
        let present = self.list()?;
        self.handled.retain(|name, _| present.contains_key(name));
        self.waiting.retain(|name, _| present.contains_key(name));
        let mut look = Look::default();
        for (name, stamp) in present {
            if self.handled.get(&name) == Some(&stamp) {
                continue;
            }
            let turn = Turn {
                path: self.path.join(&name),
                name: name.clone(),
                stamp,
            };
            match self.waiting.get(&name) {
                Some(waiting) if waiting.stamp == stamp => match &waiting.failure {
                    None => look.ready.push(turn),
                    Some(reason) if waiting.since.elapsed() >= self.patience => {
                        look.given_up.push((turn, reason.clone()));
                    }
                    Some(_) => {}
                },
                _ => {
                    let waiting = Waiting {
                        stamp,
                        since: Instant::now(),
                        failure: None,
                    };
                    self.waiting.insert(name, waiting);
                }
            }
        }
        Ok(look)
    }

    /// The file's content could not be used; perhaps it is not whole yet.
    pub fn failed(&mut self, turn: &Turn, reason: &str) {
        if let Some(waiting) = self.waiting.get_mut(&turn.name) {
            waiting.failure = Some(reason.into());
        }
    }

    /// The file had its turn and has no other until it changes.
    ///
    /// # Errors
    /// `Failed` when the record cannot be written.
    pub fn done(&mut self, turn: &Turn) -> Result<()> {
        self.waiting.remove(&turn.name);
        self.handled.insert(turn.name.clone(), turn.stamp);
        if self.lines > 2 * self.handled.len() + SPARE_LINES {
            return self.rewrite();
        }
        let line = line(&turn.name, turn.stamp);
        self.lines += 1;
        store::append(&self.record, line.as_bytes())
    }

    /// Regular files of the kind, by their names, and their stamps. One that vanishes meanwhile
    /// is left out.
    fn list(&self) -> Result<BTreeMap<String, Stamp>> {
        let unreadable = |error: io::Error| {
            let what = format_args!("cannot be listed ({error})");
            let remedy = "give a folder that can be read";
            Error::at(ErrorKind::BadInput, &self.path, what, remedy)
        };
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || Kind::of(&path) != Some(self.kind) {
                continue;
            }
            // Follows links, as reading will.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.is_file() {
                present.insert(name.into_owned(), stamp(&metadata));
            }
        }
        Ok(present)
    }

    /// The lines of the record; none when there is no record yet. A power cut may have
    /// left a torn line at its end: then that file has another turn.
    fn recorded(&self) -> Result<Vec<Line>> {
        if !self.record.exists() {
            return Ok(Vec::new());
        }
        let bytes = store::read(&self.record, MAX_RECORD_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<Line> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if lines.is_empty() && text.lines().count() > 1 {
            let remedy = "remove it, or name another with --record";
            let what = "is not a record of watched files";
            return Err(Error::at(ErrorKind::BadInput, &self.record, what, remedy));
        }
        Ok(lines)
    }

    /// Writes the record anew, without what is gone.
    fn rewrite(&mut self) -> Result<()> {
        self.lines = self.handled.len();
        let names: BTreeSet<&String> = self.handled.keys().collect();
        let lines: String = names
            .iter()
            .map(|name| line(name, self.handled[*name]))
            .collect();
        store::write_with(&self.record, lines.as_bytes(), Durability::Eventual)
    }
}

fn line(name: &str, stamp: Stamp) -> String {
    let line = Line {
        file: name.into(),
        stamp,
    };
    // Text and two numbers: this cannot fail, and an empty line would only cost a turn.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    Stamp {
        bytes: metadata.len(),
        modified_ns: since.map_or(0, |since| since.as_nanos() as u64),
    }
}

/// What came of a file's turn: a prediction, or why there is none.
pub type Told<'a> = std::result::Result<&'a Prediction, &'a str>;

/// Gives every file of `folder` its turn at `predictor`, looking again after `interval`,
/// until `stop` is set or `tell` answers that nobody listens. Files are told one after
/// the other, in the order of their names.
///
/// # Errors
/// As [`Folder::look`] and [`Predictor::predict`]; what `tell` returns.
pub fn watch(
    predictor: &Predictor<'_>,
    folder: &mut Folder,
    interval: Duration,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Path, Told<'_>) -> Result<bool>,
) -> Result<()> {
    predictor.load()?;
    while !stop.load(Ordering::Relaxed) {
        let look = folder.look()?;
        for turns in look.ready.chunks(predictor.threads()) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let sources = turns.iter().map(|turn| Source {
                path: &turn.path,
                label: 0,
                bytes: None,
                part: None,
            });
            let sources: Vec<Source<'_>> = sources.collect();
            for (turn, result) in turns.iter().zip(predictor.predict(&sources, &Silent)?) {
                match result {
                    Ok(prediction) => {
                        if !tell(&turn.path, Ok(&prediction))? {
                            return Ok(());
                        }
                        folder.done(turn)?;
                    }
                    Err(reason) => folder.failed(turn, &reason),
                }
            }
        }
        for (turn, reason) in &look.given_up {
            if !tell(&turn.path, Err(reason))? {
                return Ok(());
            }
            folder.done(turn)?;
        }
        sleep(interval, stop);
    }
    Ok(())
}

/// Sleeps, but not long after `stop` is set.
fn sleep(time: Duration, stop: &AtomicBool) {
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(turns: &[Turn]) -> Vec<&str> {
        turns.iter().map(|turn| turn.name.as_str()).collect()
    }

    #[test]
    fn a_file_has_its_turn_when_it_stopped_growing_and_then_no_other() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.jpg");
        let mut folder = Folder::open(place.path(), Kind::Picture, None).unwrap();
        fs::write(&path, b"1").unwrap();
        assert!(folder.look().unwrap().ready.is_empty());
        fs::write(&path, b"12").unwrap();
        assert!(folder.look().unwrap().ready.is_empty(), "it grew");
        let ready = folder.look().unwrap().ready;
        assert_eq!(names(&ready), ["a.jpg"]);
        folder.done(&ready[0]).unwrap();
        assert!(folder.look().unwrap().ready.is_empty());
        // Overwritten, it is another file.
        fs::write(&path, b"123").unwrap();
        folder.look().unwrap();
        assert_eq!(names(&folder.look().unwrap().ready), ["a.jpg"]);
    }

    #[test]
    fn only_pictures_that_are_files_have_a_turn() {
        let place = tempfile::tempdir().unwrap();
        for name in [".a.jpg", "notes.txt", "b.PNG", "c.jpg.part"] {
            fs::write(place.path().join(name), b"1").unwrap();
        }
        fs::create_dir(place.path().join("d.jpg")).unwrap();
        let mut folder = Folder::open(place.path(), Kind::Picture, None).unwrap();
        folder.look().unwrap();
        assert_eq!(names(&folder.look().unwrap().ready), ["b.PNG"]);
    }

    #[test]
    fn after_a_restart_only_what_had_no_turn_has_one() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let record = elsewhere.path().join("record");
        for name in ["a.jpg", "b.jpg"] {
            fs::write(place.path().join(name), name).unwrap();
        }
        let mut folder = Folder::open(place.path(), Kind::Picture, Some(&record)).unwrap();
        folder.look().unwrap();
        let ready = folder.look().unwrap().ready;
        folder.done(&ready[0]).unwrap();
        drop(folder);
        // A power cut in the middle of a line.
        store::append(&record, b"{\"file\":\"b.j").unwrap();
        fs::write(place.path().join("c.jpg"), b"new").unwrap();
        let mut folder = Folder::open(place.path(), Kind::Picture, Some(&record)).unwrap();
        folder.look().unwrap();
        assert_eq!(names(&folder.look().unwrap().ready), ["b.jpg", "c.jpg"]);
        assert!(!place.path().join(RECORD).exists());
    }

    #[test]
    fn the_record_does_not_grow_with_files_that_are_gone() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), Kind::Picture, None).unwrap();
        for number in 0..3 * SPARE_LINES {
            let name = format!("{number}.jpg");
            folder.look().unwrap();
            let turn = Turn {
                path: place.path().join(&name),
                name,
                stamp: Stamp {
                    bytes: 1,
                    modified_ns: number as u64,
                },
            };
            folder.done(&turn).unwrap();
        }
        let record = fs::read_to_string(place.path().join(RECORD)).unwrap();
        let lines = record.lines().count();
        assert!(lines <= SPARE_LINES + 3, "{lines} lines");
        let last = format!("\"{}.jpg\"", 3 * SPARE_LINES - 1);
        assert!(record.contains(&last), "the newest is kept");
    }

    #[test]
    fn a_file_that_stays_unreadable_is_given_up_once() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a.jpg"), b"half").unwrap();
        let mut folder = Folder::open(place.path(), Kind::Picture, None).unwrap();
        folder.patience = Duration::ZERO;
        folder.look().unwrap();
        let ready = folder.look().unwrap().ready;
        folder.failed(&ready[0], "cut off");
        let look = folder.look().unwrap();
        assert!(look.ready.is_empty());
        assert_eq!(look.given_up, [(ready[0].clone(), "cut off".to_string())]);
        folder.done(&look.given_up[0].0).unwrap();
        assert!(folder.look().unwrap().given_up.is_empty());
    }

    #[test]
    fn a_file_of_something_else_is_no_record() {
        let place = tempfile::tempdir().unwrap();
        let record = place.path().join("notes.txt");
        fs::write(&record, "first line\nsecond line\n").unwrap();
        let refused = Folder::open(place.path(), Kind::Picture, Some(&record)).map(|_| ());
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert_eq!(
            fs::read_to_string(&record).unwrap(),
            "first line\nsecond line\n"
        );
    }
}
