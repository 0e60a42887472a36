//! The flags that name a source of samples: a camera, a microphone, a serial line.

use std::process::Command;
use std::time::Duration;

use clap::Args;
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::senses::Kind;
use fieldtune::sources::{Cutting, Device, FLAG, Kept};

use super::duration;

/// Speed of a serial port that nobody states.
const USUAL_BAUD: u32 = 115_200;

/// Where samples come from, and how they are cut.
#[derive(Clone, Debug, Args)]
pub struct SourceArgs {
    /// A camera: /dev/video0, or `pi` (`pi:1`) for a Raspberry Pi's own; or a file or pipe of
    /// JPEG pictures one behind the other
    #[arg(long, value_name = "CAMERA", group = "source")]
    pub camera: Option<String>,
    /// A program that writes JPEG pictures one behind the other to its standard output, and
    /// its arguments, cut at blanks
    #[arg(long, value_name = "COMMAND", group = "source")]
    pub camera_command: Option<String>,
    /// A microphone as ALSA calls it, such as default or plughw:CARD=Mic; or a file or pipe of
    /// 16-bit WAV, or of bare 16-bit samples of one channel
    #[arg(long, value_name = "MICROPHONE", group = "source")]
    pub microphone: Option<String>,
    /// A program that writes sound in this form to its standard output
    #[arg(long, value_name = "COMMAND", group = "source")]
    pub microphone_command: Option<String>,
    /// A serial port whose device sends lines of values, the first of which names the columns;
    /// or a file or pipe of such lines
    #[arg(long, value_name = "PORT", group = "source")]
    pub serial: Option<String>,
    /// Bits a second of the serial port [default: 115200]
    #[arg(long, value_name = "N", requires = "serial")]
    pub baud: Option<u32>,
    /// Names of the columns, such as time_ms,x,y,z, where the device does not send them
    #[arg(long, value_name = "NAMES", requires = "serial")]
    pub columns: Option<String>,
    /// Length of a window of sound or sensor values
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub window: Option<Duration>,
}

impl SourceArgs {
    /// What kind of samples the source gives, if one is named.
    pub fn kind(&self) -> Option<Kind> {
        let any = |one: &Option<String>, other: &Option<String>| one.is_some() || other.is_some();
        match self {
            _ if any(&self.camera, &self.camera_command) => Some(Kind::Picture),
            _ if any(&self.microphone, &self.microphone_command) => Some(Kind::Sound),
            _ => self.serial.as_ref().map(|_| Kind::Series),
        }
    }

    /// The source that is named. A microphone records at this rate.
    ///
    /// # Errors
    /// `Usage` when none is named; `BadInput` when it is not there; `Failed` when a program
    /// for it is not.
    pub fn device(&self, rate_hz: u32) -> Result<Device> {
        match self {
            Self {
                camera: Some(name), ..
            } => Device::camera(name),
            Self {
                camera_command: Some(line),
                ..
            } => Device::command(Kind::Picture, line),
            Self {
                microphone: Some(name),
                ..
            } => Device::microphone(name, rate_hz),
            Self {
                microphone_command: Some(line),
                ..
            } => Device::command(Kind::Sound, line),
            Self {
                serial: Some(name), ..
            } => Device::serial(name, self.baud.unwrap_or(USUAL_BAUD)),
            _ => {
                let what = "no source is named; give --camera, --microphone or --serial";
                Err(Error::new(ErrorKind::Usage, what))
            }
        }
    }

    /// How its stream is cut; `hop` is from the start of one window to that of the next.
    pub fn cutting(&self, hop: Option<Duration>) -> Cutting {
        Cutting {
            window: self.window,
            hop,
            columns: self.columns.clone(),
        }
    }
}

/// Starts the process that has a source open.
///
/// # Errors
/// `Failed` when it cannot be started.
pub fn keep(device: &Device) -> Result<Kept> {
    Kept::start(once_more(FLAG)?, device)
}

/// This program once more, as something else.
///
/// # Errors
/// `Failed` when it does not find itself.
pub fn once_more(flag: &str) -> Result<Command> {
    let program = std::env::current_exe().map_err(|error| {
        let what = format_args!("this program does not find itself ({error}); run again");
        Error::new(ErrorKind::Failed, what)
    })?;
    let mut command = Command::new(program);
    command.arg(flag);
    Ok(command)
}
