//! Long recordings as several samples: windows of equal length over what is not silent. Each
//! is a sample of its own, and all of one recording are one group, so that none vouches for
//! another.

use std::path::Path;

use rayon::prelude::*;

use super::decode::{self, Recording};
use super::statistics::nepers;
use super::{Ear, KEPT_FRAMES, Sound, loudness};
use crate::error::Result;
use crate::features::Source;
use crate::samples::SampleSet;
use crate::windows;
pub use crate::windows::{CutUp, Part};

/// A window is silent, and skipped, when it is quieter than the loudest by more than this
/// from beginning to end.
pub const SILENT_DB: f64 = 40.0;

/// The windows of a recording, in order; empty when it fits into one.
///
/// # Errors
/// As [`Analyser::log_mel`](super::spectrum::Analyser::log_mel).
pub fn of_recording(ear: &Ear, recording: &Recording) -> Result<Vec<Part>> {
    let window = f64::from(ear.sound.window_seconds);
    if recording.seconds() <= window {
        return Ok(Vec::new());
    }
    let log_mel = ear.plain(&recording.samples)?;
    let step = ear.sound.spectrum.step_seconds();
    // A recording of silence is one window, which says so when its turn comes.
    let (first, end) = ear.loud(&log_mel, SILENT_DB).unwrap_or((0, 1));
    // The last frame lies around the recording's end.
    let end = end.min(log_mel.frames() - 1);
    let loudness = loudness(&log_mel);
    let least = loudness.iter().copied().fold(f64::MIN, f64::max) - nepers(SILENT_DB);
    let frames = ((window / step).round() as usize).max(1);
    let starts = starts(first, end, frames);
    // A sound that ends where a window begins is heard in its first frames.
    let is_heard = |start: &usize| {
        let levels = loudness.iter().skip(*start).take(frames);
        levels.filter(|level| **level >= least).count() > KEPT_FRAMES
    };
    let part = |start: usize| Part {
        start_ms: milliseconds(start as f64 * step),
        end_ms: milliseconds((start as f64 * step + window).min(recording.seconds())),
    };
    Ok(starts.into_iter().filter(is_heard).map(part).collect())
}

fn milliseconds(seconds: f64) -> u32 {
    (1000.0 * seconds).round() as u32
}

/// First frames of as few windows as cover the frames from `first` up to `end`, evenly
/// spread; one that is around them where they are fewer than a window.
fn starts(first: usize, end: usize, frames: usize) -> Vec<usize> {
    let span = end.saturating_sub(first);
    if span <= frames {
        return vec![first.saturating_sub((frames - span) / 2)];
    }
    let count = span.div_ceil(frames);
    let last = count - 1;
    (0..count)
        .map(|i| first + i * (span - frames) / last)
        .collect()
}

/// Cuts the recordings of a set, see [`windows::cut_up`].
///
/// # Errors
/// `Usage` when the settings contradict each other.
pub fn cut_up(
    sound: &Sound,
    set: &SampleSet,
    sources: &[Source<'_>],
    progress: &(dyn Fn(usize) + Sync),
) -> Result<CutUp> {
    Ear::new(sound)?;
    let ear = || Ear::new(sound).ok();
    let parts = |ear: &mut Option<Ear>, source: &Source<'_>| {
        ear.as_ref().map_or_else(Vec::new, |ear| parts(ear, source))
    };
    Ok(windows::cut_up(set, sources, ear, parts, progress))
}

/// The windows of one file; none for one that fits into a window or cannot be read.
fn parts(ear: &Ear, source: &Source<'_>) -> Vec<Part> {
    let Ok(bytes) = source.read() else {
        return Vec::new();
    };
    let stated = decode::stated(&bytes, source.path);
    let fits = |seconds: f64| seconds <= f64::from(ear.sound.window_seconds);
    match stated.map(|stated| stated.seconds) {
        Err(_) => return Vec::new(),
        Ok(Some(seconds)) if fits(seconds) => return Vec::new(),
        Ok(_) => {}
    }
    let recording = ear.decode(&bytes, source.path);
    recording
        .and_then(|recording| of_recording(ear, &recording))
        .unwrap_or_default()
}

/// The lowest rate among recordings, in Hz, but at most `most_hz`; `None` when none can be
/// read. Files are only looked into.
pub fn common_rate_hz(sources: &[Source<'_>], most_hz: u32) -> Option<u32> {
    let rate = |source: &Source<'_>| {
        let bytes = source.read().ok()?;
        let stated = decode::stated(&bytes, Path::new(""));
        stated.ok().map(|stated| stated.sample_rate_hz.min(most_hz))
    };
    sources.par_iter().with_max_len(1).filter_map(rate).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_evenly() {
        assert_eq!(starts(0, 100, 40), [0, 30, 60]);
        assert_eq!(starts(10, 50, 40), [10]);
        // A word in the middle of a long silence.
        assert_eq!(starts(100, 120, 40), [90]);
        assert_eq!(starts(5, 20, 40), [0]);
        for span in 41..200 {
            let starts = starts(7, 7 + span, 40);
            assert_eq!(starts[0], 7);
            assert_eq!(starts[starts.len() - 1] + 40, 7 + span);
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= 40));
        }
    }

    #[test]
    fn silence_between_two_sounds_is_skipped() {
        let mut sound = Sound::usual(8_000);
        sound.window_seconds = 1.0;
        let ear = Ear::new(&sound).unwrap();
        let mut samples: Vec<f32> = (0..10 * 8_000)
            .map(|i| 0.3 * (0.7 * i as f32).sin())
            .collect();
        samples[2 * 8_000..7 * 8_000].fill(0.0);
        let recording = Recording {
            sample_rate_hz: 8_000,
            samples,
        };
        let parts = of_recording(&ear, &recording).unwrap();
        assert_eq!(parts.len(), 5, "{parts:?}");
        let silent = |part: &Part| part.start_ms >= 2_000 && part.end_ms <= 7_000;
        assert!(!parts.iter().any(silent), "{parts:?}");
        assert_eq!((parts[0].start_ms, parts[4].end_ms), (0, 10_000));
    }
}
