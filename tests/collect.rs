//! Promise: `collect` puts what a source gives into a folder that can be trained on, with
//! label, group and time. Files are whole or not there, none is replaced, numbers count on
//! after any end, and the folder stays within its quota.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fieldtune::samples::SampleSet;
use fieldtune_tests::running::Running;
use fieldtune_tests::sounds::{glide, wav};
use fieldtune_tests::{demo_samples, fieldtune, run};
use tempfile::{TempDir, tempdir};

fn photograph(class: &str, number: u32) -> Vec<u8> {
    let path = demo_samples().join(class).join(format!("{number:02}.jpg"));
    fs::read(path).expect("the demo has photographs")
}

/// A stream of the first photographs of a class.
fn stream(folder: &Path, class: &str, count: u32) -> PathBuf {
    let path = folder.join(format!("{class}.mjpeg"));
    let pictures = (1..=count).flat_map(|number| photograph(class, number));
    fs::write(&path, pictures.collect::<Vec<u8>>()).expect("written");
    path
}

fn collect(samples: &Path, label: &str, source: &str, from: &Path) -> Command {
    let mut command = fieldtune();
    command
        .arg("collect")
        .arg(samples)
        .args(["--json", "--label", label]);
    command.arg(source).arg(from);
    command
}

/// Names below a folder, hidden ones too, sorted.
fn names(folder: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => {
                    let path = path.strip_prefix(folder).expect("below").to_path_buf();
                    names.push(path.display().to_string());
                }
            }
        }
    }
    names.sort();
    names
}

#[test]
fn what_is_collected_can_be_trained_on_and_groups_are_kept() {
    let place = tempdir().expect("a folder");
    let samples = place.path().join("samples");
    for class in ["brick", "grass"] {
        let from = stream(place.path(), class, 4);
        for day in ["monday", "tuesday"] {
            let mut command = collect(&samples, class, "--camera", &from);
            command.args(["--group", day, "--every", "1ms"]);
            let ran = run(&mut command);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let first: serde_json::Value =
                serde_json::from_str(ran.stdout.lines().next().expect("a line")).expect("JSON");
            assert_eq!(first["label"], class);
            assert_eq!(first["group"], day);
            let file = Path::new(first["file"].as_str().expect("a file"));
            // The camera's own bytes.
            assert_eq!(fs::read(file).expect("there"), photograph(class, 1));
            assert_eq!(first["bytes"], photograph(class, 1).len());
            let time = first["time"]
                .as_str()
                .expect("a time")
                .replace(['-', ':'], "");
            let number = if day == "monday" { "000001" } else { "000005" };
            let name = file.file_name().expect("a name").to_str();
            assert_eq!(name, Some(format!("{number}_{time}.jpg").as_str()));
        }
    }
    assert_eq!(names(&samples).len(), 16);
    let set = SampleSet::open(&samples).expect("sound");
    let monday = set
        .samples
        .iter()
        .filter(|it| it.group.as_deref() == Some("monday"));
    assert_eq!((set.samples.len(), monday.count()), (16, 8));
    let head = place.path().join("a.head");
    let mut train = fieldtune();
    train.arg("train").arg(&samples).arg("-o").arg(&head);
    let trained = run(train.args(["--json", "--head", "linear"])).json();
    assert_eq!(trained["samples"], 16);
}

#[test]
fn it_counts_on_and_stops_when_it_is_enough() {
    let place = tempdir().expect("a folder");
    let samples = place.path().join("samples");
    let from = stream(place.path(), "gravel", 4);
    for (count, wanted) in [("3", 3), ("5", 5), ("5", 5)] {
        let mut command = collect(&samples, "gravel", "--camera", &from);
        let ran = run(command.args(["--every", "1ms", "--group", "g", "--count", count]));
        ran.succeeded();
        let found = names(&samples);
        assert_eq!(found.len(), wanted);
        let last = format!("gravel/group=g/{wanted:06}_");
        assert!(found.last().expect("some").starts_with(&last), "{found:?}");
    }
    // A time ends it too, whatever the camera gives.
    let mut command = collect(
        &samples,
        "brick",
        "--camera-command",
        Path::new("sleep 1000"),
    );
    run(command.args(["--every", "1ms", "--for", "200ms"])).succeeded();
}

/// A program that writes pictures without end.
fn endless(place: &Path) -> String {
    let (picture, script) = (place.join("picture"), place.join("camera.sh"));
    fs::write(&picture, photograph("brick", 1)).expect("written");
    let text = format!("while cat {}; do sleep 0.01; done\n", picture.display());
    fs::write(&script, text).expect("written");
    format!("sh {}", script.display())
}

#[test]
fn enter_takes_a_picture() {
    let place = tempdir().expect("a folder");
    let samples = place.path().join("samples");
    let camera = endless(place.path());
    let mut command = collect(&samples, "brick", "--camera-command", Path::new(&camera));
    let mut collecting = Running::start(&mut command, place.path());
    let mut keyboard = collecting.input();
    for count in 1..=3 {
        keyboard.write_all(b"\n").expect("read");
        assert_eq!(collecting.documents(count).len(), count);
    }
    // No key, no picture; no keyboard, no more.
    std::thread::sleep(Duration::from_millis(300));
    drop(keyboard);
    let (code, documents, errors) = collecting.ended();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(documents.len(), 3);
    assert!(documents[0]["group"].is_null());
    assert!(names(&samples)[0].starts_with("brick/000001_"));
}

