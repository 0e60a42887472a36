//! From a window of a sensor's values to features, without any network: statistics of its
//! channels and random kernels over them; or the values themselves, for a head of
//! convolutions. `series/table.rs` reads a file, `series/resample.rs`
//! brings it onto a regular grid, `series/fit.rs` learns the settings from training files.
//! What a series is among other samples is in `senses.rs`.

pub mod fit;
pub mod resample;
pub mod statistics;
pub mod table;

use std::ops::Range;
use std::path::Path;

use fieldtune_core::random_kernels::{MIN_LENGTH, RandomKernels};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::{Decoded, View};
use crate::views::ViewSet;
use crate::windows::Part;
use statistics::Statistics;
use table::{MAX_CHANNELS, MAX_NAME_BYTES};

/// Longest window, in points of the grid.
pub const MAX_WINDOW: usize = 1 << 14;
/// Scaled values are cut off here, so that no square of theirs is too large for f32.
const LARGEST: f32 = 1e6;
/// The part of a cut that stands for statistics.
const STATISTICS: &str = "statistics";
/// The part of a cut that stands for random kernels.
const KERNELS: &str = "kernels";
/// The cut that stands for the values themselves.
pub(crate) const VALUES: &str = "values";
/// In front of the settings in a head file.
pub const PREFIX: &str = "series v1 ";

/// How series become numbers, with what was learned from the training files. In a head file
/// its canonical text stands in the place of the preprocessing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Names of the columns, without that of times.
    pub channels: Vec<String>,
    /// Whether files have a column of times.
    pub timed: bool,
    /// From one point of the grid to the next; a row counts as 1 s where there are no times.
    pub period_seconds: f32,
    /// Longer files are cut into windows of so many points.
    pub window_points: usize,
    /// From one window to the next, at most.
    pub step_points: usize,
    /// Subtracted from the values of each channel: the median.
    #[serde(with = "bits")]
    pub centre: Vec<f32>,
    /// What they are divided by then, see [`fit`].
    #[serde(with = "bits")]
    pub scale: Vec<f32>,
    /// Seed of the kernels' channels.
    pub seed: u64,
    /// Features of the kernels that were asked for.
    pub kernel_features: usize,
    /// The kernels' thresholds; empty where the features have no kernels.
    #[serde(with = "bits")]
    pub thresholds: Vec<f32>,
}

/// Which features are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// See [`statistics`].
    pub statistics: bool,
    /// See [`fieldtune_core::random_kernels`].
    pub kernels: bool,
    /// The window's values, `[channels, window_points]`, and nothing else.
    pub values: bool,
}

impl Made {
    /// What a `--cut` says.
    ///
    /// # Errors
    /// `Usage` for anything but `statistics`, `kernels`, both, or `values`.
    pub fn of_cut(cut: &str) -> Result<Self> {
        let mut made = Self {
            statistics: false,
            kernels: false,
            values: cut.trim() == VALUES,
        };
        if made.values {
            return Ok(made);
        }
        for part in cut.split(',').map(str::trim) {
            match part {
                STATISTICS => made.statistics = true,
                KERNELS => made.kernels = true,
                _ => {
                    let what = format_args!(
                        "--cut {cut}: series pass no network; give statistics, kernels, \
                         statistics,kernels or values"
                    );
                    return Err(Error::new(ErrorKind::Usage, what));
                }
            }
        }
        Ok(made)
    }
}

impl Series {
    /// Canonical text; [`Series::of_identity`] reads it.
    pub fn identity(&self) -> String {
        // Numbers and names: this cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{PREFIX}{text}")
    }

    /// The settings in a head file's preprocessing; `None` when it is not about series.
    pub fn of_identity(text: &str) -> Option<Self> {
        let series: Self = serde_json::from_str(text.strip_prefix(PREFIX)?).ok()?;
        series.is_sound().then_some(series)
    }

