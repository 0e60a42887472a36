//! What is learned from training files before features are made: their columns, the period
//! of the grid, the length of a window, how each channel is scaled, and the thresholds of the
//! random kernels. Files that cannot be read are left out here and told of later.
//!
//! A channel is scaled robustly: less its median, divided by its interquartile range (by its
//! deviation where that is 0), so that a few wild values move nothing. Both are taken over
//! points spread evenly over all files.

use fieldtune_core::random_kernels::MIN_LENGTH;
use rayon::prelude::*;

use super::{MAX_WINDOW, Made, Series, fill, resample, table};
use crate::error::{Error, ErrorKind, Result};
use crate::features::Source;

/// Points of a file that its scale is taken from.
const POINTS_A_FILE: usize = 256;
/// Windows that thresholds are taken from.
const FITTED_WINDOWS: usize = 64;
/// Longest window that is chosen without being asked for, in points.
const USUAL_MOST: usize = 2048;
/// The window of files that are longer than that.
const USUAL_OF_LONG: usize = 256;
/// Features of the kernels.
const KERNEL_FEATURES: usize = 9996;
/// An interquartile range of the normal distribution, in deviations.
const RANGE_OF_NORMAL: f32 = 1.349;
/// Seed of the kernels' channels and of the windows that thresholds come from. Fixed, so that
/// `--seed` does not make the cache useless.
const SEED: u64 = 20;

/// What the user has fixed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Length of a window.
    pub window_seconds: Option<f32>,
    /// From one window to the next.
    pub step_seconds: Option<f32>,
}

/// What one file tells.
struct Seen {
    channels: Vec<String>,
    /// Its usual period, and from its first to its last time, where it has times.
    times: Option<(Option<f64>, f64)>,
    rows: usize,
    /// Some points of each channel.
    points: Vec<Vec<f32>>,
}

fn see(source: &Source<'_>) -> Result<Seen> {
    let table = table::parse(&source.read()?, source.path)?;
    let rows = table.rows();
    let count = rows.min(POINTS_A_FILE);
    let spread = |values: &Vec<f32>| (0..count).map(|i| values[i * rows / count]).collect();
    let times = table.times.as_deref().map(|times| {
        let span = times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0);
        (resample::period_seconds(times), span)
    });
    Ok(Seen {
        times,
        rows,
        points: table.values.iter().map(spread).collect(),
        channels: table.channels,
    })
}

