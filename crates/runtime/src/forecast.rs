//! What a training job will take, said before it starts: memory by part, time, and the
//! head's size. The arena is exact by the memory plan; the backbone is measured by
//! running it once; the rest is counted.

use std::collections::BTreeMap;
use std::time::Instant;

use fieldtune_core::Kernel;
use serde::Serialize;

use crate::backbone::Backbone;
use crate::budget::{MemoryParts, current_rss_bytes};
use crate::candidates;
use crate::error::Result;
use crate::features::LazyBackbone;
use crate::preprocess;
use crate::recipe::{self, Data, Recipe, Shape};
use crate::samples::SampleSet;
use crate::search::fits;
use crate::session::Settings;
use crate::store;

/// Allocators keep some freed memory; a run was never seen to keep more than this.
const SLACK_BYTES: u64 = 8 << 20;

/// What a job will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Bytes by part.
    pub memory: MemoryParts,
    /// All parts together.
    pub peak_bytes: u64,
    /// Seconds by part; an estimate from a few measured steps.
    pub seconds: Seconds,
    /// Size of the largest head file that may come out, in bytes.
    pub head_bytes: u64,
    /// Tensors of the largest training arena, in bytes.
    pub arena: BTreeMap<&'static str, u64>,
}

/// Time by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Samples through the backbone, none in the cache.
    pub features: f64,
    /// Cross-validation.
    pub search: f64,
    /// The final training.
    pub train: f64,
}

/// Measures the backbone and counts the rest.
///
/// # Errors
/// When the backbone cannot be loaded or a head cannot be planned.
pub fn forecast(
    settings: &Settings,
    kernel: Kernel,
    backbone: &LazyBackbone,
    set: &SampleSet,
) -> Result<Forecast> {
    let threads = settings.threads.max(1).min(set.samples.len().max(1)) as u64;
    let program_bytes = current_rss_bytes().unwrap_or(0);
    let (samples, classes) = (set.samples.len(), set.labels.len());
    let measured = Measured::new(backbone.get()?)?;
    let backbone_bytes = current_rss_bytes()
        .unwrap_or(0)
        .saturating_sub(program_bytes);
    let features = backbone.get()?.features();
    let labels: Vec<u16> = set
        .samples
        .iter()
        .map(|sample| sample.label as u16)
        .collect();
    let data = Data {
        views: &[],
        labels: &labels,
        features,
        classes,
    };
    let recipes = candidates::candidates(&settings.wishes, &set.counts());
    let views = settings.views().len();
    let mut arenas = Vec::new();
    for recipe in &recipes {
        arenas.push(recipe.plan(features, classes, kernel)?.bytes());
    }
    let largest = (0..recipes.len())
        .max_by_key(|index| arenas[*index])
        .unwrap_or(0);
    let matrix_bytes = (samples * features * 4) as u64;
    let outputs_bytes = (samples * classes * 4) as u64;

    let mut memory = MemoryParts::new();
    memory.add("program", program_bytes);
    memory.add(
        "backbone",
        backbone_bytes + (threads - 1) * measured.worker_bytes,
    );
    memory.add("images", threads * largest_image_bytes(set));
    memory.add("features", matrix_bytes * views as u64);
    // Each training holds a transformed copy of its rows beside its arena.
    memory.add(
        "training",
        threads * (arenas[largest] + matrix_bytes * views as u64),
    );
    memory.add(
        "evaluation",
        4 * outputs_bytes * recipes.len() as u64 + threads * matrix_bytes / 4,
    );
    memory.add("slack", SLACK_BYTES);

    let runs = samples as f64 * views as f64;
    let mut seconds = Seconds {
        features: runs * measured.seconds_per_sample / threads as f64,
        ..Seconds::default()
    };
    for recipe in &recipes {
        let once = training_seconds(recipe, features, classes, samples * views, kernel)?;
        seconds.search += once * fits(&data) as f64 / threads as f64;
        seconds.train = seconds.train.max(once);
    }
    seconds.search = seconds
        .search
        .min(settings.time.as_secs_f64() + seconds.train);
    let network = recipes[largest].network(features, classes)?;
    Ok(Forecast {
        peak_bytes: memory.total_bytes(),
        memory,
        seconds,
        head_bytes: network.parameter_elements() as u64 * 4 + 1024,
        arena: recipes[largest]
            .plan(features, classes, kernel)?
            .parts()
            .into(),
    })
}

/// One run of the backbone, measured.
struct Measured {
    seconds_per_sample: f64,
    worker_bytes: u64,
}

impl Measured {
    fn new(backbone: &Backbone) -> Result<Self> {
        let before = current_rss_bytes().unwrap_or(0);
        let mut worker = backbone.worker()?;
        let input = vec![0.0; backbone.input_elements()];
        let mut features = vec![0.0; backbone.features()];
        // The first run also touches pages and fills caches.
        worker.run(&input, &mut features)?;
        let start = Instant::now();
        worker.run(&input, &mut features)?;
        let seconds_per_sample = start.elapsed().as_secs_f64();
        let worker_bytes = current_rss_bytes().unwrap_or(0).saturating_sub(before);
        Ok(Self {
            seconds_per_sample,
            worker_bytes,
        })
    }
}

/// The largest image of the set, decoded, turned upright and converted: read from the
/// files' headers. Unreadable ones cost nothing.
fn largest_image_bytes(set: &SampleSet) -> u64 {
    let pixels = set.samples.iter().filter_map(|sample| {
        let bytes = store::read(&sample.path, crate::features::MAX_SAMPLE_BYTES).ok()?;
        let (width, height) = preprocess::dimensions(&bytes)?;
        // Three bytes a pixel, twice, and the file itself.
        Some(6 * u64::from(width) * u64::from(height) + bytes.len() as u64)
    });
    pixels.max().unwrap_or(0)
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
    let data = Data {
        views: &[&values],
        labels: &labels,
        features,
        classes,
    };
    let all: Vec<usize> = (0..rows).collect();
    let short = Recipe {
        epochs: 4,
        least_steps: 0,
        ..recipe.clone()
    };
    let start = Instant::now();
    recipe::train(&short, &data, &all, 0, kernel)?;
    let step = start.elapsed().as_secs_f64() / 4.0;
    Ok(step * f64::from(recipe.epochs_for(samples)) * samples.div_ceil(rows) as f64)
}
