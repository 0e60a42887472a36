//! Programs that answer questions, a JSON document a line each: what another implementation
//! takes for the same work, asked turn by turn.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Failure;

/// A running program. It is ended with this value.
pub struct Served {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The versions that it told at its start.
    pub version: Value,
}

impl Served {
    /// Starts it and waits for its first line, `{"version": ...}`.
    ///
    /// # Errors
    /// When it cannot be started or says nothing.
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let questions = child.stdin.take().ok_or("no pipe")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut served = Self {
            child,
            questions,
            answers,
            version: Value::Null,
        };
        served.version = served.answer()?["version"].clone();
        Ok(served)
    }

    /// Its answer to a question.
    ///
    /// # Errors
    /// When it ended, or answered something else than JSON.
    pub fn ask(&mut self, question: &Value) -> Result<Value, Failure> {
        writeln!(self.questions, "{question}")?;
        self.questions.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            return Err("a reference ended before it answered; its last words stand above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It ends by itself when its input does; nothing is left to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
