//! Promise: whatever fails - a full, broken, slow or read-only disk, a damaged cache, a
//! sample that goes away, a wrong clock - ends with the right exit code and one line, or
//! does not matter; nothing is half-written. Faults are put into every operation of a
//! simulated disk, and made with real limits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fieldtune::cache::{Cache, Key, KeyParts};
use fieldtune::error::ErrorKind;
use fieldtune::features::Source;
use fieldtune::head::Head;
use fieldtune::model::Model;
use fieldtune::preprocess::View;
use fieldtune::samples::SampleSet;
use fieldtune::session::{Session, Settings, Silent};
use fieldtune::store::simulated::{Fault, Simulated};
use fieldtune::versions::Versions;
use fieldtune_tests::small_heads::small_head_bytes;
use fieldtune_tests::{demo_head, fieldtune, not_tested, program, run, two_classes};

const HEAD: &str = "birds.head";
const FAULTS: [Fault; 4] = [
    Fault::NoSpace,
    Fault::InputOutput,
    Fault::ReadOnly,
    Fault::Interrupted,
];

fn key() -> Key {
    Key::of(&KeyParts {
        sample: &[1; 32],
        backbone: &[2; 32],
        cut: "features",
        preprocessing: "rgb",
        view: View::Original,
    })
}

fn disk_with_two_heads() -> Simulated {
    let disk = Simulated::new();
    disk.limit_transfer(100);
    let store = disk.store();
    for number in [1, 2] {
        let versions = Versions::of(&store, Path::new(HEAD));
        versions
            .replace(&small_head_bytes(number))
            .expect("written");
    }
    disk
}

fn seed_of(disk: &Simulated, path: &str) -> Option<u64> {
    let bytes = disk.files().remove(Path::new(path))?;
    let head = Head::read(&bytes, Path::new(path)).expect("a whole head");
    Some(head.trained.seed)
}

#[test]
fn a_fault_in_any_operation_leaves_the_old_or_the_new_head() {
    let mut injected = 0;
    for fault in FAULTS {
        for lasting in [false, true] {
            // A disk that interrupts for ever is no disk.
            if fault == Fault::Interrupted && lasting {
                continue;
            }
            for rollback in [false, true] {
                injected += every_operation(fault, lasting, rollback);
            }
        }
    }
    println!("{injected} faults");
    assert!(injected > 150);
}

fn every_operation(fault: Fault, lasting: bool, rollback: bool) -> usize {
    for after in 0.. {
        let disk = disk_with_two_heads();
        let store = disk.store();
        let versions = Versions::of(&store, Path::new(HEAD));
        let before = disk.operations();
        disk.fail(after, fault, lasting);
        let result = if rollback {
            versions.roll_back(None).map(drop)
        } else {
            versions.replace(&small_head_bytes(3))
        };
        let all_done = disk.operations() - before <= after;
        disk.mend();
        let (old, new) = (2, if rollback { 1 } else { 3 });
        let seed = seed_of(&disk, HEAD).expect("never neither");
        assert!([old, new].contains(&seed));
        match result {
            Ok(()) => assert_eq!(seed, new, "{fault:?} after {after}"),
            Err(error) => {
                // A medium that fails while it is read may look like no earlier head.
                let kinds = [ErrorKind::Failed, ErrorKind::BadInput];
                assert!(kinds.contains(&error.kind()), "{error}");
                assert!(error.to_string().contains(HEAD), "{error}");
                assert_ne!(fault, Fault::Interrupted, "{error}");
            }
        }
        assert_eq!(seed_of(&disk, "birds.head.versions/1"), Some(1));
        // Mended, everything works, and nothing half-written is left.
        versions.replace(&small_head_bytes(4)).expect("written");
        let litter = |path: &&PathBuf| path.to_string_lossy().ends_with(".tmp");
        let files = disk.files();
        let left: Vec<_> = files.keys().filter(litter).collect();
        let beside = left.iter().any(|path| path.parent() == Some(Path::new("")));
        assert!(!beside, "{fault:?} after {after}: {left:?}");
        if all_done {
            return after;
        }
    }
    0
}

