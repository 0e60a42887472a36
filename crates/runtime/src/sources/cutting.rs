//! How the stream of a source is cut into samples: as a head needs them, or as a user wants to
//! collect them.

use std::path::Path;
use std::time::Duration;

use super::lines::{Columns, Extent, Lines};
use super::mjpeg::Mjpeg;
use super::sound::{self, Format, Sounds};
use super::splitter::Splitter;
use super::{Device, lines};
use crate::error::{Error, ErrorKind, Result};
use crate::senses::{Kind, Sense};
use crate::series::Series;
use crate::sound::Sound;

/// Windows of one that was asked to collect without saying how long they are.
const USUAL_WINDOW: Duration = Duration::from_secs(4);
/// Windows that a head is given begin twice in the length of one.
const USUAL_HOPS: u32 = 2;
/// Times may be off the grid by this share of a period.
const SLACK: f64 = 0.04;

/// Whether a source of this kind fits a head.
///
/// # Errors
/// `Mismatch`, naming the head, when it was trained on samples of another kind.
pub fn require_kind(source: Kind, sense: &Sense, head: &Path) -> Result<()> {
    let wanted = sense.kind();
    if source == wanted {
        return Ok(());
    }
    let what = format_args!(
        "was trained on {}, but the source gives {}",
        wanted.plural(),
        source.plural()
    );
    let remedy = format_args!("give {}", flag(wanted));
    Err(Error::at(ErrorKind::Mismatch, head, what, remedy))
}

/// What the user says of it.
#[derive(Clone, Debug, Default)]
pub struct Cutting {
    /// Length of a window of sound or of sensor values.
    pub window: Option<Duration>,
    /// From the start of one to that of the next.
    pub hop: Option<Duration>,
    /// The line that names the columns of a sensor.
    pub columns: Option<String>,
}

impl Cutting {
    /// Cuts samples for a head of this sense, which is of the device's kind.
    ///
    /// # Errors
    /// `Usage` for a flag that makes no sense here; `Mismatch` when the columns are not the
    /// head's.
    pub fn for_head(&self, device: &Device, sense: &Sense) -> Result<Box<dyn Splitter>> {
        self.require(device.kind)?;
        match sense {
            Sense::Picture => Ok(Box::new(Mjpeg::default())),
            Sense::Sound(sound) => Ok(Box::new(self.sounds_for(device, sound))),
            Sense::Series(series) => Ok(Box::new(self.lines_for(device, series)?)),
        }
    }

    /// Cuts samples to be collected. Bare sound has this rate.
    ///
    /// # Errors
    /// `Usage` for a flag that makes no sense here.
    pub fn to_collect(&self, device: &Device, rate_hz: u32) -> Result<Box<dyn Splitter>> {
        self.require(device.kind)?;
        let window = self.window.unwrap_or(USUAL_WINDOW);
        let hop = self.hop.unwrap_or(window);
        match device.kind {
            Kind::Picture => Ok(Box::new(Mjpeg::default())),
            Kind::Sound => {
                let wanted = sound::Wanted {
                    window,
                    hop,
                    bare: mono(rate_hz),
                    skip_silence: false,
                };
                Ok(Box::new(Sounds::new(device.name.clone(), wanted)))
            }
            Kind::Series => {
                let wanted = lines::Wanted {
                    extent: Extent::Seconds {
                        window: window.as_secs_f64(),
                        hop: hop.as_secs_f64(),
                        slack: 0.0,
                    },
                    header: self.columns.clone(),
                    columns: None,
                };
                Ok(Box::new(Lines::new(device.name.clone(), wanted)?))
            }
        }
    }

    fn require(&self, kind: Kind) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Usage, what));
        if kind == Kind::Picture && (self.window.is_some() || self.hop.is_some()) {
            return wrong("--window and --hop are for microphones and sensors; leave them out");
        }
        let none = |time: Option<Duration>| time.is_some_and(|time| time.is_zero());
        match none(self.window) || none(self.hop) {
            true => wrong("--window and --hop have to be longer than nothing, such as 1s"),
            false => Ok(()),
        }
    }

    fn sounds_for(&self, device: &Device, sound: &Sound) -> Sounds {
        let usual = Duration::from_secs_f32(sound.window_seconds);
        let window = self.window.unwrap_or(usual);
        let wanted = sound::Wanted {
            window,
            hop: self.hop.unwrap_or(window / USUAL_HOPS),
            bare: mono(sound.spectrum.sample_rate_hz),
            skip_silence: true,
        };
        Sounds::new(device.name.clone(), wanted)
    }

    fn lines_for(&self, device: &Device, series: &Series) -> Result<Lines> {
        let period = f64::from(series.period_seconds);
        let points = |time: Duration| ((time.as_secs_f64() / period).round() as usize).max(1);
        let window = self.window.map_or(series.window_points, points);
        let hop = self.hop.map_or(series.step_points, points);
        let extent = match series.timed {
            true => Extent::Seconds {
                window: period * (window - 1) as f64,
                hop: period * hop as f64,
                slack: period * SLACK,
            },
            false => Extent::Rows { window, hop },
        };
        let wanted = lines::Wanted {
            extent,
            header: self.columns.clone(),
            columns: Some(Columns {
                channels: series.channels.clone(),
                timed: series.timed,
            }),
        };
        Lines::new(device.name.clone(), wanted)
    }
}

fn mono(rate_hz: u32) -> Format {
    Format {
        rate_hz,
        channels: 1,
    }
}

/// What gives samples of this kind.
fn flag(kind: Kind) -> &'static str {
    match kind {
        Kind::Picture => "--camera",
        Kind::Sound => "--microphone",
        Kind::Series => "--serial",
    }
}
