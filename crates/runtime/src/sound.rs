//! From a recording to the numbers that a head or a backbone takes: decode, resample, leave
//! silence out, log-mel spectrogram; then statistics of it, a picture of it, or its values.
//! What a recording is among other samples is in `senses.rs`; `sound/windows.rs` cuts long
//! ones.

pub mod decode;
pub mod resample;
pub mod spectrum;
pub mod statistics;
pub mod windows;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Input;
use crate::preprocess::{Decoded, View};
use crate::views::ViewSet;
use decode::Recording;
use spectrum::{Analyser, LogMel, Spectrum, cepstra};
use statistics::nepers;
use windows::Part;

/// How a view of a recording is heard.
struct Hearing {
    /// Sound at the ends that is quieter than the loudest frame by more than this is left out.
    trim_db: f64,
    /// How much higher the bands lie.
    warp: f64,
}

/// A view for those that differ from the recording as it is as voices and distances do: the
/// loud middle of it, a little higher, and more of it, a little lower. On spoken digits of new
/// speakers they brought 2 points (`benches/README.md`).
fn hearing(view: View) -> Hearing {
    let (trim_db, warp) = match view {
        View::Original | View::Mirrored | View::Brighter | View::Darker => (18.0, 1.0),
        View::Near => (14.0, 1.06),
        View::Far => (22.0, 1.0 / 1.06),
    };
    Hearing { trim_db, warp }
}

/// The views that a recording has.
pub const VIEWS: ViewSet = ViewSet::ZOOMED;

/// Frames that are kept before and after the loud ones.
const KEPT_FRAMES: usize = 2;

/// Longest window in seconds.
const MAX_WINDOW_SECONDS: f32 = 60.0;

/// Rate of the usual spectrogram where recordings have a higher one, in Hz.
pub const USUAL_RATE_HZ: u32 = 16_000;

/// What a backbone is given of a spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feed {
    /// A grey picture, time to the right, high bands above, brought to the input's size.
    Picture,
    /// The values of each frame, `[frames, coefficients]`.
    Values,
}

/// How recordings become numbers: a manifest's `[sound]`. In a head file its canonical text
/// stands in front of the preprocessing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sound {
    /// Longer recordings are cut into windows of so many seconds.
    #[serde(default = "usual_window")]
    pub window_seconds: f32,
    /// What the backbone is given.
    #[serde(default = "usual_feed")]
    pub feed: Feed,
    /// Numbers of a frame for [`Feed::Values`]: so many cepstra, or, with 0, all bands.
    #[serde(default)]
    pub coefficients: usize,
    /// Samples are divided by the loudest one first.
    #[serde(default)]
    pub loudest_is_one: bool,
    /// How the spectrogram is made.
    pub spectrum: Spectrum,
}

fn usual_window() -> f32 {
    4.0
}

fn usual_feed() -> Feed {
    Feed::Picture
}

impl Sound {
    /// What is used where nothing is said, for recordings of this rate.
    pub fn usual(sample_rate_hz: u32) -> Self {
        Self {
            window_seconds: usual_window(),
            feed: usual_feed(),
            coefficients: 0,
            loudest_is_one: false,
            spectrum: Spectrum::usual(sample_rate_hz),
        }
    }

    /// Canonical text; [`Sound::of_identity`] reads it.
    pub fn identity(&self) -> String {
        // Numbers and names: this cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{PREFIX}{text}")
    }

    /// The settings in a head file's preprocessing; `None` when it is not about sound.
    pub fn of_identity(text: &str) -> Option<Self> {
        let settings = text.strip_prefix(PREFIX)?;
        let mut found = serde_json::Deserializer::from_str(settings).into_iter::<Self>();
        let sound = found.next()?.ok()?;
        sound.problem(None).is_none().then_some(sound)
    }

    /// What is wrong with these settings, for this input of a backbone, or `None`.
    pub fn problem(&self, input: Option<&Input>) -> Option<String> {
        if let Some(problem) = self.spectrum.problem() {
            return Some(problem);
        }
        let seconds = self.window_seconds;
        if !(0.05..=MAX_WINDOW_SECONDS).contains(&seconds) {
            return Some(format!(
                "`window_seconds` is {seconds}, must be 0.05 to {MAX_WINDOW_SECONDS}"
            ));
        }
        if self.coefficients > self.spectrum.bands {
            return Some("`coefficients` are more than `bands`".into());
        }
        let input = input.filter(|_| self.feed == Feed::Values)?;
        let (wanted, found) = (input.elements(), self.values());
        (wanted != found).then(|| {
            format!(
                "`window_seconds` and `coefficients` give {found} values, but the input takes {wanted}"
            )
        })
    }

    /// Samples of a window.
    fn window_samples(&self) -> usize {
        (f64::from(self.window_seconds) * f64::from(self.spectrum.sample_rate_hz)).round() as usize
    }

    /// Numbers of a frame.
    fn frame_values(&self) -> usize {
        match self.coefficients {
            0 => self.spectrum.bands,
            some => some,
        }
    }

