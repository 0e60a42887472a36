//! Promise: `train` says what more samples would bring, the same on any number of threads,
//! or why it cannot say. How often its interval holds is measured in `benches/curve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fieldtune_tests::{Ran, demo_samples, fieldtune, run, scratch};
use serde_json::Value;

fn train(samples: &Path, flags: &[&str]) -> Ran {
    let mut command = fieldtune();
    command.arg("train").arg(samples).arg("-o");
    // The tests run at once, and only one process may write a head.
    static HEADS: AtomicUsize = AtomicUsize::new(0);
    let number = HEADS.fetch_add(1, Ordering::Relaxed);
    command.arg(scratch().join(format!("curve-{number}.head")));
    run(command.args(["--head", "linear"]).args(flags))
}

/// The demo's samples, the first `each` of every class.
fn few(each: usize) -> PathBuf {
    let folder = scratch().join(format!("few-{each}"));
    for class in ["brick", "grass", "gravel"] {
        fs::create_dir_all(folder.join(class)).expect("a folder");
        for number in 1..=each {
            let name = format!("{class}/{number:02}.jpg");
            fs::copy(demo_samples().join(&name), folder.join(&name)).expect("copied");
        }
    }
    folder
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

#[test]
fn the_forecast_is_whole_and_does_not_depend_on_threads() {
    let report = scratch().join("curve.html");
    let report_flag = report.to_string_lossy();
    let one = train(
        &demo_samples(),
        &["--json", "--threads", "1", "--report", &report_flag],
    );
    let two = train(&demo_samples(), &["--json", "--threads", "2"]);
    let curve = &one.json()["curve"];
    assert_eq!(curve, &two.json()["curve"]);
    assert_eq!(curve["samples_a_class"], 10.0, "{curve}");
    let points = curve["points"].as_array().expect("points");
    assert!(points.len() >= 4, "{curve}");
    for pair in points.windows(2) {
        assert!(number(&pair[0]["samples_a_class"]) <= number(&pair[1]["samples_a_class"]));
    }
    let forecasts = curve["forecasts"].as_array().expect("forecasts");
    for forecast in forecasts {
        let [low, expected, high] = ["low", "expected", "high"].map(|name| number(&forecast[name]));
        assert!(
            0.0 < low && low < expected && expected < high && high < 1.0,
            "{curve}"
        );
    }
    assert_eq!(forecasts[0]["more_a_class"], 0);
    assert_eq!(forecasts[1]["more_a_class"], 10);
    let sentence = curve["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("with 10 more samples a class expect"),
        "{sentence}"
    );
    let page = fs::read_to_string(report).expect("a report");
    assert!(page.contains("Enough samples?") && page.contains("aria-label=\"learning curve\""));
    let text = train(&demo_samples(), &[]).stdout;
    assert!(
        text.contains(&format!("enough samples? {sentence}\n")),
        "{text}"
    );
}

#[test]
fn too_few_samples_or_too_little_time_are_said() {
    let curve = train(&few(3), &["--json"]).json();
    let reason = curve["curve"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("at least 4 a class"), "{reason}");
    let enough = train(&few(4), &["--json"]).json();
    assert!(enough["curve"]["forecasts"].is_array(), "{enough}");
    let curve = train(&demo_samples(), &["--json", "--time", "0s"]).json();
    let reason = curve["curve"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("raise --time"), "{reason}");
}
