//! Promise: what `plan` says of memory is a limit that training keeps. Twenty different jobs
//! run in a process that the system gives no more than the planned figure and 5 %, and told
//! 20 % less than planned each refuses before it starts; none is killed.
//!
//! The limit is RLIMIT_DATA, in kernels since 4.7: everything that a process may write to and
//! does not share, its heap and its threads' stacks, whether touched or not. Anyone may set
//! it, in any container. RLIMIT_AS would count addresses that allocators only reserve, 64 MB
//! a thread. The program's own pages are not in it, so the peak of resident memory, where
//! they are, is held against the same figure.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use fieldtune_tests::onnx_files::{Onnx, Setting};
use fieldtune_tests::sounds::{RATE_HZ, glide, glides, wav, wav_that_says};
use fieldtune_tests::{
    demo_head, demo_samples, encoded, not_tested, png_that_declares, program, run, scratch,
    striped, write_files,
};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// What is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Samples {
    /// The demo's photographs.
    Photographs,
    /// Many small pictures of four classes.
    Many,
    /// A few pictures of twelve million pixels.
    Large,
    /// Half a second each.
    Recordings,
    /// Minutes each, cut into windows.
    Long,
}

use Samples::{Large, Long, Many, Photographs, Recordings};

/// Samples and flags under which memory differs.
const JOBS: [(Samples, &[&str]); 20] = [
    (Photographs, &["--threads", "1"]),
    (Photographs, &["--threads", "2"]),
    (Photographs, &["--threads", "4", "--head", "linear"]),
    (Photographs, &["--head", "prototype", "--views", "original"]),
    (
        Photographs,
        &["--head", "mlp:512", "--batch", "64", "--epochs", "3"],
    ),
    (
        Photographs,
        &["--head", "linear", "--cut", "feature_map:mean"],
    ),
    (
        Photographs,
        &["--head", "tail", "--epochs", "1", "--views", "original"],
    ),
    (
        Photographs,
        &[
            "--head",
            "tail",
            "--epochs",
            "1",
            "--recompute",
            "--threads",
            "1",
        ],
    ),
    (Many, &["--head", "linear", "--views", "original"]),
    (
        Many,
        &["--head", "auto", "--time", "5s", "--views", "mirrored"],
    ),
    (Many, &["--backbone", "small.onnx", "--cut", "pool"]),
    (
        Many,
        &[
            "--backbone",
            "small.onnx",
            "--cut",
            "pool",
            "--head",
            "mlp:1024,256",
            "--epochs",
            "2",
        ],
    ),
    (
        Many,
        &[
            "--backbone",
            "small.onnx",
            "--cut",
            "mid",
            "--head",
            "tail",
            "--epochs",
            "2",
        ],
    ),
    (
        Many,
        &[
            "--backbone",
            "small.onnx",
            "--cut",
            "mid",
            "--head",
            "linear",
            "--batch",
            "256",
        ],
    ),
    (Large, &["--head", "linear", "--threads", "1"]),
    (
        Large,
        &[
            "--backbone",
            "small.onnx",
            "--cut",
            "pool",
            "--threads",
            "2",
        ],
    ),
    (Recordings, &["--threads", "2"]),
    (
        Recordings,
        &["--cut", "statistics", "--head", "mlp:64", "--epochs", "20"],
    ),
    (Recordings, &["--cut", "features", "--head", "linear"]),
    (Long, &["--window", "2s", "--threads", "2"]),
];

