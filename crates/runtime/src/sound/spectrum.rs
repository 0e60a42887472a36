//! Sound as power in mel bands against time. The numbers are those of librosa's
//! `melspectrogram` with the same parameters (`tests/spectrogram_golden.rs`): frames that
//! overlap, a Hann window, the Fourier transform, triangles over its lines. The logarithm is
//! natural.
//!
//! The transform runs in 64 bits: near the floor of the logarithm, 32 leave two digits of a
//! quiet band beside a loud one.

use std::f64::consts::TAU;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How frequencies become mel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mel {
    /// 2595 log10(1 + f / 700).
    Htk,
    /// Linear up to 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    Slaney,
}

/// How a spectrogram is made. The names of librosa's parameters stand in brackets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spectrum {
    /// The rate that recordings are brought to, in Hz (`sr`).
    pub sample_rate_hz: u32,
    /// Samples under the Hann window (`win_length`).
    pub window_samples: usize,
    /// Samples from one frame to the next (`hop_length`).
    pub step_samples: usize,
    /// Samples of the transform, the window in their middle, zeros around it (`n_fft`).
    pub fft_samples: usize,
    /// Mel bands (`n_mels`).
    pub bands: usize,
    /// Lower end of the lowest band, in Hz (`fmin`).
    pub lowest_hz: f64,
    /// Upper end of the highest band, in Hz (`fmax`).
    pub highest_hz: f64,
    /// The mel scale (`htk`).
    pub mel: Mel,
    /// Triangles of equal area instead of equal height (`norm="slaney"`).
    #[serde(default)]
    pub equal_area: bool,
    /// Sums magnitudes instead of their squares (`power=1`).
    #[serde(default)]
    pub magnitude: bool,
    /// The first frame lies around the first sample, silence before it, instead of beginning
    /// there (`center`).
    #[serde(default)]
    pub centred: bool,
    /// Added before the logarithm.
    pub floor: f64,
}

/// Largest of the sizes of a spectrogram.
const MAX_SIZE: usize = 1 << 16;

impl Spectrum {
    /// What is usual for sound of this rate: frames of 32 ms every 10 ms, 40 bands up to half
    /// the rate.
    pub fn usual(sample_rate_hz: u32) -> Self {
        let window_samples = (sample_rate_hz as usize * 32).div_ceil(1000);
        Self {
            sample_rate_hz,
            window_samples,
            step_samples: (sample_rate_hz as usize).div_ceil(100),
            fft_samples: 2 * window_samples.next_power_of_two(),
            bands: 40,
            lowest_hz: 20.0,
            highest_hz: f64::from(sample_rate_hz) / 2.0,
            mel: Mel::Htk,
            equal_area: false,
            magnitude: false,
            centred: true,
            floor: 1e-8,
        }
    }

    /// What is wrong with these settings, naming the key, or `None`.
    pub fn problem(&self) -> Option<String> {
        let rates = super::decode::RATES_HZ;
        if !rates.contains(&self.sample_rate_hz) {
            let (low, high) = (rates.start(), rates.end());
            return Some(format!("`sample_rate_hz` must be {low} to {high}"));
        }
        let sizes = [
            ("window_samples", self.window_samples, self.fft_samples),
            ("step_samples", self.step_samples, MAX_SIZE),
            ("fft_samples", self.fft_samples, MAX_SIZE),
            ("bands", self.bands, 1024),
        ];
        for (key, size, most) in sizes {
            if size == 0 || size > most {
                return Some(format!("`{key}` is {size}, must be 1 to {most}"));
            }
        }
        let half = f64::from(self.sample_rate_hz) / 2.0;
        let rising = self.lowest_hz >= 0.0 && self.highest_hz > self.lowest_hz;
        if !rising || self.highest_hz > half {
            return Some(format!(
                "`lowest_hz` and `highest_hz` must rise, from 0 to {half}"
            ));
        }
        let floor_is_sound = self.floor > 0.0 && self.floor.is_finite();
        (!floor_is_sound).then(|| "`floor` must be above 0".into())
    }

    /// Frames of a recording of so many samples.
    pub fn frames(&self, samples: usize) -> usize {
        let padded = samples
            + if self.centred {
                self.fft_samples / 2 * 2
            } else {
                0
            };
        // What is shorter than a frame is filled up.
        let framed = if self.centred {
            self.fft_samples
        } else {
            self.window_samples
        };
        1 + padded.saturating_sub(framed) / self.step_samples.max(1)
    }

    /// Seconds from one frame to the next.
    pub fn step_seconds(&self) -> f64 {
        self.step_samples as f64 / f64::from(self.sample_rate_hz)
    }
}

/// Logarithms of power in bands, `[frames, bands]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct LogMel {
    /// `[frames, bands]`.
    pub values: Vec<f64>,
    /// Bands of a frame.
    pub bands: usize,
}

impl LogMel {
    /// Frames.
    pub fn frames(&self) -> usize {
        self.values.len() / self.bands.max(1)
    }

