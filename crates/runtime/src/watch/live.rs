//! Labels for what a source gives, as it comes: which sample has its turn, how long an answer
//! took, and which answers are worth telling.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::{NAP, sleep};
use crate::error::Result;
use crate::features::Source;
use crate::head::Prediction;
use crate::session::{Predictor, Silent};
use crate::sources::{Event, Live, Sample};

/// How much one answer counts in the average of the time between two.
const NEWEST: f64 = 0.2;

/// How a source is watched.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// From one picture of a camera to the next.
    pub interval: Duration,
    /// Answers in a row that have to agree before a label is told, and then only when it
    /// changes; with 1 every answer is told.
    pub agree: u32,
}

/// An answer to tell.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What the head says.
    pub prediction: &'a Prediction,
    /// When the sample was complete.
    pub time: SystemTime,
    /// From then to the answer.
    pub latency: Duration,
    /// Answers a second, lately, told or not; `None` for the first.
    pub per_second: Option<f64>,
    /// Windows that had no turn since the last answer, since answers take too long.
    pub dropped: u64,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A label.
    Answer(Answer<'a>),
    /// Something about the source.
    Note(&'a str),
}

/// Gives the samples of a source their turns at `predictor`, until it ends, until `stop` is
/// set, or until `tell` answers that nobody listens.
///
/// # Errors
/// As [`Live::next`] and [`Predictor::predict`]; what `tell` returns.
pub fn watch(
    predictor: &Predictor<'_>,
    live: &Live,
    wishes: Wishes,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Told<'_>) -> Result<bool>,
) -> Result<()> {
    let mut watching = Watching {
        predictor,
        name: live.name(),
        agreement: Agreement::new(wishes.agree),
        pace: Pace::default(),
        problem: String::new(),
    };
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let heard = match live.next(NAP)? {
            Event::Nothing => true,
            Event::Note(note) => tell(Told::Note(&note))?,
            Event::Sample(sample) => {
                let heard = watching.turn(&sample, tell)?;
                if live.is_paced() {
                    sleep(wishes.interval.saturating_sub(start.elapsed()), stop);
                }
                heard
            }
            Event::Ended => false,
        };
        if !heard {
            break;
        }
    }
    Ok(())
}

struct Watching<'a> {
    predictor: &'a Predictor<'a>,
    name: &'a Path,
    agreement: Agreement,
    pace: Pace,
    /// Why the last sample had no answer.
    problem: String,
}

impl Watching<'_> {
    fn turn(
        &mut self,
        sample: &Sample,
        tell: &mut dyn FnMut(Told<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let source = Source {
            path: self.name,
            label: 0,
            bytes: Some(&sample.bytes),
            part: None,
        };
        let mut said = self.predictor.predict(&[source], &Silent)?;
        let prediction = match said.pop() {
            Some(Ok(prediction)) => prediction,
            Some(Err(problem)) if problem != self.problem => {
                self.problem = problem;
                let note = format!("{}: {}", self.name.display(), self.problem);
                return tell(Told::Note(&note));
            }
            // Told already.
            _ => return Ok(true),
        };
        self.problem.clear();
        let answer = Answer {
            prediction: &prediction,
            time: sample.time,
            latency: sample.done.elapsed(),
            per_second: self.pace.answered(Instant::now()),
            dropped: sample.dropped,
        };
        let label = (!prediction.unknown).then_some(prediction.label);
        match self.agreement.is_told(label) {
            true => tell(Told::Answer(answer)),
            false => Ok(true),
        }
    }
}

/// Which answers are told. No label stands for samples of no class.
#[derive(Debug)]
struct Agreement {
    wanted: u32,
    label: Option<usize>,
    in_a_row: u32,
    told: Option<Option<usize>>,
}

impl Agreement {
    fn new(wanted: u32) -> Self {
        Self {
            wanted,
            label: None,
            in_a_row: 0,
            told: None,
        }
    }

    fn is_told(&mut self, label: Option<usize>) -> bool {
        if self.wanted <= 1 {
            return true;
        }
        match self.label == label {
            true => self.in_a_row = self.in_a_row.saturating_add(1),
            false => self.in_a_row = 1,
        }
        self.label = label;
        let is_told = self.in_a_row >= self.wanted && self.told != Some(label);
        if is_told {
            self.told = Some(label);
        }
        is_told
    }
}

/// How fast answers come.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    seconds: Option<f64>,
}

impl Pace {
    fn answered(&mut self, now: Instant) -> Option<f64> {
        let before = self.last.replace(now)?;
        let newest = now.duration_since(before).as_secs_f64();
        let seconds = self
            .seconds
            .map_or(newest, |seconds| seconds + NEWEST * (newest - seconds));
        self.seconds = Some(seconds);
        (seconds > 0.0).then(|| 1.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the answers are told; 9 stands for no class.
    fn told(agree: u32, labels: &[usize]) -> Vec<usize> {
        let mut agreement = Agreement::new(agree);
        let label = |label: usize| (label != 9).then_some(label);
        let places = 0..labels.len();
        places
            .filter(|place| agreement.is_told(label(labels[*place])))
            .collect()
    }

    #[test]
    fn a_label_is_told_when_answers_agree_and_again_when_it_changes() {
        let labels = [0, 0, 0, 1, 0, 1, 1, 1, 1, 0, 9, 9, 9, 0, 0, 0];
        assert_eq!(told(3, &labels), [2, 7, 12, 15]);
        assert_eq!(told(1, &labels), (0..16).collect::<Vec<_>>());
        assert_eq!(told(2, &[0, 1, 0, 1, 1, 0, 1, 1]), [4]);
    }

    #[test]
    fn the_pace_follows_the_last_answers() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pace.answered(at(0)), None);
        assert_eq!(pace.answered(at(500)), Some(2.0));
        // 0.5 + 0.2 (1.0 - 0.5) seconds.
        let third = pace.answered(at(1500)).unwrap();
        assert!((third - 1.0 / 0.6).abs() < 1e-9, "{third}");
    }
}