    /// Whether the settings fit together: a head file may say anything.
    fn is_sound(&self) -> bool {
        let channels = self.channels.len();
        let named = |name: &String| !name.is_empty() && name.len() <= MAX_NAME_BYTES;
        let positive = |value: &f32| value.is_finite() && *value > 0.0;
        let kernels_fit = self.thresholds.is_empty()
            || self
                .kernels()
                .is_ok_and(|kernels| kernels.features() == self.thresholds.len());
        (1..=MAX_CHANNELS).contains(&channels)
            && self.channels.iter().all(named)
            && positive(&self.period_seconds)
            && (MIN_LENGTH..=MAX_WINDOW).contains(&self.window_points)
            && (1..=self.window_points).contains(&self.step_points)
            && self.centre.len() == channels
            && self.scale.len() == channels
            && self.centre.iter().all(|value| value.is_finite())
            && self.scale.iter().all(positive)
            && self.thresholds.iter().all(|value| value.is_finite())
            && kernels_fit
    }

    /// The kernels for a window.
    fn kernels(&self) -> Result<RandomKernels<'static>> {
        let channels = self.channels.len();
        let kernels = RandomKernels::new(
            channels,
            self.window_points,
            self.kernel_features,
            self.seed,
        );
        kernels.map_err(|error| Error::new(ErrorKind::Failed, error))
    }

    /// Features of a window.
    pub fn features(&self, made: Made) -> usize {
        let statistics = if made.statistics {
            statistics::count(self.channels.len())
        } else {
            0
        };
        let kernels = if made.kernels {
            self.thresholds.len()
        } else {
            0
        };
        let values = if made.values {
            self.channels.len() * self.window_points
        } else {
            0
        };
        statistics + kernels + values
    }

    /// A file's channels on the grid, scaled. `path` is for messages.
    ///
    /// # Errors
    /// As [`table::parse`]; `BadInput` when the file has other columns.
    pub fn read(&self, bytes: &[u8], path: &Path) -> Result<Vec<Vec<f32>>> {
        let table = table::parse(bytes, path)?;
        if table.times.is_some() != self.timed {
            let (has, others) = match self.timed {
                true => ("no column of times", "one"),
                false => ("a column of times", "none"),
            };
            let what = format_args!("line 1: has {has}, the others have {others}");
            let remedy = "give files with the same columns";
            return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
        }
        let table = table.in_order(&self.channels, path)?;
        let mut channels = resample::on_grid(table, f64::from(self.period_seconds), path)?;
        let scales = self.centre.iter().zip(&self.scale);
        for (values, (centre, scale)) in channels.iter_mut().zip(scales) {
            for value in values {
                *value = ((*value - centre) / scale).clamp(-LARGEST, LARGEST);
            }
        }
        Ok(channels)
    }

    /// The windows of a file of so many points: as few as cover it with no more than a step
    /// from one to the next, evenly spread; none for one that fits into a window.
    pub fn windows(&self, points: usize) -> Vec<Part> {
        let window = self.window_points;
        let Some(rest) = points.checked_sub(window).filter(|rest| *rest > 0) else {
            return Vec::new();
        };
        let last = rest.div_ceil(self.step_points);
        let milliseconds =
            |point: usize| (1000.0 * point as f64 * f64::from(self.period_seconds)).round() as u32;
        let part = |index: usize| {
            let start = index * rest / last;
            Part {
                start_ms: milliseconds(start),
                end_ms: milliseconds(start + window),
            }
        };
        (0..=last).map(part).collect()
    }

    /// The points of a part among so many.
    pub fn range(&self, part: Option<Part>, points: usize) -> Range<usize> {
        let Some(part) = part else {
            return 0..points.min(self.window_points);
        };
        let start = f64::from(part.start_ms) / 1000.0 / f64::from(self.period_seconds);
        // Whole windows, whatever rounding to milliseconds did.
        let most = points.saturating_sub(self.window_points);
        let start = (start.round() as usize).min(most);
        start..(start + self.window_points).min(points)
    }
}

/// The views that a series has: as it is, slower and faster.
pub const VIEWS: ViewSet = ViewSet::ZOOMED;

/// By how much time runs slower or faster in the other views.
const TEMPO: f64 = 0.1;

