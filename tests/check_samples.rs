//! Promise: `check` names every kind of bad sample that is put into a good set, and finds
//! none of them in the good set.

use std::fs;
use std::path::{Path, PathBuf};

use fieldtune_tests::{demo_samples, encoded, fieldtune, run, solid, write_files};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat};
use serde_json::Value;

const CLASSES: [&str; 3] = ["brick", "grass", "gravel"];

/// The demo's training photographs of one class, in order.
fn photographs(class: &str) -> Vec<PathBuf> {
    let folder = demo_samples().join(class).read_dir();
    let entries = folder.expect("the demo has photographs");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    files
}

/// A copy of the demo's training photographs.
fn good_set() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for class in CLASSES {
        for (number, file) in photographs(class).iter().enumerate() {
            let bytes = fs::read(file).expect("a readable photograph");
            write_files(folder.path(), &[(&format!("{class}/{number}.jpg"), &bytes)]);
        }
    }
    folder
}

fn check(folder: &Path) -> Value {
    run(fieldtune().arg("check").arg(folder).arg("--json")).json()
}

/// Kind and file name of every issue.
fn issues(document: &Value) -> Vec<(String, String)> {
    let issues = document["issues"].as_array().expect("a list of issues");
    let pair = |issue: &Value| {
        let text = |key: &str| issue[key].as_str().expect("a text").to_string();
        assert!(!text("detail").is_empty(), "{issue}");
        let file = PathBuf::from(text("file"));
        let other = issue["other"].as_str().map(PathBuf::from);
        let name = |path: PathBuf| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            name.unwrap_or_default()
        };
        let files: Vec<String> = [Some(file), other]
            .into_iter()
            .flatten()
            .map(name)
            .collect();
        (text("kind"), files.join(" "))
    };
    issues.iter().map(pair).collect()
}

#[test]
fn a_good_set_raises_no_alarm() {
    let folder = good_set();
    let document = check(folder.path());
    let found = issues(&document);
    let kinds = [
        "unreadable",
        "mislabelled",
        "duplicate",
        "near-duplicate",
        "duplicate-across-classes",
        "near-duplicate-across-classes",
        "dark",
        "bright",
        "flat",
        "blurred",
    ];
    for (kind, file) in &found {
        assert!(!kinds.contains(&kind.as_str()), "{kind}: {file}; {found:?}");
    }
    let classes = document["classes"].as_array().expect("a list of classes");
    assert_eq!(classes.len(), 3);
    assert!(classes.iter().all(|class| class["samples"] == 10));
}

#[test]
fn every_fault_put_into_the_set_is_named() {
    let folder = good_set();
    let of = |class: &str, number: usize| {
        let file = &photographs(class)[number];
        fs::read(file).expect("a readable photograph")
    };
    let at = |name: &str| folder.path().join(name);
    let decoded = |bytes: &[u8]| image::load_from_memory(bytes).expect("a photograph");
    // A flipped label: the photograph moves.
    fs::rename(at("grass/3.jpg"), at("brick/flipped.jpg")).expect("it can be moved");
    let mut recompressed = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut recompressed, 60);
    let picture = decoded(&of("gravel", 5));
    picture.write_with_encoder(encoder).expect("a JPEG");
    let blurred = decoded(&of("brick", 2)).blur(4.0);
    let black = DynamicImage::new_rgb8(96, 96);
    let whole = of("grass", 6);
    write_files(
        folder.path(),
        &[
            ("brick/copied.jpg", &of("gravel", 7)),
            ("gravel/recompressed.jpg", &recompressed),
            ("grass/black.png", &encoded(&black, ImageFormat::Png)),
            ("brick/blurred.png", &encoded(&blurred, ImageFormat::Png)),
            ("grass/truncated.jpg", &whole[..whole.len() / 2]),
            ("lonely/1.png", &solid(200)),
        ],
    );
    let found = issues(&check(folder.path()));
    let has = |kind: &str, file: &str| {
        let hit = |issue: &&(String, String)| issue.0 == kind && issue.1.contains(file);
        assert!(
            found.iter().any(|issue| hit(&issue)),
            "{kind} {file}: {found:?}"
        );
    };
    has("mislabelled", "flipped.jpg");
    has("duplicate-across-classes", "copied.jpg");
    has("near-duplicate", "recompressed.jpg");
    has("dark", "black.png");
    has("blurred", "blurred.png");
    has("unreadable", "truncated.jpg");
    has("too-few", "");
    let kind = |wanted: &str| found.iter().filter(|issue| issue.0 == wanted).count();
    assert!(kind("mislabelled") <= 3, "{found:?}");
    assert_eq!(kind("near-duplicate"), 1, "{found:?}");
    assert_eq!(kind("unreadable"), 1, "{found:?}");
}

#[test]
fn people_read_what_to_do() {
    let folder = good_set();
    fs::rename(
        folder.path().join("grass/3.jpg"),
        folder.path().join("brick/flipped.jpg"),
    )
    .expect("it can be moved");
    let ran = run(fieldtune().arg("check").arg(folder.path()));
    let text = &ran.succeeded().stdout;
    assert!(text.contains("Look at these first"), "{text}");
    assert!(
        text.contains("flipped.jpg: labelled \"brick\", looks like \"grass\""),
        "{text}"
    );
}

#[test]
fn nothing_readable_is_bad_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_files(folder.path(), &[("a/1.jpg", b"no"), ("b/1.jpg", b"no")]);
    let ran = run(fieldtune().arg("check").arg(folder.path()));
    ran.refused(3, "no sample can be read");
}

#[test]
fn the_report_of_training_shows_suspects() {
    let folder = good_set();
    fs::rename(
        folder.path().join("grass/3.jpg"),
        folder.path().join("brick/flipped.jpg"),
    )
    .expect("it can be moved");
    let report = folder.path().with_extension("html");
    let head = folder.path().with_extension("head");
    let mut train = fieldtune();
    train.arg("train").arg(folder.path()).arg("-o").arg(&head);
    run(train.arg("--report").arg(&report)).succeeded();
    let page = fs::read_to_string(&report).expect("a report");
    let _ = (fs::remove_file(&report), fs::remove_file(&head));
    let section = page.split("<h2>").find(|part| part.starts_with("Suspects"));
    let section = section.expect("a section about suspects");
    assert!(section.contains("flipped.jpg") && section.contains("data:image/jpeg"));
}
