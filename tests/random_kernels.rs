//! Promise: the random kernels of the core give what MiniRocket of aeon gives from the same
//! thresholds (`golden/random_kernels/make.py`), and their own thresholds are quantiles of
//! what they see.

use std::fs;

use fieldtune_core::Error;
use fieldtune_core::random_kernels::{Channels, Dilation, FORMS, RandomKernels, Summed};
use fieldtune_tests::repository;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn golden() -> Vec<Value> {
    let path = repository().join("tests/golden/random_kernels/golden.json");
    serde_json::from_slice(&fs::read(path).expect("golden values")).expect("JSON")
}

/// One entry of a case.
fn read<T: DeserializeOwned>(case: &Value, key: &str) -> T {
    serde_json::from_value(case[key].clone()).unwrap_or_else(|error| panic!("{key}: {error}"))
}

#[test]
fn features_are_those_of_minirocket() {
    let cases = golden();
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let dilations = read::<Vec<(usize, usize)>>(case, "dilations").into_iter();
        let dilations = dilations.map(|(step, thresholds)| Dilation { step, thresholds });
        let summed = read::<Vec<Vec<u16>>>(case, "summed").into_iter();
        let summed: Vec<Summed> = summed
            .map(|channels| Summed::from_slice(&channels).expect("at most nine"))
            .collect();
        let (channels, length): (usize, usize) = (read(case, "channels"), read(case, "length"));
        let thresholds: Vec<f32> = read(case, "thresholds");
        let summed = Channels::Given(&summed);
        let kernels = RandomKernels::given(channels, length, dilations.collect(), summed);
        let kernels = kernels.expect("kernels of a sound shape");
        assert_eq!(kernels.features(), thresholds.len());
        let mut work = vec![f32::NAN; kernels.work_elements()];
        let mut found = vec![f32::NAN; kernels.features()];
        for (series, wanted) in
            read::<Vec<Vec<f32>>>(case, "series")
                .iter()
                .zip(&read::<Vec<Vec<f32>>>(case, "features"))
        {
            kernels
                .compute(series, &thresholds, &mut work, &mut found)
                .expect("room");
            // A response that rounding moves across a threshold counts for one place. It may
            // happen where a threshold is a response, as a quantile of its own window can be.
            let place = 1.0 / 7.0 + 1e-6;
            let other = found
                .iter()
                .zip(wanted)
                .filter(|(a, b)| (*a - *b).abs() > 1e-6);
            let other: Vec<_> = other.collect();
            assert!(
                other.len() * 100 <= found.len(),
                "{channels}x{length}: {other:?}"
            );
            assert!(
                other.iter().all(|(a, b)| (*a - *b).abs() < place),
                "{other:?}"
            );
        }
    }
}

/// Sines of different tempo in two channels.
fn windows() -> Vec<Vec<f32>> {
    let wave = |step: f32| (0..64).map(move |t| (step * t as f32).sin() + 0.01 * t as f32);
    (1..8)
        .map(|i| wave(0.1 * i as f32).chain(wave(0.07 * i as f32)).collect())
        .collect()
}

#[test]
fn thresholds_are_quantiles_of_the_training_windows() {
    let windows = windows();
    let kernels = RandomKernels::new(2, 64, 6 * 5 * FORMS, 7).expect("a sound shape");
    let mut work = vec![0.0; kernels.work_elements()];
    let mut thresholds = vec![0.0; kernels.features()];
    let window = |index: usize| &windows[index][..];
    kernels
        .fit(windows.len(), window, 7, &mut work, &mut thresholds)
        .expect("room");
    assert!(thresholds.iter().all(|threshold| threshold.is_finite()));
    let mut sum = vec![0.0; kernels.features()];
    let mut features = vec![0.0; kernels.features()];
    for window in &windows {
        kernels
            .compute(window, &thresholds, &mut work, &mut features)
            .expect("room");
        assert!(features.iter().all(|share| (0.0..=1.0).contains(share)));
        sum.iter_mut()
            .zip(&features)
            .for_each(|(sum, share)| *sum += share);
    }
    // Quantiles spread over all shares, so the mean share is about a half.
    let mean = sum.iter().sum::<f32>() / (sum.len() * windows.len()) as f32;
    assert!((0.4..0.6).contains(&mean), "{mean}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernels = RandomKernels::new(2, 64, 500, 7).expect("a sound shape");
    let (values, mut work) = ([0.0; 128], vec![0.0; kernels.work_elements()]);
    let thresholds = vec![0.0; kernels.features()];
    let mut features = vec![0.0; kernels.features()];
    let mut compute = |values: &[f32], thresholds: &[f32]| {
        kernels.compute(values, thresholds, &mut work, &mut features)
    };
    assert_eq!(compute(&values, &thresholds), Ok(()));
    let short = compute(&values[1..], &thresholds);
    assert_eq!(
        short,
        Err(Error::NoRoom {
            need: 128,
            have: 127
        })
    );
    assert!(compute(&values, &thresholds[1..]).is_err());
    let dilation = |step| Dilation {
        step,
        thresholds: 1,
    };
    let given = |step, summed| {
        let dilations = [dilation(step)].into_iter().collect();
        RandomKernels::given(2, 64, dilations, summed)
    };
    assert!(given(7, Channels::Drawn(1)).is_ok());
    // Longer than the window, without a step, a channel that is not there, too few lists.
    assert_eq!(given(8, Channels::Drawn(1)), Err(Error::Content));
    assert_eq!(given(0, Channels::Drawn(1)), Err(Error::Content));
    let other = vec![Summed::from_slice(&[2]).expect("room"); FORMS];
    assert_eq!(
        given(7, Channels::Given(&other)).err(),
        Some(Error::Content)
    );
    let few = vec![Summed::from_slice(&[1]).expect("room"); FORMS - 1];
    assert_eq!(given(7, Channels::Given(&few)).err(), Some(Error::Content));
}
