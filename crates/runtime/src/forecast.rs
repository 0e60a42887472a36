//! What a training job will take, said before it starts: memory by part, time, and the
//! head's size. The arena is exact by the memory plan; the backbone is measured by
//! running it once; the rest is counted.

mod lighter;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use fieldtune_core::Kernel;
use fieldtune_core::network::Network;
use fieldtune_core::plan::Plan;
use fieldtune_core::random::Random;
use fieldtune_core::sets::MAX_QUANTILES;
use fieldtune_core::unknown::MAX_DIRECTIONS;
use serde::Serialize;

use crate::backbone::{Backbone, Worker};
use crate::basis::{self, Basis};
use crate::budget::{MemoryParts, current_rss_bytes, peak_rss_bytes};
use crate::cache::Cache;
use crate::candidates;
use crate::curve::measure::fits as curve_fits;
use crate::data::{Data, Rows};
use crate::error::{Error, ErrorKind, Result};
use crate::features::{self, LazyBackbone};
use crate::preprocess::{self, View};
use crate::recipe::{self, Recipe, Shape};
use crate::samples::SampleSet;
use crate::search::fits;
use crate::senses::Sense;
use crate::series::{Analyst, Made, Series};
use crate::session::{CURVE_SHARE, Seconds, Settings};
use crate::sound::decode;
use crate::sound::statistics::statistics;
use crate::sound::{Ear, Sound};
use crate::store;
use crate::views::ViewSet;
use crate::whitening::Whitening;

/// Allocators keep freed memory, some for the process and some for each thread, of blocks
/// smaller than [`crate::budget::return_freed_memory`] has them give back.
const SLACK_BYTES: u64 = 2 << 20;

/// Times that every thread runs the backbone to measure it.
const RUNS: usize = 4;

/// What a job will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Bytes by part.
    pub memory: MemoryParts,
    /// All parts together.
    pub peak_bytes: u64,
    /// Seconds by part, with no features in the cache; an estimate from a few measured steps.
    pub seconds: Seconds,
    /// Size of the largest head file that may come out, in bytes.
    pub head_bytes: u64,
    /// Parts of the largest training arena, in bytes.
    pub arena: BTreeMap<&'static str, u64>,
    /// The largest tensors of that arena, the largest first.
    pub largest_tensors: Vec<NamedTensor>,
    /// Multiply-adds of one sample's pass through that head.
    pub multiply_adds: u64,
    /// How many of them are done twice, since activations are not kept.
    pub recomputed_multiply_adds: u64,
}

/// One tensor of a training arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedTensor {
    /// What it holds, in words.
    pub tensor: String,
    /// Its size.
    pub bytes: u64,
}

/// Measures the backbone and counts the rest.
///
/// # Errors
/// When the backbone cannot be loaded or a head cannot be planned; `OverBudget` when it is
/// more than the settings allow, saying which flags would bring it below, if any do.
pub fn forecast(
    settings: &Settings,
    kernel: Kernel,
    backbone: &LazyBackbone,
    set: &SampleSet,
) -> Result<Forecast> {
    let program_bytes = current_rss_bytes().unwrap_or(0);
    let threads = threads(settings, backbone, set);
    let place = Place {
        kernel,
        backbone,
        set,
        program_bytes,
        measured: Measured::new(backbone, threads)?,
        sample_bytes: largest_sample_bytes(backbone.sense(), set),
    };
    let needs = place.needs(settings)?;
    if let Some(limit_bytes) = settings.memory_bytes {
        let remedy = || lighter::remedy(&place, settings, limit_bytes);
        needs.memory.require(limit_bytes, remedy)?;
    }
    let Needs {
        job,
        network,
        arena,
        memory,
    } = needs;
    Ok(Forecast {
        peak_bytes: memory.total_bytes(),
        memory,
        seconds: job.seconds(set, settings, place.measured.seconds_per_sample)?,
        head_bytes: head_bytes(&network) + backbone.preprocessing().len() as u64,
        arena: arena.parts().into(),
        largest_tensors: named(&arena, &network),
        multiply_adds: network.multiply_adds(),
        recomputed_multiply_adds: arena.recomputed_multiply_adds(&network),
    })
}

