//! Promise: every command prints what its contract says, on the stream where it belongs,
//! and nothing else. Refusals are in `bad_input.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune_tests::{Ran, demo_head, demo_samples, fieldtune, run, run_with_input, scratch};
use serde_json::Value;

const CLASSES: [&str; 3] = ["brick", "grass", "gravel"];

fn command(arguments: &[&str]) -> Command {
    let mut command = fieldtune();
    command.args(arguments);
    command
}

fn photograph(class: &str) -> PathBuf {
    demo_samples()
        .join("../test")
        .join(class)
        .read_dir()
        .expect("the demo has test photographs")
        .map(|entry| entry.expect("a readable folder").path())
        .min()
        .expect("the class has photographs")
}

/// Makes sure that every field is there and says something.
fn has_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        let value = object.get(field);
        assert!(
            value.is_some_and(|value| !value.is_null()),
            "{field}: {object}"
        );
    }
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

/// `0 <= low <= accuracy <= high <= 1`.
fn is_interval(object: &Value) {
    let [low, accuracy, high] = ["low", "accuracy", "high"].map(|name| number(&object[name]));
    assert!(
        0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0,
        "{object}"
    );
}

fn train(head: &Path, flags: &[&str]) -> Ran {
    let mut command = command(&["train"]);
    command.arg(demo_samples()).arg("-o").arg(head).args(flags);
    run(&mut command)
}

#[test]
fn train_writes_a_head_and_says_what_it_did() {
    let head = scratch().join("train.head");
    let report = scratch().join("train.html");
    let report_flag = report.to_string_lossy();
    let document = train(&head, &["--json", "--report", &report_flag]).json();
    let fields = [
        "head",
        "classes",
        "samples",
        "cv",
        "recipe",
        "seconds",
        "arena_bytes",
    ];
    has_fields(&document, &fields);
    has_fields(&document["cv"], &["accuracy", "low", "high", "n"]);
    has_fields(&document["seconds"], &["features", "search", "train"]);
    assert!(document.get("peak_rss_bytes").is_some());
    assert_eq!(document["classes"], serde_json::json!(CLASSES));
    assert_eq!(document["samples"], 30);
    assert_eq!(document["cv"]["n"], 30);
    is_interval(&document["cv"]);
    assert_eq!(document["head"], head.to_string_lossy().as_ref());
    assert!(number(&document["arena_bytes"]) > 0.0);
    assert!(
        fieldtune::head::Head::load(&head)
            .expect("a sound head")
            .labels
            == CLASSES
    );
    let page = fs::read_to_string(report).expect("a report");
    assert!(page.starts_with("<!") && page.trim_end().ends_with("</html>"));
}

#[test]
fn a_second_run_on_the_same_folder_does_no_backbone_work() {
    let flags = ["--json", "--head", "prototype"];
    let head = scratch().join("second.head");
    train(&head, &flags).json();
    let again = train(&head, &flags).json();
    assert_eq!(again["features"]["computed"], 0, "{again}");
    assert!(number(&again["features"]["from_cache"]) >= 30.0);
    let without = train(&head, &["--json", "--head", "prototype", "--cache", "off"]).json();
    assert_eq!(without["features"]["from_cache"], 0, "{without}");
}

#[test]
fn plan_says_memory_by_part_and_time_and_trains_nothing() {
    let mut plan = command(&["plan", "--json"]);
    let document = run(plan.arg(demo_samples())).json();
    has_fields(&document, &["memory", "peak_bytes", "seconds"]);
    let parts = document["memory"].as_object().expect("a table of parts");
    for part in ["backbone", "features", "training", "evaluation"] {
        assert!(
            parts.get(part).is_some_and(|bytes| number(bytes) > 0.0),
            "{part}"
        );
    }
    let sum: f64 = parts.values().map(number).sum();
    assert_eq!(sum, number(&document["peak_bytes"]));
    assert!(number(&document["seconds"]) > 0.0);
}

#[test]
fn what_training_needs_is_not_more_than_planned() {
    let cold = ["--json", "--head", "linear", "--cache", "off"];
    let trained = train(&scratch().join("planned.head"), &cold).json();
    let Some(peak) = trained["peak_rss_bytes"].as_f64() else {
        fieldtune_tests::not_tested("this system does not say what memory a process had");
        return;
    };
    let mut plan = command(&["plan"]);
    let planned = run(plan.arg(demo_samples()).args(cold)).json();
    assert!(
        peak <= number(&planned["peak_bytes"]),
        "{peak} bytes, planned {planned}"
    );
}

