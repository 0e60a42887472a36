//! Windows of sound out of a stream: WAV with its header first, or bare samples. Each becomes
//! a WAV file. A window that is silent beside what was heard lately is passed over.

use std::path::PathBuf;
use std::time::Duration;

use super::splitter::{Found, Splitter};
use crate::error::{Error, ErrorKind, Result};
use crate::sound::decode::RATES_HZ;
use crate::sound::windows::SILENT_DB;

/// Largest window, in bytes.
const MAX_WINDOW_BYTES: usize = 64 << 20;
/// Longest header before the samples, in bytes.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// A WAV header that claims this much, or nothing, stands before a stream without end.
const ENDLESS_BYTES: u32 = 0x7fff_0000;
/// Samples that one level is taken from.
const LEVEL_SAMPLES: usize = 256;
/// How fast the loudest is forgotten, in dB a second: a bang makes nobody deaf for long.
const FORGOTTEN_DB: f64 = 0.5;
/// Quieter than one step of 16 bits: nothing at all.
const NOTHING: f64 = 1.0;

/// 16-bit samples of so many channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Samples a second of each channel.
    pub rate_hz: u32,
    /// Channels, whose samples stand side by side.
    pub channels: u16,
}

impl Format {
    fn frame_bytes(self) -> usize {
        2 * usize::from(self.channels)
    }

    /// Bytes of so much time, whole frames, at least one.
    fn bytes(self, time: Duration) -> usize {
        let frames = (time.as_secs_f64() * f64::from(self.rate_hz)).round() as usize;
        frames.max(1).saturating_mul(self.frame_bytes())
    }
}

/// What windows are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Length of a window.
    pub window: Duration,
    /// From the start of one to that of the next.
    pub hop: Duration,
    /// What a stream without a header holds.
    pub bare: Format,
    /// Whether silent windows are passed over.
    pub skip_silence: bool,
}

/// Cuts sound into windows.
pub struct Sounds {
    /// For messages.
    name: PathBuf,
    wanted: Wanted,
    /// `None` before the header was read.
    format: Option<Format>,
    /// The header as far as it is there, then samples.
    bytes: Vec<u8>,
    /// Bytes of samples that still come before something else does.
    left: Option<u64>,
    /// Bytes to pass over where the hop is longer than the window.
    skip: usize,
    /// Power of the loudest heard lately.
    loudest: f64,
}

impl Sounds {
    /// For a stream of this name.
    pub fn new(name: PathBuf, wanted: Wanted) -> Self {
        Self {
            name,
            wanted,
            format: None,
            bytes: Vec::new(),
            left: None,
            skip: 0,
            loudest: 0.0,
        }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        let remedy = "give a stream of 16-bit WAV, or bare 16-bit samples";
        Error::at(ErrorKind::BadInput, &self.name, what, remedy)
    }

    /// Looks for the format; `None` when more bytes are needed.
    fn header(&mut self) -> Result<Option<Format>> {
        const MAGIC: &[u8] = b"RIFF";
        let known = self.bytes.len().min(MAGIC.len());
        if self.bytes[..known] != MAGIC[..known] {
            return self.checked(self.wanted.bare).map(Some);
        }
        if self.bytes.len() > MAX_HEADER_BYTES {
            return Err(self.wrong("has no samples where a WAV file has them"));
        }
        if self.bytes.len() < 12 {
            return Ok(None);
        }
        if &self.bytes[8..12] != b"WAVE" {
            return Err(self.wrong("is RIFF but no WAV"));
        }
        let (mut at, mut format) = (12, None);
        while let Some(chunk) = self.bytes.get(at..at + 8) {
            let name = &chunk[..4];
            let length = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
            if name == b"data" {
                let format: Option<Format> = format;
                let format = format.ok_or_else(|| self.wrong("says nothing of its samples"))?;
                let endless = length == 0 || length >= ENDLESS_BYTES;
                self.left = (!endless).then_some(length.into());
                self.bytes.drain(..at + 8);
                return self.checked(format).map(Some);
            }
            let body = self.bytes.get(at + 8..).unwrap_or_default();
            if name == b"fmt " {
                let Some(body) = body.get(..16) else {
                    return Ok(None);
                };
                format = Some(self.format_of(body)?);
            }
            // Chunks begin at even places.
            let padded = (length as usize).saturating_add(1) & !1;
            at = at.saturating_add(padded).saturating_add(8);
            if at > MAX_HEADER_BYTES {
                return Err(self.wrong("has no samples where a WAV file has them"));
            }
        }
        Ok(None)
    }