/// Threads that have something to do.
fn threads(settings: &Settings, backbone: &LazyBackbone, set: &SampleSet) -> usize {
    features::working(
        settings.threads,
        set.samples.len(),
        settings.views(backbone),
    )
}

/// What does not change with the settings, known or measured.
struct Place<'a> {
    kernel: Kernel,
    backbone: &'a LazyBackbone,
    set: &'a SampleSet,
    program_bytes: u64,
    measured: Measured,
    /// The largest sample in memory.
    sample_bytes: u64,
}

/// What a job with certain settings takes.
struct Needs {
    job: Job,
    /// The largest head that is tried.
    network: Network,
    /// Where that is trained.
    arena: Plan,
    memory: MemoryParts,
}

impl Place<'_> {
    fn needs(&self, settings: &Settings) -> Result<Needs> {
        let threads = threads(settings, self.backbone, self.set);
        let job = Job {
            threads,
            samples: self.set.samples.len(),
            views: settings.views(self.backbone).count(),
            features: self.backbone.features(&Cache::off())?,
            classes: self.set.labels.len(),
            recipes: candidates::candidates(&settings.wishes, &self.set.counts()),
            kernel: self.kernel,
        };
        let (largest, arena) = job.largest_arena()?;
        let network = job.recipes[largest].network(job.features, job.classes)?;
        let mut memory = MemoryParts::new();
        memory.add("program", self.program_bytes);
        memory.add("backbone", self.measured.peak_bytes(threads));
        memory.add("samples", threads as u64 * self.sample_bytes);
        job.add_training(&mut memory, &arena, &network);
        memory.add("slack", SLACK_BYTES * (1 + threads as u64));
        Ok(Needs {
            job,
            network,
            arena,
            memory,
        })
    }
}

fn named(plan: &Plan, network: &Network) -> Vec<NamedTensor> {
    let largest = plan.largest_tensors(network);
    let named = largest.iter().map(|tensor| NamedTensor {
        tensor: tensor.to_string(),
        bytes: tensor.bytes,
    });
    named.collect()
}

/// The largest file of a head with these layers: its parameters, what standardises its
/// features, class means and directions for unknowns, and tables for prediction sets.
fn head_bytes(network: &Network) -> u64 {
    let standard = 2 * network.inputs();
    let means = network.inputs() * (network.classes() + MAX_DIRECTIONS);
    let tables = (network.classes() + 1) * (MAX_QUANTILES + 1);
    let elements = network.parameter_elements() + standard + means + tables;
    (elements * size_of::<f32>()) as u64 + HEAD_TEXT_BYTES
}

/// Labels, recipe and the like in a head file: an allowance.
const HEAD_TEXT_BYTES: u64 = 4096;

/// The sizes that memory and time follow from.
struct Job {
    threads: usize,
    samples: usize,
    views: usize,
    features: usize,
    classes: usize,
    recipes: Vec<Recipe>,
    kernel: Kernel,
}

impl Job {
    /// Which recipe needs the largest arena, and its plan.
    fn largest_arena(&self) -> Result<(usize, Plan)> {
        let mut largest: Option<(usize, Plan)> = None;
        for (index, recipe) in self.recipes.iter().enumerate() {
            let plan = recipe.plan(self.features, self.classes, self.kernel)?;
            if largest
                .as_ref()
                .is_none_or(|(_, other)| plan.bytes() > other.bytes())
            {
                largest = Some((index, plan));
            }
        }
        let none = || Error::new(ErrorKind::Failed, "no recipe to plan");
        largest.ok_or_else(none)
    }