    /// The frames one after another, `[bands]` each.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[f64]> + ExactSizeIterator {
        self.values.chunks_exact(self.bands)
    }

    /// Those of the frames from `start` up to `end`.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> Self {
        let cells = start * self.bands..end * self.bands;
        Self {
            values: self.values.get(cells).unwrap_or_default().to_vec(),
            bands: self.bands,
        }
    }
}

/// One triangle: its weights from line `first` of the transform on.
struct Band {
    first: usize,
    weights: Vec<f64>,
}

/// What makes spectrograms with given settings.
pub struct Analyser {
    settings: Spectrum,
    fft: Arc<dyn RealToComplex<f64>>,
    /// `[window_samples]`.
    window: Vec<f64>,
    bands: Vec<Band>,
}

impl Analyser {
    /// Prepares the transform and the bands.
    ///
    /// # Errors
    /// `Usage` when the settings contradict each other.
    pub fn new(settings: &Spectrum) -> Result<Self> {
        Self::warped(settings, 1.0)
    }

    /// As [`Analyser::new`], with all bands `factor` times as high: what a voice of a shorter
    /// or longer throat does to the spectrum. Bands beyond half the rate are silent.
    ///
    /// # Errors
    /// As [`Analyser::new`].
    pub fn warped(settings: &Spectrum, factor: f64) -> Result<Self> {
        if let Some(problem) = settings.problem() {
            return Err(Error::new(
                ErrorKind::Usage,
                format_args!("sound: {problem}"),
            ));
        }
        let turn = |i: usize| TAU * i as f64 / settings.window_samples as f64;
        let weight = |i: usize| 0.5 * (1.0 - turn(i).cos());
        Ok(Self {
            fft: RealFftPlanner::new().plan_fft_forward(settings.fft_samples),
            window: (0..settings.window_samples).map(weight).collect(),
            bands: bands(settings, factor),
            settings: settings.clone(),
        })
    }

    /// The logarithms of the power in each band of each frame. A recording shorter than a
    /// frame is filled up with silence.
    ///
    /// # Errors
    /// `Failed` when the library fails.
    pub fn log_mel(&self, samples: &[f32]) -> Result<LogMel> {
        let settings = &self.settings;
        let frames = settings.frames(samples.len());
        let mut values = Vec::with_capacity(frames * settings.bands);
        let mut line_powers = vec![0.0; settings.fft_samples / 2 + 1];
        let mut buffer = self.fft.make_input_vec();
        let mut lines = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for frame in 0..frames {
            self.frame(samples, frame, &mut buffer);
            self.fft
                .process_with_scratch(&mut buffer, &mut lines, &mut scratch)
                .map_err(|error| Error::new(ErrorKind::Failed, error))?;
            for (power, line) in line_powers.iter_mut().zip(&lines) {
                *power = self.power(line);
            }
            values.extend(self.bands.iter().map(|band| {
                let lines = line_powers.iter().skip(band.first);
                let sum: f64 = lines.zip(&band.weights).map(|(p, w)| p * w).sum();
                (sum + settings.floor).ln()
            }));
        }
        Ok(LogMel {
            values,
            bands: settings.bands,
        })
    }

    /// The samples of one frame under the window, in the middle of `buffer`.
    fn frame(&self, samples: &[f32], frame: usize, buffer: &mut [f64]) {
        let before = (buffer.len() - self.window.len()) / 2;
        let start = frame * self.settings.step_samples;
        // Where the window's first sample lies; half a transform before, if centred.
        let shift = if self.settings.centred {
            buffer.len() / 2 - before
        } else {
            0
        };
        buffer.fill(0.0);
        for (index, (slot, weight)) in buffer[before..].iter_mut().zip(&self.window).enumerate() {
            let place = (start + index).checked_sub(shift);
            let sample = place.and_then(|place| samples.get(place)).copied();
            *slot = weight * f64::from(sample.unwrap_or(0.0));
        }
    }

    fn power(&self, line: &Complex<f64>) -> f64 {
        if self.settings.magnitude {
            line.norm()
        } else {
            line.norm_sqr()
        }
    }
}

/// Triangles over the lines of the transform, evenly spaced in mel, then moved by a factor.
fn bands(settings: &Spectrum, factor: f64) -> Vec<Band> {
    let mel = settings.mel;
    let (low, high) = (mel.of(settings.lowest_hz), mel.of(settings.highest_hz));
    let spacing = (high - low) / (settings.bands + 1) as f64;
    let edge = |k: usize| factor * mel.hz(low + spacing * k as f64);
    let line_hz = f64::from(settings.sample_rate_hz) / settings.fft_samples as f64;
    let lines = settings.fft_samples / 2 + 1;
    let band = |k: usize| {
        let (low, middle, high) = (edge(k), edge(k + 1), edge(k + 2));
        let height = if settings.equal_area {
            2.0 / (high - low)
        } else {
            1.0
        };
        let weight = |line: usize| {
            let hz = line as f64 * line_hz;
            let slopes = ((hz - low) / (middle - low)).min((high - hz) / (high - middle));
            height * slopes.max(0.0)
        };
        let first = ((low / line_hz).floor().max(0.0) as usize).min(lines);
        let end = ((high / line_hz).ceil() as usize + 1).min(lines);
        Band {
            first,
            weights: (first..end).map(weight).collect(),
        }
    };
    (0..settings.bands).map(band).collect()
}

