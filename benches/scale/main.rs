//! Time and memory of `train` against the number of samples: `cargo bench --bench scale`, the
//! command as a user runs it, without flags but those that name files. 10, 100, 1,000 and 10,000
//! pictures of two classes, made up here: 64 x 64 pixels, stripes of one direction or the
//! other under noise. Each number is trained twice: first with an empty cache, then with all
//! features in it. `-- --most 1000` stops earlier and keeps no results.

use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune_benches::plot::{Captions, Point, Series, svg};
use fieldtune_benches::process::{document, program, used};
use fieldtune_benches::{Failure, keep, machine, results, work_folder};
use fieldtune_core::random::Random;
use image::GrayImage;
use serde_json::{Value, json};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const SIDE: u32 = 64;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--most");
    let most: Option<usize> = arguments.nth(1).and_then(|n| n.parse().ok());
    let program = program()?;
    let folder = work_folder("scale");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    println!(
        "| samples | cold s | features s | search s | training s | warm s | cold MB | warm MB | plan MB | cache MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for samples in SIZES
        .into_iter()
        .filter(|size| most.is_none_or(|most| *size <= most))
    {
        rows.push(measured(
            &program,
            &folder.join(samples.to_string()),
            samples,
        )?);
    }
    if most.is_none() {
        plot(&rows)?;
        keep(
            &results().join("scale.json"),
            &json!({"machine": machine(), "rows": rows}),
        )?;
    }
    Ok(())
}

/// Trains twice on `samples` pictures; prints a line.
fn measured(program: &Path, folder: &Path, samples: usize) -> Result<Value, Failure> {
    let pictures = folder.join("samples");
    draw(&pictures, samples)?;
    let cache = folder.join("cache");
    let command = |name: &str| {
        let mut command = Command::new(program);
        command.arg(name).arg(&pictures).arg("--cache").arg(&cache);
        command
    };
    let plan = document(command("plan").arg("--json"))?;
    let mut train = command("train");
    train.arg("-o").arg(folder.join("head"));
    let cold = used(&train)?;
    let cache_bytes = size_of_folder(&cache)?;
    let warm = used(&train)?;
    let told = document(train.arg("--json"))?;
    let plan_bytes = plan["peak_bytes"].as_u64().ok_or("no plan")?;
    let seconds = |name: &str| told["seconds"][name].as_f64().ok_or("no time");
    let (search_s, train_s) = (seconds("search")?, seconds("train")?);
    let features_s = (cold.wall_s - warm.wall_s).max(0.0);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "| {samples} | {:.2} | {features_s:.2} | {search_s:.2} | {train_s:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
        cold.wall_s,
        warm.wall_s,
        megabytes(cold.peak_bytes),
        megabytes(warm.peak_bytes),
        megabytes(plan_bytes),
        megabytes(cache_bytes),
    );
    Ok(json!({
        "samples": samples, "cold": cold, "warm": warm, "search_s": search_s, "train_s": train_s,
        "plan_bytes": plan_bytes, "cache_bytes": cache_bytes, "recipe": told["recipe"],
    }))
}

/// Pictures of two classes in a folder of their own, each another one.
fn draw(folder: &Path, samples: usize) -> Result<(), Failure> {
    let mut random = Random::new(5);
    for sample in 0..samples {
        let class = sample % 2;
        let own: PathBuf = folder.join(["across", "down"][class]);
        std::fs::create_dir_all(&own)?;
        let width = 6.0 + 6.0 * random.uniform();
        let image = GrayImage::from_fn(SIDE, SIDE, |x, y| {
            let along = [x, y][class] as f32;
            let stripe = (along / width * core::f32::consts::TAU).sin();
            let level = 128.0 + 60.0 * stripe + 40.0 * random.normal();
            image::Luma([level.clamp(0.0, 255.0) as u8])
        });
        image.save(own.join(format!("{sample}.png")))?;
    }
    Ok(())
}

fn size_of_folder(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() {
            size_of_folder(&entry.path())?
        } else {
            kind.len()
        };
    }
    Ok(bytes)
}

fn plot(rows: &[Value]) -> Result<(), Failure> {
    let series = |name: &str, of: &dyn Fn(&Value) -> Option<f64>| Series {
        name: name.into(),
        points: rows
            .iter()
            .filter_map(|row| {
                let x = row["samples"].as_f64()?;
                Some(Point {
                    x,
                    y: of(row)?,
                    half: 0.0,
                })
            })
            .collect(),
    };
    let seconds = [
        series("cold", &|row| row["cold"]["wall_s"].as_f64()),
        series("warm", &|row| row["warm"]["wall_s"].as_f64()),
    ];
    let megabytes = |value: &Value| Some(value.as_f64()? / 1e6);
    let memory = [
        series("cold", &|row| megabytes(&row["cold"]["peak_bytes"])),
        series("warm", &|row| megabytes(&row["warm"]["peak_bytes"])),
        series("as planned", &|row| megabytes(&row["plan_bytes"])),
        series("the cache's file", &|row| megabytes(&row["cache_bytes"])),
    ];
    for (name, title, y, series) in [
        ("scale-time", "Time of train", "seconds", &seconds[..]),
        (
            "scale-memory",
            "Peak memory of train",
            "megabytes",
            &memory[..],
        ),
    ] {
        let captions = Captions {
            title,
            x: "samples",
            y,
        };
        std::fs::write(
            results().join(format!("{name}.svg")),
            svg(&captions, series),
        )?;
    }
    Ok(())
}
