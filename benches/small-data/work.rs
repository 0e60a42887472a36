//! Makes the missing runs on several threads, the shortest first so that a stopped bench has
//! whole columns to show, and tells how long it takes.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::data::DataSet;
use crate::journal::Journal;
use crate::nets;
use crate::setting::Setting;
use crate::study::Study;
use crate::training;
use fieldtune_benches::Failure;

/// Multiply-adds a second that are assumed before any run has been timed.
const ASSUMED_RATE: f64 = 1e10;

/// Runs until nothing of the study is missing.
///
/// # Errors
/// The first failed run's; those that were finished are kept.
pub fn complete(
    study: &Study,
    data: &DataSet,
    journal: &mut Journal,
    threads: usize,
) -> Result<(), Failure> {
    let mut round = 1;
    loop {
        let mut missing = study.missing(journal);
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        println!("{}: round {round}, {} runs", study.name, missing.len());
        make(study, data, journal, &missing, threads)?;
        round += 1;
    }
}

fn make(
    study: &Study,
    data: &DataSet,
    journal: &mut Journal,
    settings: &[Setting],
    threads: usize,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((journal, Progress::new(settings, threads)));
    let worker = || -> Result<(), String> {
        while let Some(setting) = settings.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = training::run(setting, data, study.tested);
            let outcome = outcome.map_err(|error| error.to_string())?;
            let mut shared = shared.lock().map_err(|_| "another thread failed")?;
            let added = shared.0.add(setting, outcome);
            added.map_err(|error| error.to_string())?;
            shared.1.finished(setting, outcome.seconds);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join());
        let mut all = Ok(());
        for result in results {
            let result = result.unwrap_or_else(|_| Err("a thread panicked".into()));
            all = all.and(result.map_err(Into::into));
        }
        all
    })
}

/// Multiply-adds of a run, roughly: three passes a step; with an adversary the upper layers
/// are passed again, forward and backward, for each power step and for training.
pub fn cost(setting: &Setting) -> f64 {
    let Ok(network) = nets::parse(&setting.network) else {
        return 0.0;
    };
    let power_steps = setting.variant.adversary.map_or(0, |a| a.power_steps);
    let passes = match power_steps {
        0 => 3.0,
        steps => 3.5 + 1.5 * f64::from(steps),
    };
    let batch = setting.recipe.batch.min(setting.samples) as f64;
    // An update touches every parameter; that costs about as much as four products.
    let update = 4.0 * network.parameter_elements() as f64;
    let step = passes * batch * network.multiply_adds() as f64 + update;
    f64::from(setting.recipe.steps) * step
}

/// Seconds that some runs will take, by what the runs in the journal took.
pub fn estimate(settings: &[Setting], journal: &Journal, threads: usize) -> f64 {
    // Small networks keep the CPU less busy than large ones: a rate for each.
    let mut rates = HashMap::<&str, (f64, f64)>::new();
    for (setting, outcome) in journal.runs() {
        let (done, seconds) = rates.entry(&setting.network).or_default();
        *done += cost(setting);
        *seconds += outcome.seconds;
    }
    let seconds = settings.iter().map(|setting| {
        let rate = match rates.get(setting.network.as_str()) {
            Some((done, seconds)) if *seconds > 0.0 => done / seconds,
            _ => ASSUMED_RATE,
        };
        cost(setting) / rate
    });
    // An empty sum is -0.
    seconds.sum::<f64>() / threads as f64 + 0.0
}

/// How far a round is.
struct Progress {
    start: Instant,
    runs: usize,
    finished: usize,
    cost_left: f64,
    cost_done: f64,
    seconds_done: f64,
    threads: usize,
    said: Instant,
}

impl Progress {
    fn new(settings: &[Setting], threads: usize) -> Self {
        Self {
            start: Instant::now(),
            runs: settings.len(),
            finished: 0,
            cost_left: settings.iter().map(cost).sum(),
            cost_done: 0.0,
            seconds_done: 0.0,
            threads,
            said: Instant::now(),
        }
    }

    /// Says where things stand, every ten seconds.
    fn finished(&mut self, setting: &Setting, seconds: f64) {
        self.finished += 1;
        self.cost_left -= cost(setting);
        self.cost_done += cost(setting);
        self.seconds_done += seconds;
        if self.said.elapsed().as_secs() >= 10 || self.finished == self.runs {
            self.said = Instant::now();
            let left = self.cost_left / self.cost_done * self.seconds_done / self.threads as f64;
            println!(
                "  {}/{} runs in {:.0} s, about {:.0} s left in this round",
                self.finished,
                self.runs,
                self.start.elapsed().as_secs_f64(),
                left.max(0.0)
            );
        }
    }
}