    fn add_training(&self, memory: &mut MemoryParts, arena: &Plan, network: &Network) {
        let float = size_of::<f32>();
        let view_bytes = (self.samples * self.features * float) as u64;
        let views_bytes = view_bytes * self.views as u64;
        let outputs_bytes = (self.samples * self.classes * float) as u64;
        let threads = self.threads as u64;
        memory.add("features", views_bytes);
        // Each training holds a transformed copy of its rows beside its arena, what it
        // found, and room to judge with that. The last one, alone, may keep a checkpoint: once to have, once to write.
        let found_bytes = (network.parameter_elements() * float) as u64;
        let kept_bytes = (arena.kept_elements() * float) as u64;
        let judging_bytes = recipe::judging_bytes(network, self.kernel);
        let once = arena.bytes() + views_bytes + found_bytes + judging_bytes;
        memory.add("training", (threads * once).max(once + 2 * kept_bytes));
        if self.recipes.iter().any(|recipe| recipe.whitening.is_some()) {
            let rows = self.samples * self.views;
            let tail = self.recipes.iter().find_map(Recipe::tail);
            let width = tail.map_or(self.features, |tail| tail.feature_elements());
            let once = Whitening::peak_bytes(rows, width);
            memory.add("whitening", threads * once);
        }
        let once = Basis::peak_bytes(self.samples * self.views, self.features);
        memory.add("coordinates", threads * once);
        if let Some(tail) = self.recipes.iter().find_map(Recipe::tail) {
            // The features that the tail gives before it is trained, twice, and a linear
            // head's training on them, made before its own arena.
            let rows = self.samples * self.views;
            let inner = tail.feature_elements();
            memory.add("tail", (tail.parameter_bytes() * 3) as u64);
            memory.add("tail features", threads * (2 * rows * inner * float) as u64);
        }
        // Every candidate's outputs are kept; a fold's samples are copied to judge them, and
        // all samples to look for suspects and to learn where the classes lie.
        let candidates = self.recipes.len() as u64;
        memory.add(
            "evaluation",
            4 * candidates * outputs_bytes + threads * view_bytes / 2 + 2 * view_bytes,
        );
    }

    fn seconds(&self, set: &SampleSet, settings: &Settings, run: f64) -> Result<Seconds> {
        let rows = self.samples * self.views;
        let labels: Vec<u16> = set
            .samples
            .iter()
            .map(|sample| sample.label as u16)
            .collect();
        let data = Data {
            views: &[],
            held: ViewSet::ORIGINAL,
            labels: &labels,
            groups: &[],
            features: self.features,
            classes: self.classes,
        };
        let (mut search, mut train) = (0.0, 0.0f64);
        let narrowing = basis_seconds(rows, self.features, self.kernel);
        let curve_limit = (settings.time / CURVE_SHARE).as_secs_f64();
        for recipe in &self.recipes {
            let narrowing = narrowing.filter(|_| recipe.stays_in_span());
            let width = narrowing.map_or(self.features, |_| rows);
            let once = training_seconds(recipe, width, self.classes, rows, self.kernel)?;
            let once = once + narrowing.unwrap_or(0.0);
            search += once * fits(&data, self.recipes.len()) as f64
                / (self.threads * self.recipes.len()) as f64;
            train = train.max(once);
        }
        Ok(Seconds {
            features: rows as f64 * run,
            search: search.min(settings.time.as_secs_f64() + train),
            train,
            // Its subsets hold half of the samples on average.
            curve: (0.5 * train * curve_fits() as f64 / self.threads as f64).min(curve_limit),
        })
    }
}

/// The backbone at work on as many threads as the job will use, measured.
struct Measured {
    seconds_per_sample: f64,
    /// What loading and running on one thread added to the process at its peak.
    alone_bytes: u64,
    /// The same on all threads of the job.
    together_bytes: u64,
}

impl Measured {
    fn peak_bytes(&self, threads: usize) -> u64 {
        match threads {
            1 => self.alone_bytes,
            _ => self.together_bytes,
        }
    }

