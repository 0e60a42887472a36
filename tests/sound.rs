//! Promise: recordings are samples like pictures. They are trained on, cross-validated,
//! measured, labelled, watched and reported by the same commands; long ones are cut into
//! windows whose times are told; kinds do not mix.

use std::fs;

use fieldtune::head::Head;
use fieldtune_tests::sounds::{glide, glides, golden_recordings, silence, wav};
use fieldtune_tests::without_pictures::{
    gives_one_head_whatever_the_threads, has_no_mirror_image_and_exports_alone, predicted, train,
};
use fieldtune_tests::{Ran, demo_head, fieldtune, run, run_with_input, solid, write_files};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// A folder of recordings and a head of them.
fn trained(flags: &[&str]) -> (TempDir, Ran) {
    let folder = tempdir().expect("a folder");
    glides(&folder.path().join("samples"), 6);
    let ran = run(train(folder.path(), "glides.head").args(flags));
    (folder, ran)
}

#[test]
fn a_head_of_recordings_is_trained_measured_and_used() {
    let (folder, ran) = trained(&[]);
    let document = ran.json();
    assert_eq!(
        document["classes"],
        serde_json::json!(["falling", "rising"])
    );
    assert_eq!(document["samples"], 12);
    let head = folder.path().join("glides.head");
    let test = folder.path().join("test");
    glides(&test, 9);
    let measured = run(fieldtune().args(["eval", "--json"]).arg(&head).arg(&test)).json();
    assert_eq!(measured["accuracy"], 1.0, "{measured}");
    assert_eq!(measured["n"], 18);
    let said = predicted(&head, &test.join("rising/08.wav"));
    assert_eq!(said["label"], "rising");
    assert_eq!(said.get("windows"), None);
    let shown = run(fieldtune().args(["head", "show"]).arg(&head));
    assert!(
        shown.stdout.contains("\"sample_rate_hz\":8000"),
        "{shown:?}"
    );
    // From standard input there is no name to go by.
    let mut command = fieldtune();
    let bytes = wav(&glide(false, 2, 0.6));
    let said = run_with_input(
        command.args(["predict", "--json"]).arg(&head).arg("-"),
        &bytes,
    );
    assert_eq!(said.json()["label"], "falling");
}

#[test]
fn the_same_samples_give_the_same_head_whatever_the_threads() {
    let folder = tempdir().expect("a folder");
    let samples = folder.path().join("samples");
    glides(&samples, 4);
    let long = [silence(1.0), glide(true, 1, 9.0), silence(2.0)].concat();
    write_files(&samples, &[("rising/long.wav", &wav(&long))]);
    gives_one_head_whatever_the_threads(folder.path());
}

#[test]
fn a_long_recording_is_cut_and_its_times_are_told() {
    let (folder, ran) = trained(&["--window", "1s"]);
    ran.json();
    let head = folder.path().join("glides.head");
    let calls = |rises: bool| -> Vec<f32> {
        let call = |number| [glide(rises, number, 0.7), silence(0.3)].concat();
        (0..3).flat_map(call).collect()
    };
    let long = [
        silence(2.0),
        calls(true),
        silence(5.0),
        calls(false),
        silence(3.0),
    ]
    .concat();
    let path = folder.path().join("long.wav");
    fs::write(&path, wav(&long)).expect("written");
    let said = predicted(&head, &path);
    let windows = said["windows"].as_array().expect("windows");
    let time = |window: &Value, key: &str| window[key].as_u64().expect("a time");
    // Three calls from 2 s on and three from 10 s on, nothing between.
    for window in windows {
        let middle = (time(window, "start_ms") + time(window, "end_ms")) / 2;
        let wanted = match middle {
            2_000..=5_000 => "rising",
            10_000..=13_000 => "falling",
            _ => panic!("{window}"),
        };
        assert_eq!(window["label"], wanted, "{said}");
    }
    assert!(windows.len() >= 6, "{said}");
    let text = run(fieldtune().arg("predict").arg(&head).arg(&path)).stdout;
    assert!(
        text.contains(" s: rising ") && text.contains(" s: falling "),
        "{text}"
    );
}

#[test]
fn windows_of_one_recording_count_as_one_sample_in_an_evaluation() {
    let (folder, ran) = trained(&["--window", "1s"]);
    ran.json();
    let test = folder.path().join("test");
    glides(&test, 2);
    let call = [glide(true, 1, 0.7), silence(0.3)].concat();
    write_files(&test, &[("rising/long.wav", &wav(&call.repeat(6)))]);
    let head = folder.path().join("glides.head");
    let measured = run(fieldtune().args(["eval", "--json"]).arg(&head).arg(&test)).json();
    assert_eq!(measured["n"], 5, "{measured}");
}