#[test]
fn a_fault_in_the_cache_costs_time_only() {
    let features: Vec<f32> = (0..50).map(|index| index as f32).collect();
    let mut injected = 0;
    for fault in FAULTS {
        for after in 0..40 {
            let disk = Simulated::new();
            disk.limit_transfer(64);
            let cache = Cache::open_in(disk.store(), Path::new("cache")).expect("opened");
            cache.put(&key(), &features).expect("kept");
            disk.fail(after, fault, false);
            let mut found = vec![0.0; 50];
            let hit = cache.get(&key(), &mut found);
            assert!(!hit || found == features);
            let kept = cache.put(&key(), &features);
            assert!(kept.is_ok() || fault != Fault::Interrupted);
            disk.mend();
            cache.put(&key(), &features).expect("kept");
            assert!(cache.get(&key(), &mut found) && found == features);
            injected += 1;
        }
    }
    println!("{injected} faults");
}

#[test]
fn short_reads_and_writes_change_nothing() {
    for bytes in [1, 2, 7, 63] {
        let disk = Simulated::new();
        disk.limit_transfer(bytes);
        let store = disk.store();
        let versions = Versions::of(&store, Path::new(HEAD));
        versions.replace(&small_head_bytes(1)).expect("written");
        let opened = versions.open(None).expect("sound");
        assert_eq!(opened.bytes, small_head_bytes(1));
    }
}

/// Trains `samples` quickly, in the current folder of the test.
fn training(samples: &Path, head: &Path) -> Command {
    let mut command = fieldtune();
    command.arg("train").arg(samples).arg("-o").arg(head);
    command.args(["--head", "linear", "--epochs", "2", "--time", "1s"]);
    command
}

