//! Promise: `watch` labels every image of a folder once, when it is whole, across
//! restarts, and ends cleanly when told to.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fieldtune_tests::{demo_head, demo_samples, fieldtune, run};
use serde_json::Value;

/// Far more than a label takes, even emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// A `watch` at work. Killed if a test ends early.
struct Watching {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Watching {
    fn start(folder: &Path, files: &Path, flags: &[&str]) -> Self {
        let (out, err) = (files.join("out"), files.join("err"));
        let file = |path| File::create(path).expect("a file");
        let child = fieldtune()
            .arg("watch")
            .arg(demo_head())
            .arg(folder)
            .args(["--json", "--interval", "50ms"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err))
            .spawn()
            .expect("the command starts");
        Self { child, out, err }
    }

    /// The labels by file name, once there are so many lines.
    fn labels(&mut self, count: usize) -> BTreeMap<String, String> {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&self.out).expect("the output");
            // A line may be half written.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let lines: Vec<Value> = whole
                .lines()
                .map(|line| serde_json::from_str(line).expect("one JSON document a line"))
                .collect();
            assert!(lines.len() <= count, "{text}");
            if lines.len() == count {
                return lines.iter().map(named).collect();
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{}", self.errors());
            assert!(start.elapsed() < PATIENCE, "{text}{}", self.errors());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.err).expect("standard error")
    }

    /// Ends it with a signal and expects that it ends well, having said nothing else.
    fn end(mut self, signal: &str) -> String {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("kill runs").success());
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.code(), Some(0), "{}", self.errors());
        assert_eq!(self.errors(), "");
        fs::read_to_string(&self.out).expect("the output")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn named(line: &Value) -> (String, String) {
    let file = line["file"].as_str().expect("a file");
    let name = Path::new(file).file_name().expect("a name");
    let label = line["label"].as_str().expect("a label");
    assert!(line["probabilities"][label].is_number(), "{line}");
    (name.to_string_lossy().into_owned(), label.into())
}

fn photograph(class: &str) -> Vec<u8> {
    let path = demo_samples().join("../test").join(class).join("01.jpg");
    fs::read(path).expect("the demo has test photographs")
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(a, b)| (a.into(), b.into())).into()
}

#[test]
fn every_image_is_labelled_once_when_it_is_whole_and_across_restarts() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = place.path().join("incoming");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("first.jpg"), photograph("brick")).expect("a file");
    let mut watching = Watching::start(&folder, place.path(), &[]);
    let expected = pairs([("first.jpg", "brick")]);
    assert_eq!(watching.labels(1), expected);

    // One file grows slowly, another one is moved in while it grows.
    let bytes = photograph("grass");
    let mut slow = File::create(folder.join("slow.jpg")).expect("a file");
    slow.write_all(&bytes[..bytes.len() / 2]).expect("half");
    fs::write(place.path().join("moved"), photograph("gravel")).expect("a file");
    fs::rename(place.path().join("moved"), folder.join("moved.jpg")).expect("moved");
    assert!(watching.labels(2).contains_key("moved.jpg"));
    slow.write_all(&bytes[bytes.len() / 2..]).expect("the rest");
    drop(slow);
    let labels = watching.labels(3);
    assert_eq!(
        labels,
        pairs([
            ("first.jpg", "brick"),
            ("moved.jpg", "gravel"),
            ("slow.jpg", "grass")
        ])
    );
    watching.end("-TERM");

    // What comes while nobody watches has its turn afterwards; the rest has none.
    fs::write(folder.join("later.jpg"), photograph("gravel")).expect("a file");
    let mut watching = Watching::start(&folder, place.path(), &[]);
    assert_eq!(watching.labels(1), pairs([("later.jpg", "gravel")]));
    fs::write(folder.join("first.jpg"), photograph("grass")).expect("a file");
    let labels = watching.labels(2);
    assert_eq!(labels["first.jpg"], "grass", "an overwritten file is new");
    let out = watching.end("-INT");
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn a_folder_that_is_not_there_is_refused() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut command = fieldtune();
    command.arg("watch").arg(demo_head());
    command.arg(place.path().join("nowhere"));
    run(&mut command).refused(3, "nowhere: cannot be listed");
}

#[test]
fn a_folder_without_room_for_the_record_needs_another_place_for_it() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let record = place.path().join("no-such-folder/record");
    let mut command = fieldtune();
    command.arg("watch").arg(demo_head()).arg(place.path());
    command.arg("--record").arg(&record);
    run(&mut command).refused(1, "its folder does not exist");
}
