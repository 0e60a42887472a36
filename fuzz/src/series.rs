//! Files of sensors, and the settings about them that a head file holds.

use std::path::Path;

use fieldtune::features::Source;
use fieldtune::series::fit::{Wanted, fit};
use fieldtune::series::{Analyst, Made, PREFIX, Series, VIEWS, viewed};

use super::{MAX_USED, expected};

/// How long files are cut, in seconds.
const WINDOW_SECONDS: f32 = 16.0;

/// A sensor's file, learned from and made features of; or settings, and an empty window made
/// features of. The first byte says which, and which features.
pub fn series(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let values = kind & 16 > 0;
    let made = Made {
        statistics: !values && kind & 2 == 0,
        kernels: !values && kind & 4 == 0,
        values,
    };
    let window_seconds = (kind & 8 > 0).then_some(WINDOW_SECONDS);
    match kind & 1 {
        0 => file(text, made, window_seconds),
        _ => settings(text, made),
    }
}

fn file(bytes: &[u8], made: Made, window_seconds: Option<f32>) {
    let path = Path::new("sensor.csv");
    let source = Source {
        path,
        label: 0,
        bytes: Some(bytes),
        part: None,
    };
    let wanted = Wanted {
        window_seconds,
        step_seconds: None,
    };
    let series = match fit(&[source], wanted, made) {
        Ok(series) => series,
        Err(error) => return expected(&error),
    };
    let identity = series.identity();
    assert_eq!(Series::of_identity(&identity).as_ref(), Some(&series));
    let channels = series.read(bytes, path).expect("what was learned from");
    let points = channels[0].len();
    assert!(points > 0 && channels.iter().all(|values| values.len() == points));
    let windows = series.windows(points);
    let mut parts = windows.iter().map(|part| series.range(Some(*part), points));
    let last = parts.next_back().unwrap_or(series.range(None, points));
    assert!(!last.is_empty() && last.end <= points, "{last:?}");
    for view in VIEWS.views() {
        let window = |values: &Vec<f32>| viewed(&values[last.clone()], view);
        let window: Vec<Vec<f32>> = channels.iter().map(window).collect();
        features(&series, made, &window);
    }
}

fn settings(text: &[u8], made: Made) {
    let text = format!("{PREFIX}{}", String::from_utf8_lossy(text));
    let Some(series) = Series::of_identity(&text) else {
        return;
    };
    let again = Series::of_identity(&series.identity());
    assert_eq!(again.as_ref(), Some(&series), "identities are read back");
    let window = vec![vec![0.0; series.window_points]; series.channels.len()];
    features(&series, made, &window);
}

/// Makes the features of a window, unless that only takes time.
fn features(series: &Series, made: Made, window: &[Vec<f32>]) {
    let made = Made {
        kernels: made.kernels && !series.thresholds.is_empty(),
        ..made
    };
    let elements = series.channels.len() * series.window_points;
    let count = series.features(made);
    if (elements as u64).saturating_mul(1 + count as u64) > 16 * MAX_USED {
        return;
    }
    let mut analyst = Analyst::new(series, made).expect("sound settings");
    let mut made = vec![f32::NAN; count];
    let window: Vec<&[f32]> = window.iter().map(Vec::as_slice).collect();
    let filled = analyst.features(series, &window, &mut made);
    filled.expect("room for every feature");
    assert!(made.iter().all(|value| value.is_finite()), "{made:?}");
}