#[test]
fn eval_measures_on_other_samples() {
    let mut eval = command(&["eval", "--json"]);
    eval.arg(demo_head()).arg(demo_samples().join("../test"));
    let document = run(&mut eval).json();
    let fields = [
        "accuracy",
        "low",
        "high",
        "n",
        "confusion",
        "labels",
        "ece",
        "per_class",
    ];
    has_fields(&document, &fields);
    is_interval(&document);
    assert_eq!(document["labels"], serde_json::json!(CLASSES));
    let confusion = document["confusion"].as_array().expect("rows");
    let row = |row: &Value| row.as_array().expect("columns").clone();
    let rows: Vec<Vec<Value>> = confusion.iter().map(row).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == 3));
    let all: f64 = rows.iter().flatten().map(number).sum();
    let right: f64 = (0..3).map(|class| number(&rows[class][class])).sum();
    assert_eq!(all, number(&document["n"]));
    assert!((right / all - number(&document["accuracy"])).abs() < 1e-6);
    assert!(
        right / all > 0.8,
        "three kinds of ground are not hard: {document}"
    );
}

#[test]
fn predict_prints_one_object_a_line_in_order() {
    let photographs = CLASSES.map(photograph);
    let mut predict = command(&["predict", "--json"]);
    let ran = run(predict.arg(demo_head()).args(&photographs));
    ran.succeeded();
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(lines.len(), 3);
    for ((object, path), class) in lines.iter().zip(&photographs).zip(CLASSES) {
        has_fields(
            object,
            &["file", "label", "probability", "unknown", "probabilities"],
        );
        assert_eq!(object["file"], path.to_string_lossy().as_ref());
        assert_eq!(object["label"], class);
        let all = object["probabilities"].as_object().expect("a table");
        let sum: f64 = all.values().map(number).sum();
        assert!(all.len() == 3 && (sum - 1.0).abs() < 1e-4, "{object}");
        assert_eq!(object["probability"], all[class]);
        let doubted = number(&object["unknown_score"]) > number(&object["unknown_above"]);
        assert_eq!(object["unknown"], doubted);
        assert!(object.get("set").is_none());
    }
}

#[test]
fn predict_names_sets_of_labels_that_grow_with_coverage() {
    let photographs = CLASSES.map(photograph);
    let sets = |coverage: &str| -> Vec<usize> {
        let mut predict = command(&["predict", "--json", "--coverage", coverage]);
        let ran = run(predict.arg(demo_head()).args(&photographs));
        ran.succeeded();
        let lines = ran.stdout.lines();
        lines
            .map(|line| {
                let object: Value = serde_json::from_str(line).expect("an object a line");
                let set = object["set"].as_array().expect("a list");
                assert!(set.contains(&object["label"]), "{object}");
                set.len()
            })
            .collect()
    };
    assert_eq!(sets("50%"), [1, 1, 1]);
    // More than the demo's samples can promise.
    assert_eq!(sets("99.9%"), [3, 3, 3]);
    let mut wrong = command(&["predict", "--coverage", "90"]);
    assert_eq!(
        run(wrong.arg(demo_head()).arg(&photographs[0])).code,
        Some(2)
    );
}

#[test]
fn a_picture_and_its_mirror_image_are_judged_alike_with_flip() {
    let head = scratch().join("flipped.head");
    // Class means are less sure than a trained head, so that turning a picture shows.
    train(&head, &["--head", "prototype", "--views", "original"]).succeeded();
    let picture = image::open(photograph("brick")).expect("readable");
    // As large as the built-in backbone resizes to, so that its crop is in the middle.
    let picture = picture.resize_exact(256, 256, image::imageops::FilterType::Triangle);
    let files = [
        ("straight.png", picture.clone()),
        ("turned.png", picture.fliph()),
    ];
    let files = files.map(|(name, picture)| {
        let path = scratch().join(name);
        picture.save(&path).expect("writable");
        path
    });
    let judged = |flags: &[&str]| {
        let mut command = fieldtune();
        command.arg("predict").arg(&head).args(&files);
        let ran = run(command.args(flags).arg("--json"));
        ran.succeeded();
        let line =
            |line| number(&serde_json::from_str::<Value>(line).expect("JSON")["probability"]);
        let found: Vec<f64> = ran.stdout.lines().map(line).collect();
        (found[0] - found[1]).abs()
    };
    let (plain, flipped) = (judged(&[]), judged(&["--tta", "flip"]));
    assert!(plain > 1e-4, "{plain}");
    assert!(flipped < 1e-6, "{flipped}");
    assert_eq!(judged(&["--tta", "off"]), plain);
}

