//! Finished runs, one a line of JSON in one file that only grows: whatever stops the
//! bench, only the runs under way are lost.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::setting::Setting;
use crate::training::Outcome;
use fieldtune_benches::Failure;

/// All finished runs.
pub struct Journal {
    runs: HashMap<String, Line>,
    /// `None` for runs that are not kept.
    file: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    setting: Setting,
    outcome: Outcome,
}

impl Journal {
    /// Reads the runs in a file and appends to it from now on; without a file, keeps runs
    /// in memory. A last line that was cut short does not count.
    ///
    /// # Errors
    /// When the file cannot be read or opened.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let mut journal = Self {
            runs: HashMap::new(),
            file: None,
        };
        let Some(path) = path else {
            return Ok(journal);
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        for line in text.lines() {
            if let Ok(run) = serde_json::from_str::<Line>(line) {
                journal.runs.insert(run.setting.key(), run);
            }
        }
        let mut file = File::options().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        journal.file = Some(file);
        Ok(journal)
    }

    /// The run of this setting, if it was made.
    pub fn get(&self, setting: &Setting) -> Option<&Outcome> {
        self.runs.get(&setting.key()).map(|run| &run.outcome)
    }

    /// All runs in it.
    pub fn runs(&self) -> impl Iterator<Item = (&Setting, &Outcome)> {
        self.runs.values().map(|run| (&run.setting, &run.outcome))
    }

    /// Keeps a finished run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, setting: &Setting, outcome: Outcome) -> Result<(), Failure> {
        let run = Line {
            setting: setting.clone(),
            outcome,
        };
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(&run)?;
            line.push('\n');
            file.write_all(line.as_bytes())?;
            file.sync_data()?;
        }
        self.runs.insert(setting.key(), run);
        Ok(())
    }
}
