//! Promise: `doctor` and `bench` say of this machine what their contract lists.

use fieldtune_tests::{fieldtune, run, scratch};
use serde_json::Value;

fn document(arguments: &[&str]) -> Value {
    run(fieldtune().args(arguments)).json()
}

fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_default();
    assert!(number > 0.0, "{value}");
    number
}

#[test]
fn doctor_finds_that_everything_works_here_and_changes_nothing() {
    let cache = scratch().join("never-made");
    let cache_flag = cache.to_string_lossy();
    let document = document(&["doctor", "--json", "--cache", &cache_flag]);
    let checks = document["checks"].as_array().expect("a list of checks");
    for name in [
        "processor",
        "training kernel",
        "backbone",
        "memory",
        "cache",
        "clock",
        "sandbox",
    ] {
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name}: {document}"));
        assert!(
            check["found"]
                .as_str()
                .is_some_and(|found| !found.is_empty())
        );
        assert_ne!(check["state"], "failure", "{check}");
    }
    for check in checks {
        assert_eq!(
            check["state"] != "fine",
            check["remedy"].is_string(),
            "{check}"
        );
    }
    assert!(!cache.exists());
    let kernel = checks
        .iter()
        .find(|check| check["name"] == "training kernel");
    let best = fieldtune_kernels::Kernel::best().name();
    let found = kernel.expect("found above")["found"].as_str();
    assert!(
        found.is_some_and(|found| found.starts_with(best)),
        "{found:?}"
    );
}

#[test]
fn doctor_ends_with_1_when_the_backbone_does_not_run() {
    let broken = scratch().join("broken.onnx");
    std::fs::write(&broken, b"no network").expect("a file");
    let mut command = fieldtune();
    command.arg("doctor").arg("--backbone").arg(&broken);
    command.args(["--input", "image:3x32x32", "--cache", "off"]);
    let ran = run(&mut command);
    ran.refused(1, "does not work here: backbone");
    assert!(ran.stdout.contains("FAIL backbone: "), "{ran:?}");
}

#[test]
fn bench_measures_what_the_contract_lists() {
    let document = document(&["bench", "--json"]);
    assert_eq!(document["threads"], 1);
    positive(&document["features_per_s"]);
    positive(&document["latency_ms"]);
    positive(&document["peak_rss_bytes"]);
    let steps = document["steps"].as_array().expect("a list of steps");
    let kinds: Vec<(&str, bool)> = steps
        .iter()
        .map(|step| {
            assert_eq!(step["batch"], 16);
            positive(&step["median_us"]);
            let head = step["head"].as_str().expect("a head");
            (head, step["adversarial"].as_bool().expect("yes or no"))
        })
        .collect();
    let expected = [
        ("linear", false),
        ("linear", true),
        ("mlp:128", false),
        ("mlp:128", true),
    ];
    assert_eq!(kinds, expected);
}