#[test]
fn predict_reads_an_image_from_standard_input() {
    let path = photograph("grass");
    let bytes = fs::read(&path).expect("a photograph");
    let mut predict = command(&["predict", "--json"]);
    predict.arg(demo_head()).arg("-").arg(&path);
    let ran = run_with_input(&mut predict, &bytes);
    ran.succeeded();
    let objects: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(objects[0]["file"], "-");
    assert_eq!(objects[0]["label"], "grass");
    assert_eq!(objects[0]["probabilities"], objects[1]["probabilities"]);
}

#[test]
fn inspect_lists_where_the_backbone_can_be_cut() {
    let document = run(&mut command(&["inspect", "embedded", "--json"])).json();
    has_fields(&document, &["input", "cuts"]);
    let cuts = document["cuts"].as_array().expect("a list");
    assert!(cuts.len() > 5);
    for cut in cuts {
        has_fields(
            cut,
            &["tensor", "shape", "macs_before", "macs_after", "trainable"],
        );
        let all = number(&cut["macs_before"]) + number(&cut["macs_after"]);
        assert!(
            all > 1e8,
            "EfficientNet-Lite0 has some 400 million MACs: {cut}"
        );
    }
    assert!(cuts.iter().any(|cut| cut["tensor"] == "features"));
}

#[test]
fn head_show_says_what_is_in_a_head() {
    let mut show = command(&["head", "show", "--json"]);
    let document = run(show.arg(demo_head())).json();
    has_fields(&document, &["labels", "backbone", "layers", "trained"]);
    assert_eq!(document["labels"], serde_json::json!(CLASSES));
    assert_eq!(
        document["trained"]["samples"],
        serde_json::json!([10, 10, 10])
    );
    let cut = document["backbone"]["cut"].as_str().expect("a text");
    assert!(cut.starts_with("features,"), "{cut}");
    let digest = document["backbone"]["sha256"].as_str().expect("a text");
    assert_eq!(digest.len(), 64);
}

#[test]
fn text_for_people_is_quiet_in_a_pipe() {
    let head = scratch().join("quiet.head");
    let ran = train(&head, &["--head", "linear"]);
    let mut eval = command(&["eval"]);
    let mut predict = command(&["predict"]);
    let mut show = command(&["head", "show"]);
    let mut plan = command(&["plan"]);
    let all = [
        ran,
        run(eval.arg(&head).arg(demo_samples())),
        run(predict.arg(&head).arg(photograph("brick"))),
        run(show.arg(&head)),
        run(plan.arg(demo_samples()).args(["--head", "linear"])),
        run(&mut command(&["inspect", "embedded"])),
    ];
    for ran in &all {
        ran.succeeded();
        assert!(ran.stdout.len() > 10 && ran.stdout.ends_with('\n'));
        let shown = |c: char| c == '\n' || !c.is_control();
        assert!(ran.stdout.chars().all(shown), "{ran:?}");
    }
    assert!(all[2].stdout.contains("brick"));
}

#[test]
fn every_command_s_help_shows_an_example() {
    let commands: [&[&str]; 7] = [
        &["demo"],
        &["inspect"],
        &["plan"],
        &["train"],
        &["eval"],
        &["predict"],
        &["head", "show"],
    ];
    for words in commands {
        let ran = run(command(words).arg("--help"));
        ran.succeeded();
        let example = format!("fieldtune {}", words.join(" "));
        let after = ran
            .stdout
            .split_once("Example:")
            .map_or("", |(_, text)| text);
        assert!(after.contains(&example), "{words:?}: {}", ran.stdout);
    }
    let overview = run(&mut command(&["--help"]));
    overview.succeeded();
    for words in commands {
        assert!(overview.stdout.contains(words[0]), "{}", overview.stdout);
    }
    assert!(
        run(&mut command(&["--version"]))
            .succeeded()
            .stdout
            .starts_with("fieldtune ")
    );
}

