//! How much of the time of a picture goes to decoding and resizing it, and how much to the
//! backbone: small pictures and photographs of 12 megapixels, one thread.

use std::path::Path;
use std::time::Instant;

use fieldtune::model::Model;
use fieldtune::preprocess::{View, decode};
use fieldtune_benches::{Failure, machine, results};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use serde_json::json;

/// Each part is run again until it has taken this long in all.
const LEAST_MS: f64 = 500.0;

/// Widths and heights of the pictures.
const SIZES: [(u32, u32); 4] = [(224, 224), (640, 480), (1920, 1080), (4000, 3000)];

fn main() -> Result<(), Failure> {
    let model = Model::embedded()?;
    let manifest = model.manifest();
    let lazy = model.cut_at(&manifest.default_cut)?;
    let backbone = lazy.get()?;
    let mut worker = backbone.worker()?;
    let mut features = vec![0.0; backbone.features()];
    let mut tensor = vec![0.0; manifest.input.elements()];
    let backbone_ms = mean(|| Ok(worker.run(&tensor, &mut features)?))?;
    println!("backbone: {backbone_ms:.1} ms a view");
    let mut rows = Vec::new();
    for (width, height) in SIZES {
        let jpeg = photograph(width, height)?;
        let path = Path::new("made up");
        let decode_ms = mean(|| decode(&jpeg, path).map(drop).map_err(Into::into))?;
        let image = decode(&jpeg, path)?;
        let mut views = Vec::new();
        for view in View::ALL {
            let settings = &manifest.preprocessing;
            let resize = || Ok(settings.tensor(&image, &manifest.input, view, &mut tensor)?);
            views.push(mean(resize)?);
        }
        let one = decode_ms + views[0];
        let all = decode_ms + views.iter().sum::<f64>();
        let share = |own: f64, passes: usize| own / (own + backbone_ms * passes as f64);
        println!(
            "{width} x {height}, {} kB: decode {decode_ms:.1} ms, resize {views:.1?} ms; {:.0} % of one view, {:.0} % of four",
            jpeg.len() / 1000,
            100.0 * share(one, 1),
            100.0 * share(all, View::ALL.len()),
        );
        rows.push(json!({
            "width": width, "height": height, "jpeg_bytes": jpeg.len(),
            "decode_ms": decode_ms, "resize_ms": views,
            "share_of_one_view": share(one, 1),
            "share_of_four_views": share(all, View::ALL.len()),
        }));
    }
    let document = json!({
        "bench": "pictures", "machine": machine(), "threads": 1, "clock": "processor time where the system tells, mean",
        "backbone_ms_a_view": backbone_ms, "pictures": rows,
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(results().join("pictures.json"), text)?;
    Ok(())
}

/// Milliseconds of a run, spent on a processor where the system tells, so that other
/// programs count for less. That clock is coarse: the mean of at least [`LEAST_MS`].
fn mean(mut run: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    run()?;
    let (start, before) = (Instant::now(), on_processor_ms());
    for runs in 1_u32.. {
        run()?;
        let passed = 1000.0 * start.elapsed().as_secs_f64();
        let spent = before.zip(on_processor_ms());
        let spent = spent.map_or(passed, |(before, after)| after - before);
        if spent >= LEAST_MS {
            return Ok(spent / f64::from(runs));
        }
    }
    Err("no run takes any time".into())
}

/// Time that this thread has run, on Linux.
fn on_processor_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e6)
}

/// A JPEG with shades, edges and noise, about as large as a camera's.
fn photograph(width: u32, height: u32) -> Result<Vec<u8>, Failure> {
    let mut state = 1u32;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 28) as f32;
        let wave = |period: f32, at: u32| (at as f32 / period).sin();
        let edge = if (x / 97 + y / 61) % 2 == 0 {
            30.0
        } else {
            0.0
        };
        let level = |phase: f32| {
            let shade = 110.0 + 50.0 * wave(213.0 + phase, x) * wave(171.0 - phase, y);
            (shade + edge + noise) as u8
        };
        Rgb([level(0.0), level(20.0), level(45.0)])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 88).encode_image(&picture)?;
    Ok(bytes)
}
