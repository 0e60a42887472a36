//! `--head auto` with time to spare: does training the backbone's own last layers pay for
//! these samples? After the search among heads on frozen features, the layers after the
//! manifest's `tail_cut` are trained as `--head tail` trains them, on the same folds, and
//! taken if held-out samples say so. With too little time or memory it is left, and said so.

use std::time::{Duration, Instant};

use super::training::Labelled;
use super::{Outcome, Progress, Session, Settings};
use crate::error::Result;
use crate::features::Source;
use crate::forecast::Forecast;
use crate::samples::SampleSet;
use crate::search::Found;
use crate::senses::Kind;

/// No board is known where the trainings of its cross-validation, at least six of 200 steps,
/// take less: with less time not even the tail is read.
const LEAST_TIME: Duration = Duration::from_secs(120);

/// Samples a class from which on a tail is tried: fewer held-out ones can hardly tell a gain of
/// a point or two, which is what a tail brings, from chance.
const LEAST_SAMPLES: usize = 10;

/// Time for the trial itself: that it fits into `--time` is known before it starts.
const UNHURRIED: Duration = Duration::from_secs(24 * 3600);

impl Session {
    /// The session that trains the tail within `time`; `None` where none is to be tried.
    fn tail_session(&self, set: &SampleSet, time: Duration) -> Option<Self> {
        let (settings, manifest) = (&self.settings, self.model.manifest());
        let wishes = &settings.wishes;
        let auto = wishes.shape.is_none() && !wishes.tail && settings.cut.is_none();
        let tried = auto
            && settings.time >= LEAST_TIME
            && set.kind() == Kind::Picture
            && !manifest.tail_cut.is_empty()
            && set.counts().iter().all(|count| *count >= LEAST_SAMPLES);
        let mut settings = Settings {
            time,
            ..settings.clone()
        };
        settings.wishes.tail = true;
        // A checkpoint is of one job. That of the search on frozen features stays as it is.
        settings.checkpoints = None;
        tried.then(|| Self::new(self.model.clone(), self.cache.clone(), settings))
    }

    /// Tries the tail in what is left of `--time` since `start`, and returns the head that
    /// is better on held-out samples: the one at hand unless the tail's surely is. An error
    /// of the trial costs nothing but the trial: it is kept as the reason.
    pub(super) fn try_tail(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        mut at_hand: Outcome,
        start: Instant,
        progress: &dyn Progress,
    ) -> Outcome {
        let Some(unhurried) = self.tail_session(set, UNHURRIED) else {
            return at_hand;
        };
        let left = self.settings.time.saturating_sub(start.elapsed());
        let tried = unhurried.forecast(set).and_then(|forecast| {
            let needed = forecast.seconds.total();
            if needed > left.as_secs_f64() {
                at_hand.tail_left = Some(format!(
                    "it takes about {needed:.0} s, and {:.0} s of --time were left",
                    left.as_secs_f64()
                ));
                return Ok(None);
            }
            unhurried.tail_instead(set, sources, &mut at_hand, progress)
        });
        match tried {
            Ok(better) => better.unwrap_or(at_hand),
            Err(error) => {
                at_hand.tail_left = Some(error.to_string());
                at_hand
            }
        }
    }

    /// The tail's head; `None` where it is not surely better than the one at hand. Either
    /// way the list of what was tried has both.
    fn tail_instead(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        at_hand: &mut Outcome,
        progress: &dyn Progress,
    ) -> Result<Option<Outcome>> {
        let start = Instant::now();
        let backbone = self.backbone(set, sources)?;
        let views = self.settings.views(&backbone);
        let matrices = self.features(&backbone, set, sources, views, progress)?;
        let samples = Labelled::new(&backbone, set, (&matrices, views))?;
        let features = start.elapsed().as_secs_f64();
        let mut searched = self.search(&samples, progress)?;
        let surely = surely_better(&searched.found, &at_hand.found, set.labels.len());
        at_hand.found.tried.append(&mut searched.found.tried);
        if !surely {
            at_hand.seconds.features += features;
            at_hand.seconds.search += searched.seconds;
            return Ok(None);
        }
        searched.found = Found {
            recipe: searched.found.recipe,
            chosen: Some(at_hand.found.tried.len() - 1),
            ..at_hand.found.clone()
        };
        let better = self.finish(&samples, searched, features, progress)?;
        Ok(Some(Outcome {
            computed: at_hand.computed + better.computed,
            from_cache: at_hand.from_cache + better.from_cache,
            resumed: at_hand.resumed,
            checkpoint_failure: at_hand.checkpoint_failure.clone(),
            seconds: at_hand.seconds + better.seconds,
            ..better
        }))
    }

    /// What training takes where the tail may be tried too: the larger memory, both times.
    pub(super) fn with_trial(&self, set: &SampleSet, alone: Forecast) -> Forecast {
        let tail = self.tail_session(set, UNHURRIED);
        // What cannot be forecast is not tried.
        let Some(tail) = tail.and_then(|session| session.forecast(set).ok()) else {
            return alone;
        };
        let seconds = alone.seconds + tail.seconds;
        if seconds.total() > self.settings.time.as_secs_f64() {
            return alone;
        }
        let head_bytes = alone.head_bytes.max(tail.head_bytes);
        let larger = match tail.peak_bytes > alone.peak_bytes {
            true => tail,
            false => alone,
        };
        Forecast {
            seconds,
            head_bytes,
            ..larger
        }
    }
}

fn surely_better(tail: &Found, at_hand: &Found, classes: usize) -> bool {
    match (tail.held_out(), at_hand.held_out()) {
        (Some(tail), Some(at_hand)) => tail.surely_better(at_hand, classes),
        _ => false,
    }
}
