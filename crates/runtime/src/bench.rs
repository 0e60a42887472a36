//! Measures this machine: how fast the backbone runs, how long a training step takes, how
//! long one picture waits for its label. Whatever else the machine does meanwhile counts.

use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_core::transform::Transform;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde::Serialize;

use crate::backbone::{Backbone, Worker};
use crate::budget::peak_rss_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::features::LazyBackbone;
use crate::model::Model;
use crate::preprocess::{self, View};
use crate::recipe;

/// Inputs of the heads that are trained.
pub const FEATURES: usize = 1280;
/// Classes of the heads that are trained.
pub const CLASSES: usize = 6;
/// Samples of a training step.
pub const BATCH: usize = 16;

/// Each figure is measured at least so long and so often.
const LEAST_TIME: Duration = Duration::from_secs(1);
const LEAST_RUNS: usize = 5;

/// Width and height of the picture whose latency is measured.
const PICTURE: [u32; 2] = [640, 480];

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Backbone runs at once.
    pub threads: usize,
    /// The kernel of the training steps.
    pub kernel: &'static str,
    /// Feature vectors the backbone computes in a second, over all threads.
    pub features_per_s: f64,
    /// Times of training steps, on one thread.
    pub steps: Vec<Step>,
    /// From the bytes of a JPEG file of 640 x 480 pixels to its probabilities, one thread,
    /// backbone loaded: the median.
    pub latency_ms: f64,
    /// Reading and optimising the backbone, once.
    pub load_ms: f64,
    /// Peak memory of the process, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// Time of one training step with AdamW.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The head, as `--head` names it.
    pub head: &'static str,
    /// Samples a step.
    pub batch: usize,
    /// With adversarial features, at a layer drawn by chance.
    pub adversarial: bool,
    /// The median.
    pub median_us: f64,
}

/// Measures everything. `threads` run the backbone at once, at least one.
///
/// # Errors
/// When the backbone cannot be loaded or run.
pub fn measure(model: &Model, threads: usize) -> Result<Bench> {
    let (threads, kernel) = (threads.max(1), Kernel::best());
    let start = Instant::now();
    let lazy = model.cut_at(&model.manifest().default_cut)?;
    let backbone = lazy.get()?;
    let load_ms = milliseconds(start.elapsed());
    let mut steps = Vec::new();
    for (head, hidden) in [("linear", &[][..]), ("mlp:128", &[128])] {
        let network = Network::mlp(FEATURES, hidden, CLASSES).map_err(internal)?;
        for adversarial in [false, true] {
            steps.push(Step {
                head,
                batch: BATCH,
                adversarial,
                median_us: step_us(&network, adversarial, kernel).map_err(internal)?,
            });
        }
    }
    Ok(Bench {
        threads,
        kernel: kernel.name(),
        features_per_s: features_per_second(backbone, threads)?,
        steps,
        latency_ms: latency_ms(&lazy, kernel)?,
        load_ms,
        peak_rss_bytes: peak_rss_bytes(),
    })
}

fn internal(error: fieldtune_core::Error) -> Error {
    let what = format_args!("a head of the bench cannot be trained: {error}; report this");
    Error::new(ErrorKind::Failed, what)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs of the backbone in a second, over all threads.
fn features_per_second(backbone: &Backbone, threads: usize) -> Result<f64> {
    let together = Barrier::new(threads);
    let rates: Result<Vec<f64>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| runs_per_second(backbone, &together)))
            .collect();
        let ended = started.into_iter().map(|thread| {
            let lost = || Error::new(ErrorKind::Failed, "a thread ended early; run again");
            thread.join().unwrap_or_else(|_| Err(lost()))
        });
        ended.collect()
    });
    Ok(rates?.iter().sum())
}

/// As [`features_per_second`], of one thread among others. All start together, after
/// a run that touches pages and fills caches.
fn runs_per_second(backbone: &Backbone, together: &Barrier) -> Result<f64> {
    let input = vec![0.5; backbone.input_elements()];
    let mut features = vec![0.0; backbone.features()];
    let mut ready: Result<Worker> = backbone.worker();
    if let Ok(worker) = &mut ready
        && let Err(error) = worker.run(&input, &mut features)
    {
        ready = Err(error);
    }
    // A thread that failed still waits, or the others would wait for ever.
    together.wait();
    let mut worker = ready?;
    let (start, mut runs) = (Instant::now(), 0);
    while runs < LEAST_RUNS || start.elapsed() < LEAST_TIME {
        worker.run(&input, &mut features)?;
        runs += 1;
    }
    Ok(runs as f64 / start.elapsed().as_secs_f64())
}

/// Median time of one training step on made-up features.
fn step_us(
    network: &Network,
    adversarial: bool,
    kernel: Kernel,
) -> std::result::Result<f64, fieldtune_core::Error> {
    let options = Options {
        optimizer: Optimizer::ADAMW,
        decay: Decay {
            mode: Mode::Structural,
            lambda: 0.01,
        },
        adversary: adversarial.then(|| Adversary::new(0.15)),
        ..Options::new(BATCH, kernel)
    };
    let mut arena = vec![0.0; options.plan(network)?.elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, 1)?;
    trainer.prepare_decay();
    let inputs = trainer.inputs_mut().iter_mut().enumerate();
    inputs.for_each(|(i, value)| *value = (i * 37 % 101) as f32 / 101.0);
    let labels: Vec<u16> = (0..BATCH).map(|i| (i % CLASSES) as u16).collect();
    let step = || trainer.step(black_box(&labels), 1e-4).map(drop);
    Ok(1e3 * median_ms(step)?)
}

/// Median time from a file's bytes to probabilities.
fn latency_ms(lazy: &LazyBackbone, kernel: Kernel) -> Result<f64> {
    let (file, path) = (picture()?, Path::new("made-up picture"));
    let manifest = lazy.manifest();
    let backbone = lazy.get()?;
    let width = backbone.features();
    let network = Network::mlp(width, &[], CLASSES).map_err(internal)?;
    let parameters = vec![0.0; network.parameter_elements()];
    let transform = Transform::default();
    let mut worker = backbone.worker()?;
    let mut input = vec![0.0; manifest.input.elements()];
    let mut features = vec![0.0; width];
    median_ms(|| {
        let decoded = preprocess::decode(black_box(&file), path)?;
        let view = View::Original;
        let preprocessing = &manifest.preprocessing;
        preprocessing.tensor(&decoded, &manifest.input, view, &mut input)?;
        worker.run(&input, &mut features)?;
        recipe::logits(&network, &parameters, &transform, &features, kernel).map(drop)
    })
}

/// A JPEG file with smooth and rough parts.
fn picture() -> Result<Vec<u8>> {
    let [width, height] = PICTURE;
    let image = RgbImage::from_fn(width, height, |x, y| {
        let rough = ((x * 31) ^ (y * 17)) % 64;
        Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            rough as u8,
        ])
    });
    let mut bytes = Cursor::new(Vec::new());
    let written = DynamicImage::ImageRgb8(image).write_to(&mut bytes, ImageFormat::Jpeg);
    written.map_err(|error| {
        let what = format_args!("the bench's picture cannot be made ({error}); report this");
        Error::new(ErrorKind::Failed, what)
    })?;
    Ok(bytes.into_inner())
}

/// Median time of `run`, after one run that does not count.
fn median_ms<E>(
    mut run: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<f64, E> {
    run()?;
    let (mut times, all) = (Vec::new(), Instant::now());
    while times.len() < LEAST_RUNS || all.elapsed() < LEAST_TIME {
        let start = Instant::now();
        run()?;
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
