//! One rate of samples to another, a piece at a time, so that only the result is kept. The
//! library works on blocks and delays what it gives; here nothing is late and nothing is
//! missing.
//!
//! Interpolation by a windowed sinc, not the library's transform: that would bring a third
//! copy of the Fourier code into the program, 0.7 MB of it.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, WindowFunction,
};

use crate::error::{Error, ErrorKind, Result};

/// Samples that go in at a time, at the least.
const BLOCK_SAMPLES: usize = 1024;

/// Length of the sinc, in samples of the lower rate.
const SINC_SAMPLES: usize = 128;

/// Its greatest length in samples of the higher rate.
const MAX_SINC_SAMPLES: usize = 4096;

/// Takes samples of one rate and keeps them at another.
pub struct Resampler {
    /// `None` where the rates are equal.
    interpolator: Option<Async<f32>>,
    /// Samples that do not fill a block yet.
    waiting: Vec<f32>,
    /// One block's result.
    block: Vec<f32>,
    /// Samples of the delay that are still to come before the first of the result.
    late: usize,
    taken: u64,
    rates_hz: [u32; 2],
    kept: Vec<f32>,
}

impl Resampler {
    /// From one rate to another, both in Hz and not 0.
    ///
    /// # Errors
    /// `Failed` when the library cannot do that.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self> {
        let interpolator = (from_hz != to_hz).then(|| {
            let ratio = f64::from(to_hz) / f64::from(from_hz);
            let length = length(ratio);
            let sinc = SincInterpolationParameters::new(length, WindowFunction::BlackmanHarris2);
            Async::new_sinc(ratio, 1.0, &sinc, BLOCK_SAMPLES, 1, FixedAsync::Input)
        });
        let interpolator = interpolator.transpose().map_err(|error| failed(&error))?;
        let used = interpolator.as_ref();
        let (silence, late) = used.map_or((0, 0), |_| delay(from_hz, to_hz));
        Ok(Self {
            waiting: vec![0.0; silence],
            block: vec![0.0; used.map_or(0, |used| used.output_frames_max())],
            late,
            interpolator,
            taken: 0,
            rates_hz: [from_hz, to_hz],
            kept: Vec::new(),
        })
    }

    /// Takes more samples; their first comes out first.
    ///
    /// # Errors
    /// `Failed` when the library fails.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.taken += samples.len() as u64;
        let Some(interpolator) = &self.interpolator else {
            self.kept.extend_from_slice(samples);
            return Ok(());
        };
        let block = interpolator.input_frames_next();
        self.waiting.extend_from_slice(samples);
        let whole = self.waiting.len() / block * block;
        for start in (0..whole).step_by(block) {
            self.run(start, block)?;
        }
        self.waiting.drain(..whole);
        Ok(())
    }

    /// All samples at the new rate: as many as last as long as those that were taken.
    ///
    /// # Errors
    /// `Failed` when the library fails.
    pub fn finish(mut self) -> Result<Vec<f32>> {
        let [from_hz, to_hz] = self.rates_hz.map(u64::from);
        let wanted = (self.taken * to_hz).div_ceil(from_hz) as usize;
        while self.kept.len() < wanted {
            let Some(interpolator) = &self.interpolator else {
                break;
            };
            let rest = self.waiting.len();
            let block = interpolator.input_frames_next();
            self.waiting.resize(block, 0.0);
            self.run(0, rest)?;
            self.waiting.clear();
        }
        self.kept.truncate(wanted);
        Ok(self.kept)
    }

    /// One block, of which `count` samples from `start` on are there and the others silence.
    fn run(&mut self, start: usize, count: usize) -> Result<()> {
        let Some(interpolator) = &mut self.interpolator else {
            return Ok(());
        };
        let frames = self.waiting.len();
        let input = InterleavedSlice::new(&self.waiting, 1, frames).map_err(|e| failed(&e))?;
        let size = self.block.len();
        let mut output =
            InterleavedSlice::new_mut(&mut self.block, 1, size).map_err(|e| failed(&e))?;
        let indexing = Indexing {
            input_offset: start,
            partial_len: Some(count),
            ..Indexing::default()
        };
        let (_, made) = interpolator
            .process_into_buffer(&input, &mut output, Some(&indexing))
            .map_err(|error| failed(&error))?;
        let late = self.late.min(made);
        self.late -= late;
        self.kept.extend_from_slice(&self.block[late..made]);
        Ok(())
    }
}

/// Length of the sinc in samples that go in, a multiple of 8 as the library wants it.
fn length(ratio: f64) -> usize {
    let length = (SINC_SAMPLES as f64 / ratio.min(1.0)) as usize;
    length.min(MAX_SINC_SAMPLES) / 8 * 8
}

/// How many zeros go in before the first sample, and how many samples come out before the
/// one at its place. The library's n-th lies (n + 1) `from_hz` / `to_hz` behind a start that
/// is half a sinc before the first that went in; with these zeros that is a whole number for
/// the one that is wanted.
fn delay(from_hz: u32, to_hz: u32) -> (usize, usize) {
    let common = common_divisor(from_hz, to_hz);
    let [step_in, step_out] = [from_hz, to_hz].map(|hz| (hz / common) as usize);
    let before = length(f64::from(to_hz) / f64::from(from_hz)) / 2;
    let steps = before.div_ceil(step_in);
    (steps * step_in - before, steps * step_out - 1)
}

fn common_divisor(one: u32, other: u32) -> u32 {
    match other {
        0 => one,
        _ => common_divisor(other, one % other),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Failed, format_args!("resampling: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(rate_hz: u32, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate_hz) * seconds) as usize;
        let at = |i: usize| (TAU * 440.0 * i as f64 / f64::from(rate_hz)).sin() as f32;
        (0..count).map(at).collect()
    }

    #[test]
    fn a_tone_is_the_same_tone_at_another_rate_whatever_the_pieces() {
        for (from, to) in [
            (44_100, 16_000),
            (8_000, 16_000),
            (48_000, 8_000),
            (11_025, 16_000),
        ] {
            let (given, wanted) = (tone(from, 0.5), tone(to, 0.5));
            let found: Vec<Vec<f32>> = [1, 997, given.len()]
                .into_iter()
                .map(|piece| {
                    let mut resampler = Resampler::new(from, to).unwrap();
                    given.chunks(piece).for_each(|p| resampler.push(p).unwrap());
                    resampler.finish().unwrap()
                })
                .collect();
            assert!(found.iter().all(|one| *one == found[0]), "{from} to {to}");
            assert!(found[0].len().abs_diff(wanted.len()) <= 1);
            // The ends, where a tone begins from nothing, are not the tone.
            let middle = 1000..wanted.len() - 1000;
            let error = middle
                .map(|i| (found[0][i] - wanted[i]).abs())
                .fold(0.0, f32::max);
            // The library is late by a 128th of a sample.
            assert!(error < 4e-3, "{from} to {to}: {error}");
        }
    }

    #[test]
    fn equal_rates_change_nothing() {
        let mut resampler = Resampler::new(8_000, 8_000).unwrap();
        resampler.push(&[0.5, -0.5]).unwrap();
        assert_eq!(resampler.finish().unwrap(), [0.5, -0.5]);
    }
}
