//! The process that has the source open. The one that looks at what comes is confined, so it
//! could neither open a device again nor start a program; this one can, looks at nothing, and
//! hands on bytes. It is this same program, started with [`FLAG`], with what to open on
//! standard input. When that closes, the other process is gone, however it ended: then this
//! one ends too, and with it the program that it started.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Opening;
use super::message::{Message, send};
use crate::beside::purpose;
use crate::device::port;
use crate::error::{Error, ErrorKind, Result};

/// The argument that makes this program a keeper.
pub const FLAG: &str = "--keep-source";

/// Most bytes that are handed on at once.
const BLOCK_BYTES: usize = 1 << 16;
/// How long the first pause is before a source is opened again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long pauses become.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long one wait for a line's bytes is.
const WAIT: Duration = Duration::from_millis(100);
/// Of what a program says last, so much is told, in characters.
const TOLD: usize = 300;

/// The program at work, so that it can be ended from the thread that sees the other process go.
type Running = Arc<Mutex<Option<Child>>>;

/// Keeps the source that standard input names open, until standard input closes or the source
/// ends for good. Nothing is printed: what there is to say goes the way of the bytes.
pub fn keep() {
    let Some(opening) = purpose::<Opening>() else {
        return;
    };
    let running = Running::default();
    let watched = Arc::clone(&running);
    thread::spawn(move || {
        // Nothing more comes: this waits for the end.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        end(&watched);
        std::process::exit(0);
    });
    let mut keeper = Keeper {
        out: io::stdout().lock(),
        running,
        pause: FIRST_PAUSE,
        came: false,
    };
    let last = match keeper.run(&opening) {
        Ok(()) => Message::Ended,
        Err(error) => Message::Failed(error),
    };
    let _ = send(&mut keeper.out, &last);
    end(&keeper.running);
}

fn held(running: &Running) -> MutexGuard<'_, Option<Child>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(running: &Running) {
    if let Some(mut child) = held(running).take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

struct Keeper<W> {
    out: W,
    running: Running,
    pause: Duration,
    /// Whether a byte ever came.
    came: bool,
}

impl<W: Write> Keeper<W> {
    /// Until the source ends.
    fn run(&mut self, opening: &Opening) -> Result<()> {
        match opening {
            Opening::File { path } => self.file(path),
            Opening::Serial { path, baud } => self.serial(path, *baud),
            Opening::Program {
                program,
                arguments,
                device,
            } => self.program(program, arguments, *device),
        }
    }

    /// Hands a message on. Where nobody takes it, the other process is gone.
    fn tell(&mut self, message: &Message<'_>) {
        if send(&mut self.out, message).is_err() {
            end(&self.running);
            std::process::exit(0);
        }
    }

    fn hand_on(&mut self, bytes: &[u8]) {
        self.came = true;
        self.pause = FIRST_PAUSE;
        self.tell(&Message::Bytes(bytes));
    }

    /// Says what happened and waits, longer every time that nothing comes.
    fn wait(&mut self, what: &str) {
        let seconds = self.pause.as_secs();
        self.tell(&Message::Note(&format!(
            "{what}; trying again in {seconds} s"
        )));
        thread::sleep(self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let failed = |error: io::Error| {
            Error::at(
                ErrorKind::BadInput,
                path,
                error,
                "check that it can be read",
            )
        };
        let mut file = File::open(path).map_err(failed)?;
        self.tell(&Message::Begun);
        self.copy(&mut file).map_err(failed)
    }

    /// Hands on all bytes up to the end.
    fn copy(&mut self, source: &mut dyn Read) -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match source.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => self.hand_on(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn serial(&mut self, path: &Path, baud: u32) -> Result<()> {
        let name = path.to_string_lossy();
        let mut opened = Some(port::open(&name, baud)?);
        loop {
            let why = match opened.take() {
                Some(mut port) => {
                    self.tell(&Message::Begun);
                    let mut block = vec![0; BLOCK_BYTES];
                    loop {
                        match port.receive(&mut block, WAIT) {
                            Ok(0) => {}
                            Ok(count) => self.hand_on(&block[..count]),
                            Err(error) => break format!("{name}: is gone ({error})"),
                        }
                    }
                }
                None => match port::open(&name, baud) {
                    Ok(port) => {
                        opened = Some(port);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
            };
            self.wait(&why);
        }
    }

    fn program(&mut self, program: &str, arguments: &[String], device: bool) -> Result<()> {
        loop {
            let (status, said) = self.run_once(program, arguments)?;
            if status.success() && !device {
                return Ok(());
            }
            let said = match said.is_empty() {
                true => String::new(),
                false => format!(": {said}"),
            };
            let what = format!("{program} ended ({status}){said}");
            if !self.came {
                // What devices are here is told instead of a remedy, see `Device::explained`.
                let remedy = match device {
                    true => "",
                    false => "; run it by hand to see why",
                };
                return Err(Error::new(
                    ErrorKind::BadInput,
                    format_args!("{what}{remedy}"),
                ));
            }
            self.wait(&what);
        }
    }

    /// Runs a program to its end; how it ended, and the last that it said.
    fn run_once(&mut self, program: &str, arguments: &[String]) -> Result<(ExitStatus, String)> {
        let failed = |error: io::Error| {
            let remedy = "check that it can be started";
            Error::at(ErrorKind::Failed, Path::new(program), error, remedy)
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Held while it starts, so that there is no moment in which nobody would end it.
        let mut running = held(&self.running);
        let mut child = command.spawn().map_err(failed)?;
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        *running = Some(child);
        drop(running);
        let said = thread::spawn(move || errors.map_or_else(String::new, last_line));
        self.tell(&Message::Begun);
        if let Some(mut out) = out {
            // Where it cannot be read, it is as good as ended.
            let _ = self.copy(&mut out);
        }
        // One that closed its output but goes on is of no use.
        let Some(mut child) = held(&self.running).take() else {
            std::process::exit(0);
        };
        let status = ended(&mut child).map_err(failed)?;
        Ok((status, said.join().unwrap_or_default()))
    }
}

/// How a program that closed its output ended; it is given a moment to.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    for _ in 0..20 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()
}

/// The last line that is not blank, up to its limit.
fn last_line(mut from: impl Read) -> String {
    let (mut last, mut line, mut block) = (Vec::new(), Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut block) {
        for byte in &block[..count] {
            match byte {
                b'\n' | b'\r' if !line.is_empty() => last = std::mem::take(&mut line),
                b'\n' | b'\r' => {}
                _ if line.len() < TOLD => line.push(*byte),
                _ => {}
            }
        }
    }
    let text = if line.is_empty() { last } else { line };
    String::from_utf8_lossy(&text).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_why() {
        assert_eq!(last_line(&b"first\nsecond\r\n\n"[..]), "second");
        assert_eq!(last_line(&b""[..]), "");
        assert_eq!(last_line(&vec![b'x'; 1 << 20][..]).len(), TOLD);
    }
}
