//! The training steps of `cargo bench --bench peers` in candle and burn, and what the machine can do
//! at most. Reads a JSON document a line and answers each with one.

mod burning;
mod candle;
mod job;
mod limits;

use std::io::{BufRead, Write};

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::job::{Failure, Job, Peer};

fn main() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}",
        json!({"version": {"burn": "0.22.1", "candle": "0.11.1"}})
    )?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line?)?;
        writeln!(out, "{}", answer(&question)?)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(question: &Value) -> Result<Value, Failure> {
    if let Some(sizes) = question["limits"].as_array() {
        let sizes = sizes.iter().filter_map(Value::as_u64);
        let bandwidths: Vec<f64> = sizes.map(|size| limits::bandwidth(size as usize)).collect();
        return Ok(json!({"gflops": limits::gflops(), "gb_per_s": bandwidths}));
    }
    let job = Job::read(question)?;
    #[allow(deprecated)] // still the backend that most programs with burn use
    match question["peer"].as_str() {
        Some("candle") => asked(candle::Candle::new(&job)?, &job, question),
        Some("burn flex") => asked(burning::Burn::new(&job, Device::flex()), &job, question),
        Some("burn ndarray") => asked(burning::Burn::new(&job, Device::ndarray()), &job, question),
        other => Err(format!("unknown peer {other:?}").into()),
    }
}

fn asked<P: Peer>(mut peer: P, job: &Job, question: &Value) -> Result<Value, Failure> {
    if question["folder"].is_string() {
        job::learn(&mut peer, job, question)
    } else {
        job::time(&mut peer, job, question)
    }
}
