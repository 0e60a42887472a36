//! Time of an image through a frozen network: `cargo bench --bench backbone`, with tract's
//! operators, with this project's, and with ONNX Runtime, on one thread and on two (images
//! side by side). Efficientnet-Lite0, which is part of the program, and MobileNetV2 with
//! random weights. The first ends at its default cut, 0.3 % of the arithmetic before the
//! last output, where ONNX Runtime goes on to; the second at the last output.
//!
//! The three take turns, a few images each, and the fastest turn of each counts: whatever
//! else the machine does can only add. Ratios are from the same run. Processor time leaves
//! out when something else had the processor; where the machine is busy it is the better
//! figure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fieldtune::backbone::{Backbone, Worker};
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Manifest};
use fieldtune::model::Model;
use fieldtune_benches::served::Served;
use fieldtune_benches::{Failure, machine, python, results, run, work_folder};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Turns of every engine.
const ROUNDS: usize = 40;
/// Images a thread runs in one turn.
const IMAGES: usize = 5;

fn main() -> Result<(), Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("backbone/reference.py");
    let python = python("backbone", &script.with_file_name("requirements.txt"))?;
    let mut reference = Served::start(Command::new(&python).arg(&script).arg("serve"))?;
    let mut rows = Vec::new();
    for network in networks(&python, &script)? {
        let engines = [network.load(false)?, network.load(true)?];
        compare_values(&network, &engines)?;
        for threads in [1, 2] {
            rows.push(measured(&network, &engines, threads, &mut reference)?);
        }
    }
    let report = json!({
        "machine": machine(),
        "convolver": fieldtune_kernels::Convolver::best().name(),
        "onnxruntime": reference.version,
        "rounds": ROUNDS,
        "rows": rows,
    });
    let text = serde_json::to_string_pretty(&report)? + "\n";
    std::fs::write(results().join("backbone.json"), text)?;
    Ok(())
}

struct Network {
    name: &'static str,
    manifest: Manifest,
    file: PathBuf,
    output: String,
}

impl Network {
    fn new(
        name: &'static str,
        manifest: Option<Manifest>,
        file: PathBuf,
        output: Option<&str>,
    ) -> Result<Self, Failure> {
        let bytes = std::fs::read(&file)?;
        let inspection = inspect(&bytes, &file, manifest.as_ref().map(|it| &it.input))?;
        let manifest = match manifest {
            Some(manifest) => manifest,
            None => {
                let input = inspection.input.as_image().ok_or("no image input")?;
                Manifest::from_flags(&file, input, Flags::default())?
            }
        };
        let last = inspection.cuts.last().ok_or("a network without cuts")?;
        let output = output.unwrap_or(&last.tensor).to_string();
        Ok(Self {
            name,
            manifest,
            output,
            file,
        })
    }

    fn load(&self, own: bool) -> Result<Backbone, Failure> {
        let bytes = std::fs::read(&self.file)?;
        let load = if own {
            Backbone::load
        } else {
            Backbone::load_plain
        };
        Ok(load(&self.manifest, &bytes, &self.output)?)
    }
}

fn networks(python: &Path, script: &Path) -> Result<Vec<Network>, Failure> {
    let folder = work_folder("backbone");
    let file = folder.join("mobilenet_v2.onnx");
    if !file.exists() {
        run(Command::new(python).arg(script).arg("make").arg(&file))?;
    }
    let embedded = folder.join("efficientnet_lite0_f16.onnx");
    std::fs::write(&embedded, Model::embedded_bytes())?;
    let manifest = Model::embedded()?.manifest().clone();
    Ok(vec![
        Network::new(
            "efficientnet-lite0",
            Some(manifest),
            embedded,
            Some("features"),
        )?,
        Network::new("mobilenet-v2", None, file, None)?,
    ])
}

/// The input of every engine: numbers between -1 and 1.
fn pixels(count: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7919) % 256) as f32 / 128.0 - 1.0;
    (0..count).map(value).collect()
}