#[cfg(unix)]
#[test]
fn a_limit_on_file_sizes_leaves_the_old_head() {
    let (samples, folder) = (two_classes(), tempfile::tempdir().expect("a folder"));
    let head = folder.path().join("a.head");
    let old = small_head_bytes(1);
    fs::write(&head, &old).expect("written");
    for (trap, code) in [("trap '' XFSZ; ", Some(1)), ("", None)] {
        let mut command = Command::new("bash");
        // Blocks of 1024 bytes: enough for the old head, not for a trained one.
        let script = format!("{trap}ulimit -f 2; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(program());
        command
            .arg("train")
            .arg(samples.path())
            .arg("-o")
            .arg(&head);
        command.args([
            "--head", "linear", "--epochs", "2", "--time", "1s", "--cache", "off",
        ]);
        let ran = run(&mut command);
        // Without the trap the system kills whoever writes on.
        assert_eq!(ran.code, code, "{ran:?}");
        if code.is_some() {
            ran.refused(1, "a.head: cannot be written (File too large");
            let names = fs::read_dir(folder.path()).expect("a folder");
            assert!(names.count() <= 2, "the head and the versions");
        }
        assert_eq!(fs::read(&head).expect("the old head"), old);
    }
}

/// A file system in memory, mounted read-only by and by, gone when dropped.
struct Card(tempfile::TempDir);

impl Card {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        not_tested("a read-only card; no right to mount one");
        None
    }

    fn make_read_only(&self) {
        let mut command = Command::new("mount");
        let command = command.args(["-o", "remount,ro"]).arg(self.0.path());
        assert!(command.status().expect("mount runs").success());
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_read_only_card_serves_heads_and_refuses_new_ones() {
    let Some(card) = Card::mount() else {
        return;
    };
    let (samples, head) = (two_classes(), card.0.path().join("a.head"));
    fs::copy(demo_head(), &head).expect("copied");
    card.make_read_only();
    run(&mut training(samples.path(), &head)).refused(1, "the disk is read-only");
    run(fieldtune().args(["head", "rollback"]).arg(&head)).refused(1, "the disk is read-only");
    let photo = samples.path().join("plain/1.png");
    let mut predict = fieldtune();
    predict.arg("predict").arg(&head).arg(&photo);
    assert_eq!(run(&mut predict).code, Some(0));
    // A cache on such a card is no reason to stop, said or not.
    let mut predict = fieldtune();
    predict.arg("predict").arg(&head).arg(&photo);
    predict.env("FIELDTUNE_CACHE", card.0.path().join("cache"));
    assert_eq!(run(&mut predict).code, Some(0));
}

#[test]
fn a_corrupted_cache_gives_the_same_head() {
    let (samples, folder) = (two_classes(), tempfile::tempdir().expect("a folder"));
    let (cache, head) = (folder.path().join("cache"), folder.path().join("a.head"));
    let train = || {
        let ran = run(training(samples.path(), &head).arg("--cache").arg(&cache));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        fs::read(&head).expect("a head")
    };
    let sound = train();
    let mut damaged = 0;
    for shard in fs::read_dir(&cache).expect("a folder") {
        for entry in fs::read_dir(shard.expect("a name").path()).expect("a folder") {
            let path = entry.expect("a name").path();
            let mut bytes = fs::read(&path).expect("an entry");
            match damaged % 4 {
                0 => bytes.truncate(damaged * 7),
                1 => bytes.iter_mut().for_each(|byte| *byte = 0),
                2 => bytes[100] ^= 4,
                _ => bytes.extend([0; 9]),
            }
            fs::write(&path, bytes).expect("written");
            damaged += 1;
        }
    }
    assert!(damaged > 4);
    assert_eq!(train(), sound);
}

#[test]
fn a_sample_that_goes_away_is_skipped_by_name() {
    let samples = two_classes();
    let set = SampleSet::open(samples.path()).expect("samples");
    fs::remove_file(samples.path().join("plain/2.png")).expect("removed");
    let settings = Settings {
        threads: 1,
        time: Duration::from_secs(1),
        ..Settings::default()
    };
    let session = Session::new(Model::embedded().expect("built in"), Cache::off(), settings);
    let outcome = session.train(&set, &Source::of_set(&set), &Silent);
    let outcome = outcome.expect("trained on the rest");
    assert_eq!(outcome.samples, 3);
    assert!(outcome.skipped[0].path.ends_with("plain/2.png"));
    assert!(outcome.skipped[0].reason.contains("does not exist"));
}

/// No result may depend on the calendar: nothing reads it, and files from 1970 or from the
/// future are like others.
#[test]
fn a_wrong_clock_changes_nothing() {
    let (samples, folder) = (two_classes(), tempfile::tempdir().expect("a folder"));
    let mut heads = Vec::new();
    let times = [
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + Duration::from_secs(5_000_000_000),
    ];
    for (number, time) in times.into_iter().enumerate() {
        let head = folder.path().join(format!("{number}.head"));
        for name in ["plain/1.png", "stripes/1.jpg"] {
            let file = fs::File::options();
            let file = file.clone().write(true).open(samples.path().join(name));
            file.expect("opened").set_modified(time).expect("set");
        }
        let cache = folder.path().join("cache");
        let ran = run(training(samples.path(), &head).arg("--cache").arg(&cache));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        // The cache's own files, too.
        let _ = fs::File::open(&cache).and_then(|cache| cache.set_modified(time));
        heads.push(fs::read(&head).expect("a head"));
    }
    assert_eq!(heads[0], heads[1]);
    let mut folders = vec![fieldtune_tests::repository().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("a name").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = fs::read_to_string(&path).expect("text");
                // `doctor` tells how the clock stands, samples of a live source tell when they
                // came; nothing that trains or predicts asks.
                let telling = ["doctor/system.rs", "cli/src/collect.rs", "sources/live.rs"];
                let may = telling.iter().any(|file| path.ends_with(file));
                let asks = code.contains("SystemTime::now");
                assert!(may || !asks, "{}", path.display());
            }
        }
    }
}
