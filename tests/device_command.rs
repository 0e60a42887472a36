//! Promise: `fieldtune device` trains, labels, loads and saves as its contract says, on a
//! device in the same process; heads go from the device to the host and back and mean the
//! same; and what does not fit is refused with the right exit code before it is sent. The
//! firmware itself is tried by `targets/cortex-m/check`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune_tests::small_heads::small_head_bytes;
use fieldtune_tests::{demo_head, demo_samples, fieldtune, run, scratch, sounds};
use serde_json::Value;

/// A tensor of the embedded backbone with few enough features for a device.
const CUT: &str = "block15.project_conv.Conv:mean";

fn device(arguments: &[&str], port: &str) -> Command {
    let mut command = fieldtune();
    command.arg("device").args(arguments).args(["--port", port]);
    command
}

/// A simulated device of the name given, and where its flash is.
fn port(name: &str) -> String {
    format!("simulated:{}", scratch().join(name).display())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are plain text")
}

/// A head trained on the device at `port`.
fn trained(port: &str, head: &Path, flags: &[&str]) -> Value {
    let samples = demo_samples();
    let arguments = [
        "train",
        text(&samples),
        "--cut",
        CUT,
        "-o",
        text(head),
        "--json",
    ];
    run(device(&arguments, port).args(flags)).json()
}

fn photographs() -> Vec<PathBuf> {
    let folder = demo_samples().join("../test");
    let name = |class: &str, number: usize| folder.join(format!("{class}/{number:02}.jpg"));
    ["brick", "grass", "gravel"]
        .iter()
        .flat_map(|class| (1..=3).map(|number| name(class, number)))
        .collect()
}

/// What each line of `predict --json` says: label, and probabilities in the order of names.
fn said(output: &str) -> Vec<(String, Vec<f64>)> {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("one object a line");
        let probabilities = line["probabilities"].as_object().expect("an object");
        let number = |value: &Value| value.as_f64().expect("a number");
        let label = line["label"].as_str().expect("a label").to_string();
        (label, probabilities.values().map(number).collect())
    };
    output.lines().map(line).collect()
}

fn require_same(here: &str, there: &str) {
    let (here, there) = (said(here), said(there));
    assert_eq!(here.len(), there.len());
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(here.0, there.0);
        for (a, b) in here.1.iter().zip(&there.1) {
            assert!((a - b).abs() < 1e-5, "{here:?} {there:?}");
        }
    }
}

#[test]
fn a_head_means_the_same_on_the_device_and_on_the_host() {
    let (port, head) = (port("there-and-back"), scratch().join("there.head"));
    let document = trained(&port, &head, &[]);
    assert_eq!(document["samples"], 30);
    assert_eq!(document["counter"], 1);
    let files = photographs();
    let here = run(fieldtune()
        .arg("predict")
        .arg(&head)
        .args(&files)
        .arg("--json"));
    let there = run(device(&["predict", "--json"], &port).args(&files));
    require_same(&here.succeeded().stdout, &there.succeeded().stdout);
    let right = said(&there.stdout);
    let right = files
        .iter()
        .zip(&right)
        .filter(|(file, (label, _))| file.parent().is_some_and(|class| class.ends_with(label)));
    assert!(right.count() >= 8);

    // The other way: trained on the host, with all that such a head knows.
    let mut command = fieldtune();
    let own = scratch().join("here.head");
    command
        .arg("train")
        .arg(demo_samples())
        .args(["--cut", CUT, "--time", "1ms"]);
    run(command.arg("-o").arg(&own)).succeeded();
    let loaded = run(&mut device(&["load", text(&own), "--json"], &port)).json();
    assert_eq!(loaded["counter"], 2);
    let here = run(fieldtune()
        .arg("predict")
        .arg(&own)
        .args(&files)
        .arg("--json"));
    let there = run(device(&["predict", "--json"], &port).args(&files));
    require_same(&here.succeeded().stdout, &there.succeeded().stdout);
    let copy = scratch().join("copy.head");
    run(&mut device(&["save", "-o", text(&copy)], &port)).succeeded();
    assert_eq!(fs::read(&own).ok(), fs::read(&copy).ok(), "byte for byte");

    let layout = run(&mut device(&["flash-layout", "--json"], &port)).json();
    assert_eq!(layout["slots"][0]["head"]["counter"], 1);
    assert_eq!(layout["slots"][1]["head"]["counter"], 2);
    assert_eq!(layout["slots"][1]["active"], true);
    let layout = run(&mut device(&["flash-layout"], &port));
    assert!(layout.succeeded().stdout.contains("head number 2"));
    let info = run(&mut device(&["info", "--json"], &port)).json();
    assert!(
        info["program"]
            .as_str()
            .is_some_and(|it| it.starts_with("fieldtune device"))
    );
}