    /// What the 16 bytes of a `fmt ` chunk say.
    fn format_of(&self, body: &[u8]) -> Result<Format> {
        /// Plain samples, and those whose kind stands further behind.
        const PLAIN: [u16; 2] = [1, 0xfffe];
        let short = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
        if !PLAIN.contains(&short(0)) || short(14) != 16 {
            let what = format_args!("has samples of {} bits, kind {}", short(14), short(0));
            return Err(self.wrong(what));
        }
        Ok(Format {
            channels: short(2),
            rate_hz: u32::from_le_bytes([body[4], body[5], body[6], body[7]]),
        })
    }

    fn checked(&self, format: Format) -> Result<Format> {
        let Format { rate_hz, channels } = format;
        if !RATES_HZ.contains(&rate_hz) || !(1..=32).contains(&channels) {
            let what = format_args!("has {rate_hz} samples a second on {channels} channels");
            return Err(self.wrong(what));
        }
        if format.bytes(self.wanted.window) > MAX_WINDOW_BYTES {
            let what = format_args!(
                "a window of {:?} is larger than {MAX_WINDOW_BYTES} bytes; give a shorter --window",
                self.wanted.window
            );
            return Err(Error::new(ErrorKind::Usage, what));
        }
        Ok(format)
    }

    /// Takes samples of the stream; the rest of it where the header says that it ends.
    fn take(&mut self, mut samples: &[u8]) {
        if let Some(left) = &mut self.left {
            let kept = usize::try_from(*left).unwrap_or(usize::MAX);
            samples = samples.get(..kept).unwrap_or(samples);
            *left -= samples.len() as u64;
        }
        let skipped = self.skip.min(samples.len());
        self.skip -= skipped;
        self.bytes.extend_from_slice(&samples[skipped..]);
    }

    /// Gives the windows that are whole.
    fn cut(&mut self, format: Format, found: &mut dyn FnMut(Found)) {
        let (window, hop) = (
            format.bytes(self.wanted.window),
            format.bytes(self.wanted.hop),
        );
        let mut from = 0;
        while let Some(samples) = self.bytes.get(from..from + window) {
            let heard = !self.wanted.skip_silence || is_heard(samples, &mut self.loudest);
            if heard {
                found(Found::Sample(wav(samples, format)));
            }
            let forgotten = FORGOTTEN_DB * self.wanted.hop.as_secs_f64();
            self.loudest *= 10f64.powf(-forgotten / 10.0);
            from += hop;
            if from > self.bytes.len() {
                self.skip = from - self.bytes.len();
                from = self.bytes.len();
            }
        }
        self.bytes.drain(..from);
    }
}

