//! Which program reads a device. The board's own are used, since the camera's and the sound
//! card's libraries cannot be part of a program that runs on any board.

use std::path::Path;

use super::Opening;
use crate::error::{Error, ErrorKind, Result};

/// In front of the number of one of a Raspberry Pi's own cameras.
const PI: &str = "pi";

/// The programs that read a `/dev/video*`, the first that is installed.
const VIDEO: [&str; 2] = ["ffmpeg", "v4l2-ctl"];
/// Those that read a Raspberry Pi's own cameras; the second is the older name.
const PI_VIDEO: [&str; 2] = ["rpicam-vid", "libcamera-vid"];

/// What reads this camera: a `/dev/video*`, or `pi` or `pi:1` for a Raspberry Pi's own.
///
/// # Errors
/// `Failed` when no program for it is installed.
pub fn camera(name: &str) -> Result<Opening> {
    let (program, arguments) = match pi_number(name) {
        Some(number) => {
            let program = installed(&PI_VIDEO, "rpicam-apps")?;
            let text =
                format!("--camera {number} --codec mjpeg --timeout 0 --nopreview --output -");
            (program, words(&text))
        }
        None => match installed(&VIDEO, "ffmpeg (or v4l-utils)")? {
            // Whatever the camera gives becomes JPEG.
            program @ "ffmpeg" => {
                let before = words("-hide_banner -loglevel error -nostdin -f v4l2 -i");
                let after = words("-codec:v mjpeg -qscale:v 3 -f mjpeg -");
                (program, [before, vec![name.into()], after].concat())
            }
            program => {
                let before =
                    words("--set-fmt-video=pixelformat=MJPG --stream-mmap --stream-to=- -d");
                (program, [before, vec![name.into()]].concat())
            }
        },
    };
    Ok(Opening::Program {
        program: program.into(),
        arguments,
        device: true,
    })
}

/// The number of one of a Raspberry Pi's own cameras.
pub fn pi_number(name: &str) -> Option<u8> {
    match name.strip_prefix(PI)? {
        "" => Some(0),
        number => number.strip_prefix(':')?.parse().ok(),
    }
}

/// What reads this microphone, as ALSA calls it, at a rate: bare samples of one channel.
///
/// # Errors
/// `Failed` when `arecord` is not installed.
pub fn microphone(name: &str, rate_hz: u32) -> Result<Opening> {
    let program = installed(&["arecord"], "alsa-utils")?;
    let before = words("--quiet --file-type raw --format S16_LE --channels 1 --rate");
    let device = vec![rate_hz.to_string(), "--device".into(), name.into()];
    Ok(Opening::Program {
        program: program.into(),
        arguments: [before, device].concat(),
        device: true,
    })
}

/// A program and its arguments on one line, cut at blanks.
///
/// # Errors
/// `Usage` when there is none.
pub fn command(line: &str) -> Result<Opening> {
    let mut words = words(line).into_iter();
    let program = words.next().ok_or_else(|| {
        let what = "the command is empty; give a program and its arguments";
        Error::new(ErrorKind::Usage, what)
    })?;
    if !is_installed(&program) {
        let remedy = "check its name, or install it";
        return Err(Error::at(
            ErrorKind::Failed,
            Path::new(&program),
            "is no program here",
            remedy,
        ));
    }
    Ok(Opening::Program {
        program,
        arguments: words.collect(),
        device: false,
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

/// The first of the programs that is installed; all are of this Debian package.
fn installed<'a>(programs: &[&'a str], package: &str) -> Result<&'a str> {
    let found = programs.iter().find(|program| is_installed(program));
    found.copied().ok_or_else(|| {
        let what = format_args!(
            "{}: is not installed; install the Debian package {package}",
            programs.join(", ")
        );
        Error::new(ErrorKind::Failed, what)
    })
}

fn is_installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_s_own_cameras_are_numbered() {
        assert_eq!((pi_number("pi"), pi_number("pi:1")), (Some(0), Some(1)));
        for other in ["/dev/video0", "pip", "pi:", "pi:x", "pi1"] {
            assert_eq!(pi_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_command_is_cut_at_blanks() {
        let opening = command("sh  -c true").unwrap();
        let Opening::Program {
            program,
            arguments,
            device,
        } = opening
        else {
            panic!("{opening:?}");
        };
        assert_eq!((program.as_str(), device), ("sh", false));
        assert_eq!(arguments, ["-c", "true"]);
        assert_eq!(command(" ").unwrap_err().kind(), ErrorKind::Usage);
        let absent = command("no-such-program -x").unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::Failed);
        let absent = installed(&["no-such-program"], "some-package").unwrap_err();
        assert!(absent.to_string().contains("Debian package some-package"));
    }
}