/// The settings for these training files, several at a time on the threads of the pool that
/// this runs in.
///
/// # Errors
/// `BadInput` when no file can be read, with the first one's reason; `Usage` for a window
/// that is too short or too long.
pub fn fit(sources: &[Source<'_>], wanted: Wanted, made: Made) -> Result<Series> {
    let seen: Vec<Result<Seen>> = sources.par_iter().with_max_len(1).map(see).collect();
    let first_error = seen.iter().find_map(|seen| seen.as_ref().err().cloned());
    let seen: Vec<Seen> = seen.into_iter().filter_map(Result::ok).collect();
    let Some((channels, timed)) = usual_columns(&seen) else {
        let nothing = || Error::new(ErrorKind::BadInput, "no series to read; give .csv files");
        return Err(first_error.unwrap_or_else(nothing));
    };
    let seen: Vec<Seen> = seen
        .into_iter()
        .filter(|seen| seen.channels == channels && seen.times.is_some() == timed)
        .collect();
    let period_seconds = period(&seen);
    let length = |seen: &Seen| match seen.times {
        Some((_, span)) => (span / f64::from(period_seconds)).round() as usize + 1,
        None => seen.rows,
    };
    let mut lengths: Vec<usize> = seen.iter().map(length).collect();
    lengths.sort_unstable();
    let window_points = window(&lengths, wanted.window_seconds, period_seconds)?;
    let step = wanted.step_seconds.map(|seconds| seconds / period_seconds);
    let step = step.map_or(window_points, |step| step.round() as usize);
    let (centre, scale) = scales(&seen, channels.len());
    let mut series = Series {
        channels,
        timed,
        period_seconds,
        window_points,
        step_points: step.clamp(1, window_points),
        centre,
        scale,
        seed: SEED,
        kernel_features: KERNEL_FEATURES,
        thresholds: Vec::new(),
    };
    if made.kernels {
        series.thresholds = thresholds(&series, sources)?;
    }
    Ok(series)
}

/// The columns that most files have, and whether one of them is the time.
fn usual_columns(seen: &[Seen]) -> Option<(Vec<String>, bool)> {
    let same = |one: &Seen, other: &Seen| {
        one.channels == other.channels && one.times.is_some() == other.times.is_some()
    };
    let mut kinds: Vec<(&Seen, usize)> = Vec::new();
    for one in seen {
        match kinds.iter_mut().find(|(kind, _)| same(kind, one)) {
            Some((_, count)) => *count += 1,
            None => kinds.push((one, 1)),
        }
    }
    // Of equals the first.
    let usual = kinds.iter().rev().max_by_key(|(_, count)| *count);
    usual.map(|(seen, _)| (seen.channels.clone(), seen.times.is_some()))
}

/// The median of the files' periods; 1 s without times.
fn period(seen: &[Seen]) -> f32 {
    let periods = seen.iter().filter_map(|seen| seen.times?.0).collect();
    let median = resample::middle(periods).unwrap_or(1.0) as f32;
    if median.is_normal() { median } else { 1.0 }
}

/// Points of a window: as long as the longest file, but at most twice the usual one; of long
/// recordings [`USUAL_OF_LONG`].
fn window(lengths: &[usize], seconds: Option<f32>, period_seconds: f32) -> Result<usize> {
    if let Some(seconds) = seconds {
        let points = (seconds / period_seconds).round();
        if !(MIN_LENGTH as f32..=MAX_WINDOW as f32).contains(&points) {
            let what = format_args!(
                "--window: {seconds} s are {points} points {period_seconds} s apart; \
                 give {MIN_LENGTH} to {MAX_WINDOW} of them"
            );
            return Err(Error::new(ErrorKind::Usage, what));
        }
        return Ok(points as usize);
    }
    let usual = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    let longest = lengths.last().copied().unwrap_or(0);
    Ok(match usual > USUAL_MOST {
        true => USUAL_OF_LONG,
        false => longest.min(2 * usual).clamp(MIN_LENGTH, USUAL_MOST),
    })
}

/// Median and scale of each channel.
fn scales(seen: &[Seen], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let of_channel = |channel: usize| {
        let points = seen.iter().filter_map(|seen| seen.points.get(channel));
        let mut points: Vec<f32> = points.flatten().copied().collect();
        points.sort_unstable_by(f32::total_cmp);
        let last = points.len().saturating_sub(1);
        let quantile = |share: f64| {
            let place = (share * last as f64).round() as usize;
            points.get(place).copied().unwrap_or(0.0)
        };
        let (median, range) = (quantile(0.5), quantile(0.75) - quantile(0.25));
        // The values may be so large that their differences are not numbers.
        let square = points.iter().map(|value| f64::from(value - median).powi(2));
        let deviation = (square.sum::<f64>() / points.len().max(1) as f64).sqrt() as f32;
        let candidates = [range / RANGE_OF_NORMAL, deviation];
        let scale = candidates.into_iter().find(|scale| scale.is_normal());
        (median, scale.unwrap_or(1.0))
    };
    (0..channels).map(of_channel).unzip()
}

/// The kernels' thresholds, from windows spread evenly over the files and each file's middle.
fn thresholds(series: &Series, sources: &[Source<'_>]) -> Result<Vec<f32>> {
    let count = sources.len().min(FITTED_WINDOWS);
    let elements = series.channels.len() * series.window_points;
    let chosen: Vec<&Source<'_>> = (0..count)
        .map(|index| &sources[index * sources.len() / count])
        .collect();
    let window = |source: &&Source<'_>| {
        let channels = series.read(&source.read().ok()?, source.path).ok()?;
        let points = channels.first().map_or(0, Vec::len);
        let start = points.saturating_sub(series.window_points) / 2;
        let rows: Vec<&[f32]> = channels.iter().map(|values| &values[start..]).collect();
        let mut window = vec![0.0; elements];
        fill(&rows, series.window_points, &mut window);
        Some(window)
    };
    let mut windows: Vec<Vec<f32>> = chosen.par_iter().filter_map(window).collect();
    if windows.is_empty() {
        // None of those chosen can be read, but another can.
        windows.extend(sources.iter().find_map(|source| window(&source)));
    }
    let kernels = series.kernels()?;
    let mut work = vec![0.0; kernels.work_elements()];
    let mut thresholds = vec![0.0; kernels.features()];
    let given = |index: usize| &windows[index][..];
    kernels
        .fit(windows.len(), given, SEED, &mut work, &mut thresholds)
        .map_err(|error| Error::new(ErrorKind::Failed, error))?;
    Ok(thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_files_and_the_user() {
        let window = |lengths: &[usize], seconds| window(lengths, seconds, 0.5);
        assert_eq!(window(&[100, 100, 120], None), Ok(120));
        assert_eq!(window(&[100, 100, 5000], None), Ok(200));
        assert_eq!(window(&[3, 4], None), Ok(MIN_LENGTH));
        assert_eq!(window(&[9000], None), Ok(USUAL_OF_LONG));
        assert_eq!(window(&[100], Some(10.0)), Ok(20));
        assert!(window(&[100], Some(2.0)).is_err());
        assert!(window(&[100], Some(f32::MAX)).is_err());
    }

    #[test]
    fn a_few_wild_values_do_not_move_the_scale() {
        let points: Vec<f32> = (0..100).map(|i| i as f32).chain([1e30, -1e30]).collect();
        let flat = vec![5.0; 102];
        let seen = Seen {
            channels: Vec::new(),
            times: None,
            rows: 0,
            points: vec![points, flat],
        };
        let (centre, scale) = scales(&[seen], 2);
        assert!(
            (centre[0] - 49.5).abs() < 1.0 && (scale[0] - 37.0).abs() < 2.0,
            "{scale:?}"
        );
        assert_eq!((centre[1], scale[1]), (5.0, 1.0));
    }
}