/// How fast time runs in a view.
fn tempo(view: View) -> f64 {
    match view {
        View::Original | View::Mirrored | View::Brighter | View::Darker => 1.0,
        View::Near => 1.0 - TEMPO,
        View::Far => 1.0 + TEMPO,
    }
}

/// The window of a channel in a view: time runs from its middle; what lies beyond an end is
/// the last value there. Values between points lie on straight lines.
pub fn viewed(values: &[f32], view: View) -> Vec<f32> {
    let tempo = tempo(view);
    if tempo == 1.0 {
        return values.to_vec();
    }
    let last = values.len().saturating_sub(1);
    let middle = last as f64 / 2.0;
    let at = |point: usize| {
        let place = (middle + (point as f64 - middle) * tempo).clamp(0.0, last as f64);
        let below = place as usize;
        let share = (place - below as f64) as f32;
        let (low, high) = (values[below], values[(below + 1).min(last)]);
        low + share * (high - low)
    };
    (0..values.len()).map(at).collect()
}

/// What makes features of windows; one a thread.
pub struct Analyst {
    made: Made,
    statistics: Statistics,
    kernels: Option<RandomKernels<'static>>,
    /// The window with all its points, `[channels, window_points]`.
    window: Vec<f32>,
    work: Vec<f32>,
}

impl Analyst {
    /// Prepares the transforms.
    ///
    /// # Errors
    /// `Failed` when the settings contradict each other.
    pub fn new(series: &Series, made: Made) -> Result<Self> {
        let kernels = match made.kernels {
            true => Some(series.kernels()?),
            false => None,
        };
        Ok(Self {
            made,
            statistics: Statistics::default(),
            window: vec![0.0; series.channels.len() * series.window_points],
            work: vec![0.0; kernels.as_ref().map_or(0, RandomKernels::work_elements)],
            kernels,
        })
    }

    /// Fills `features` ([`Series::features`]) from the points of a window of each channel.
    ///
    /// # Errors
    /// `Failed` when `features` has another length.
    pub fn features(
        &mut self,
        series: &Series,
        channels: &[&[f32]],
        features: &mut [f32],
    ) -> Result<()> {
        let failed = |error: fieldtune_core::Error| Error::new(ErrorKind::Failed, error);
        if self.made.values {
            if features.len() != self.window.len() {
                return Err(Error::new(ErrorKind::Failed, "no room for the values"));
            }
            fill(channels, series.window_points, features);
            return Ok(());
        }
        let statistics = match self.made.statistics {
            true => self.statistics.of(channels),
            false => Vec::new(),
        };
        let Some((first, rest)) = features.split_at_mut_checked(statistics.len()) else {
            return Err(Error::new(ErrorKind::Failed, "no room for the statistics"));
        };
        first.copy_from_slice(&statistics);
        let Some(kernels) = &self.kernels else {
            return Ok(());
        };
        fill(channels, series.window_points, &mut self.window);
        kernels
            .compute(&self.window, &series.thresholds, &mut self.work, rest)
            .map_err(failed)
    }
}

/// Copies a window; behind the end of a shorter one its last value goes on.
fn fill(channels: &[&[f32]], window_points: usize, window: &mut [f32]) {
    for (values, row) in channels.iter().zip(window.chunks_exact_mut(window_points)) {
        let count = values.len().min(window_points);
        row[..count].copy_from_slice(&values[..count]);
        row[count..].fill(values.last().copied().unwrap_or(0.0));
    }
}

/// Values as the hexadecimal digits of their bits, so that a text gives them back exactly.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let digits = values
            .iter()
            .map(|value| format!("{:08x}", value.to_bits()));
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let (values, []) = digits.as_bytes().as_chunks::<8>() else {
            return Err(D::Error::custom("not eight digits a value"));
        };
        let value = |digits: &[u8; 8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
        };
        let values: Option<Vec<f32>> = values.iter().map(value).collect();
        values.ok_or_else(|| D::Error::custom("a value that is not hexadecimal"))
    }
}

