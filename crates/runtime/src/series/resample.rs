//! Points of uneven times on a regular grid, by linear interpolation: the value at a grid
//! point lies on the straight line between the measured points around it. The grid begins at
//! the first time. A gap becomes a straight line; rates above the grid's fold down, since
//! nothing is smoothed before.

use std::path::Path;

use super::table::{MAX_ROWS, MAX_VALUES, Table};
use crate::error::{Error, ErrorKind, Result};

/// Times that are off the grid by less than this share of a period are on it.
const EVEN: f64 = 0.05;

/// The usual time between two rows in seconds: the median. `None` for fewer than two rows.
pub fn period_seconds(times: &[f64]) -> Option<f64> {
    middle(times.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

/// The median; of an even number of values the higher of the two in the middle.
pub(super) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// How many points of a grid these times span.
pub fn points(times: &[f64], period_seconds: f64) -> f64 {
    match (times.first(), times.last()) {
        (Some(first), Some(last)) => ((last - first) / period_seconds + EVEN).floor() + 1.0,
        _ => 0.0,
    }
}

/// The values of each channel on a grid of this period; as they are without times, or where
/// the times are on it.
///
/// # Errors
/// `BadInput`, naming `path`, when the grid would have too many points.
pub fn on_grid(table: Table, period_seconds: f64, path: &Path) -> Result<Vec<Vec<f32>>> {
    let Some(times) = table
        .times
        .as_deref()
        .filter(|times| !is_even(times, period_seconds))
    else {
        return Ok(table.values);
    };
    let points = points(times, period_seconds);
    let most = MAX_ROWS.min(MAX_VALUES / table.values.len().max(1));
    if points > most as f64 {
        let what =
            format_args!("its times span {points} steps of {period_seconds} s, more than {most}");
        let remedy = "correct the times or cut the file into several";
        return Err(Error::at(ErrorKind::BadInput, path, what, remedy));
    }
    let points = points as usize;
    let channels = table.values.iter();
    Ok(channels
        .map(|values| interpolated(times, values, period_seconds, points))
        .collect())
}

fn is_even(times: &[f64], period_seconds: f64) -> bool {
    let first = times.first().copied().unwrap_or(0.0);
    let mut places = times.iter().enumerate();
    places.all(|(index, time)| {
        let wanted = first + index as f64 * period_seconds;
        (time - wanted).abs() < EVEN * period_seconds
    })
}

fn interpolated(times: &[f64], values: &[f32], period_seconds: f64, points: usize) -> Vec<f32> {
    let first = times.first().copied().unwrap_or(0.0);
    let mut below = 0;
    let value = |index: usize| f64::from(values.get(index).copied().unwrap_or(0.0));
    let at = |point: usize| {
        let time = first + point as f64 * period_seconds;
        while below + 2 < times.len() && times[below + 1] <= time {
            below += 1;
        }
        let Some(pair) = times.get(below..below + 2) else {
            return value(0) as f32;
        };
        // The last point of the grid may lie a little after the last time.
        let share = ((time - pair[0]) / (pair[1] - pair[0])).clamp(0.0, 1.0);
        (value(below) + share * (value(below + 1) - value(below))) as f32
    };
    (0..points).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(times: &[f64], values: &[f32]) -> Table {
        Table {
            channels: vec!["x".into()],
            times: Some(times.to_vec()),
            values: vec![values.to_vec()],
        }
    }

    fn on_grid_of(times: &[f64], values: &[f32], period_seconds: f64) -> Vec<f32> {
        on_grid(table(times, values), period_seconds, Path::new("a.csv"))
            .unwrap()
            .remove(0)
    }

    #[test]
    fn even_times_leave_the_values_alone() {
        assert_eq!(
            on_grid_of(&[3.0, 3.52, 4.0], &[1.0, 2.0, 4.0], 0.5),
            [1.0, 2.0, 4.0]
        );
        assert_eq!(period_seconds(&[3.0, 3.52, 4.0]), Some(0.52));
        assert_eq!(period_seconds(&[3.0]), None);
    }

    #[test]
    fn between_points_lies_a_straight_line() {
        let found = on_grid_of(&[0.0, 1.0, 3.0, 4.0], &[0.0, 2.0, 6.0, 0.0], 0.5);
        assert_eq!(found, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 3.0, 0.0]);
        assert_eq!(on_grid_of(&[7.0], &[5.0], 0.5), [5.0]);
        // Coarser than measured.
        assert_eq!(
            on_grid_of(&[0.0, 0.3, 1.0, 2.0], &[0.0, 9.0, 1.0, 2.0], 1.0),
            [0.0, 1.0, 2.0]
        );
    }

    #[test]
    fn a_line_stays_a_line_and_a_bomb_is_refused() {
        let times: Vec<f64> = (0..200)
            .map(|i| i as f64 + 0.3 * f64::from(i % 3))
            .collect();
        let values: Vec<f32> = times.iter().map(|time| 2.0 * *time as f32 - 1.0).collect();
        for (index, value) in on_grid_of(&times, &values, 0.7).into_iter().enumerate() {
            assert!(
                (value - (1.4 * index as f32 - 1.0)).abs() < 1e-3,
                "{index}: {value}"
            );
        }
        let bomb = table(&[0.0, 0.001, 1e12], &[0.0; 3]);
        let line = on_grid(bomb, 0.001, Path::new("a.csv"))
            .unwrap_err()
            .to_string();
        assert!(line.contains("its times span"), "{line}");
    }
}
