//! Decoding of recordings within bounds of memory: any rate and any number of channels
//! becomes one channel at the rate that is wanted.

use std::io::{Cursor, ErrorKind as IoKind};
use std::path::Path;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP3, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

use super::resample::Resampler;
use crate::backbone::caught;
use crate::error::{Error, ErrorKind, Result};

/// Longest recording that is decoded, in seconds.
pub const MAX_SECONDS: u64 = 30 * 60;

/// Rates that a recording may have, in Hz.
pub const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Most channels of a recording.
const MAX_CHANNELS: usize = 32;

const FORMATS: &str = "replace it with a whole wav, flac, ogg or mp3 recording, or remove it";
const DAMAGED: &str = "copy it again or remove it";

/// One channel of sound, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// The mean of all channels, full scale is 1.
    pub samples: Vec<f32>,
}

impl Recording {
    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }
}

/// What the head of a file says of the recording in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stated {
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// How long it is, where the file says.
    pub seconds: Option<f64>,
}

/// What a recording's file states, without decoding it.
///
/// # Errors
/// `BadInput`, naming `path`: not a recording, no sound in it, or more than
/// [`MAX_SECONDS`] of it.
pub fn stated(bytes: &[u8], path: &Path) -> Result<Stated> {
    guarded(path, || Ok(Opened::new(bytes, path)?.stated))
}

/// Decodes a WAV, FLAC, Ogg Vorbis or MP3 file, known by its content, whatever its name, and
/// brings it to `sample_rate_hz`.
///
/// # Errors
/// `BadInput`, naming `path`: not a recording, damaged, cut off, longer than
/// [`MAX_SECONDS`], of an absurd rate, or with samples that are no numbers. What a file
/// claims is checked before anything is decoded, and counted while it is.
pub fn decode(bytes: &[u8], path: &Path, sample_rate_hz: u32) -> Result<Recording> {
    guarded(path, || {
        let opened = Opened::new(bytes, path)?;
        let samples = opened.samples(sample_rate_hz)?;
        Ok(Recording {
            sample_rate_hz,
            samples,
        })
    })
}

/// Runs `work`, which calls the decoders; they promise no absence of panics on hostile files.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|reason| {
        let what = format_args!("is damaged ({reason})");
        Err(Error::at(ErrorKind::BadInput, path, what, DAMAGED))
    })
}

/// A file that was recognised, before its first packet.
struct Opened<'a> {
    path: &'a Path,
    format: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    stated: Stated,
    /// Samples of each channel, where the file says.
    frames: Option<u64>,
    /// Whether that is no more than an estimate.
    estimated: bool,
}

impl<'a> Opened<'a> {
    fn new(bytes: &'a [u8], path: &'a Path) -> Result<Self> {
        let bad = |what: String, remedy: &str| Error::at(ErrorKind::BadInput, path, what, remedy);
        if bytes.is_empty() {
            return Err(bad("is empty".into(), DAMAGED));
        }
        let unreadable = |fault: Fault| {
            let what = format!("cannot be decoded ({})", reason(&fault));
            bad(what, FORMATS)
        };
        let source = Box::new(Cursor::new(bytes));
        let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
        let format = symphonia::default::get_probe()
            .probe(
                &Hint::new(),
                stream,
                FormatOptions::default(),
                MetadataOptions::default(),
            )
            .map_err(unreadable)?;
        let Some(track) = format.default_track(TrackType::Audio) else {
            return Err(bad("holds no sound".into(), FORMATS));
        };
        let Some(CodecParameters::Audio(codec)) = &track.codec_params else {
            return Err(bad("does not say how its sound is coded".into(), FORMATS));
        };
        let stated = stated_of(codec, track.num_frames, path)?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(codec, &AudioDecoderOptions::default())
            .map_err(unreadable)?;
        Ok(Self {
            path,
            track: track.id,
            frames: track.num_frames,
            estimated: [CODEC_ID_MP3, CODEC_ID_VORBIS].contains(&codec.codec),
            stated,
            decoder,
            format,
        })
    }