#[test]
fn the_same_samples_and_seed_give_the_same_head_and_another_seed_another() {
    let heads = ["one.head", "two.head", "three.head"].map(|name| scratch().join(name));
    let flags = ["--head", "mlp:8"];
    trained("simulated", &heads[0], &flags);
    trained("simulated", &heads[1], &flags);
    trained("simulated", &heads[2], &["--head", "mlp:8", "--seed", "1"]);
    let bytes = heads.map(|head| fs::read(head).expect("written"));
    assert_eq!(bytes[0], bytes[1]);
    assert_ne!(bytes[0], bytes[2]);
}

#[test]
fn windows_of_a_sensor_are_learned_and_labelled() {
    let folder = scratch().join("motion");
    for (class, step) in [("slow", 0.1f32), ("fast", 0.9)] {
        let class_folder = folder.join(class);
        fs::create_dir_all(&class_folder).expect("made");
        for number in 0..6 {
            let mut rows = String::from("x,y,z\n");
            for time in 0..70 {
                let phase = step * time as f32 + number as f32;
                rows += &format!("{},{},{}\n", phase.sin(), 0.3 * phase.cos(), 1.0);
            }
            fs::write(class_folder.join(format!("{number}.csv")), rows).expect("written");
        }
    }
    let (port, head) = (port("motion-flash"), scratch().join("motion.head"));
    let files = ["slow/5.csv", "fast/5.csv"].map(|file| folder.join(file));
    let arguments = [
        "train",
        text(&folder),
        "--window",
        "64",
        "-o",
        text(&head),
        "--json",
    ];
    let document = run(&mut device(&arguments, &port)).json();
    assert_eq!(document["samples"], 12);
    let labels = run(device(&["predict", "--json"], &port).args(&files));
    let labels: Vec<String> = said(&labels.succeeded().stdout)
        .into_iter()
        .map(|it| it.0)
        .collect();
    assert_eq!(labels, ["slow", "fast"]);
    let short = folder.join("short.csv");
    fs::write(&short, "1,2,3\n").expect("written");
    run(&mut device(&["predict", text(&short)], &port)).refused(3, "a window 64");
    fs::write(&short, "1,2\n".repeat(64)).expect("written");
    run(&mut device(&["predict", text(&short)], &port)).refused(5, "2 columns");
    // Pictures do not go where windows do.
    let picture = &photographs()[0];
    run(&mut device(&["predict", text(picture)], &port)).refused(3, ".jpg");
    run(fieldtune().arg("predict").arg(&head).arg(picture)).refused(5, "sensor");
}

#[test]
fn what_does_not_fit_is_refused_with_the_right_exit_code() {
    let samples = demo_samples();
    let head = scratch().join("never.head");
    let train = |flags: &[&str]| {
        let arguments = ["train", text(&samples), "-o", text(&head)];
        run(device(&arguments, "simulated").args(flags))
    };
    // The default cut has 4104 features, the memory of a device is small.
    train(&[]).refused(4, "does not fit into the device");
    train(&["--cut", "features"]).refused(4, "samples");
    train(&["--cut", CUT, "--batch", "2000"]).refused(4, "does not fit");
    train(&["--cut", CUT, "--head", "mlp:2000"]).refused(4, "does not fit");
    train(&["--cut", CUT, "--head", "prototype"]).refused(2, "--head linear");
    train(&["--window", "50"]).refused(3, "fewer than two classes");
    let recordings = scratch().join("recordings");
    sounds::glides(&recordings, 3);
    let arguments = ["train", text(&recordings), "-o", text(&head)];
    run(&mut device(&arguments, "simulated")).refused(2, "recordings");
    assert!(!head.exists());

    let port = port("refusing");
    run(&mut device(&["predict", "x.jpg"], &port)).refused(3, "has no head");
    run(&mut device(&["save", "-o", text(&head)], &port)).refused(3, "has no head");
    run(&mut device(&["load", text(demo_head())], &port)).refused(4, "does not fit");
    let small = scratch().join("small.head");
    fs::write(&small, &small_head_bytes(1)[..100]).expect("written");
    run(&mut device(&["load", text(&small)], &port)).refused(3, "small.head");
    fs::write(&small, small_head_bytes(1)).expect("written");
    run(&mut device(&["load", text(&small)], &port)).succeeded();
    // The head is of another backbone than the pictures' features would be.
    let picture = &photographs()[0];
    run(&mut device(&["predict", text(picture)], &port)).refused(5, "was trained on");
    let key = scratch().join("farm");
    run(fieldtune().args(["head", "keygen"]).arg(&key)).succeeded();
    let public = scratch().join("farm.pub");
    let trust = ["load", text(&small), "--trust", text(&public)];
    run(&mut device(&trust, &port)).refused(6, "signed");

    let missing = "/dev/there-is-no-such-port";
    run(&mut device(&["info"], missing)).refused(1, missing);
    run(&mut device(&["info"], text(&small))).refused(1, "is no serial port");
    let no_flash = format!("simulated:{}", small.display());
    run(&mut device(&["info"], &no_flash)).refused(3, "is no flash");
}