/// A small network: two convolutions, a third after the cut `mid`, a classifier.
fn small_network() -> Vec<u8> {
    const HALVED: (&str, Setting<'_>) = ("strides", Setting::Integers(&[2, 2]));
    const PADDED: (&str, Setting<'_>) = ("pads", Setting::Integers(&[1, 1, 1, 1]));
    let mut onnx = Onnx::new(13, [3, 32, 32]);
    onnx.convolution("x", "a", [8, 3, 3, 3], &[PADDED, HALVED]);
    onnx.node("Relu", &["a"], "a1", &[]);
    onnx.convolution("a1", "b", [16, 8, 3, 3], &[PADDED, HALVED]);
    onnx.node("Relu", &["b"], "mid", &[]);
    onnx.convolution("mid", "c", [32, 16, 3, 3], &[PADDED, HALVED]);
    onnx.node("Relu", &["c"], "c1", &[]);
    onnx.node("GlobalAveragePool", &["c1"], "pool", &[]);
    onnx.node("Flatten", &["pool"], "flat", &[]);
    onnx.noise("w", &[32, 4], 0.0, 0.5);
    onnx.node("MatMul", &["flat", "w"], "y", &[]);
    onnx.finish("y")
}

/// A picture of stripes and noise, another one for each number.
fn picture(side: u32, class: usize, number: usize) -> Vec<u8> {
    let period = 2 + 3 * class as u32;
    let level = |x: u32, y: u32| {
        let noise = (x * 31 + y * 17 + 7 * number as u32) % 40;
        (if (x / period).is_multiple_of(2) {
            40
        } else {
            200
        } + noise) as u8
    };
    let image = RgbImage::from_fn(side, side, |x, y| Rgb([level(x, y); 3]));
    encoded(&DynamicImage::from(image), ImageFormat::Jpeg)
}

/// The folder of some samples, made where it is not there yet.
fn folder(samples: Samples) -> PathBuf {
    let folder = scratch().join(format!("{samples:?}"));
    let pictures = |side, classes, each| {
        for class in 0..classes {
            for number in 0..each {
                let name = format!("{class}/{number}.jpg");
                let bytes = picture(side, class, number);
                write_files(&folder, &[(name.as_str(), &bytes)]);
            }
        }
    };
    match samples {
        Photographs => return demo_samples(),
        _ if folder.exists() => {}
        Many => pictures(64, 4, 60),
        Large => pictures(3500, 2, 4),
        Recordings => glides(&folder, 12),
        Long => {
            for (class, rises) in [("falling", false), ("rising", true)] {
                for number in 0..3 {
                    let seconds = 60.0 * (1 + number) as f32;
                    let calls = (0..seconds as usize).flat_map(|_| glide(rises, number, 1.0));
                    let calls: Vec<f32> = calls.collect();
                    assert!(calls.len() >= 60 * RATE_HZ as usize);
                    let name = format!("{class}/{number}.wav");
                    write_files(&folder, &[(name.as_str(), &wav(&calls))]);
                }
            }
        }
    }
    folder
}

/// `command SAMPLES FLAGS` in a process that may have so much memory; 0 for any.
fn limited(command: &str, (samples, flags): (Samples, &[&str]), limit_bytes: u64) -> Command {
    let mut shell = Command::new("sh");
    // dash and bash count in KiB.
    let script = match limit_bytes {
        0 => "exec \"$0\" \"$@\"".into(),
        _ => format!("ulimit -d {} && exec \"$0\" \"$@\"", limit_bytes / 1024),
    };
    shell.args(["-c", &script]).arg(program());
    shell.arg(command).arg(folder(samples)).arg("--json");
    shell.args(["--cache", "off"]).args(flags);
    if flags.contains(&"--backbone") {
        let network = scratch().join("small.onnx");
        fs::write(&network, small_network()).expect("written");
        shell.args(["--input", "x:3x32x32"]).current_dir(scratch());
    }
    shell
}

fn head(job: usize) -> PathBuf {
    scratch().join(format!("{job}.head"))
}

/// What is wrong with a job, if anything, and a line of its figures.
fn tried(job: usize) -> (Vec<String>, String) {
    let plan = run(&mut limited("plan", JOBS[job], 0)).json();
    let planned = plan["peak_bytes"].as_u64().expect("peak_bytes");
    let mut wrong = Vec::new();
    let limit = planned + planned / 20;
    let mut training = limited("train", JOBS[job], limit);
    let ran = run(training.arg("-o").arg(head(job)));
    let mut peak = 0;
    if ran.code == Some(0) {
        peak = ran.json()["peak_rss_bytes"].as_u64().expect("peak");
        if peak > limit {
            wrong.push(format!("{peak} bytes used, {planned} planned"));
        }
    } else {
        wrong.push(format!("with {limit} bytes: {ran:?}"));
    }
    let less = planned - planned / 5;
    let refused = head(100 + job);
    let mut training = limited("train", JOBS[job], less);
    training.arg("-o").arg(&refused);
    let ran = run(training.args(["--memory", &less.to_string()]));
    let line = ran.stderr.trim_end();
    let said = line.lines().count() == 1 && line.contains("needs") && line.contains("--memory");
    if ran.code != Some(4) || !said || !ran.stdout.is_empty() || refused.exists() {
        wrong.push(format!("told {less} bytes: {ran:?}"));
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (samples, flags) = JOBS[job];
    let figures = format!(
        "{samples:?} {}: planned {:.1} MiB, used {:.1} MiB",
        flags.join(" "),
        mib(planned),
        mib(peak)
    );
    (wrong, figures)
}

#[test]
fn twenty_jobs_keep_to_their_plans_and_refuse_less() {
    if !cfg!(target_os = "linux") {
        return not_tested("hard limits on memory; they are set as Linux does");
    }
    let mut all = Vec::new();
    for job in 0..JOBS.len() {
        let (wrong, figures) = tried(job);
        println!("{figures}");
        all.extend(wrong.into_iter().map(|it| format!("{figures}: {it}")));
    }
    assert!(all.is_empty(), "{all:#?}");
}

/// What labelling a small picture may take, several times over.
const ENOUGH_BYTES: u64 = 256 << 20;

/// A JPEG whose frame says that it has so many pixels.
fn jpeg_that_declares(side: u16) -> Vec<u8> {
    let mut jpeg = striped(4);
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .expect("a baseline JPEG has a frame");
    jpeg[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    jpeg
}

/// A BMP of nothing that says how large it is.
fn bmp_that_declares(width: i32, height: i32) -> Vec<u8> {
    let mut bmp = b"BM".to_vec();
    bmp.extend([0; 8]);
    bmp.extend(54u32.to_le_bytes());
    bmp.extend(40u32.to_le_bytes());
    bmp.extend(width.to_le_bytes());
    bmp.extend(height.to_le_bytes());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    bmp
}

/// A lossless WebP of nothing whose sides are as long as they can be.
fn largest_webp() -> Vec<u8> {
    // A signature, then twice 14 bits: 16,383 pixels less one.
    let image = [0x2f, 0xfe, 0xbf, 0xff, 0x0f, 0, 0, 0];
    let mut webp = b"RIFF".to_vec();
    webp.extend((12 + image.len() as u32).to_le_bytes());
    webp.extend(b"WEBPVP8L");
    webp.extend((image.len() as u32).to_le_bytes());
    webp.extend(image);
    webp
}

/// Files that say they hold far more than they do: none takes the memory that it asks for.
#[test]
fn bombs_are_refused_before_memory_is_taken() {
    if !cfg!(target_os = "linux") {
        return not_tested("hard limits on memory; they are set as Linux does");
    }
    let long = vec![0; 1 << 20];
    let bombs: [(&str, Vec<u8>, &str); 8] = [
        ("wide.png", png_that_declares(60_000, 60_000), "too large"),
        ("flat.png", png_that_declares(u32::MAX >> 1, 1), "memory"),
        ("wide.jpg", jpeg_that_declares(65_000), "too large"),
        ("wide.bmp", bmp_that_declares(1 << 30, 1 << 30), "large"),
        ("flat.bmp", bmp_that_declares(1 << 27, 1), "too large"),
        ("wide.webp", largest_webp(), "too large"),
        (
            "year.wav",
            wav_that_says(u32::MAX - 36, 1_000, 1, &long),
            "too long",
        ),
        (
            "channels.wav",
            wav_that_says(1 << 20, 8_000, 60_000, &long),
            "",
        ),
    ];
    let heard = scratch().join("heard.head");
    let mut training = limited("train", (Recordings, &[]), 0);
    run(training.arg("-o").arg(&heard)).json();
    for (name, bytes, reason) in bombs {
        let path = scratch().join(name);
        fs::write(&path, bytes).expect("written");
        let head = match name.ends_with("wav") {
            true => heard.as_path(),
            false => demo_head(),
        };
        let mut shell = Command::new("sh");
        let script = format!("ulimit -d {} && exec \"$0\" \"$@\"", ENOUGH_BYTES / 1024);
        shell.args(["-c", &script]).arg(program()).arg("predict");
        let ran = run(shell.arg(head).arg(&path).args(["--cache", "off"]));
        let line = ran.refused(3, name);
        assert!(line.contains(reason), "{line}");
    }
}
