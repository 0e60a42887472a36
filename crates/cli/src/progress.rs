//! Progress bars with time left, on a terminal; silence in a pipe.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use fieldtune::session::{Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};

/// One bar at a time, on standard error.
pub struct Bars {
    shown: bool,
    current: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Bars where standard error is a terminal.
    pub fn new() -> Self {
        Self {
            shown: std::io::stderr().is_terminal(),
            current: Mutex::new(None),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn at(&self, stage: Stage, done: usize, all: usize) {
        if !self.shown {
            return;
        }
        let Ok(mut current) = self.current.lock() else {
            return;
        };
        if current.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            *current = Some((stage, bar(stage, all)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    }
}

fn bar(stage: Stage, all: usize) -> ProgressBar {
    let bar = ProgressBar::new(all as u64);
    let template = "{msg:>10} {bar:30} {pos}/{len}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(match stage {
        Stage::Features => "features",
        Stage::Search => "search",
        Stage::Curve => "curve",
        Stage::Pictures => "pictures",
        Stage::Windows => "windows",
        Stage::Device => "device",
    });
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
