//! A command at work that goes on until it is told to stop, and what it says meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// A command at work. Killed if a test ends early.
pub struct Running {
    /// The process.
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts a command; what it says goes to files in `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let (out, err) = (folder.join("out"), folder.join("err"));
        let file = |path| File::create(path).expect("a file");
        command.stdin(Stdio::piped());
        command.stdout(file(&out)).stderr(file(&err));
        let child = command.spawn().expect("the command starts");
        Self { child, out, err }
    }

    /// Its standard input.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("not taken before")
    }

    /// The documents on its standard output, once there are so many.
    pub fn documents(&mut self, count: usize) -> Vec<Value> {
        self.until("lines", |this| this.whole().len() >= count);
        self.whole()
    }

    fn whole(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).expect("the output");
        // A line may be half written.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let document = |line| serde_json::from_str(line).expect("one JSON document a line");
        whole.lines().map(document).collect()
    }

    /// What it said on standard error so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.err).expect("standard error")
    }

    /// Waits until it said this on standard error.
    pub fn says(&mut self, wanted: &str) {
        self.until(wanted, |this| this.errors().contains(wanted));
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            let ended = self.child.try_wait().expect("a child can be waited for");
            // It may have said it just before.
            assert!(
                ended.is_none() || done(self),
                "no {what}: {}",
                self.errors()
            );
            let waited = start.elapsed();
            assert!(waited < PATIENCE, "no {what}: {}", self.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end; the exit code, its documents and what it said on standard error.
    pub fn ended(mut self) -> (Option<i32>, Vec<Value>, String) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None => assert!(start.elapsed() < PATIENCE, "hangs: {}", self.errors()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (status.code(), self.whole(), self.errors())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the process of this number is gone.
pub fn gone(process: u32) {
    let start = Instant::now();
    let is_there = || match fs::read_to_string(format!("/proc/{process}/stat")) {
        // One that ended but that nobody waits for.
        Ok(stat) => !stat.contains(") Z "),
        Err(_) => false,
    };
    while is_there() {
        assert!(start.elapsed() < PATIENCE, "process {process} stays");
        std::thread::sleep(Duration::from_millis(10));
    }
}
