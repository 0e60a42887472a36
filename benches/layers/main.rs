//! Every kind of layer on random shapes, against PyTorch on the same numbers: the largest
//! relative difference of logits and gradients from PyTorch in float64 (and PyTorch's own
//! in float32, since a ReLU near zero can fall to either side), and the time of a
//! forward and backward pass of a batch (PyTorch in float32, one thread).
//!
//! `cargo bench --bench layers` installs the pinned PyTorch into the build folder at its
//! first run.

mod cases;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fieldtune_benches::{Failure, machine, python, results, run, work_folder};
use fieldtune_core::Kernel;
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};
use serde_json::{Value, json};

const BATCH: usize = 8;
const REPEATS: usize = 31;
/// Random shapes of each kind.
const SHAPES: u64 = 6;

fn main() -> Result<(), Failure> {
    let folder = work_folder("layers");
    std::fs::create_dir_all(&folder)?;
    let mut values = Vec::new();
    let (mut described, mut ours) = (Vec::new(), Vec::new());
    for (name, layers) in cases::all(SHAPES)? {
        let network = Network::new(&layers)?;
        let (case, pass_us) = measure(&network, &mut values)?;
        described.push(case);
        ours.push((name, network, pass_us));
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join("values.f32"), bytes)?;
    std::fs::write(
        folder.join("cases.json"),
        Value::from(described).to_string(),
    )?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("layers");
    let output = folder.join("reference.json");
    let python = python("layers", &here.join("requirements.txt"))?;
    run(Command::new(python)
        .arg(here.join("reference.py"))
        .arg(&folder)
        .arg(&output))?;
    let reference: Value = serde_json::from_slice(&std::fs::read(output)?)?;
    report(&ours, &reference)
}

/// Our pass over one network: its description for the reference, and its median time.
fn measure(network: &Network, values: &mut Vec<f32>) -> Result<(Value, f64), Failure> {
    let options = Options::new(BATCH, Kernel::best());
    let mut arena = vec![0.0; options.plan(network)?.elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, 5)?;
    let mut random = Random::new(9);
    for value in trainer.parameters_mut() {
        *value += 0.1 * random.normal();
    }
    let inputs: Vec<f32> = (0..BATCH * network.inputs())
        .map(|_| random.normal())
        .collect();
    let labels: Vec<u16> = (0..BATCH)
        .map(|row| (row % network.classes()) as u16)
        .collect();
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        trainer.inputs_mut().copy_from_slice(&inputs);
        let start = Instant::now();
        trainer.clear_gradients()?;
        trainer.clean_gradients(&labels)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let mut store = |slice: &[f32]| {
        let place = values.len();
        values.extend_from_slice(slice);
        place
    };
    let layers: Vec<Value> = (0..network.layers().len())
        .map(|index| describe(network, index, &trainer, &mut store))
        .collect();
    let shape = network.shape(0);
    let case = json!({
        "layers": layers, "labels": labels, "repeats": REPEATS,
        "input": [store(&inputs), [BATCH as u32, shape.channels, shape.rows, shape.columns]],
        "logits": [store(trainer.logits()), [BATCH, network.classes()]],
    });
    Ok((case, times[REPEATS / 2]))
}

/// One layer for the reference: kind, sizes, and for each tensor where its values stand,
/// its shape, and where the gradient we found stands.
fn describe(
    network: &Network,
    index: usize,
    trainer: &Trainer<'_>,
    store: &mut impl FnMut(&[f32]) -> usize,
) -> Value {
    let ranges = [network.weights(index), network.biases(index)];
    let mut tensor = |which: usize, shape: Vec<u32>| {
        let range = ranges[which].clone();
        let value = store(&trainer.parameters()[range.clone()]);
        json!([value, shape, store(&trainer.gradients()[range])])
    };
    let window = |window: &fieldtune_core::network::Window| json!({"kernel": window.kernel, "stride": window.stride, "padding": window.padding});
    let mut described = match network.layers()[index] {
        Layer::Dense { inputs, outputs } => json!({"kind": "dense", "parameters": {
            "weights": tensor(0, vec![outputs, inputs]), "biases": tensor(1, vec![outputs])}}),
        Layer::Convolution(c) => {
            let [height, width] = c.window.kernel.map(u32::from);
            let weights = tensor(0, vec![c.outputs, c.inputs / c.groups, height, width]);
            let mut described = window(&c.window);
            described["kind"] = "convolution".into();
            described["groups"] = c.groups.into();
            described["parameters"] =
                json!({"weights": weights, "biases": tensor(1, vec![c.outputs])});
            described
        }
        Layer::BatchNorm { channels } => {
            let (scale, shift) = (tensor(0, vec![channels]), tensor(1, vec![channels]));
            let constants = &trainer.parameters()[network.constants(index)];
            let (means, inverses) = constants.split_at(channels as usize);
            let mut constant = |values: &[f32]| json!([store(values), [channels], 0]);
            json!({"kind": "batch norm", "parameters": {"weights": scale, "biases": shift,
                "means": constant(means), "inverses": constant(inverses)}})
        }
        Layer::MaxPool(w) => window(&w),
        Layer::Add { from } => json!({"kind": "add", "from": from}),
        other => json!({"kind": cases::name(&other)}),
    };
    if matches!(network.layers()[index], Layer::MaxPool(_)) {
        described["kind"] = "max pool".into();
    }
    described
}

fn report(ours: &[(String, Network, f64)], reference: &Value) -> Result<(), Failure> {
    let cases = reference["cases"].as_array().ok_or("no cases")?;
    let mut rows = Vec::new();
    println!(
        "{:56} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "layer", "ours us", "torch us", "ratio", "error", "torch's"
    );
    for ((name, network, pass_us), case) in ours.iter().zip(cases) {
        let number = |key: &str| case[key].as_f64().ok_or_else(|| format!("no {key}"));
        let (error, torch_error) = (number("error")?, number("torch_error")?);
        let torch_us = number("pass_us")?;
        let ratio = pass_us / torch_us;
        println!(
            "{name:56} {pass_us:9.1} {torch_us:9.1} {ratio:6.2} {error:9.1e} {torch_error:9.1e}"
        );
        rows.push(json!({
            "layer": name, "multiply_adds": network.multiply_adds(), "pass_us": pass_us,
            "torch_us": torch_us, "ratio": ratio, "largest_relative_difference": error,
            "torch_float32_difference": torch_error,
        }));
    }
    let worst = rows
        .iter()
        .filter_map(|row| row["largest_relative_difference"].as_f64());
    let worst = worst.fold(0.0, f64::max);
    println!(
        "largest relative difference {worst:.1e} over {} shapes",
        rows.len()
    );
    let document = json!({
        "machine": machine(), "torch": reference["torch"], "batch": BATCH,
        "repeats": REPEATS, "threads": 1, "largest_relative_difference": worst, "rows": rows,
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(results().join("layers.json"), text)?;
    Ok(())
}
