//! Promise: sensor files are samples like pictures and recordings. They are trained on,
//! cross-validated, measured, labelled, watched and reported by the same commands; long ones
//! are cut into windows whose times are told; uneven times are brought onto a grid; kinds and
//! columns do not mix.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use fieldtune::head::Head;
use fieldtune_tests::without_pictures::{
    gives_one_head_whatever_the_threads, has_no_mirror_image_and_exports_alone, predicted, train,
};
use fieldtune_tests::{Ran, fieldtune, run, run_with_input, solid, write_files};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// A number in 0..1 that looks random.
fn noise(index: usize) -> f64 {
    (((index as f64 + 1.0) * 12.9898).sin() * 43758.5453).rem_euclid(1.0)
}

/// A file of two channels at about 50 rows a second: circles of 1 turn a second or 4.
fn motion(quick: bool, number: usize, rows: usize, unevenness: f64) -> String {
    let mut text = String::from("time,x,y\n");
    let turns = if quick { 4.0 } else { 1.0 };
    for row in 0..rows {
        let time = 0.02 * (row as f64 + unevenness * (noise(row + 999 * number) - 0.5));
        let phase = TAU * turns * time + number as f64;
        let wild = 0.4 * noise(row + 7919 * number);
        let (x, y) = (phase.sin() + wild, 30.0 + 0.1 * phase.cos() - 0.1 * wild);
        writeln!(text, "{time:.5},{x:.4},{y:.5}").expect("written");
    }
    text
}

/// Writes a folder of two classes, `quick` and `slow`, `each` files in each.
fn motions(folder: &Path, each: usize, from: usize) {
    for (class, quick) in [("quick", true), ("slow", false)] {
        let class = folder.join(class);
        fs::create_dir_all(&class).expect("a folder can be made");
        for number in from..from + each {
            let text = motion(quick, number, 96 + number % 6, 0.6);
            fs::write(class.join(format!("{number:02}.csv")), text).expect("written");
        }
    }
}

/// A folder of sensor files and a head of them.
fn trained(flags: &[&str]) -> (TempDir, Ran) {
    let folder = tempdir().expect("a folder");
    motions(&folder.path().join("samples"), 6, 0);
    let ran = run(train(folder.path(), "motions.head").args(flags));
    (folder, ran)
}

#[test]
fn a_head_of_sensor_files_is_trained_measured_and_used() {
    let (folder, ran) = trained(&[]);
    let document = ran.json();
    assert_eq!(document["classes"], serde_json::json!(["quick", "slow"]));
    assert_eq!(document["samples"], 12);
    let head = folder.path().join("motions.head");
    let test = folder.path().join("test");
    motions(&test, 9, 50);
    let measured = run(fieldtune().args(["eval", "--json"]).arg(&head).arg(&test)).json();
    assert_eq!(measured["accuracy"], 1.0, "{measured}");
    assert_eq!(measured["n"], 18);
    let said = predicted(&head, &test.join("slow/58.csv"));
    assert_eq!(said["label"], "slow");
    assert_eq!(said.get("windows"), None);
    // What was learned from the files is in the head, but nobody reads a thousand thresholds.
    let shown = run(fieldtune().args(["head", "show"]).arg(&head));
    assert!(
        shown.stdout.contains("\"channels\":[\"x\",\"y\"]"),
        "{shown:?}"
    );
    assert!(shown.stdout.len() < 3_000, "{shown:?}");
    // From standard input there is no name to go by; columns may stand in another order.
    let text = motion(true, 70, 99, 0.0);
    let swapped: String = text
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!("{};{};{}\n", cells[2], cells[0], cells[1])
        })
        .collect();
    let mut command = fieldtune();
    let command = command.args(["predict", "--json"]).arg(&head).arg("-");
    assert_eq!(
        run_with_input(command, swapped.as_bytes()).json()["label"],
        "quick"
    );
}

#[test]
fn convolutions_over_the_values_are_trained_as_planned_and_used() {
    let quick = ["--head", "convolution:8,16", "--epochs", "20"];
    let (folder, ran) = trained(&quick);
    let document = ran.json();
    let recipe = document["recipe_text"].as_str().expect("words");
    assert!(recipe.starts_with("convolutions [8, 16] on features as they are"));
    let mut plan = fieldtune();
    plan.args(["plan", "--json"])
        .arg(folder.path().join("samples"));
    let plan = run(plan.args(quick)).json();
    let parts = plan["arena"].as_object().expect("parts").values();
    let planned: u64 = parts.map(|bytes| bytes.as_u64().expect("bytes")).sum();
    assert_eq!(document["arena_bytes"].as_u64(), Some(planned));
    let head = folder.path().join("motions.head");
    // By hand: two channels to 8 and 8 to 16 over 9 points, then two classes.
    let parameters = 2 * 8 * 9 + 8 + 8 * 16 * 9 + 16 + 16 * 2 + 2;
    let read = Head::read(&fs::read(&head).expect("readable"), &head).expect("sound");
    assert_eq!(read.parameters.len(), parameters);
    let test = folder.path().join("test");
    motions(&test, 9, 50);
    let measured = run(fieldtune().args(["eval", "--json"]).arg(&head).arg(&test)).json();
    assert_eq!(measured["accuracy"], 1.0, "{measured}");
    assert_eq!(predicted(&head, &test.join("slow/58.csv"))["label"], "slow");
    // It grows as it was trained, and not otherwise.
    let mut grow = fieldtune();
    grow.arg("train").arg(&test).arg("--from").arg(&head);
    grow.arg("-o").arg(folder.path().join("grown.head"));
    run(&mut grow).refused(2, "was trained with --head tail or --head convolution");
    let grown = run(grow.args(quick).arg("--json")).json();
    assert_eq!(grown["samples"], 30);
}

