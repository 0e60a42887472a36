//! Promise: a recording that is damaged, cut off, silent, absurd or a bomb is told in one
//! line that names it and what to do; nothing panics, hangs or takes memory that the file's
//! size or the limit does not explain.

use std::fs;
use std::path::Path;

use fieldtune::error::ErrorKind;
use fieldtune::preprocess::View;
use fieldtune::sound::decode::decode;
use fieldtune::sound::{Ear, Sound};
use fieldtune_tests::sounds::{glide, golden_recordings, silence, wav, wav_that_says};
use proptest::prelude::*;

const PATH: &str = "farm/x.wav";

fn refusal(bytes: &[u8]) -> String {
    let decoded = decode(bytes, Path::new(PATH), 8_000);
    // Thousands of samples would bury the message.
    let decoded = decoded.map(|recording| recording.samples.len());
    let error = decoded.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    let line = error.to_string();
    assert!(line.starts_with("farm/x.wav: "), "{line}");
    assert!(line.contains("; "), "no remedy: {line}");
    line
}

#[test]
fn each_fault_is_told_by_its_name() {
    let sound = wav(&glide(true, 1, 1.0));
    let data = &sound[44..];
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", Vec::new(), "is empty"),
        (
            "text",
            b"this is not a recording at all, is it".to_vec(),
            "cannot be decoded",
        ),
        ("a picture", fieldtune_tests::solid(3), "cannot be decoded"),
        ("only a header", sound[..44].to_vec(), "is damaged"),
        ("half", sound[..9_000].to_vec(), "it ends early"),
        ("no sample", wav_that_says(0, 8_000, 1, &[]), "is damaged"),
        (
            "rate 0",
            wav_that_says(16_000, 0, 1, data),
            "samples a second",
        ),
        (
            "rate 4 GHz",
            wav_that_says(16_000, u32::MAX, 1, data),
            "samples a second",
        ),
        (
            "a year",
            wav_that_says(u32::MAX - 36, 1_000, 1, data),
            "is too long",
        ),
    ];
    for (name, bytes, wanted) in cases {
        let line = refusal(&bytes);
        assert!(line.contains(wanted), "{name}: {line}");
    }
}

#[test]
fn silence_is_no_sample() {
    let ear = Ear::new(&Sound::usual(8_000)).expect("settings");
    let samples = silence(1.0);
    let plain = ear.plain(&samples).expect("a spectrogram");
    let heard = ear.heard(&samples, &plain, View::Original, Path::new(PATH));
    assert!(
        heard
            .expect_err("refused")
            .to_string()
            .contains("is silent")
    );
}

#[test]
fn channels_without_end_are_refused() {
    let line = refusal(&wav_that_says(1 << 20, 8_000, 60_000, &[1; 1 << 20]));
    assert!(
        line.contains("cannot be decoded") || line.contains("channels"),
        "{line}"
    );
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    let mut file = fs::read(golden_recordings().join("e.wav")).expect("32-bit floats");
    let end = file.len();
    file[end - 4_000..].chunks_exact_mut(4).for_each(|value| {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let line = refusal(&file);
    assert!(line.contains("not finite"), "{line}");
}

/// Every recording, cut off at many places.
#[test]
fn a_cut_file_is_refused_or_shorter() {
    for entry in fs::read_dir(golden_recordings()).expect("recordings") {
        let path = entry.expect("an entry").path();
        let whole = fs::read(&path).expect("a recording");
        let full = decode(&whole, &path, 8_000).expect("sound").samples.len();
        for part in 1..40 {
            let cut = &whole[..whole.len() * part / 40];
            match decode(cut, &path, 8_000) {
                Ok(recording) => assert!(recording.samples.len() <= full, "{path:?} {part}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::BadInput, "{error}"),
            }
        }
    }
}

fn recordings() -> Vec<Vec<u8>> {
    let entries = fs::read_dir(golden_recordings()).expect("recordings");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("read"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Bytes changed at random, mostly in the head, where sizes stand.
    #[test]
    fn changed_bytes_are_refused_or_read(
        which in 0usize..20,
        changes in prop::collection::vec((any::<u16>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut bytes = recordings().swap_remove(which);
        for (place, value, in_head) in changes {
            let length = if in_head { 200.min(bytes.len()) } else { bytes.len() };
            bytes[usize::from(place) % length] = value;
        }
        match decode(&bytes, Path::new(PATH), 8_000) {
            Ok(recording) => {
                prop_assert!(!recording.samples.is_empty());
                prop_assert!(recording.samples.iter().all(|value| value.is_finite()));
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::BadInput, "{}", error),
        }
    }
}