    fn new(backbone: &LazyBackbone, threads: usize) -> Result<Self> {
        match backbone.sense() {
            Sense::Sound(sound) if !backbone.has_network() => return Self::of_statistics(sound),
            Sense::Series(series) => return Self::of_series(series, backbone.cut()),
            Sense::Picture | Sense::Sound(_) => {}
        }
        let before = current_rss_bytes().unwrap_or(0);
        let loaded = backbone.get()?;
        let alone = seconds_on_threads(loaded, 1)?;
        let alone_bytes = added_bytes(before);
        let together = match threads {
            1 => alone,
            _ => seconds_on_threads(loaded, threads)?,
        };
        Ok(Self {
            seconds_per_sample: together / threads as f64,
            alone_bytes,
            together_bytes: added_bytes(before),
        })
    }

    /// What took one thread from `start` until now, in a process that had `before` bytes.
    fn on_one_thread(start: Instant, before: u64) -> Self {
        let added = added_bytes(before);
        Self {
            seconds_per_sample: start.elapsed().as_secs_f64(),
            alone_bytes: added,
            together_bytes: added,
        }
    }

    /// Statistics of a window of noise on one thread.
    fn of_statistics(sound: &Sound) -> Result<Self> {
        let before = current_rss_bytes().unwrap_or(0);
        let ear = Ear::new(sound)?;
        let rate_hz = sound.spectrum.sample_rate_hz;
        let count = (sound.window_seconds * rate_hz as f32) as usize;
        let mut random = Random::new(1);
        let samples: Vec<f32> = (0..count.max(1)).map(|_| 0.1 * random.normal()).collect();
        let start = Instant::now();
        let plain = ear.plain(&samples)?;
        statistics(&ear.heard(&samples, &plain, View::Near, Path::new("noise"))?);
        Ok(Self::on_one_thread(start, before))
    }

    /// The features of a window of noise on one thread.
    fn of_series(series: &Series, cut: &str) -> Result<Self> {
        let before = current_rss_bytes().unwrap_or(0);
        let made = Made::of_cut(cut)?;
        let mut analyst = Analyst::new(series, made)?;
        let mut random = Random::new(1);
        let mut noise = || (0..series.window_points).map(|_| random.normal()).collect();
        let channels: Vec<Vec<f32>> = series.channels.iter().map(|_| noise()).collect();
        let channels: Vec<&[f32]> = channels.iter().map(Vec::as_slice).collect();
        let mut features = vec![0.0; series.features(made)];
        let start = Instant::now();
        analyst.features(series, &channels, &mut features)?;
        Ok(Self::on_one_thread(start, before))
    }
}

/// What the peak of this process is above `before`.
fn added_bytes(before: u64) -> u64 {
    peak_rss_bytes().unwrap_or(0).saturating_sub(before)
}

/// Seconds of one run of the backbone on each of so many threads at once, the slowest's.
fn seconds_on_threads(backbone: &Backbone, threads: usize) -> Result<f64> {
    let together = Barrier::new(threads);
    let runs: Result<Vec<f64>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| seconds_per_run(backbone, &together)))
            .collect();
        let ended = started.into_iter().map(|thread| {
            let lost = || Error::new(ErrorKind::Failed, "a thread ended early; run again");
            thread.join().unwrap_or_else(|_| Err(lost()))
        });
        ended.collect()
    });
    Ok(runs?.into_iter().fold(0.0, f64::max))
}

