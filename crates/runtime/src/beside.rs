//! This program once more, as a process beside this one, which has what this one is confined
//! from: a source of samples, the network. Its first line of standard input says what it is
//! for, and where that closes the other process is gone, however it ended.

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A process beside this one. Ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    process: Child,
    input: Option<ChildStdin>,
    /// What it says, if that is read.
    pub output: Option<ChildStdout>,
    /// How long it has to end by itself.
    farewell: Duration,
}

impl Beside {
    /// Starts a process and says what it is for; what it says goes to `output`. Belongs before
    /// this process is confined.
    pub fn start(
        mut command: Command,
        output: Stdio,
        purpose: &impl Serialize,
        farewell: Duration,
    ) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(output);
        // A Ctrl-C is for this process, which ends the other one in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.spawn()?;
        let mut beside = Self {
            input: process.stdin.take(),
            output: process.stdout.take(),
            process,
            farewell,
        };
        beside.say(&serde_json::to_string(purpose)?)?;
        Ok(beside)
    }

    /// Says a line.
    pub fn say(&mut self, line: &dyn Display) -> io::Result<()> {
        let told = self.input.as_mut().map(|input| writeln!(input, "{line}"));
        told.unwrap_or(Ok(()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Closed, it tells the other one to end.
        drop(self.input.take());
        let start = Instant::now();
        while start.elapsed() < self.farewell {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What this process is for, where it is the one beside. `None` where whatever started it says
/// nothing that can be read.
pub(crate) fn purpose<T: DeserializeOwned>() -> Option<T> {
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first).ok()?;
    serde_json::from_str(&first).ok()
}
