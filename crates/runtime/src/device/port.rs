//! The line to a device: a serial port, or a device simulated in this process. Bytes only;
//! what they mean is `client.rs`'s matter.

use std::path::Path;
use std::time::Duration;

use super::simulated::Simulated;
use crate::error::Result;

/// How a port that is no file is called; see [`open`].
const SIMULATED: &str = "simulated";

/// A line on which bytes go both ways.
pub trait Port {
    /// Sends all bytes.
    ///
    /// # Errors
    /// When the line is gone.
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()>;

    /// Waits a moment, at most `wait`, for bytes and returns how many came; 0 for none.
    ///
    /// # Errors
    /// When the line is gone.
    fn receive(&mut self, buffer: &mut [u8], wait: Duration) -> std::io::Result<usize>;
}

/// Opens a port by its name: the path of a serial device such as `/dev/ttyACM0`, or
/// `simulated` for a device in this process, or `simulated:FILE` for one whose flash is
/// kept in FILE.
///
/// # Errors
/// `Failed` when it cannot be opened or is no serial port; `Usage` for a speed that serial
/// ports do not have; `BadInput` when FILE is no flash.
pub fn open(name: &str, baud: u32) -> Result<Box<dyn Port>> {
    match name.split_once(':') {
        _ if name == SIMULATED => Ok(Box::new(Simulated::new(None)?)),
        Some((SIMULATED, file)) => Ok(Box::new(Simulated::new(Some(Path::new(file)))?)),
        _ => serial(Path::new(name), baud),
    }
}

#[cfg(unix)]
fn serial(path: &Path, baud: u32) -> Result<Box<dyn Port>> {
    unix::Serial::open(path, baud).map(|port| Box::new(port) as Box<dyn Port>)
}

#[cfg(not(unix))]
fn serial(path: &Path, _baud: u32) -> Result<Box<dyn Port>> {
    use crate::error::{Error, ErrorKind};

    let remedy = "use it on Linux or macOS";
    let what = "serial ports are not supported on this system";
    Err(Error::at(ErrorKind::Failed, path, what, remedy))
}

#[cfg(unix)]
mod unix {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::termios::{
        ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex, isatty, tcflush, tcgetattr,
        tcsetattr,
    };

    use super::Port;
    use crate::error::{Error, ErrorKind, Result};

    /// A serial device, as the system names it.
    pub(super) struct Serial(File);

    impl Serial {
        pub(super) fn open(path: &Path, baud: u32) -> Result<Self> {
            let failed = |what: &dyn std::fmt::Display, remedy: &str| {
                Error::at(ErrorKind::Failed, path, what, remedy)
            };
            // Without waiting for a carrier, which most devices never raise; and the port
            // must not become the terminal that sends this process signals.
            let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let opened = options.custom_flags(flags.bits() as i32).open(path);
            let file = opened.map_err(|error| {
                let remedy = match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        "join the group that owns it, often dialout, and log in again"
                    }
                    _ => "plug the device in; `ls /dev/ttyACM* /dev/ttyUSB*` lists serial ports",
                };
                failed(&error, remedy)
            })?;
            if !isatty(&file) {
                return Err(failed(
                    &"is no serial port",
                    "give one such as /dev/ttyACM0",
                ));
            }
            let unusable = |error: rustix::io::Errno| {
                failed(
                    &format_args!("cannot be set up: {error}"),
                    "plug it in again",
                )
            };
            let flags = fcntl_getfl(&file).map_err(unusable)?;
            fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(unusable)?;
            let mut modes = tcgetattr(&file).map_err(unusable)?;
            modes.make_raw();
            modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
            // A read waits a tenth of a second for the first byte.
            modes.special_codes[SpecialCodeIndex::VMIN] = 0;
            modes.special_codes[SpecialCodeIndex::VTIME] = 1;
            modes.set_speed(baud).map_err(|_| {
                let what = format_args!("--baud {baud}: no serial port has this speed; try 115200");
                Error::new(ErrorKind::Usage, what)
            })?;
            tcsetattr(&file, OptionalActions::Now, &modes).map_err(unusable)?;
            // What an earlier session left in the line.
            tcflush(&file, QueueSelector::IOFlush).map_err(unusable)?;
            Ok(Self(file))
        }

        /// Whether the other end is gone: reading then gives nothing, for ever.
        fn is_hung_up(&self) -> bool {
            let mut line = [PollFd::new(&self.0, PollFlags::IN)];
            let at_once = Timespec::default();
            let polled = poll(&mut line, Some(&at_once));
            polled.is_ok() && line[0].revents().contains(PollFlags::HUP)
        }
    }

    impl Port for Serial {
        fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            self.0.write_all(bytes)
        }

        fn receive(&mut self, buffer: &mut [u8], _: Duration) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 if self.is_hung_up() => Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => Ok(count),
            }
        }
    }
}
