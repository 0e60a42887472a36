//! Promise: a head grows by samples and classes without the files it was trained on, as
//! long as their features are in the cache; it forgets no class, and the old head stays
//! until the new one is saved. How much accuracy old classes keep is in `benches/curve`.

use std::fs;
use std::path::{Path, PathBuf};

use fieldtune::head::Head;
use fieldtune_tests::{Ran, demo_samples, fieldtune, repository, run};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// A folder with samples, heads and a cache of its own.
struct Job(TempDir);

impl Job {
    fn new() -> Self {
        Self(tempdir().expect("a folder"))
    }

    /// A head of eight photographs each of grass and gravel, which are gone.
    fn trained() -> Self {
        let job = Self::new();
        let old = job.samples("old", &[("grass", 1..9), ("gravel", 1..9)]);
        job.train(&old, "old.head", &[]).json();
        fs::remove_dir_all(old).expect("removed");
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Copies numbered photographs of the demo into a folder with a class each.
    fn samples(&self, name: &str, classes: &[(&str, std::ops::Range<usize>)]) -> PathBuf {
        let folder = self.path(name);
        for (class, numbers) in classes {
            fs::create_dir_all(folder.join(class)).expect("a folder");
            for number in numbers.clone() {
                let file = format!("{class}/{number:02}.jpg");
                fs::copy(demo_samples().join(&file), folder.join(&file)).expect("copied");
            }
        }
        folder
    }

    fn train(&self, samples: &Path, head: &str, flags: &[&str]) -> Ran {
        let mut command = fieldtune();
        command
            .arg("train")
            .arg(samples)
            .arg("-o")
            .arg(self.path(head));
        command.arg("--cache").arg(self.path("cache"));
        run(command.args(["--head", "linear", "--json"]).args(flags))
    }

    fn grow(&self, samples: &Path, head: &str, flags: &[&str]) -> Ran {
        let old = self.path("old.head");
        let from = ["--from", &old.to_string_lossy()];
        self.train(samples, head, &[&from[..], flags].concat())
    }

    /// Recall of each class on the demo's test photographs of the given classes.
    fn recalls(&self, head: &str, classes: &[&str]) -> Vec<f64> {
        let folder = self.path("test");
        let _ = fs::remove_dir_all(&folder);
        for class in classes {
            fs::create_dir_all(folder.join(class)).expect("a folder");
            let photographs = demo_samples().join("../test").join(class);
            for entry in fs::read_dir(photographs).expect("photographs") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().expect("a name");
                fs::copy(&path, folder.join(class).join(name)).expect("copied");
            }
        }
        let mut command = fieldtune();
        command.arg("eval").arg(self.path(head)).arg(folder);
        let document = run(command.arg("--json")).json();
        let figures = document["per_class"].as_array().expect("figures").iter();
        let of = |class: &&str| {
            let named = figures.clone().find(|one| one["label"] == **class);
            named
                .and_then(|one| one["recall"].as_f64())
                .expect("a recall")
        };
        classes.iter().map(of).collect()
    }

    /// The only record; there must be one.
    fn record(&self) -> PathBuf {
        let mut records = fs::read_dir(self.path("cache/heads")).expect("records");
        records.next().expect("a record").expect("an entry").path()
    }

    /// Files with features, the smallest left out: it notes the number of features.
    fn entries(&self) -> Vec<PathBuf> {
        let shards = fs::read_dir(self.path("cache")).expect("a cache");
        let entries = shards.flat_map(|shard| fs::read_dir(shard.expect("an entry").path()));
        let paths = entries
            .flatten()
            .map(|entry| entry.expect("an entry").path());
        let features = paths.filter(|path| path.extension().is_some_and(|it| it == "features"));
        let large = features.filter(|path| path.metadata().expect("a file").len() > 1000);
        let mut all: Vec<PathBuf> = large.collect();
        all.sort();
        all
    }
}

fn grown(document: &Value) -> [u64; 3] {
    let of = |name: &str| document["grown"][name].as_u64().expect("a number");
    [of("kept"), of("added"), of("again")]
}

#[test]
fn a_head_grows_by_a_class_and_by_samples_without_the_old_files() {
    let job = Job::trained();
    let before = fs::read(job.path("old.head")).expect("the old head");
    let new = job.samples("new", &[("brick", 1..11), ("grass", 9..11)]);
    let document = job.grow(&new, "new.head", &[]).json();
    // Old classes stay first, whatever the alphabet says.
    assert_eq!(document["classes"], json!(["grass", "gravel", "brick"]));
    assert_eq!(document["samples"], 28);
    assert_eq!(grown(&document), [16, 12, 0]);
    assert_eq!(
        document["features"],
        json!({"computed": 72, "from_cache": 96})
    );
    assert_eq!(document["cv"]["n"], 28);
    assert_eq!(
        fs::read(job.path("old.head")).expect("the old head"),
        before
    );
    let head = Head::load(&job.path("new.head")).expect("a sound head");
    assert_eq!(head.trained.samples, [10, 8, 10]);
    for recall in job.recalls("new.head", &["grass", "gravel", "brick"]) {
        assert!(recall >= 0.8, "{recall}");
    }
    // The grown head grows on.
    fs::remove_dir_all(new).expect("removed");
    let more = job.samples("more", &[("gravel", 9..11)]);
    let from = job.path("new.head");
    let flags = ["--from", &from.to_string_lossy()];
    let document = job.train(&more, "third.head", &flags).json();
    assert_eq!(grown(&document), [28, 2, 0]);
    assert_eq!(document["classes"], json!(["grass", "gravel", "brick"]));
}