    /// Numbers that [`Feed::Values`] gives.
    fn values(&self) -> usize {
        self.spectrum.frames(self.window_samples()) * self.frame_values()
    }
}

/// In front of the settings in a head file.
const PREFIX: &str = "sound v1 ";

/// What makes numbers of recordings, ready to work. One a thread.
pub struct Ear {
    sound: Sound,
    analyser: Analyser,
    /// Those of the views with other bands.
    warped: Vec<(View, Analyser)>,
}

impl Ear {
    /// Prepares the transform.
    ///
    /// # Errors
    /// `Usage` when the settings contradict each other.
    pub fn new(sound: &Sound) -> Result<Self> {
        let others = [View::Near, View::Far].map(|view| {
            let analyser = Analyser::warped(&sound.spectrum, hearing(view).warp)?;
            Ok((view, analyser))
        });
        Ok(Self {
            analyser: Analyser::new(&sound.spectrum)?,
            warped: others.into_iter().collect::<Result<_>>()?,
            sound: sound.clone(),
        })
    }

    /// Decodes a recording to the rate of the spectrogram.
    ///
    /// # Errors
    /// As [`decode::decode`].
    pub fn decode(&self, bytes: &[u8], path: &Path) -> Result<Recording> {
        let mut recording = decode::decode(bytes, path, self.sound.spectrum.sample_rate_hz)?;
        if self.sound.loudest_is_one {
            let values = recording.samples.iter();
            let loudest = values.fold(0.0f32, |most, value| most.max(value.abs()));
            let factor = if loudest > 0.0 { 1.0 / loudest } else { 1.0 };
            recording
                .samples
                .iter_mut()
                .for_each(|value| *value *= factor);
        }
        Ok(recording)
    }

    /// The spectrogram of a recording as it is.
    ///
    /// # Errors
    /// As [`Analyser::log_mel`].
    pub fn plain(&self, samples: &[f32]) -> Result<LogMel> {
        self.analyser.log_mel(samples)
    }

    /// The spectrogram of a recording in a view, without the quiet at its ends. `plain` is
    /// [`Ear::plain`] of the same samples.
    ///
    /// # Errors
    /// `BadInput`, naming `path`, when there is nothing but silence.
    pub fn heard(
        &self,
        samples: &[f32],
        plain: &LogMel,
        view: View,
        path: &Path,
    ) -> Result<LogMel> {
        let Hearing { trim_db, .. } = hearing(view);
        let (start, end) = self.loud(plain, trim_db).ok_or_else(|| {
            let what = "is silent";
            Error::at(
                ErrorKind::BadInput,
                path,
                what,
                "record it again or remove it",
            )
        })?;
        let warped = self.warped.iter().find(|(of, _)| *of == view);
        match warped {
            Some((_, analyser)) => Ok(analyser.log_mel(samples)?.part(start, end)),
            None => Ok(plain.part(start, end)),
        }
    }

    /// The frames from the first to the last that are no more than `below_db` quieter than the
    /// loudest, and a few around them; `None` when all are at the floor.
    fn loud(&self, log_mel: &LogMel, below_db: f64) -> Option<(usize, usize)> {
        let loudness = loudness(log_mel);
        let loudest = loudness.iter().copied().fold(f64::MIN, f64::max);
        if loudest <= (2.0 * self.sound.spectrum.floor).ln() {
            return None;
        }
        let is_loud = |level: &f64| *level > loudest - nepers(below_db);
        let first = loudness.iter().position(is_loud)?;
        let last = loudness.iter().rposition(is_loud)?;
        let end = (last + 1 + KEPT_FRAMES).min(loudness.len());
        Some((first.saturating_sub(KEPT_FRAMES), end))
    }

    /// Fills the input of a backbone that takes values: a window around the middle of what is
    /// loud. `plain` is [`Ear::plain`] of the same samples.
    ///
    /// # Errors
    /// As [`Analyser::log_mel`]; `Failed` when `input` has another length.
    pub fn values(
        &self,
        samples: &[f32],
        plain: &LogMel,
        path: &Path,
        input: &mut [f32],
    ) -> Result<()> {
        let (start, end) = self
            .loud(plain, hearing(View::Original).trim_db)
            .unwrap_or((0, plain.frames()));
        let middle = (start + end) * self.sound.spectrum.step_samples / 2;
        let count = self.sound.window_samples();
        let window = around(samples, middle, count);
        let log_mel = self.analyser.log_mel(&window)?;
        let each = self.sound.frame_values();
        if log_mel.frames() * each != input.len() {
            let what = format_args!("the sound gives {} values", log_mel.frames() * each);
            return Err(Error::at(
                ErrorKind::Failed,
                path,
                what,
                "correct the manifest",
            ));
        }
        for (row, out) in log_mel.rows().zip(input.chunks_exact_mut(each)) {
            match self.sound.coefficients {
                0 => out
                    .iter_mut()
                    .zip(row)
                    .for_each(|(out, value)| *out = *value as f32),
                count => {
                    let values = cepstra(row, count);
                    out.iter_mut()
                        .zip(values)
                        .for_each(|(out, value)| *out = value as f32);
                }
            }
        }
        Ok(())
    }
}