#[test]
fn every_format_is_read_whatever_its_name() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let head = folder.path().join("glides.head");
    for entry in fs::read_dir(golden_recordings()).expect("recordings") {
        let path = entry.expect("an entry").path();
        let said = predicted(&head, &path);
        assert!(said["label"].is_string(), "{said}");
        // Content decides, not the name.
        let named = folder.path().join("renamed.wav");
        fs::copy(&path, &named).expect("copied");
        assert_eq!(predicted(&head, &named)["probability"], said["probability"]);
    }
}

#[test]
fn kinds_do_not_mix() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let samples = folder.path().join("samples");
    write_files(&samples, &[("rising/photo.png", &solid(9))]);
    let mixed = run(&mut train(folder.path(), "mixed.head"));
    let line = mixed.refused(3, "mixes kinds of samples");
    assert!(
        line.contains(".wav") && line.contains("photo.png"),
        "{line}"
    );
    assert!(!folder.path().join("mixed.head").exists());
    let head = folder.path().join("glides.head");
    let photo = samples.join("rising/photo.png");
    let refused = run(fieldtune().arg("predict").arg(&head).arg(&photo));
    refused.refused(3, "is a picture, not a recording");
    let sound = samples.join("rising/00.wav");
    let refused = run(fieldtune().arg("predict").arg(demo_head()).arg(&sound));
    refused.refused(3, "is a recording, not a picture");
}

#[test]
fn what_a_recording_has_not_is_refused() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let head = folder.path().join("glides.head");
    let wav = folder.path().join("samples/rising/00.wav");
    let tail = run(train(folder.path(), "x.head").args(["--head", "tail", "--cut", "statistics"]));
    tail.refused(2, "--head tail");
    let long = run(train(folder.path(), "x.head").args(["--window", "10m"]));
    long.refused(2, "--window");
    has_no_mirror_image_and_exports_alone(&head, &wav);
}

#[test]
fn a_spectrogram_passes_the_picture_backbone_too() {
    for cut in ["features", "statistics,features"] {
        let (folder, ran) = trained(&["--cut", cut, "--head", "linear"]);
        ran.json();
        let path = folder.path().join("glides.head");
        let said = predicted(&path, &folder.path().join("samples/rising/01.wav"));
        assert_eq!(said["label"], "rising");
        let head = Head::load(&path).expect("a head");
        let statistics = if cut == "features" { 0 } else { 208 };
        assert_eq!(head.backbone.features, 1280 + statistics);
    }
}

#[test]
fn samples_are_checked_planned_reported_and_added_to() {
    let folder = tempdir().expect("a folder");
    let samples = folder.path().join("samples");
    glides(&samples, 6);
    let copy = fs::read(samples.join("rising/00.wav")).expect("read");
    write_files(
        &samples,
        &[("rising/copy.wav", &copy), ("rising/torn.wav", &copy[..30])],
    );
    let checked = run(fieldtune().args(["check", "--json"]).arg(&samples)).json();
    let issues = checked["issues"].as_array().expect("issues");
    let names = |name: &str| {
        let found = issues
            .iter()
            .filter(|issue| issue.to_string().contains(name));
        found.count()
    };
    assert!(names("copy.wav") > 0 && names("torn.wav") > 0, "{checked}");
    fs::remove_file(samples.join("rising/torn.wav")).expect("removed");
    let planned = run(fieldtune().args(["plan", "--json"]).arg(&samples)).json();
    assert!(planned["peak_bytes"].as_u64() > Some(1 << 20), "{planned}");
    let report = folder.path().join("report.html");
    run(train(folder.path(), "one.head")
        .arg("--report")
        .arg(&report))
    .json();
    let page = fs::read_to_string(&report).expect("a report");
    assert!(
        page.contains("src=\"data:image/jpeg"),
        "spectrograms are shown"
    );
    // Another class, the old recordings gone.
    fs::remove_dir_all(&samples).expect("removed");
    let tone = glide(true, 0, 0.2);
    let still: Vec<f32> = tone.iter().cycle().take(5_000).copied().collect();
    let (one, two) = (wav(&still), wav(&still[300..]));
    write_files(&samples, &[("still/1.wav", &one), ("still/2.wav", &two)]);
    let from = folder.path().join("one.head");
    let grown = run(train(folder.path(), "two.head").arg("--from").arg(&from)).json();
    assert_eq!(
        grown["classes"],
        serde_json::json!(["falling", "rising", "still"])
    );
}

#[test]
fn recordings_of_many_rates_share_the_lowest() {
    let folder = tempdir().expect("a folder");
    let samples = folder.path().join("samples");
    for (name, file) in [
        ("a/1", "b.wav"),
        ("a/2", "h.wav"),
        ("b/1", "c.wav"),
        ("b/2", "d.wav"),
    ] {
        let bytes = fs::read(golden_recordings().join(file)).expect("read");
        write_files(&samples, &[(&format!("{name}.wav"), &bytes)]);
    }
    run(&mut train(folder.path(), "one.head")).json();
    let head = Head::load(&folder.path().join("one.head")).expect("a head");
    let text = head.backbone.preprocessing;
    assert!(text.contains("\"sample_rate_hz\":11025"), "{text}");
}
