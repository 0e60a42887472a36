//! Samples from a camera, a microphone or a serial line, as they come, instead of from files.
//!
//! A process of its own has the source open ([`keep`], `keeper.rs`): a device, a file or pipe,
//! or a program that reads a device (`program.rs`). It hands bytes on (`message.rs`) to
//! [`Live`], where a [`Splitter`] cuts them into samples: whole JPEG pictures ([`Mjpeg`]), WAV
//! windows ([`Sounds`]) or `.csv` windows ([`Lines`]), each as the bytes of a file of its kind.
//! So everything behind is as it is for files.

mod cutting;
mod keeper;
mod lines;
mod live;
mod message;
mod mjpeg;
mod present;
mod program;
mod sound;
mod splitter;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::senses::Kind;

pub use cutting::{Cutting, require_kind};
pub use keeper::{FLAG, keep};
pub use lines::{Columns, Extent, Lines, Wanted as WantedLines};
pub use live::{Event, Kept, Live, Sample};
pub use mjpeg::{MAX_FRAME_BYTES, Mjpeg};
pub use present::present;
pub use sound::{Format, Sounds, Wanted as WantedSounds};
pub use splitter::{Found, Splitter};

/// A time as text, such as `2026-11-28T06:15:30.123Z`.
pub fn utc(time: SystemTime) -> String {
    formatted(time, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// A time for the names of files, such as `20261128T061530.123Z`.
pub(crate) fn utc_in_names(time: SystemTime) -> String {
    formatted(time, "%Y%m%dT%H%M%S%.3fZ")
}

fn formatted(time: SystemTime, format: &str) -> String {
    // A clock that is off by ten thousand years shows the beginning of 1970.
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime(format).to_string()
}

/// How a source is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A file, to its end; or a pipe, until its writer ends.
    File {
        /// Where it is.
        path: PathBuf,
    },
    /// A serial port; again and again, if it was there once.
    Serial {
        /// Where it is.
        path: PathBuf,
        /// Bits a second.
        baud: u32,
    },
    /// What a program writes to its standard output.
    Program {
        /// Its name or path.
        program: String,
        /// What it is told.
        arguments: Vec<String>,
        /// Whether it reads a device, and so never ends as it should.
        device: bool,
    },
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What kind of samples it gives.
    pub kind: Kind,
    /// For messages, and in place of a file's name.
    pub name: PathBuf,
    /// How it is opened.
    pub opening: Opening,
}

impl Device {
    /// The camera `name`: a `/dev/video*`, `pi` or `pi:1` for a Raspberry Pi's own, or a file
    /// or pipe with a stream of JPEG pictures.
    ///
    /// # Errors
    /// `BadInput` when it is not there, with what is; `Failed` when no program that could read
    /// it is installed.
    pub fn camera(name: &str) -> Result<Self> {
        let opening = match program::pi_number(name) {
            Some(_) => program::camera(name)?,
            None => match stream(name, Kind::Picture)? {
                Some(stream) => stream,
                None => program::camera(name)?,
            },
        };
        Ok(Self::of(Kind::Picture, name, opening))
    }

    /// The microphone `name`, as ALSA calls it, at a rate; or a file or pipe of 16-bit WAV or
    /// of bare samples.
    ///
    /// # Errors
    /// `BadInput` when a path is not there; `Failed` when `arecord` is not installed.
    pub fn microphone(name: &str, rate_hz: u32) -> Result<Self> {
        let opening = match name.contains('/') || Path::new(name).exists() {
            true => stream(name, Kind::Sound)?.ok_or_else(|| {
                let what = "is a device file; microphones go by their names in ALSA";
                let remedy = present(Kind::Sound);
                Error::at(ErrorKind::BadInput, Path::new(name), what, remedy)
            })?,
            false => program::microphone(name, rate_hz)?,
        };
        Ok(Self::of(Kind::Sound, name, opening))
    }

    /// The serial port `name`; or a file or pipe of lines.
    ///
    /// # Errors
    /// `BadInput` when it is not there, with what is.
    pub fn serial(name: &str, baud: u32) -> Result<Self> {
        let opening = stream(name, Kind::Series)?.unwrap_or(Opening::Serial {
            path: name.into(),
            baud,
        });
        Ok(Self::of(Kind::Series, name, opening))
    }

    /// What a command writes: `line` is a program and its arguments with blanks between them.
    ///
    /// # Errors
    /// `Usage` when the line is empty; `Failed` when there is no such program.
    pub fn command(kind: Kind, line: &str) -> Result<Self> {
        Ok(Self::of(kind, line, program::command(line)?))
    }

    fn of(kind: Kind, name: &str, opening: Opening) -> Self {
        Self {
            kind,
            name: name.into(),
            opening,
        }
    }

    /// Whether it is a file, which has an end and waits to be read.
    pub fn is_file(&self) -> bool {
        matches!(&self.opening, Opening::File { path } if path.is_file())
    }

    /// `error` with what is here instead, where it is the device that is wrong.
    pub fn explained(&self, error: Error) -> Error {
        let is_device = matches!(&self.opening, Opening::Program { device: true, .. });
        if !is_device || error.kind() != ErrorKind::BadInput {
            return error;
        }
        Error::at(ErrorKind::BadInput, &self.name, error, present(self.kind))
    }
}

/// The file or pipe of this name; `None` for a device.
///
/// # Errors
/// `BadInput` when there is nothing to read, with what is here of this kind.
fn stream(name: &str, kind: Kind) -> Result<Option<Opening>> {
    let path = Path::new(name);
    let wrong =
        |what: &dyn std::fmt::Display| Error::at(ErrorKind::BadInput, path, what, present(kind));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(&"does not exist"),
        _ => wrong(&error),
    })?;
    if metadata.is_dir() {
        return Err(wrong(&"is a folder, not a source"));
    }
    #[cfg(unix)]
    let is_device = std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type());
    #[cfg(not(unix))]
    let is_device = false;
    Ok((!is_device).then(|| Opening::File { path: path.into() }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_846_530_007);
        assert_eq!(utc(time), "2026-11-28T06:15:30.007Z");
        assert_eq!(utc_in_names(time), "20261128T061530.007Z");
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        for refused in [
            Device::camera("/nowhere/video7"),
            Device::microphone("/nowhere/fifo", 8_000),
            Device::serial("/nowhere/tty", 115_200),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().contains("does not exist; "), "{error}");
            assert!(error.to_string().contains(" here"), "{error}");
        }
    }
}
