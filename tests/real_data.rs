//! Promise: with no flags at all, real photographs are told apart as well as by known
//! good methods, and the demo works from nothing.

use std::fs;
use std::path::Path;

use fieldtune::head::Head;
use fieldtune_tests::{fieldtune, run, scratch, shared};

#[test]
fn ants_and_bees_are_told_apart_without_any_flag() {
    let Some(data) = shared("data/hymenoptera") else {
        return;
    };
    let head = scratch().join("hymenoptera.head");
    let mut train = fieldtune();
    train.args(["train", "--json"]).arg(data.join("train"));
    let trained = run(train.arg("-o").arg(&head)).json();
    assert_eq!(trained["classes"], serde_json::json!(["ants", "bees"]));
    let mut eval = fieldtune();
    eval.args(["eval", "--json"])
        .arg(&head)
        .arg(data.join("val"));
    let measured = run(&mut eval).json();
    println!("{measured}");
    let accuracy = measured["accuracy"].as_f64().expect("a number");
    assert!(accuracy >= 0.94, "{measured}");
    // What training expected of new samples is not far from what came.
    let [low, high] = ["low", "high"].map(|name| trained["cv"][name].as_f64().expect("a number"));
    assert!(
        accuracy > low - 0.05 && accuracy < high + 0.05,
        "{accuracy}, {}",
        trained["cv"]
    );
}

#[test]
fn the_demo_trains_evaluates_predicts_and_reports() {
    let folder = scratch().join("demo");
    let mut demo = fieldtune();
    let document = run(demo.args(["demo", "--json", "--output"]).arg(&folder)).json();
    println!("{document}");
    assert!(
        document["test"]["accuracy"].as_f64() >= Some(0.9),
        "{document}"
    );
    let predictions = document["predictions"].as_array().expect("a list");
    assert!(!predictions.is_empty());
    let named = |field: &str| Path::new(document[field].as_str().expect("a path")).to_path_buf();
    assert!(named("head").starts_with(&folder) && named("report").starts_with(&folder));
    let head = Head::load(&named("head")).expect("a sound head");
    assert_eq!(head.labels, ["brick", "grass", "gravel"]);
    let page = fs::read_to_string(named("report")).expect("a report");
    assert!(page.trim_end().ends_with("</html>"));
    for outside in [
        "http://",
        "https://",
        "src=\"/",
        "<script src",
        "<link",
        "@import",
    ] {
        assert!(
            !page.contains(outside),
            "the report reaches outside: {outside}"
        );
    }
    assert!(page.contains("src=\"data:image/") || page.contains("<svg"));
}