#[test]
fn convolutions_are_for_the_values_of_sensor_files() {
    let folder = tempdir().expect("a folder");
    motions(&folder.path().join("samples"), 2, 0);
    let mut other = train(folder.path(), "a.head");
    other.args(["--head", "convolution", "--cut", "kernels"]);
    run(&mut other).refused(2, "reads the values themselves");
    let pictures = fieldtune_tests::two_classes();
    let mut command = fieldtune();
    command.arg("train").arg(pictures.path());
    command.arg("-o").arg(folder.path().join("b.head"));
    run(command.args(["--head", "convolution"])).refused(2, "is for sensor files");
}

#[test]
fn the_same_samples_give_the_same_head_whatever_the_threads() {
    let folder = tempdir().expect("a folder");
    let samples = folder.path().join("samples");
    motions(&samples, 4, 0);
    write_files(
        &samples,
        &[("slow/long.csv", motion(false, 8, 900, 0.6).as_bytes())],
    );
    gives_one_head_whatever_the_threads(folder.path());
}

#[test]
fn a_long_file_is_cut_and_its_times_are_told() {
    let (folder, ran) = trained(&["--window", "1s", "--step", "500ms"]);
    // Files of 2 s are three windows, and all of one file are one group.
    assert_eq!(ran.json()["samples"], 36);
    let head = folder.path().join("motions.head");
    let quick = motion(true, 80, 500, 0.0);
    let slow = motion(false, 81, 1000, 0.0);
    let long: String = quick
        .lines()
        .chain(slow.lines().skip(501))
        .map(|line| format!("{line}\n"))
        .collect();
    let path = folder.path().join("long.csv");
    fs::write(&path, long).expect("written");
    let said = predicted(&head, &path);
    let windows = said["windows"].as_array().expect("windows");
    assert!(windows.len() >= 37, "{said}");
    let time = |window: &Value, key: &str| window[key].as_u64().expect("a time");
    for window in windows {
        // As long as a whole number of the usual period, which is a little below 20 ms.
        let length_ms = time(window, "end_ms") - time(window, "start_ms");
        assert!((980..=1_020).contains(&length_ms), "{window}");
        // 10 s of the one, then 10 s of the other; a window over both may be either.
        if time(window, "end_ms") <= 10_000 {
            assert_eq!(window["label"], "quick", "{window}");
        }
        if time(window, "start_ms") >= 10_000 {
            assert_eq!(window["label"], "slow", "{window}");
        }
    }
    let text = run(fieldtune().arg("predict").arg(&head).arg(&path)).stdout;
    assert!(
        text.contains(" s: quick ") && text.contains(" s: slow "),
        "{text}"
    );
}

#[test]
fn uneven_times_change_little_and_no_times_are_a_second_a_row() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let head = folder.path().join("motions.head");
    let probability = |unevenness: f64| {
        let path = folder.path().join("other.csv");
        fs::write(&path, motion(true, 90, 98, unevenness)).expect("written");
        let said = predicted(&head, &path);
        assert_eq!(said["label"], "quick", "{said}");
        said["probability"].as_f64().expect("a number")
    };
    assert!((probability(0.0) - probability(0.9)).abs() < 0.2);
    // The same rows without their times.
    let samples = folder.path().join("samples");
    for class in ["quick", "slow"] {
        for entry in fs::read_dir(samples.join(class)).expect("files") {
            let path = entry.expect("a file").path();
            let text = fs::read_to_string(&path).expect("text");
            let cut = text
                .lines()
                .map(|line| line.split_once(',').map_or("", |cells| cells.1));
            let text: Vec<&str> = cut.collect();
            fs::write(&path, text.join("\n")).expect("written");
        }
    }
    let timeless = run(&mut train(folder.path(), "timeless.head"));
    timeless.json();
    let windowed = run(train(folder.path(), "windowed.head").args(["--window", "40s"]));
    assert_eq!(windowed.json()["samples"], 36);
    // A head that knows times takes no file without them.
    let line = run(fieldtune()
        .arg("predict")
        .arg(&head)
        .arg(samples.join("slow/00.csv")));
    line.refused(3, "line 1: has no column of times");
}

