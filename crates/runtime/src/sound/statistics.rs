//! A recording as one short vector, without any network: how its spectrum moves over time
//! and what it is on average. Measured on spoken digits of new speakers, a linear head on it
//! recognises twice as many as one on the picture backbone's features
//! (`benches/README.md`).
//!
//! With M the log-mel spectrogram, clipped [`RANGE_DB`] below its loudest cell, s its
//! deviation over all cells and m_b the mean of band b:
//! - [`CEPSTRA`] mel cepstra of (M - m_b) / s in each of [`SEGMENTS`] equal parts of time;
//! - (m_b - mean of all m_b) / s for every band: the colour of the sound;
//! - the deviation over time of every band, divided by s.
//!
//! Taking out m_b takes out the microphone, the room and much of the voice; equal parts of
//! time take out tempo; s takes out loudness.

use super::spectrum::{LogMel, cepstra};

/// Parts of time.
pub const SEGMENTS: usize = 8;
/// Cepstra of each part.
pub const CEPSTRA: usize = 16;
/// Cells quieter than the loudest by more than this count as this much quieter.
pub const RANGE_DB: f64 = 60.0;

/// Numbers that [`statistics`] gives.
pub fn count(bands: usize) -> usize {
    SEGMENTS * CEPSTRA.min(bands) + 2 * bands
}

/// Nepers of power (natural logarithm) in so many decibels.
pub(super) fn nepers(decibels: f64) -> f64 {
    decibels / 10.0 * std::f64::consts::LN_10
}

/// Clips a spectrogram [`RANGE_DB`] below its loudest cell.
pub(super) fn clipped(log_mel: &LogMel) -> LogMel {
    let loudest = log_mel.values.iter().copied().fold(f64::MIN, f64::max);
    let least = loudest - nepers(RANGE_DB);
    LogMel {
        values: log_mel
            .values
            .iter()
            .map(|value| value.max(least))
            .collect(),
        bands: log_mel.bands,
    }
}

/// The statistics of a spectrogram of one frame or more, [`count`] of them.
pub fn statistics(log_mel: &LogMel) -> Vec<f32> {
    let clipped = clipped(log_mel);
    let bands = clipped.bands;
    let (means, deviations) = moments(&clipped);
    let mean = means.iter().sum::<f64>() / bands.max(1) as f64;
    let square = clipped.values.iter().map(|value| (value - mean).powi(2));
    let deviation = (square.sum::<f64>() / clipped.values.len().max(1) as f64).sqrt();
    // A spectrogram of equal cells has nothing to tell.
    let scale = 1.0 / deviation.max(1e-6);
    let mut out = Vec::with_capacity(count(bands));
    for segment in 0..SEGMENTS {
        let (start, end) = part(clipped.frames(), segment);
        let share = scale / (end - start).max(1) as f64;
        let mut sums = vec![0.0; bands];
        for row in clipped.rows().skip(start).take(end - start) {
            for ((sum, value), mean) in sums.iter_mut().zip(row).zip(&means) {
                *sum += share * (value - mean);
            }
        }
        out.extend(cepstra(&sums, CEPSTRA.min(bands)).map(|value| value as f32));
    }
    out.extend(means.iter().map(|value| (scale * (value - mean)) as f32));
    out.extend(deviations.iter().map(|value| (scale * value) as f32));
    out
}

/// Mean and deviation over time of every band.
fn moments(log_mel: &LogMel) -> (Vec<f64>, Vec<f64>) {
    let frames = log_mel.frames().max(1) as f64;
    let mut means = vec![0.0; log_mel.bands];
    for row in log_mel.rows() {
        means
            .iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
    }
    means.iter_mut().for_each(|sum| *sum /= frames);
    let mut squares = vec![0.0; log_mel.bands];
    for row in log_mel.rows() {
        for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&means) {
            *sum += (value - mean).powi(2);
        }
    }
    let deviations = squares.iter().map(|sum| (sum / frames).sqrt()).collect();
    (means, deviations)
}

/// The frames of one part of time, never none; parts share a frame where they do not meet
/// between two.
fn part(frames: usize, segment: usize) -> (usize, usize) {
    let start = frames * segment / SEGMENTS;
    let end = (frames * (segment + 1)).div_ceil(SEGMENTS);
    (start.min(frames.saturating_sub(1)), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_mel(frames: usize, value: impl Fn(usize, usize) -> f64) -> LogMel {
        let cells = (0..frames).flat_map(|t| (0..20).map(move |b| (t, b)));
        LogMel {
            values: cells.map(|(t, b)| value(t, b)).collect(),
            bands: 20,
        }
    }

    #[test]
    fn loudness_and_microphone_change_only_what_they_should() {
        let sound = |t: usize, b: usize| ((t * 7 + b * 3) % 11) as f64 * 0.3;
        let plain = statistics(&log_mel(30, sound));
        assert_eq!(plain.len(), count(20));
        let close =
            |one: &[f32], other: &[f32]| one.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-4);
        // Louder by 10 dB.
        assert!(close(
            &plain,
            &statistics(&log_mel(30, |t, b| sound(t, b) + 2.3))
        ));
        // Half as fast.
        let slow = statistics(&log_mel(60, |t, b| sound(t / 2, b)));
        let moving = SEGMENTS * CEPSTRA;
        assert!(close(&plain[moving..], &slow[moving..]));
    }

    #[test]
    fn one_frame_and_equal_cells_give_finite_numbers() {
        for frames in [1, 2, 9] {
            let found = statistics(&log_mel(frames, |_, _| -18.4));
            assert_eq!(found.len(), count(20));
            assert!(found.iter().all(|value| value.abs() < 1e-3), "{frames}");
        }
    }

    #[test]
    fn parts_cover_all_frames() {
        for frames in [1, 3, 8, 9, 100] {
            let parts: Vec<_> = (0..SEGMENTS).map(|s| part(frames, s)).collect();
            assert!(
                parts
                    .iter()
                    .all(|(start, end)| start < end && *end <= frames)
            );
            assert_eq!((parts[0].0, parts[SEGMENTS - 1].1), (0, frames));
        }
    }
}