/// Seconds of one run of the backbone on one thread. The threads start each run
/// together, several times, so that their peaks of memory meet as they may in the job.
/// The first run, which also touches pages and fills caches, does not count.
fn seconds_per_run(backbone: &Backbone, together: &Barrier) -> Result<f64> {
    let prepared = backbone.worker();
    let input = vec![0.0; backbone.input_elements()];
    let mut features = vec![0.0; backbone.features()];
    let mut seconds = f64::INFINITY;
    let mut run = |worker: &mut Worker, counts: bool| {
        let start = Instant::now();
        worker.run(&input, &mut features)?;
        if counts {
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        Ok(())
    };
    let (mut worker, mut outcome) = match prepared {
        Ok(worker) => (Some(worker), Ok(())),
        Err(error) => (None, Err(error)),
    };
    for index in 0..RUNS {
        // A thread that failed still waits, or the others would wait for ever.
        together.wait();
        if let (Some(worker), Ok(())) = (worker.as_mut(), &outcome) {
            outcome = run(worker, index > 0);
        }
    }
    outcome.map(|()| seconds)
}

/// The largest sample of the set in memory, decoded and converted: read from the files'
/// headers. Unreadable ones cost nothing.
fn largest_sample_bytes(sense: &Sense, set: &SampleSet) -> u64 {
    let sizes = set.samples.iter().filter_map(|sample| {
        let bytes = store::read(&sample.path, crate::features::MAX_SAMPLE_BYTES).ok()?;
        let decoded = match sense {
            Sense::Picture => {
                let (width, height) = preprocess::dimensions(&bytes)?;
                // Three bytes a pixel, twice.
                6 * u64::from(width) * u64::from(height)
            }
            // A line of text becomes numbers, twice while they are brought onto a grid.
            Sense::Series(_) => 8 * bytes.len() as u64,
            Sense::Sound(sound) => {
                recording_bytes(sound, decode::stated(&bytes, &sample.path).ok()?)
            }
        };
        Some(decoded + bytes.len() as u64)
    });
    sizes.max().unwrap_or(0)
}

/// A recording of f32 and its spectrogram of f64.
fn recording_bytes(sound: &Sound, stated: decode::Stated) -> u64 {
    let seconds = stated.seconds.unwrap_or(decode::MAX_SECONDS as f64);
    let rate_hz = f64::from(sound.spectrum.sample_rate_hz);
    let frame_bytes = 8.0 * sound.spectrum.bands as f64;
    // A growing vector may have twice the room that it needs; the spectrogram is copied.
    let second_bytes = 8.0 * rate_hz + 3.0 * frame_bytes / sound.spectrum.step_seconds();
    (seconds * second_bytes) as u64
}

/// Seconds that it takes to find the coordinates of so many rows; `None` where that is not
/// done.
fn basis_seconds(rows: usize, features: usize, kernel: Kernel) -> Option<f64> {
    if !basis::pays(rows, features) {
        return None;
    }
    let mut random = Random::new(0);
    let values = (0..rows * features).map(|_| random.uniform());
    let made_up = Rows {
        values: values.collect(),
        labels: vec![0; rows],
        features,
    };
    let start = Instant::now();
    let found = Basis::of(&made_up, kernel);
    found.map(|_| start.elapsed().as_secs_f64())
}

/// Seconds of one training on all samples, from a few steps on made-up features.
fn training_seconds(
    recipe: &Recipe,
    features: usize,
    classes: usize,
    samples: usize,
    kernel: Kernel,
) -> Result<f64> {
    if recipe.shape == Shape::Prototype {
        return Ok(0.0);
    }
    let rows = recipe.batch;
    let values: Vec<f32> = (0..rows * features).map(|i| (i % 7) as f32).collect();
    let labels: Vec<u16> = (0..rows).map(|i| (i % classes) as u16).collect();
    let mut short = Recipe {
        epochs: 4,
        least_steps: 0,
        ..recipe.clone()
    };
    // All epochs are to be timed.
    short.extras.early_stopping = None;
    let start = Instant::now();
    if recipe.stays_in_span() {
        let rows = Rows {
            values,
            labels,
            features,
        };
        recipe::train_on_rows(&short, &rows, classes, kernel)?;
    } else {
        let data = Data {
            views: &[&values],
            held: ViewSet::ORIGINAL,
            labels: &labels,
            groups: &[],
            features,
            classes,
        };
        let all: Vec<usize> = (0..rows).collect();
        recipe::train(&short, &data, &all, 0, kernel)?;
    }
    let step = start.elapsed().as_secs_f64() / 4.0;
    Ok(step * f64::from(recipe.epochs_for(samples)) * samples.div_ceil(rows) as f64)
}