/// Stops when the two ways do not compute the same.
fn compare_values(network: &Network, engines: &[Backbone; 2]) -> Result<(), Failure> {
    let input = pixels(engines[0].input_elements());
    let mut outputs = Vec::new();
    for engine in engines {
        let mut output = vec![0.0; engine.features()];
        engine.worker()?.run(&input, &mut output)?;
        outputs.push(output);
    }
    let pairs = || outputs[0].iter().zip(&outputs[1]);
    let largest = pairs().fold(0.0f32, |most, (a, _)| most.max(a.abs()));
    let apart = pairs().fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    println!(
        "{}: largest difference {:.1e}",
        network.name,
        apart / largest
    );
    if apart > 1e-4 * largest {
        return Err(format!("{}: the engines differ", network.name).into());
    }
    Ok(())
}

/// Processor time that the calling thread has had, in ms.
fn processor_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// One turn: wall time of an image and processor time of an image, in ms.
fn turn(workers: &mut [Worker], input: &[f32], features: usize) -> Result<[f64; 2], Failure> {
    let start = Instant::now();
    let used_ms = std::thread::scope(|scope| {
        let handles: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                scope.spawn(move || {
                    let mut output = vec![0.0; features];
                    let start_ms = processor_ms();
                    (0..IMAGES).try_for_each(|_| worker.run(input, &mut output))?;
                    Ok::<f64, fieldtune::error::Error>(processor_ms() - start_ms)
                })
            })
            .collect();
        let ended = |it: std::thread::ScopedJoinHandle<'_, _>| it.join().map_err(|_| "a panic");
        let mut used_ms = 0.0;
        for handle in handles {
            used_ms += ended(handle)??;
        }
        Ok::<f64, Failure>(used_ms)
    })?;
    let images = (workers.len() * IMAGES) as f64;
    Ok([
        start.elapsed().as_secs_f64() * 1e3 / images,
        used_ms / images,
    ])
}

fn measured(
    network: &Network,
    engines: &[Backbone; 2],
    threads: usize,
    reference: &mut Served,
) -> Result<Value, Failure> {
    let input = pixels(engines[0].input_elements());
    let mut times = [const { Vec::new() }; 3];
    let mut workers = Vec::new();
    for engine in engines {
        let each: Result<Vec<Worker>, _> = (0..threads).map(|_| engine.worker()).collect();
        workers.push(each?);
    }
    for round in 0..=ROUNDS {
        for (engine, workers) in workers.iter_mut().enumerate() {
            times[engine].push(turn(workers, &input, engines[engine].features())?);
        }
        times[2].push(reference_turn(reference, &network.file, threads)?);
        if round == 0 {
            // Everything is loaded now.
            times.iter_mut().for_each(Vec::clear);
        }
    }
    let [wall, used] = [0, 1].map(|kind| times.each_ref().map(|turns| least(turns, kind)));
    println!(
        "{:20} {threads} thread(s), ms an image, wall and processor: tract {:.2} {:.2}, fieldtune \
         {:.2} {:.2}, ONNX Runtime {:.2} {:.2}; fieldtune / ONNX Runtime {:.2} {:.2}",
        network.name,
        wall[0],
        used[0],
        wall[1],
        used[1],
        wall[2],
        used[2],
        wall[1] / wall[2],
        used[1] / used[2],
    );
    let row = |engine: usize| {
        let mut all: Vec<f64> = times[engine].iter().map(|turn| turn[0]).collect();
        all.sort_by(f64::total_cmp);
        json!({"wall_ms": wall[engine], "processor_ms": used[engine],
            "median_wall_ms": all[all.len() / 2]})
    };
    Ok(json!({
        "network": network.name, "threads": threads,
        "tract": row(0), "fieldtune": row(1), "onnxruntime": row(2),
        "wall_ratio_to_onnxruntime": wall[1] / wall[2],
        "processor_ratio_to_onnxruntime": used[1] / used[2],
        "wall_ratio_to_tract": wall[1] / wall[0],
    }))
}

/// The least of the turns: wall (0) or processor time (1).
fn least(turns: &[[f64; 2]], kind: usize) -> f64 {
    turns
        .iter()
        .map(|turn| turn[kind])
        .fold(f64::INFINITY, f64::min)
}

/// A turn of ONNX Runtime, in its own process.
fn reference_turn(
    reference: &mut Served,
    file: &Path,
    threads: usize,
) -> Result<[f64; 2], Failure> {
    let answer = reference.ask(&json!({"model": file, "threads": threads, "images": IMAGES}))?;
    let [wall, used] = ["wall_ms", "processor_ms"].map(|name| answer[name].as_f64());
    Ok([wall.ok_or("no time")?, used.ok_or("no time")?])
}