impl Splitter for Sounds {
    fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> Result<()> {
        // In pieces, so that never much more than a window is kept.
        for piece in bytes.chunks(1 << 16) {
            let format = match self.format {
                Some(format) => {
                    self.take(piece);
                    format
                }
                None => {
                    self.bytes.extend_from_slice(piece);
                    let Some(format) = self.header()? else {
                        continue;
                    };
                    self.format = Some(format);
                    let samples = std::mem::take(&mut self.bytes);
                    self.take(&samples);
                    format
                }
            };
            self.cut(format, found);
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.format = None;
        self.left = None;
        self.skip = 0;
        self.bytes.clear();
    }

    fn clear(&mut self) {
        let Some(format) = self.format else {
            return;
        };
        // Whole frames only, or channels would change places.
        let rest = self.bytes.len() % format.frame_bytes();
        let whole = self.bytes.len() - rest;
        self.bytes.drain(..whole);
        self.skip = 0;
    }
}

/// Whether a window is not silent beside the loudest, which it may be itself: its power stands
/// in `loudest` then.
fn is_heard(samples: &[u8], loudest: &mut f64) -> bool {
    let level = level(samples);
    *loudest = loudest.max(level);
    level > NOTHING && level >= *loudest * 10f64.powf(-SILENT_DB / 10.0)
}

/// The mean power of the loudest few samples, in steps of 16 bits.
fn level(samples: &[u8]) -> f64 {
    let power = |part: &[u8]| {
        let (values, _) = part.as_chunks::<2>();
        let values = values
            .iter()
            .map(|value| f64::from(i16::from_le_bytes(*value)));
        let count = values.len().max(1) as f64;
        values.map(|value| value * value).sum::<f64>() / count
    };
    let parts = samples.chunks(2 * LEVEL_SAMPLES);
    parts.map(power).fold(0.0, f64::max)
}

/// A WAV file of these samples.
fn wav(samples: &[u8], format: Format) -> Vec<u8> {
    let (data_bytes, frame_bytes) = (samples.len() as u32, format.frame_bytes() as u16);
    let mut file = Vec::with_capacity(44 + samples.len());
    file.extend(b"RIFF");
    file.extend((36 + data_bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(format.channels.to_le_bytes());
    file.extend(format.rate_hz.to_le_bytes());
    file.extend((format.rate_hz * u32::from(frame_bytes)).to_le_bytes());
    file.extend(frame_bytes.to_le_bytes());
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend(data_bytes.to_le_bytes());
    file.extend(samples);
    file
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sound::decode::decode;

    const RATE_HZ: u32 = 8_000;

    fn splitter(window_ms: u64, hop_ms: u64, skip_silence: bool) -> Sounds {
        let wanted = Wanted {
            window: Duration::from_millis(window_ms),
            hop: Duration::from_millis(hop_ms),
            bare: Format {
                rate_hz: RATE_HZ,
                channels: 1,
            },
            skip_silence,
        };
        Sounds::new("a".into(), wanted)
    }

    fn windows(splitter: &mut Sounds, bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>> {
        let mut windows = Vec::new();
        for bytes in bytes.chunks(chunk) {
            let mut keep = |found| match found {
                Found::Sample(window) => windows.push(window),
                Found::Note(note) => panic!("{note}"),
            };
            splitter.push(bytes, &mut keep)?;
        }
        Ok(windows)
    }

    /// Samples that count up, so that each says where it stood.
    fn counted(count: u16) -> Vec<u8> {
        (0..count).flat_map(u16::to_le_bytes).collect()
    }

    fn first(window: &[u8]) -> u16 {
        u16::from_le_bytes([window[44], window[45]])
    }

    #[test]
    fn windows_overlap_touch_or_leave_gaps_as_asked() {
        for (hop_ms, firsts) in [
            (5, vec![0, 40, 80, 120, 160]),
            (10, vec![0, 80, 160]),
            (25, vec![0, 200]),
        ] {
            for chunk in [1, 7, 10_000] {
                let found = windows(&mut splitter(10, hop_ms, false), &counted(281), chunk);
                let found = found.unwrap();
                let starts: Vec<u16> = found.iter().map(|it| first(it)).collect();
                // The last start whose window the stream still fills.
                let most = firsts.iter().filter(|start| **start + 80 <= 281).count();
                assert_eq!(starts[..most], firsts, "{hop_ms} {chunk}");
                let heard = decode(&found[0], Path::new("a"), RATE_HZ).unwrap();
                assert_eq!(heard.samples.len(), 80);
            }
        }
    }

    #[test]
    fn a_header_is_read_and_what_follows_the_samples_is_not_heard() {
        let stereo = Format {
            rate_hz: 16_000,
            channels: 2,
        };
        let mut file = wav(&counted(640), stereo);
        file.extend(b"LIST\x04\0\0\0junkjunkjunk");
        let found = windows(&mut splitter(10, 10, false), &file, 3).unwrap();
        // 320 frames, 160 a window.
        assert_eq!((found.len(), first(&found[1])), (2, 320));
        assert_eq!(found[0][22..28], [2, 0, 0x80, 0x3e, 0, 0]);
        // A stream does not know its length.
        for claimed in [0, u32::MAX, 0x7fff_ffff] {
            let mut endless = wav(&counted(640), stereo);
            endless[40..44].copy_from_slice(&u32::to_le_bytes(claimed));
            let found = windows(&mut splitter(10, 10, false), &endless, 99).unwrap();
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn other_formats_are_refused() {
        let mono = Format {
            rate_hz: 16_000,
            channels: 1,
        };
        let file = wav(&counted(99), mono);
        for (at, value) in [(20, 3), (34, 8), (22, 0), (25, 0), (8, b'A'), (12, b'x')] {
            let mut wrong = file.clone();
            wrong[at] = value;
            let refused = windows(&mut splitter(10, 10, false), &wrong, 5);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::BadInput, "{at}");
        }
    }

    #[test]
    fn silence_is_passed_over_and_a_bang_forgotten() {
        let tone = |size: f64, seconds: usize| -> Vec<u8> {
            let value = move |i: usize| (size * (0.3 * i as f64).sin()) as i16;
            (0..seconds * RATE_HZ as usize)
                .flat_map(|i| value(i).to_le_bytes())
                .collect()
        };
        let mut splitter = splitter(1000, 1000, true);
        let mut count = |bytes: &[u8]| windows(&mut splitter, bytes, 4096).unwrap().len();
        assert_eq!(count(&tone(0.0, 3)), 0, "nothing at all");
        assert_eq!(count(&tone(20_000.0, 2)), 2);
        assert_eq!(count(&tone(50.0, 3)), 0, "52 dB quieter");
        assert_eq!(count(&tone(500.0, 3)), 3, "32 dB quieter");
        assert!(count(&tone(50.0, 60)) > 30, "the loud was long ago");
    }
}