/// The samples of a part, or all.
pub fn samples_of(recording: &Recording, part: Option<Part>) -> &[f32] {
    let samples = &recording.samples[..];
    let Some(part) = part else {
        return samples;
    };
    let place = |ms: u32| {
        let place = u64::from(ms) * u64::from(recording.sample_rate_hz) / 1000;
        (place as usize).min(samples.len())
    };
    samples
        .get(place(part.start_ms)..place(part.end_ms))
        .unwrap_or_default()
}

/// `count` samples around the one at `middle`, silence where there are none. All of a shorter
/// recording is kept.
fn around(samples: &[f32], middle: usize, count: usize) -> Vec<f32> {
    let most = samples.len().saturating_sub(count);
    let start = middle.saturating_sub(count / 2).min(most);
    let kept = samples.get(start..).unwrap_or_default();
    let kept = kept.get(..count).unwrap_or(kept);
    let before = (count - kept.len()) / 2;
    let mut window = vec![0.0; count];
    window[before..before + kept.len()].copy_from_slice(kept);
    window
}

/// The logarithm of the mean power over all bands, of every frame.
fn loudness(log_mel: &LogMel) -> Vec<f64> {
    let bands = log_mel.bands.max(1) as f64;
    let mean = |row: &[f64]| (row.iter().map(|value| value.exp()).sum::<f64>() / bands).ln();
    log_mel.rows().map(mean).collect()
}

/// A spectrogram as a grey picture: time to the right, high bands above, the loudest cell
/// white, and what is quieter by [`statistics::RANGE_DB`] black.
pub fn picture(log_mel: &LogMel) -> Decoded {
    let clipped = statistics::clipped(log_mel);
    let loudest = clipped.values.iter().copied().fold(f64::MIN, f64::max);
    let range = nepers(statistics::RANGE_DB);
    let (width, height) = (clipped.frames(), clipped.bands);
    let mut pixels = Vec::with_capacity(3 * width * height);
    for band in (0..height).rev() {
        for row in clipped.rows() {
            let level = 1.0 - (loudest - row[band]) / range;
            pixels.extend([(255.0 * level.clamp(0.0, 1.0)).round() as u8; 3]);
        }
    }
    Decoded::new(width as u32, height as u32, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(samples: Vec<f32>) -> Recording {
        Recording {
            sample_rate_hz: 8_000,
            samples,
        }
    }

    /// Half a second of silence, a second of a tone, silence again.
    fn tone_in_silence() -> Recording {
        let tone = (0..8_000).map(|i| 0.3 * (0.6 * i as f32).sin());
        let silence = vec![0.0; 4_000];
        recording(
            silence
                .iter()
                .copied()
                .chain(tone)
                .chain(silence.clone())
                .collect(),
        )
    }

    #[test]
    fn settings_come_back_from_the_text_of_a_head() {
        let sound = Sound::usual(11_025);
        let text = format!("{} v1 nchw 3x224x224", sound.identity());
        assert_eq!(Sound::of_identity(&text), Some(sound.clone()));
        assert_eq!(Sound::of_identity(&sound.identity()), Some(sound));
        for other in [
            "v1 nchw",
            "",
            "sound v1 {}",
            "sound v1 {\"window_seconds\":1.0}",
        ] {
            assert_eq!(Sound::of_identity(other), None, "{other}");
        }
    }

    #[test]
    fn quiet_ends_are_left_out_and_silence_is_refused() {
        let ear = Ear::new(&Sound::usual(8_000)).unwrap();
        let path = Path::new("a.wav");
        let heard = |samples: &[f32]| {
            let plain = ear.plain(samples)?;
            ear.heard(samples, &plain, View::Original, path)
        };
        let frames = heard(&tone_in_silence().samples).unwrap().frames();
        assert!((100..108).contains(&frames), "{frames}");
        let silent = heard(&[0.0; 8_000]);
        let line = silent.unwrap_err().to_string();
        assert!(line.starts_with("a.wav: is silent; "), "{line}");
    }

    #[test]
    fn a_picture_is_as_long_as_the_sound_and_the_loudest_is_white() {
        let ear = Ear::new(&Sound::usual(8_000)).unwrap();
        let samples = tone_in_silence().samples;
        let plain = ear.plain(&samples).unwrap();
        let path = Path::new("a.wav");
        let heard = ear.heard(&samples, &plain, View::Original, path).unwrap();
        let picture = picture(&heard);
        assert_eq!(
            (picture.width() as usize, picture.height()),
            (heard.frames(), 40)
        );
        assert_eq!(picture.pixels().iter().max(), Some(&255));
    }

    #[test]
    fn a_window_lies_around_its_middle_and_keeps_all_of_what_is_shorter() {
        let samples: Vec<f32> = (1..=10).map(|i| i as f32).collect();
        assert_eq!(around(&samples, 5, 4), [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(around(&samples, 0, 4), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(around(&samples, 10, 4), [7.0, 8.0, 9.0, 10.0]);
        assert_eq!(around(&samples[..2], 1, 4), [0.0, 1.0, 2.0, 0.0]);
    }
}
