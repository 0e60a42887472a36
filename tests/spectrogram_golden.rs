//! Promise: the spectrograms of 20 recordings of every format are those of librosa, to
//! 1e-3 of the logarithm. `golden/sound/make.py` made them.

use std::fs;
use std::path::Path;

use fieldtune::sound::decode::{decode, stated};
use fieldtune::sound::spectrum::{Analyser, Spectrum};
use fieldtune_tests::repository;
use fieldtune_tests::sounds::golden_recordings;
use serde_json::Value;

/// By which a natural logarithm may be off.
const TOLERANCE: f64 = 1e-3;

fn golden_values() -> Vec<f32> {
    let bytes = fs::read(repository().join("tests/golden/sound/golden.f32")).expect("golden");
    let (chunks, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    chunks
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

fn golden() -> Vec<Value> {
    let text = fs::read(repository().join("tests/golden/sound/golden.json")).expect("golden");
    let document: Value = serde_json::from_slice(&text).expect("JSON");
    document["cases"].as_array().expect("cases").clone()
}

#[test]
fn twenty_recordings_have_the_spectrograms_of_librosa() {
    let (cases, golden) = (golden(), golden_values());
    assert_eq!(cases.len(), 20);
    let mut failures = Vec::new();
    for case in &cases {
        let name = case["file"].as_str().expect("a name");
        let path = golden_recordings().join(name);
        let bytes = fs::read(&path).expect("a recording");
        let spectrum: Spectrum = serde_json::from_value(case["spectrum"].clone()).expect(name);
        let recording = decode(&bytes, &path, spectrum.sample_rate_hz).expect(name);
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        assert_eq!(recording.samples.len(), number("samples"), "{name}");
        let analyser = Analyser::new(&spectrum).expect("sound settings");
        let found = analyser.log_mel(&recording.samples).expect("a spectrogram");
        assert_eq!(found.frames(), number("frames"), "{name}");
        let wanted = &golden[number("from")..][..found.values.len()];
        let differences = found.values.iter().zip(wanted);
        let worst = differences
            .map(|(found, wanted)| (found - f64::from(*wanted)).abs())
            .fold(0.0, f64::max);
        println!("{name}: {worst:.1e}");
        if worst > TOLERANCE {
            failures.push(format!("{name}: {worst:.1e}"));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_file_says_its_rate_without_being_decoded() {
    for case in golden() {
        let name = case["file"].as_str().expect("a name");
        let bytes = fs::read(golden_recordings().join(name)).expect("a recording");
        let stated = stated(&bytes, Path::new(name)).expect(name);
        let rate_hz = case["spectrum"]["sample_rate_hz"].as_u64();
        assert_eq!(Some(u64::from(stated.sample_rate_hz)), rate_hz, "{name}");
    }
}
