//! Samples as they come. One thread takes what the keeper's process hands on and cuts it into
//! samples; whoever asks gets the newest ones. Nothing piles up: where samples come faster
//! than they are taken, the oldest are dropped and counted. A file waits instead.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::Device;
use super::message::{Message, receive};
use super::splitter::{Found, Splitter};
use crate::beside::Beside;
use crate::error::{Error, ErrorKind, Result};
use crate::senses::Kind;

/// Notes that wait to be told; more are dropped.
const MAX_NOTES: usize = 8;
/// How long the keeper has to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// A sample from a source.
#[derive(Clone, Debug)]
pub struct Sample {
    /// As the bytes of a file of its kind.
    pub bytes: Vec<u8>,
    /// When its last byte came.
    pub time: SystemTime,
    /// The same, for measuring.
    pub done: Instant,
    /// Samples that were dropped before it, since nobody took them in time.
    pub dropped: u64,
}

/// What came of a source.
#[derive(Debug)]
pub enum Event {
    /// A sample.
    Sample(Sample),
    /// Something to tell the user.
    Note(String),
    /// Nothing within the time that was waited.
    Nothing,
    /// The source ended, all of it was taken, and a note said so.
    Ended,
}

/// The process that has a source open. Ended when this is dropped.
pub struct Kept(Beside);

impl Kept {
    /// Starts `keeper`, this program with [`FLAG`](super::FLAG), for a device. Belongs before
    /// this process is confined.
    ///
    /// # Errors
    /// `Failed` when it cannot be started.
    pub fn start(keeper: Command, device: &Device) -> Result<Self> {
        let kept = Beside::start(keeper, Stdio::piped(), &device.opening, FAREWELL);
        kept.map(Self).map_err(|error| {
            let what = format_args!("the source cannot be opened ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        })
    }
}

/// What both threads see.
#[derive(Default)]
struct State {
    samples: VecDeque<Sample>,
    notes: VecDeque<String>,
    dropped: u64,
    /// What came so far is not to be used, see [`Live::anew`].
    anew: bool,
    ended: bool,
    failure: Option<Error>,
    /// Nobody takes samples any more.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many samples wait to be taken, and what happens to more.
#[derive(Clone, Copy, Debug)]
struct Room {
    samples: usize,
    /// Whether the source waits rather than a sample is dropped.
    waits: bool,
}

/// A source at work.
pub struct Live {
    device: Device,
    shared: Arc<Shared>,
    /// Whether it was told that the source ended.
    told_end: Cell<bool>,
    _kept: Kept,
}

impl Live {
    /// Begins to listen. Belongs after this process was confined: the thread that looks at
    /// what comes is confined with it.
    pub fn listen(mut kept: Kept, device: Device, splitter: Box<dyn Splitter>) -> Self {
        let shared = Arc::new(Shared::default());
        let room = Room {
            // Of pictures the newest counts; of windows each.
            samples: match device.kind {
                Kind::Picture => 1,
                _ => 4,
            },
            waits: device.is_file(),
        };
        if let Some(output) = kept.0.output.take() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Listener { shared, room }.listen(output, splitter));
        } else {
            shared.state().ended = true;
        }
        Self {
            device,
            shared,
            told_end: Cell::new(false),
            _kept: kept,
        }
    }

    /// Its name, in place of a file's.
    pub fn name(&self) -> &Path {
        &self.device.name
    }

    /// Whether whoever asks says how often: of windows and files each counts, of a camera's
    /// pictures the one that is there when asked.
    pub fn is_paced(&self) -> bool {
        self.device.kind == Kind::Picture && !self.device.is_file()
    }

    /// The next thing that came, waiting for it no longer than `wait`.
    ///
    /// # Errors
    /// What made the source unusable, and what is here instead.
    pub fn next(&self, wait: Duration) -> Result<Event> {
        let until = Instant::now() + wait;
        let mut state = self.shared.state();
        loop {
            if let Some(note) = state.notes.pop_front() {
                return Ok(Event::Note(note));
            }
            if let Some(mut sample) = state.samples.pop_front() {
                sample.dropped = std::mem::take(&mut state.dropped);
                self.shared.changed.notify_all();
                return Ok(Event::Sample(sample));
            }
            if let Some(error) = state.failure.take() {
                return Err(self.device.explained(error));
            }
            if state.ended {
                return Ok(match self.told_end.replace(true) {
                    false => Event::Note(format!("{}: ended", self.name().display())),
                    true => Event::Ended,
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Nothing);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets what came so far: the next sample begins now.
    pub fn anew(&self) {
        let mut state = self.shared.state();
        state.samples.clear();
        state.dropped = 0;
        state.anew = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

/// The thread that takes what comes.
struct Listener {
    shared: Arc<Shared>,
    room: Room,
}

impl Listener {
    fn listen(&self, mut output: ChildStdout, mut splitter: Box<dyn Splitter>) {
        let mut body = Vec::new();
        while let Some(message) = receive(&mut output, &mut body) {
            if self.shared.state().closed {
                return;
            }
            match message {
                Message::Begun => splitter.begin(),
                Message::Bytes(bytes) => {
                    if std::mem::take(&mut self.shared.state().anew) {
                        splitter.clear();
                    }
                    let pushed = splitter.push(bytes, &mut |found| self.found(found));
                    if let Err(error) = pushed {
                        return self.end(Some(error));
                    }
                }
                Message::Note(text) => self.found(Found::Note(text.into())),
                Message::Ended => return self.end(None),
                Message::Failed(error) => return self.end(Some(error)),
            }
        }
        let what = "the process that has the source open is gone; run again";
        self.end(Some(Error::new(ErrorKind::Failed, what)));
    }

    fn found(&self, found: Found) {
        let mut state = self.shared.state();
        match found {
            Found::Note(note) => {
                if state.notes.len() < MAX_NOTES {
                    state.notes.push_back(note);
                }
            }
            Found::Sample(bytes) => {
                let sample = Sample {
                    bytes,
                    time: SystemTime::now(),
                    done: Instant::now(),
                    dropped: 0,
                };
                let full = |state: &State| state.samples.len() >= self.room.samples;
                while self.room.waits && full(&state) && !state.closed {
                    let waited = self.shared.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                // It began before it was said that only what begins now counts.
                if state.anew && !self.room.waits {
                    return;
                }
                if full(&state) {
                    state.samples.pop_front();
                    state.dropped += 1;
                }
                state.samples.push_back(sample);
            }
        }
        self.shared.changed.notify_all();
    }

    fn end(&self, failure: Option<Error>) {
        let mut state = self.shared.state();
        state.failure = failure;
        state.ended = true;
        self.shared.changed.notify_all();
    }
}
