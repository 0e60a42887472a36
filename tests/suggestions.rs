//! Promise: `suggest` names unlabelled files that the head is unsure of and that differ from
//! each other, each once, the best first; it takes pictures, recordings and sensor files,
//! and names nothing that a terminal would obey.

use std::fs;
use std::path::Path;

use fieldtune::suggest::choose;
use fieldtune_core::Kernel;
use fieldtune_tests::sounds::glides;
use fieldtune_tests::{demo_head, demo_samples, fieldtune, run, solid, striped, write_files};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::tempdir;

fn suggested(head: &Path, folder: &Path, flags: &[&str]) -> Value {
    let mut command = fieldtune();
    command.args(["suggest", "--json"]).arg(head).arg(folder);
    run(command.args(flags)).json()
}

fn files(document: &Value) -> Vec<String> {
    let suggestions = document["suggestions"].as_array().expect("suggestions");
    let file = |suggestion: &Value| suggestion["file"].as_str().expect("a file").to_string();
    suggestions.iter().map(file).collect()
}

#[test]
fn doubtful_files_are_named_first_and_each_once() {
    let folder = tempdir().expect("a folder");
    // Photographs that the head was trained on, and pictures of nothing it knows.
    let mut known = 0;
    for class in fs::read_dir(demo_samples()).expect("classes") {
        for photo in fs::read_dir(class.expect("a class").path()).expect("photographs") {
            let photo = photo.expect("a photograph").path();
            let name = format!("{known:03}.jpg");
            fs::copy(&photo, folder.path().join(name)).expect("copied");
            known += 1;
        }
    }
    let (plain, stripes) = (solid(120), striped(5));
    write_files(
        folder.path(),
        &[("deep/plain.png", &plain), ("deep/stripes.jpg", &stripes)],
    );
    let document = suggested(demo_head(), folder.path(), &["-n", "4"]);
    assert_eq!(document["samples"], known + 2);
    let named = files(&document);
    assert_eq!(named.len(), 4, "{document}");
    let strange = named.iter().filter(|name| name.contains("deep"));
    assert_eq!(strange.count(), 2, "{document}");
    let first = &document["suggestions"][0];
    let margin = first["margin"].as_f64().expect("a margin");
    let probability = first["probability"].as_f64().expect("a probability");
    assert!(
        margin <= probability && first["label"].is_string(),
        "{document}"
    );
    // The same as lines of text, and all when more are wanted than there are.
    let mut command = fieldtune();
    let text = run(command
        .arg("suggest")
        .arg(demo_head())
        .arg(folder.path())
        .args(["-n", "4"]));
    text.succeeded();
    assert_eq!(text.stdout.lines().collect::<Vec<_>>(), named);
    let mut all = files(&suggested(demo_head(), folder.path(), &["-n", "1000"]));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), known + 2);
}

#[test]
fn recordings_are_suggested_too_and_names_are_escaped() {
    let folder = tempdir().expect("a folder");
    let samples = folder.path().join("samples");
    glides(&samples, 4);
    let head = folder.path().join("glides.head");
    run(fieldtune().arg("train").arg(&samples).arg("-o").arg(&head)).succeeded();
    let new = folder.path().join("new");
    glides(&new, 3);
    fs::rename(
        new.join("rising/00.wav"),
        new.join("rising/a\u{1b}[2Jb.wav"),
    )
    .expect("renamed");
    fs::write(new.join("broken.wav"), b"nothing").expect("written");
    let mut command = fieldtune();
    let ran = run(command.arg("suggest").arg(&head).arg(&new));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 6, "{ran:?}");
    assert!(
        !ran.stdout.contains('\u{1b}') && ran.stdout.contains("[2Jb.wav"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("broken.wav: skipped"), "{ran:?}");
}

#[test]
fn what_cannot_be_suggested_from_is_refused() {
    let folder = tempdir().expect("a folder");
    let refuses = |path: &Path, wanted: &str| {
        let ran = run(fieldtune().arg("suggest").arg(demo_head()).arg(path));
        ran.refused(3, wanted);
    };
    refuses(folder.path(), "holds no pictures");
    refuses(&folder.path().join("none"), "is not a folder");
    write_files(folder.path(), &[("a.csv", b"x\n1\n")]);
    refuses(folder.path(), "holds no pictures");
}

proptest! {
    /// Whatever the margins and features, places come once and there are as many as wanted.
    #[test]
    fn places_come_once(
        rows in prop::collection::vec((0.0f32..1.0, prop::collection::vec(-2.0f32..2.0, 3)), 0..40),
        count in 0usize..60,
    ) {
        let margins: Vec<f32> = rows.iter().map(|row| row.0).collect();
        let features: Vec<f32> = rows.iter().flat_map(|row| row.1.clone()).collect();
        let chosen = choose(&margins, &features, 3, count, Kernel::lanes());
        prop_assert_eq!(chosen.len(), count.min(rows.len()));
        if let Some(first) = chosen.first() {
            prop_assert!(margins.iter().all(|margin| margins[*first] <= *margin));
        }
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), chosen.len());
    }
}
