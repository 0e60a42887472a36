//! Spoken digits as pictures: the logarithm of their power in 64 mel bands against time.
//! A plain transform is quick enough for a few hundred recordings of half a second.

use std::f32::consts::PI;
use std::path::{Path, PathBuf};

use image::{GrayImage, ImageFormat, imageops};

use super::pictures::Picture;
use crate::{Failure, shared};

/// Samples a second of every recording.
pub const RATE_HZ: f32 = 8000.0;
/// Samples of a window, and from one window to the next.
const WINDOW: usize = 256;
const STEP: usize = 64;
const BANDS: usize = 64;
/// Side of a picture, in pixels.
const SIDE: u32 = 256;
/// Powers below the loudest by more than this factor (in nepers) are black.
const RANGE: f32 = 12.0;

/// The first `each` recordings of every digit by every speaker, as PNG files, and the
/// number of each one's speaker.
///
/// # Errors
/// When the data is absent or damaged.
pub fn spoken_digits(each: usize) -> Result<(Vec<Picture>, Vec<usize>), Failure> {
    let bands = bands();
    let (paths, speakers) = recordings(each)?;
    let draw = |(path, digit): &(PathBuf, usize)| {
        Ok::<_, Failure>((picture(&samples(path)?, &bands)?, *digit))
    };
    let pictures: Result<Vec<Picture>, Failure> = paths.iter().map(draw).collect();
    Ok((pictures?, speakers))
}

/// Files with their digits, and the number of each one's speaker.
pub type Recordings = (Vec<(PathBuf, usize)>, Vec<usize>);

/// The files of the first `each` recordings of every digit by every speaker with their
/// digits, and the number of each one's speaker.
///
/// # Errors
/// When the data is absent.
pub fn recordings(each: usize) -> Result<Recordings, Failure> {
    let folder = shared("data/spoken-digits")?;
    let mut speakers: Vec<String> = Vec::new();
    let (mut found, mut groups) = (Vec::new(), Vec::new());
    for digit in 0..10 {
        let mut taken = std::collections::BTreeMap::<String, usize>::new();
        let entries = std::fs::read_dir(folder.join(digit.to_string()))?;
        let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
        let mut paths = paths?;
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let speaker = name.split('_').nth(1).ok_or("a name without speaker")?;
            let count = taken.entry(speaker.into()).or_default();
            *count += 1;
            if *count > each {
                continue;
            }
            let known = speakers.iter().position(|known| known == speaker);
            groups.push(known.unwrap_or_else(|| {
                speakers.push(speaker.into());
                speakers.len() - 1
            }));
            found.push((path.clone(), digit));
        }
    }
    Ok((found, groups))
}

/// The samples of a WAV file of 16 bits, one channel; what else its header may say is not
/// looked at.
fn samples(path: &Path) -> Result<Vec<f32>, Failure> {
    let bytes = std::fs::read(path)?;
    let data = bytes.windows(4).position(|name| name == b"data");
    let start = data.ok_or("no data in a recording")? + 8;
    let pairs = bytes.get(start..).ok_or("too short")?.chunks_exact(2);
    Ok(pairs
        .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0)
        .collect())
}

/// Triangles over the lines of the spectrum, evenly spaced in mel up to half the rate.
fn bands() -> Vec<Vec<f32>> {
    let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f32| 700.0 * (10f32.powf(mel / 2595.0) - 1.0);
    let lines = WINDOW / 2 + 1;
    let place = |k: usize| {
        let mel = mel(RATE_HZ / 2.0) * k as f32 / (BANDS + 1) as f32;
        hz(mel) / RATE_HZ * WINDOW as f32
    };
    let band = |k: usize| {
        let (low, middle, high) = (place(k), place(k + 1), place(k + 2));
        let weight = |line: usize| {
            let line = line as f32;
            ((line - low) / (middle - low)).min((high - line) / (high - middle))
        };
        (0..lines).map(|line| weight(line).max(0.0)).collect()
    };
    (0..BANDS).map(band).collect()
}

fn picture(samples: &[f32], bands: &[Vec<f32>]) -> Result<Vec<u8>, Failure> {
    let mut padded = samples.to_vec();
    padded.resize(samples.len().max(WINDOW), 0.0);
    let columns: Vec<Vec<f32>> = padded
        .windows(WINDOW)
        .step_by(STEP)
        .map(|window| {
            let power = power(window);
            let sum = |band: &Vec<f32>| band.iter().zip(&power).map(|(w, p)| w * p).sum::<f32>();
            bands.iter().map(|band| (sum(band) + 1e-8).ln()).collect()
        })
        .collect();
    let loudest = columns.iter().flatten().fold(f32::MIN, |a, b| a.max(*b));
    let (width, height) = (columns.len() as u32, BANDS as u32);
    let spectrum = GrayImage::from_fn(width, height, |x, y| {
        let value = columns[x as usize][BANDS - 1 - y as usize];
        let level = ((value - loudest + RANGE) / RANGE).clamp(0.0, 1.0);
        image::Luma([(255.0 * level) as u8])
    });
    let filter = imageops::FilterType::CatmullRom;
    let square = imageops::resize(&spectrum, SIDE, SIDE, filter);
    let mut png = std::io::Cursor::new(Vec::new());
    square.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// Power of each line of the spectrum of one window, Hann weighted.
fn power(window: &[f32]) -> Vec<f32> {
    let turn = |i: usize| 2.0 * PI * i as f32 / WINDOW as f32;
    let weighted: Vec<f32> = (0..WINDOW)
        .map(|i| window[i] * 0.5 * (1.0 - turn(i).cos()))
        .collect();
    let table: Vec<(f32, f32)> = (0..WINDOW).map(|i| turn(i).sin_cos()).collect();
    (0..=WINDOW / 2)
        .map(|line| {
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (i, value) in weighted.iter().enumerate() {
                let (s, c) = table[line * i % WINDOW];
                sine += value * s;
                cosine += value * c;
            }
            sine * sine + cosine * cosine
        })
        .collect()
}