    /// All samples at the wanted rate.
    fn samples(mut self, sample_rate_hz: u32) -> Result<Vec<f32>> {
        let rate_hz = self.stated.sample_rate_hz;
        let mut resampler = Resampler::new(rate_hz, sample_rate_hz)?;
        let (mut interleaved, mut mono) = (Vec::new(), Vec::new());
        let mut count: u64 = 0;
        while let Some(packet) = self.next_packet(count)? {
            match self.decoder.decode(&packet) {
                Ok(decoded) => {
                    let spec = decoded.spec();
                    let channels = spec.channels().count();
                    if spec.rate() != rate_hz || channels == 0 || channels > MAX_CHANNELS {
                        return Err(self.damaged("its rate or channels change on the way"));
                    }
                    decoded.copy_to_vec_interleaved::<f32>(&mut interleaved);
                    mixed(&interleaved, channels, &mut mono);
                }
                // The first packets of an MP3 that was cut out of a longer one need data of
                // packets that are gone.
                Err(Fault::DecodeError(_)) if count == 0 => continue,
                Err(fault) => return Err(self.damaged(&reason(&fault))),
            }
            count += mono.len() as u64;
            if count > MAX_SECONDS * u64::from(rate_hz) {
                return Err(too_long(self.path, None));
            }
            if mono.iter().any(|value| !value.is_finite()) {
                return Err(self.damaged("it holds samples that are not finite numbers"));
            }
            resampler.push(&mono)?;
        }
        if count == 0 {
            return Err(self.damaged("there is no sample in it"));
        }
        resampler.finish()
    }

    /// The next packet of the track; `None` at the end.
    fn next_packet(&mut self, count: u64) -> Result<Option<symphonia::core::packet::Packet>> {
        loop {
            match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id != self.track => {}
                Ok(Some(packet)) => return Ok(Some(packet)),
                // Another stream may be chained behind this one.
                Ok(None) | Err(Fault::ResetRequired) => break,
                // Several readers tell the usual end like this.
                Err(Fault::IoError(error)) if error.kind() == IoKind::UnexpectedEof => break,
                Err(fault) => return Err(self.damaged(&reason(&fault))),
            }
        }
        match self.missing(count) {
            true => Err(self.damaged("it ends early")),
            false => Ok(None),
        }
    }

    /// Whether the file says that there is more than `count` samples. MP3 and Vorbis only
    /// estimate it, or count what belongs to no sound.
    fn missing(&self, count: u64) -> bool {
        const PACKETS: u64 = 2 * 1152;
        let stated = self.frames.unwrap_or(0);
        let allowed = match self.estimated {
            true => PACKETS + stated / 50,
            false => 0,
        };
        count + allowed < stated
    }

    fn damaged(&self, what: &str) -> Error {
        let what = format_args!("is damaged ({what})");
        Error::at(ErrorKind::BadInput, self.path, what, DAMAGED)
    }
}

/// Checks what a file claims.
fn stated_of(codec: &AudioCodecParameters, frames: Option<u64>, path: &Path) -> Result<Stated> {
    let bad = |what: String| Error::at(ErrorKind::BadInput, path, what, FORMATS);
    let rate_hz = codec.sample_rate.unwrap_or(0);
    if !RATES_HZ.contains(&rate_hz) {
        return Err(bad(format!(
            "has {rate_hz} samples a second, not {} to {}",
            RATES_HZ.start(),
            RATES_HZ.end()
        )));
    }
    let channels = codec
        .channels
        .as_ref()
        .map_or(1, |channels| channels.count());
    if channels == 0 || channels > MAX_CHANNELS {
        return Err(bad(format!(
            "has {channels} channels, not 1 to {MAX_CHANNELS}"
        )));
    }
    let seconds = frames.map(|frames| frames as f64 / f64::from(rate_hz));
    match seconds {
        Some(seconds) if seconds > MAX_SECONDS as f64 => Err(too_long(path, Some(seconds))),
        _ => Ok(Stated {
            sample_rate_hz: rate_hz,
            seconds,
        }),
    }
}

fn too_long(path: &Path, seconds: Option<f64>) -> Error {
    let how_long = seconds.map_or_else(String::new, |s| format!(" ({:.0} minutes)", s / 60.0));
    let what = format_args!(
        "is too long{how_long}; the limit is {} minutes",
        MAX_SECONDS / 60
    );
    Error::at(ErrorKind::BadInput, path, what, "cut it into shorter ones")
}

/// The mean of the channels.
fn mixed(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
    let share = 1.0 / channels as f32;
    mono.clear();
    let frames = interleaved.chunks_exact(channels);
    mono.extend(frames.map(|frame| share * frame.iter().sum::<f32>()));
}

/// The decoder's reason in a few words.
fn reason(fault: &Fault) -> String {
    match fault {
        Fault::IoError(error) if error.kind() == IoKind::UnexpectedEof => "it ends early".into(),
        Fault::Unsupported(_) => "not a format that is read here".into(),
        Fault::LimitError(_) => "needs too much memory".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_their_mean() {
        let mut mono = vec![9.0];
        mixed(&[1.0, 3.0, -1.0, 0.0], 2, &mut mono);
        assert_eq!(mono, [2.0, -0.5]);
    }
}