#[test]
fn bad_files_are_named_and_left_out_or_stop_the_job() {
    let (folder, _) = trained(&[]);
    let samples = folder.path().join("samples");
    write_files(
        &samples,
        &[
            ("slow/text.csv", b"time,x,y\n0,1,2\n0.02,1,warm\n"),
            ("slow/other.csv", b"time,x,z\n0,1,2\n0.02,1,3\n"),
        ],
    );
    let ran = run(&mut train(folder.path(), "left-out.head"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr
            .contains("text.csv: skipped; line 3: column \"y\": \"warm\" is not a number"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("other.csv: skipped; line 1: has the channels x, z, the others have x, y"),
        "{ran:?}"
    );
    let strict = run(train(folder.path(), "strict.head").arg("--strict"));
    strict.refused(3, "other.csv: line 1: has the channels");
    let head = folder.path().join("motions.head");
    let refused = run(fieldtune()
        .arg("predict")
        .arg(&head)
        .arg(samples.join("slow/text.csv")));
    refused.refused(3, "text.csv: line 3: ");
    // Nothing but bad files.
    let bad = folder.path().join("bad");
    write_files(&bad, &[("a/1.csv", b"x\n"), ("b/1.csv", b"x\n1,2\n")]);
    let none = run(fieldtune()
        .arg("train")
        .arg(&bad)
        .arg("-o")
        .arg(folder.path().join("none.head")));
    none.refused(3, "a/1.csv: has a first line but no rows");
    let check = run(fieldtune().args(["check", "--json"]).arg(&samples)).json();
    let issues = check["issues"].as_array().expect("issues");
    let unreadable = issues.iter().filter(|issue| issue["kind"] == "unreadable");
    assert_eq!(unreadable.count(), 2, "{check}");
}

#[test]
fn kinds_do_not_mix_and_what_a_series_has_not_is_refused() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let head = folder.path().join("motions.head");
    let samples = folder.path().join("samples");
    let file = samples.join("slow/00.csv");
    let refuses = |flags: &[&str], wanted: &str| {
        run(train(folder.path(), "x.head").args(flags)).refused(2, wanted);
    };
    refuses(&["--head", "tail"], "--head tail");
    refuses(&["--cut", "features"], "series pass no network");
    refuses(&["--views", "mirrored"], "no mirror image");
    refuses(&["--views", "lit"], "no brighter view");
    refuses(&["--window", "10ms"], "--window");
    has_no_mirror_image_and_exports_alone(&head, &file);
    let photo = folder.path().join("photo.png");
    fs::write(&photo, solid(9)).expect("written");
    let refused = run(fieldtune().arg("predict").arg(&head).arg(&photo));
    refused.refused(3, "is a picture, not a sensor file");
    write_files(&samples, &[("slow/photo.png", &solid(9))]);
    let mixed = run(&mut train(folder.path(), "mixed.head"));
    mixed.refused(3, "mixes kinds of samples");
}

#[test]
fn plan_bounds_what_training_takes_and_a_report_shows_lines() {
    let (folder, _) = trained(&[]);
    // A file that is taken for the other class is shown.
    let samples = folder.path().join("samples");
    fs::copy(samples.join("slow/00.csv"), samples.join("quick/wrong.csv")).expect("copied");
    let plan = run(fieldtune()
        .args(["plan", "--json"])
        .arg(folder.path().join("samples")))
    .json();
    let report = folder.path().join("report.html");
    let ran = run(train(folder.path(), "planned.head")
        .arg("--report")
        .arg(&report))
    .json();
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(
        number(&ran["peak_rss_bytes"]) <= number(&plan["peak_bytes"]),
        "{ran} {plan}"
    );
    let head = fs::metadata(folder.path().join("planned.head"))
        .expect("a head")
        .len();
    assert!(head <= number(&plan["head_bytes"]), "{head} {plan}");
    let page = fs::read_to_string(report).expect("a report");
    assert!(page.contains("data:image/"), "no picture of a series");
}

#[test]
fn a_head_of_sensor_files_grows() {
    let (folder, ran) = trained(&[]);
    ran.json();
    let more = folder.path().join("more");
    motions(&more, 3, 20);
    let head = folder.path().join("motions.head");
    let grown = folder.path().join("grown.head");
    let mut command = fieldtune();
    command
        .args(["train", "--json"])
        .arg(&more)
        .arg("--from")
        .arg(&head)
        .arg("-o")
        .arg(&grown);
    let document = run(&mut command).json();
    assert_eq!(document["samples"], 18);
    // The thresholds stay those of the first files, or old features would mean nothing.
    let preprocessing = |path: &Path| {
        let bytes = fs::read(path).expect("a head");
        Head::read(&bytes, path)
            .expect("sound")
            .backbone
            .preprocessing
    };
    assert_eq!(preprocessing(&head), preprocessing(&grown));
}