#[test]
fn sound_and_sensor_values_become_windows() {
    let place = tempdir().expect("a folder");
    let samples = place.path().join("sounds");
    let recording = place.path().join("a.wav");
    fs::write(&recording, wav(&glide(true, 1, 3.5))).expect("written");
    let mut command = collect(&samples, "rising", "--microphone", &recording);
    let ran = run(command.args(["--window", "1s", "--every", "1s", "--group", "g"]));
    assert_eq!(
        (ran.code, ran.stdout.lines().count()),
        (Some(0), 3),
        "{ran:?}"
    );
    let file = samples.join(&names(&samples)[2]);
    // A second at 8,000 Hz, 16 bits, behind a header.
    assert_eq!(fs::read(file).expect("there").len(), 44 + 16_000);

    let samples = place.path().join("values");
    let log = place.path().join("log.csv");
    let rows: String = (0..101)
        .map(|row| format!("{},{row}\n", 20 * row))
        .collect();
    fs::write(&log, rows).expect("written");
    let mut command = collect(&samples, "walk", "--serial", &log);
    command.args(["--window", "1s", "--every", "1s", "--columns", "time_ms,x"]);
    let ran = run(&mut command);
    assert_eq!(
        (ran.code, ran.stdout.lines().count()),
        (Some(0), 2),
        "{ran:?}"
    );
    let text = fs::read_to_string(samples.join(&names(&samples)[1])).expect("text");
    assert!(text.starts_with("time_ms,x\n1000,50\n1020,51\n"), "{text}");
    assert!(text.ends_with("2000,100\n"), "{text}");
    // Samples of another kind would spoil the folder.
    let mut command = collect(&samples, "walk", "--microphone", &recording);
    run(command.args(["--every", "1s"])).refused(3, "which is no recording");
}

#[test]
fn the_quota_is_not_passed() {
    let place = tempdir().expect("a folder");
    let samples = place.path().join("samples");
    let from = stream(place.path(), "brick", 4);
    let sizes = [1, 2, 3].map(|number| photograph("brick", number).len());
    let quota = (sizes[0] + sizes[1] + sizes[2] - 1).to_string();
    let collect = || {
        let mut command = collect(&samples, "brick", "--camera", &from);
        run(command.args(["--every", "1ms", "--quota", &quota]))
    };
    let ran = collect();
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    ran.refused(
        4,
        "no room for a sample; remove files or give a larger --quota",
    );
    assert_eq!(names(&samples).len(), 2);
    fs::write(samples.join("notes.txt"), vec![0; sizes[2]]).expect("written");
    let ran = collect();
    assert_eq!(ran.stdout, "");
    ran.refused(4, "the quota is");
    assert_eq!(names(&samples).len(), 3);
}

#[test]
fn a_kill_leaves_whole_files_and_nothing_else() {
    let place: TempDir = tempdir().expect("a folder");
    let samples = place.path().join("samples");
    let camera = endless(place.path());
    let start = || {
        let mut command = collect(&samples, "brick", "--camera-command", Path::new(&camera));
        command.args(["--every", "1ms", "--group", "g"]);
        Running::start(&mut command, place.path())
    };
    let mut before = 0;
    for round in 0..8 {
        let mut collecting = start();
        collecting.documents(2);
        std::thread::sleep(Duration::from_millis(3 * round));
        collecting.signal("-KILL");
        collecting.ended();
        let whole = photograph("brick", 1);
        let found = names(&samples);
        let files = found.iter().filter(|name| name.ends_with(".jpg"));
        let files: Vec<_> = files.filter(|name| !name.contains("/.")).collect();
        for name in &files {
            assert!(
                fs::read(samples.join(name)).expect("there") == whole,
                "{name}"
            );
        }
        assert!(files.len() >= before + 2, "{found:?}");
        before = files.len();
    }
    // What a killed writer leaves behind is hidden, and goes with the next start.
    let torn = samples.join("brick/group=g/.000099_torn.jpg.abc.tmp");
    fs::write(&torn, &photograph("brick", 1)[..99]).expect("written");
    assert_eq!(
        SampleSet::open(&samples).expect("sound").samples.len(),
        before
    );
    let mut collecting = start();
    collecting.documents(1);
    collecting.signal("-TERM");
    assert_eq!(collecting.ended().0, Some(0));
    let found = names(&samples);
    assert!(
        found.iter().all(|name| !name.ends_with(".tmp")),
        "{found:?}"
    );
}

#[test]
fn what_cannot_be_collected_is_refused() {
    let place = tempdir().expect("a folder");
    let from = stream(place.path(), "brick", 1);
    let refused = |label: &str, source: &str, from: &Path, code: i32, wanted: &str| {
        let samples = place.path().join("samples");
        let mut command = collect(&samples, label, source, from);
        run(command.args(["--every", "1s"])).refused(code, wanted);
        assert!(!samples.exists() || names(&samples).is_empty());
    };
    refused("../up", "--camera", &from, 2, "holds a slash");
    refused(
        "a",
        "--camera",
        Path::new("/dev/video99"),
        3,
        "does not exist; ",
    );
    refused("a", "--serial", Path::new("/dev/ttyACM99"), 3, " here");
    refused(
        "a",
        "--camera-command",
        Path::new("false"),
        3,
        "false ended",
    );
    let mut command = collect(place.path(), "a", "--camera", &from);
    run(command.args(["--window", "1s"])).refused(2, "leave them out");
    let file = place.path().join("file");
    fs::write(&file, "").expect("written");
    let mut command = collect(&file, "a", "--camera", &from);
    run(command.args(["--every", "1s"])).refused(1, "a file stands where a folder is needed");
}