/// Where Slaney's scale turns from linear to logarithmic, in Hz and in mel.
const TURN_HZ: f64 = 1000.0;
const TURN_MEL: f64 = 15.0;
/// Hz a mel below it.
const LINEAR_HZ: f64 = 200.0 / 3.0;
/// Mel for each factor e above it: 27 for a factor 6.4.
const LOGARITHMIC: f64 = 27.0 / 1.856_297_990_365_626;

impl Mel {
    fn of(self, hz: f64) -> f64 {
        match self {
            Self::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
            Self::Slaney if hz < TURN_HZ => hz / LINEAR_HZ,
            Self::Slaney => TURN_MEL + LOGARITHMIC * (hz / TURN_HZ).ln(),
        }
    }

    fn hz(self, mel: f64) -> f64 {
        match self {
            Self::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
            Self::Slaney if mel < TURN_MEL => mel * LINEAR_HZ,
            Self::Slaney => TURN_HZ * ((mel - TURN_MEL) / LOGARITHMIC).exp(),
        }
    }
}

/// The first `count` numbers of the discrete cosine transform (type II) of a frame, each
/// scaled by the square root of 2 / bands: mel cepstra.
pub fn cepstra(bands: &[f64], count: usize) -> impl Iterator<Item = f64> + '_ {
    let n = bands.len().max(1) as f64;
    (0..count).map(move |k| {
        let turn = |band: usize| (TAU / 2.0 * k as f64 * (band as f64 + 0.5) / n).cos();
        let terms = bands
            .iter()
            .enumerate()
            .map(|(band, value)| value * turn(band));
        (2.0 / n).sqrt() * terms.sum::<f64>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mel_scales_are_their_inverses_and_meet_where_they_turn() {
        for mel in [Mel::Htk, Mel::Slaney] {
            for hz in [0.0, 440.0, 999.9, 1000.0, 7000.0] {
                assert!((mel.hz(mel.of(hz)) - hz).abs() < 1e-9, "{mel:?} {hz}");
            }
        }
        assert!((Mel::Slaney.of(6400.0) - 42.0).abs() < 1e-9);
        assert!((LOGARITHMIC - 27.0 / 6.4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_tone_is_loudest_in_its_own_band_and_silence_is_the_floor() {
        let settings = Spectrum::usual(8_000);
        let analyser = Analyser::new(&settings).unwrap();
        let tone: Vec<f32> = (0..8000)
            .map(|i| (TAU * 1000.0 * f64::from(i) / 8000.0).sin() as f32)
            .collect();
        let log_mel = analyser.log_mel(&tone).unwrap();
        assert_eq!((log_mel.frames(), log_mel.bands), (101, 40));
        let middle = log_mel.rows().nth(50).unwrap();
        let loudest = (0..40).max_by(|a, b| middle[*a].total_cmp(&middle[*b]));
        let mel = |hz| settings.mel.of(hz);
        let spacing = (mel(4000.0) - mel(20.0)) / 41.0;
        let band = ((mel(1000.0) - mel(20.0)) / spacing - 1.0).round() as usize;
        assert_eq!(loudest, Some(band));
        let silent = analyser.log_mel(&[0.0; 10]).unwrap();
        assert_eq!(silent.frames(), 1);
        assert!(
            silent
                .values
                .iter()
                .all(|value| (value - 1e-8f64.ln()).abs() < 1e-9)
        );
    }

    #[test]
    fn frames_are_counted_as_they_are_made() {
        let mut settings = Spectrum::usual(16_000);
        for centred in [true, false] {
            settings.centred = centred;
            let analyser = Analyser::new(&settings).unwrap();
            for samples in [1, 511, 512, 513, 1024, 16_000] {
                let made = analyser.log_mel(&vec![0.1; samples]).unwrap().frames();
                assert_eq!(made, settings.frames(samples), "{centred} {samples}");
            }
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        type Change = fn(&mut Spectrum);
        let cases: [(Change, &str); 5] = [
            (|s| s.sample_rate_hz = 0, "sample_rate_hz"),
            (|s| s.window_samples = 9999, "window_samples"),
            (|s| s.step_samples = 0, "step_samples"),
            (|s| s.highest_hz = 5000.0, "highest_hz"),
            (|s| s.floor = f64::NAN, "floor"),
        ];
        for (change, key) in cases {
            let mut settings = Spectrum::usual(8_000);
            change(&mut settings);
            assert!(
                settings.problem().is_some_and(|text| text.contains(key)),
                "{key}"
            );
        }
        assert_eq!(Spectrum::usual(44_100).problem(), None);
    }
}