#[test]
fn the_old_head_stays_until_the_new_one_is_saved() {
    let job = Job::trained();
    let before = fs::read(job.path("old.head")).expect("the old head");
    let new = job.samples("new", &[("brick", 1..5)]);
    fs::write(new.join("brick/torn.jpg"), b"torn").expect("written");
    job.grow(&new, "old.head", &["--strict"])
        .refused(3, "torn.jpg");
    assert_eq!(
        fs::read(job.path("old.head")).expect("the old head"),
        before
    );
    fs::remove_file(new.join("brick/torn.jpg")).expect("removed");
    let document = job.grow(&new, "old.head", &[]).json();
    assert_eq!(grown(&document), [16, 4, 0]);
    let head = Head::load(&job.path("old.head")).expect("a sound head");
    assert_eq!(head.labels, ["grass", "gravel", "brick"]);
    // From the file that took its place.
    assert_eq!(grown(&job.grow(&new, "old.head", &[]).json()), [16, 0, 4]);
}

#[test]
fn a_sample_counts_once_and_its_new_label_holds() {
    let job = Job::trained();
    let new = job.samples("new", &[("grass", 1..4)]);
    // A name does not matter, its bytes do.
    fs::rename(new.join("grass/01.jpg"), new.join("grass/renamed.jpg")).expect("renamed");
    fs::create_dir(new.join("moss")).expect("a folder");
    for name in ["02.jpg", "03.jpg"] {
        fs::rename(new.join("grass").join(name), new.join("moss").join(name)).expect("moved");
    }
    let ran = job.grow(&new, "new.head", &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(grown(&document), [13, 0, 3]);
    assert_eq!(document["samples"], 16);
    assert_eq!(document["classes"], json!(["grass", "gravel", "moss"]));
    let changes = document["grown"]["relabelled"].as_array().expect("a list");
    assert_eq!(changes.len(), 2, "{document}");
    assert_eq!(
        (&changes[0]["old"], &changes[0]["new"]),
        (&json!("grass"), &json!("moss"))
    );
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("02.jpg: was \"grass\" until now; trained as \"moss\"")
    );
    let head = Head::load(&job.path("new.head")).expect("a sound head");
    assert_eq!(head.trained.samples, [6, 8, 2]);
}

#[test]
fn what_is_gone_is_counted_and_can_be_given_again() {
    let job = Job::trained();
    let entries = job.entries();
    assert_eq!(entries.len(), 96);
    fs::remove_file(&entries[0]).expect("removed");
    fs::write(&entries[20], b"torn").expect("written");
    let new = job.samples("new", &[("brick", 1..3)]);
    let ran = job.grow(&new, "new.head", &[]);
    let line = ran.refused(3, "no longer in the cache");
    assert!(line.contains("of its 16 samples") && line.contains("give the old samples"));
    assert!(!job.path("new.head").exists());
    job.samples("new", &[("grass", 1..9), ("gravel", 1..9)]);
    let document = job.grow(&new, "new.head", &[]).json();
    assert_eq!(grown(&document), [0, 2, 16]);
}

#[test]
fn a_record_that_is_damaged_or_missing_is_named() {
    let job = Job::trained();
    let new = job.samples("new", &[("brick", 1..3)]);
    let record = job.record();
    let sound = fs::read(&record).expect("a record");
    let mut altered = sound.clone();
    altered[200] ^= 1;
    for bytes in [&sound[..sound.len() / 2], &altered, b"", b"\xff\n\n"] {
        fs::write(&record, bytes).expect("written");
        job.grow(&new, "new.head", &[])
            .refused(3, &record.to_string_lossy());
    }
    fs::remove_file(&record).expect("removed");
    let line = job.grow(&new, "new.head", &[]);
    line.refused(3, "does not know what it was trained on");
    assert!(line.stderr.contains("old.head"), "{}", line.stderr);
    fs::write(&record, &sound).expect("written");
    assert_eq!(grown(&job.grow(&new, "new.head", &[]).json()), [16, 2, 0]);
}

#[test]
fn another_backbone_cut_or_no_cache_is_refused() {
    let job = Job::trained();
    let new = job.samples("new", &[("brick", 1..3)]);
    let model = repository().join("models/efficientnet-lite0/model_f16.onnx");
    let mut bytes = fs::read(model).expect("the bundled backbone");
    // One more field of text makes it another file and the same network.
    bytes.extend([0x1a, 1, b'x']);
    let other = job.path("other.onnx");
    fs::write(&other, bytes).expect("written");
    let other = other.to_string_lossy();
    let flags = ["--backbone", &other, "--input", "image:3x224x224"];
    job.grow(&new, "new.head", &flags)
        .refused(5, "old.head: was trained on backbone");
    let ran = job.grow(&new, "new.head", &["--cut", "elsewhere"]);
    ran.refused(5, "old.head: was trained on");
    job.grow(&new, "new.head", &["--cache", "off"])
        .refused(2, "--cache off");
    assert!(!job.path("new.head").exists());
}