#[test]
fn a_configuration_file_stands_for_flags_and_flags_win() {
    let config = scratch().join("sound.toml");
    fs::write(&config, "head = \"linear\"\nseed = 7\nepochs = 3\n").expect("written");
    let head = scratch().join("configured.head");
    let flags = config.to_string_lossy();
    let recipe = train(&head, &["--json", "--config", &flags]).json();
    assert_eq!(recipe["recipe"]["epochs"], 3, "{recipe}");
    let loaded = || {
        fieldtune::head::Head::load(&head)
            .expect("a sound head")
            .trained
            .seed
    };
    assert_eq!(loaded(), 7);
    train(&head, &["--config", &flags, "--seed", "8"]).succeeded();
    assert_eq!(loaded(), 8);
}

#[test]
fn options_of_training_reach_the_head_and_change_it() {
    let [usual, other] = ["usual", "other"].map(|name| scratch().join(format!("{name}.head")));
    let short = ["--epochs", "5", "--head", "mlp:16", "--reproducible"];
    train(&usual, &short).succeeded();
    let recipe_of = |flags: &[&str]| {
        train(&other, &[&short[..], flags].concat()).succeeded();
        let head = fieldtune::head::Head::load(&other).expect("a sound head");
        head.trained.recipe
    };
    for (flags, words) in [
        (&["--nesterov"][..], "Nesterov"),
        (&["--clip-norm", "0.1"], "clipped at 0.1"),
        (&["--average-weights=0.9"], "memory 0.9"),
        (&["--label-smoothing", "0.1"], "smoothing 0.1"),
        (&["--decay-towards", "start"], "towards the start"),
        (&["--adversarial-steps", "3"], "3 power steps"),
        (&["--adversarial-layers", "sample"], "each sample"),
        (&["--adversarial-at", "lowest"], "lowest"),
        (&["--adversarial-ramp", "cosine:0.5"], "cosine"),
    ] {
        let recipe = recipe_of(flags);
        assert!(recipe.contains(words), "{flags:?}: {recipe}");
        let load = |path: &Path| fieldtune::head::Head::load(path).expect("a sound head");
        let [usual, other] = [&usual, &other].map(|path| load(path).parameters);
        assert_ne!(usual, other, "{flags:?} changed nothing");
    }
    recipe_of(&["--recompute"]);
    let load = |path: &Path| fieldtune::head::Head::load(path).expect("a sound head");
    assert_eq!(load(&usual).parameters, load(&other).parameters);
}

#[test]
fn wrong_usage_ends_with_2() {
    let head = scratch().join("never.head");
    for flags in [
        &["--no-such-flag"][..],
        &["--head", "tree"],
        &["--epochs", "0"],
        &["--threads", "0"],
        &["--lambda", "nan"],
        &["--time", "soon"],
        &["--memory", "a lot"],
        &["--decay", "uniform", "--decay-mode", "online"],
        &["--nesterov", "--optimizer", "adamw"],
        &["--adversarial", "off", "--adversarial-steps", "2"],
        &["--decay", "none", "--decay-towards", "start"],
        &["--label-smoothing", "1"],
        &["--adversarial-ramp", "2"],
    ] {
        train(&head, flags).refused(2, flags[0]);
    }
    run(&mut command(&["train"])).refused(2, "SAMPLES");
    run(&mut command(&["fly"])).refused(2, "fly");
    let bare = run(&mut command(&[]));
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("Usage:") && bare.stdout.is_empty());
    assert!(!head.exists());
}

#[test]
fn a_wrong_configuration_file_is_named() {
    let head = scratch().join("never.head");
    let cases = [
        ("unknown.toml", "sped = 3\n", 2, "--sped"),
        ("value.toml", "epochs = \"many\"\n", 2, "many"),
        ("syntax.toml", "head = = 3\n", 3, "is not TOML"),
        ("nested.toml", "config = \"a.toml\"\n", 3, "names another"),
    ];
    for (name, text, code, wanted) in cases {
        let path = scratch().join(name);
        fs::write(&path, text).expect("written");
        let path = path.to_string_lossy();
        let ran = train(&head, &["--config", &path]);
        assert!(ran.refused(code, name).contains(wanted), "{ran:?}");
    }
    train(&head, &["--config", "no/such.toml"]).refused(3, "no/such.toml");
    assert!(!head.exists());
}
