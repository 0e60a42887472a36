//! What is asked: a step to be timed, or a head to be trained until it is good enough.

use std::error::Error;
use std::time::Instant;

use serde_json::{Value, json};

pub type Failure = Box<dyn Error>;

pub const FEATURES: usize = 1280;
pub const CLASSES: usize = 6;
/// The map in front of the convolution.
pub const MAP: [usize; 3] = [320, 7, 7];
/// Length of a perturbation and of the probe, as shares of what is perturbed.
pub const EPSILON: f64 = 0.15;
pub const XI: f64 = 0.01;
pub const WEIGHT_DECAY: f64 = 0.01;
pub const MOMENTUM: f64 = 0.9;

#[derive(Clone, Copy, PartialEq)]
pub enum Head {
    Linear,
    Mlp,
    Tail,
}

impl Head {
    /// Layers with weights.
    pub fn depth(self) -> usize {
        if self == Self::Linear { 1 } else { 2 }
    }

    /// Numbers of one sample.
    pub fn inputs(self) -> usize {
        if self == Self::Tail {
            MAP.iter().product()
        } else {
            FEATURES
        }
    }
}

/// One question.
pub struct Job {
    pub head: Head,
    pub batch: usize,
    pub adamw: bool,
    pub adversarial: bool,
    pub learning_rate: f64,
}

impl Job {
    pub fn read(question: &Value) -> Result<Self, Failure> {
        let head = match question["head"].as_str() {
            Some("linear") => Head::Linear,
            Some("mlp:128") => Head::Mlp,
            Some("tail") => Head::Tail,
            other => return Err(format!("unknown head {other:?}").into()),
        };
        Ok(Self {
            head,
            batch: question["batch"].as_u64().ok_or("no batch")? as usize,
            adamw: question["optimizer"] == "adamw",
            adversarial: question["adversarial"] == true,
            learning_rate: question["learning_rate"].as_f64().unwrap_or(1e-4),
        })
    }
}

/// A framework with a network and an optimiser in it.
pub trait Peer {
    /// A batch in the framework's own tensors.
    type Batch;
    fn batch(&self, inputs: &[f32], labels: &[u16]) -> Result<Self::Batch, Failure>;
    fn step(&mut self, batch: &Self::Batch) -> Result<(), Failure>;
    /// `[rows, K]`.
    fn logits(&self, inputs: &[f32]) -> Result<Vec<f32>, Failure>;
}

/// Median time of a step, over `seconds` and at least 5 steps.
pub fn time<P: Peer>(peer: &mut P, job: &Job, question: &Value) -> Result<Value, Failure> {
    let inputs: Vec<f32> = (0..job.batch * job.head.inputs())
        .map(|i| (i * 37 % 101) as f32 / 101.0)
        .collect();
    let labels: Vec<u16> = (0..job.batch).map(|i| (i % CLASSES) as u16).collect();
    let batch = peer.batch(&inputs, &labels)?;
    peer.step(&batch)?;
    let seconds = question["seconds"].as_f64().ok_or("no seconds")?;
    let (mut times, all) = (Vec::new(), Instant::now());
    while times.len() < 5 || all.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        peer.step(&batch)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({"median_us": times[times.len() / 2]}))
}

/// Epochs and seconds of training until the held-out rows are recognised well enough.
pub fn learn<P: Peer>(peer: &mut P, job: &Job, question: &Value) -> Result<Value, Failure> {
    let folder = question["folder"].as_str().ok_or("no folder")?;
    let read = |name: &str| std::fs::read(format!("{folder}/{name}"));
    let values: Vec<f32> = read("features.f32")?
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let whole = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes);
    let labels: Vec<u16> = read("labels.u16")?
        .as_chunks()
        .0
        .iter()
        .map(whole)
        .collect();
    let order: Vec<u16> = read("order.u16")?.as_chunks().0.iter().map(whole).collect();
    let rows = question["rows"].as_u64().ok_or("no rows")? as usize;
    let wanted = question["accuracy"].as_f64().ok_or("no accuracy")?;
    let row = |row: usize| &values[row * FEATURES..(row + 1) * FEATURES];
    let (mut seconds, mut accuracy) = (0.0, 0.0);
    for (epoch, order) in order.chunks(rows).enumerate() {
        let start = Instant::now();
        for chosen in order.chunks(job.batch) {
            let inputs: Vec<f32> = chosen
                .iter()
                .flat_map(|i| row(usize::from(*i)))
                .copied()
                .collect();
            let own: Vec<u16> = chosen.iter().map(|i| labels[usize::from(*i)]).collect();
            let batch = peer.batch(&inputs, &own)?;
            peer.step(&batch)?;
        }
        seconds += start.elapsed().as_secs_f64();
        let logits = peer.logits(&values[rows * FEATURES..])?;
        let right = logits
            .chunks(CLASSES)
            .zip(&labels[rows..])
            .filter(|(logits, label)| {
                let own = logits[usize::from(**label)];
                logits.iter().all(|logit| *logit <= own)
            });
        accuracy = right.count() as f64 / (labels.len() - rows) as f64;
        if accuracy >= wanted {
            return Ok(json!({"seconds": seconds, "epochs": epoch + 1, "accuracy": accuracy}));
        }
    }
    Ok(json!({"seconds": null, "accuracy": accuracy}))
}