/// Side lengths of [`picture`] in pixels.
const PICTURE: [usize; 2] = [240, 160];
/// Colours of the first channels; further ones begin again.
const COLOURS: [[u8; 3]; 6] = [
    [0x1f, 0x77, 0xb4],
    [0xd6, 0x27, 0x28],
    [0x2c, 0xa0, 0x2c],
    [0xff, 0x7f, 0x0e],
    [0x94, 0x67, 0xbd],
    [0x33, 0x33, 0x33],
];

/// A file's channels as lines on white, time to the right, each channel as high as the
/// picture; `None` when it cannot be read.
pub fn picture(bytes: &[u8], path: &Path) -> Option<Decoded> {
    let [width, height] = PICTURE;
    let table = table::parse(bytes, path).ok()?;
    let mut pixels = vec![255; 3 * width * height];
    for (values, colour) in table.values.iter().zip(COLOURS.iter().cycle()) {
        let low = values.iter().copied().fold(f32::MAX, f32::min);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        let range = if high > low {
            f64::from(high) - f64::from(low)
        } else {
            1.0
        };
        let row = |value: f32| {
            let share = (f64::from(value) - f64::from(low)) / range;
            ((1.0 - share) * (height - 1) as f64).round() as usize
        };
        let mut last = None;
        for column in 0..width {
            let value = values[column * values.len() / width];
            let (here, before) = (row(value), last.unwrap_or_else(|| row(value)));
            for place in here.min(before)..=here.max(before) {
                let pixel = 3 * (place * width + column);
                pixels[pixel..pixel + 3].copy_from_slice(colour);
            }
            last = Some(here);
        }
    }
    Some(Decoded::new(width as u32, height as u32, pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn series(window_points: usize, step_points: usize) -> Series {
        let mut series = Series {
            channels: vec!["x".into(), "y".into()],
            timed: false,
            period_seconds: 1.0,
            window_points,
            step_points,
            centre: vec![1.0, 0.1],
            scale: vec![2.0, 0.3],
            seed: 0,
            kernel_features: 84,
            thresholds: Vec::new(),
        };
        series.thresholds = vec![0.1; series.kernels().unwrap().features()];
        series
    }

    #[test]
    fn settings_come_back_from_the_text_of_a_head() {
        let series = series(20, 10);
        let text = series.identity();
        assert_eq!(Series::of_identity(&text), Some(series));
        for (from, to) in [
            ("\"window_points\":20", "\"window_points\":8"),
            ("\"step_points\":10", "\"step_points\":0"),
            ("\"kernel_features\":84", "\"kernel_features\":1000"),
            ("\"period_seconds\":1.0", "\"period_seconds\":-1.0"),
            ("\"channels\":[\"x\",\"y\"]", "\"channels\":[\"x\"]"),
            ("series v1", "series v2"),
        ] {
            assert!(text.contains(from), "{from} {text}");
            assert_eq!(Series::of_identity(&text.replace(from, to)), None, "{to}");
        }
    }

    #[test]
    fn windows_cover_everything_evenly() {
        let series = series(20, 10);
        assert!(series.windows(20).is_empty());
        for points in 21..200 {
            let windows = series.windows(points);
            let ranges: Vec<_> = windows
                .iter()
                .map(|w| series.range(Some(*w), points))
                .collect();
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, points));
            assert!(ranges.iter().all(|range| range.len() == 20));
            let pairs = ranges.windows(2);
            assert!(
                pairs
                    .clone()
                    .all(|pair| pair[1].start - pair[0].start <= 10)
            );
        }
        assert_eq!(series.range(None, 7), 0..7);
    }

    #[test]
    fn values_are_scaled_and_short_windows_go_on() {
        let series = series(9, 9);
        let read = series
            .read(b"y,x\n0.4,5\n0.1,1\n", Path::new("a.csv"))
            .unwrap();
        assert_eq!(read[0], [2.0, 0.0]);
        assert!((read[1][0] - 1.0).abs() < 1e-6);
        let mut window = [9.0; 18];
        fill(&[&read[0], &read[1]], 9, &mut window);
        assert_eq!(window[..3], [2.0, 0.0, 0.0]);
        assert!(Made::of_cut(" kernels").unwrap().kernels);
        assert!(Made::of_cut("features").is_err());
    }
}
