//! Recordings to feed the command: WAV files made here, and the small ones of every format
//! that `golden/sound/make.py` made.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use crate::repository;

/// Samples a second of the recordings made here.
pub const RATE_HZ: u32 = 8_000;

/// A WAV file of 16 bits and one channel.
pub fn wav(samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|value| ((value * 32767.0) as i16).to_le_bytes())
        .collect();
    wav_that_says(data.len() as u32, RATE_HZ, 1, &data)
}

/// A WAV file of 16 bits whose header claims what it is told to.
pub fn wav_that_says(data_bytes: u32, rate_hz: u32, channels: u16, data: &[u8]) -> Vec<u8> {
    let frame_bytes = 2 * channels;
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&data_bytes.saturating_add(36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&channels.to_le_bytes());
    file.extend_from_slice(&rate_hz.to_le_bytes());
    let bytes_a_second = rate_hz.wrapping_mul(frame_bytes.into());
    file.extend_from_slice(&bytes_a_second.to_le_bytes());
    file.extend_from_slice(&frame_bytes.to_le_bytes());
    file.extend_from_slice(&16u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data_bytes.to_le_bytes());
    file.extend_from_slice(data);
    file
}

/// A tone that rises or falls by an octave, a little different for each `number`.
pub fn glide(rises: bool, number: usize, seconds: f32) -> Vec<f32> {
    let count = (seconds * RATE_HZ as f32) as usize;
    let base = 300.0 + 20.0 * (number % 7) as f32;
    let mut phase = 0.0f32;
    let sample = |i: usize| {
        let share = i as f32 / count as f32;
        let octave = if rises { share } else { 1.0 - share };
        phase = (phase + base * octave.exp2() / RATE_HZ as f32).fract();
        0.4 * (TAU * phase).sin() + 0.1 * (TAU * 3.0 * phase).sin()
    };
    (0..count).map(sample).collect()
}

/// `seconds` of nothing.
pub fn silence(seconds: f32) -> Vec<f32> {
    vec![0.0; (seconds * RATE_HZ as f32) as usize]
}

/// Writes a folder of two classes, `falling` and `rising`, `each` recordings in each.
pub fn glides(folder: &Path, each: usize) {
    for (class, rises) in [("falling", false), ("rising", true)] {
        let class = folder.join(class);
        std::fs::create_dir_all(&class).expect("a folder can be made");
        for number in 0..each {
            let seconds = 0.5 + 0.05 * (number % 5) as f32;
            let samples = [silence(0.1), glide(rises, number, seconds), silence(0.2)].concat();
            let path = class.join(format!("{number:02}.wav"));
            std::fs::write(path, wav(&samples)).expect("a file can be written");
        }
    }
}

/// The recordings of every format.
pub fn golden_recordings() -> PathBuf {
    repository().join("tests/golden/sound/recordings")
}
