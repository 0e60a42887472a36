//! Promise: when the power goes, at whatever moment of whatever writing, what is on the
//! disk is the old or the new, whole; no head that was ever kept is lost; and work goes on
//! afterwards. Tried on a simulated disk after every change, with what was not synchronised
//! lost, kept or torn in every combination, and by killing real runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fieldtune::cache::{Cache, Key, KeyParts};
use fieldtune::growing::record::{Record, Recorded};
use fieldtune::head::Head;
use fieldtune::preprocess::View;
use fieldtune::store::Store;
use fieldtune::store::simulated::Simulated;
use fieldtune::versions::{KEPT, Versions};
use fieldtune_tests::small_heads::{small_head, small_head_bytes};
use fieldtune_tests::{demo_samples, fieldtune, killed_runs, run, scratch};

const HEAD: &str = "heads/birds.head";

/// A disk with the head of `numbers.last()`, which replaced the others in turn.
fn disk_with(numbers: &[u8]) -> Simulated {
    let disk = Simulated::new();
    let store = disk.store();
    store.make_folder(Path::new("heads")).expect("made");
    for number in numbers {
        replace(&store, *number);
    }
    disk
}

fn replace(store: &Store, number: u8) {
    let versions = Versions::of(store, Path::new(HEAD));
    versions
        .replace(&small_head_bytes(number))
        .expect("replaced");
}

/// Seeds, which tell small heads apart, of the newest head and of all that are kept.
fn heads_on(disk: &Simulated) -> (Option<u64>, BTreeSet<u64>) {
    let mut newest = None;
    let mut kept = BTreeSet::new();
    for (path, bytes) in disk.files() {
        let name = path.to_string_lossy().into_owned();
        // What a cut left of a temporary file is no head.
        if name.ends_with(".tmp") {
            continue;
        }
        let head = Head::read(&bytes, &path)
            .unwrap_or_else(|error| panic!("half a head in {name}: {error}"));
        kept.insert(head.trained.seed);
        if path == Path::new(HEAD) {
            newest = Some(head.trained.seed);
        }
    }
    (newest, kept)
}

/// Cuts the power after every change of `operation` and looks at every disk that may be
/// left. Returns how many cuts and how many disks there were.
fn cut_everywhere(
    start: impl Fn() -> Simulated,
    operation: impl Fn(&Store),
    judge: impl Fn(&Simulated, bool),
) -> (usize, usize) {
    let (mut cuts, mut disks) = (0, 0);
    loop {
        let disk = start();
        // Several writes a file, so that the power goes between them too.
        disk.limit_transfer(100);
        disk.cut_after(cuts);
        let before = disk.changes();
        operation(&disk.store());
        let finished = disk.changes() - before < cuts;
        for survivor in disk.survivors(cuts as u64) {
            judge(&survivor, finished);
            disks += 1;
        }
        if finished {
            return (cuts, disks);
        }
        cuts += 1;
    }
}

#[test]
fn the_first_head_is_there_whole_or_not_at_all() {
    let judge = |disk: &Simulated, finished: bool| {
        let (newest, _) = heads_on(disk);
        assert!(newest == Some(1) || (!finished && newest.is_none()));
    };
    let write = |store: &Store| {
        let versions = Versions::of(store, Path::new(HEAD));
        let _ = versions.replace(&small_head_bytes(1));
    };
    let (cuts, disks) = cut_everywhere(|| disk_with(&[]), write, judge);
    println!("first head: {cuts} cuts, {disks} disks");
    assert!(cuts >= 6);
}

#[test]
fn replacing_a_head_loses_none() {
    for earlier in 1..=KEPT as u8 + 1 {
        let numbers: Vec<u8> = (1..=earlier).collect();
        let new = earlier + 1;
        let oldest_kept = (new as usize).saturating_sub(KEPT).max(1) as u64;
        let judge = |disk: &Simulated, finished: bool| {
            let (newest, kept) = heads_on(disk);
            let newest = newest.expect("never neither");
            let whole = [u64::from(earlier), u64::from(new)].contains(&newest);
            assert!(whole && (!finished || newest == u64::from(new)));
            for seed in oldest_kept..=newest {
                assert!(kept.contains(&seed), "{seed} of {newest} is lost: {kept:?}");
            }
            // Life goes on, and what the cut left behind goes away.
            replace(&disk.store(), 99);
            let (newest, kept) = heads_on(disk);
            assert_eq!(newest, Some(99));
            assert!(kept.contains(&u64::from(earlier)), "{kept:?}");
            let files = disk.files();
            let litter = |path: &&PathBuf| path.to_string_lossy().ends_with(".tmp");
            let beside: Vec<_> = files.keys().filter(litter).collect();
            let in_place = |path: &&&PathBuf| path.parent() == Some(Path::new("heads"));
            assert!(!beside.iter().any(|path| in_place(&path)), "{beside:?}");
        };
        let write = |store: &Store| {
            let versions = Versions::of(store, Path::new(HEAD));
            let _ = versions.replace(&small_head_bytes(new));
        };
        let (cuts, disks) = cut_everywhere(|| disk_with(&numbers), write, judge);
        println!("head {new} over {earlier}: {cuts} cuts, {disks} disks");
        assert!(cuts >= 12);
    }
}

#[test]
fn rolling_back_loses_none() {
    for (to, wanted) in [(None, 3), (Some(1), 1)] {
        let judge = |disk: &Simulated, finished: bool| {
            let (newest, kept) = heads_on(disk);
            let newest = newest.expect("never neither");
            assert!(newest == wanted || (!finished && newest == 4));
            assert_eq!(kept, BTreeSet::from([1, 2, 3, 4]));
        };
        let roll = |store: &Store| {
            let _ = Versions::of(store, Path::new(HEAD)).roll_back(to);
        };
        let (cuts, disks) = cut_everywhere(|| disk_with(&[1, 2, 3, 4]), roll, judge);
        println!("rollback to {wanted}: {cuts} cuts, {disks} disks");
        assert!(cuts >= 12);
    }
}

#[test]
fn a_cut_while_mending_after_a_cut_loses_none() {
    let mut disks = 0;
    for first in 0..20 {
        let disk = disk_with(&[1, 2]);
        disk.cut_after(first);
        let _ = Versions::of(&disk.store(), Path::new(HEAD)).replace(&small_head_bytes(3));
        let survivors = disk.survivors(7);
        for survivor in survivors {
            for second in 0..20 {
                let again = survivor.survivors(0).remove(0);
                again.cut_after(second);
                let _ = Versions::of(&again.store(), Path::new(HEAD)).replace(&small_head_bytes(4));
                for last in &again.survivors(second as u64) {
                    let (newest, kept) = heads_on(last);
                    assert!(newest.is_some() && kept.contains(&1) && kept.contains(&2));
                    disks += 1;
                }
            }
        }
    }
    println!("two cuts: {disks} disks");
    assert!(disks > 1000);
}

fn key(number: u8) -> Key {
    Key::of(&KeyParts {
        sample: &[number; 32],
        backbone: &[9; 32],
        cut: "features",
        preprocessing: "rgb",
        view: View::Original,
    })
}

#[test]
fn a_cache_entry_is_right_or_a_miss() {
    let features: Vec<f32> = (0..100).map(|index| index as f32).collect();
    let judge = |disk: &Simulated, _finished: bool| {
        let Ok(cache) = Cache::open_in(disk.store(), Path::new("cache")) else {
            panic!("the cache cannot be opened again");
        };
        for number in [1, 2] {
            let mut found = vec![0.0; 100];
            if cache.get(&key(number), &mut found) {
                assert_eq!(found, features);
            }
            cache.put(&key(number), &features).expect("kept");
            assert!(cache.get(&key(number), &mut found));
        }
    };
    let write = |store: &Store| {
        if let Ok(cache) = Cache::open_in(store.clone(), Path::new("cache")) {
            let _ = cache.put(&key(1), &features);
            let _ = cache.put(&key(2), &features);
            let _ = cache.put(&key(1), &features);
        }
    };
    let (cuts, disks) = cut_everywhere(Simulated::new, write, judge);
    println!("cache: {cuts} cuts, {disks} disks");
    assert!(cuts >= 20);
}

#[test]
fn a_record_and_a_report_are_the_old_or_the_new() {
    let record = |number: u8| Record {
        labels: small_head(1).labels,
        samples: vec![
            Recorded {
                digest: [number; 32],
                label: 0,
                group: None,
                file: "a.jpg".into(),
            };
            3
        ],
    };
    let (head, report) = ([5; 32], Path::new("report.html"));
    let page = |number: u8| vec![b'0' + number; 300];
    let write = |store: &Store, number: u8| {
        record(number).save(store, Path::new("cache"), &head)?;
        store.write_atomically(report, &page(number))
    };
    let start = || {
        let disk = Simulated::new();
        write(&disk.store(), 1).expect("written");
        disk
    };
    let judge = |disk: &Simulated, finished: bool| {
        let store = disk.store();
        let found = Record::load(
            &store,
            Path::new("cache"),
            &head,
            &small_head(1),
            Path::new(HEAD),
        );
        let found = found.expect("a whole record");
        let shown = store.read(report, 1000).expect("a whole report");
        assert!(found == record(2) || (!finished && found == record(1)));
        assert!(shown == page(2) || (!finished && shown == page(1)));
    };
    let again = |store: &Store| {
        let _ = write(store, 2);
    };
    let (cuts, disks) = cut_everywhere(start, again, judge);
    println!("record and report: {cuts} cuts, {disks} disks");
    assert!(cuts >= 10);
}

/// The simulated disk must be able to show a defect: writing in place, or renaming before
/// synchronising, is caught.
#[test]
fn the_simulated_disk_catches_a_careless_writer() {
    use fieldtune::store::{Access, Durability};
    let careless = |store: &Store| {
        let _ = store.write_with(
            Path::new(HEAD),
            &small_head_bytes(2),
            Durability::Eventual,
            Access::Usual,
        );
    };
    let mut caught = 0;
    for cut in 0..10 {
        let disk = disk_with(&[1]);
        disk.cut_after(cut);
        careless(&disk.store());
        for survivor in disk.survivors(1) {
            let bytes = survivor.files().remove(Path::new(HEAD));
            let sound = bytes.is_some_and(|bytes| Head::read(&bytes, Path::new(HEAD)).is_ok());
            caught += usize::from(!sound);
        }
    }
    assert!(caught > 0);
}

#[test]
fn a_damaged_head_is_passed_over_for_the_last_sound_one() {
    let disk = disk_with(&[1, 2, 3]);
    let store = disk.store();
    let versions = Versions::of(&store, Path::new(HEAD));
    let opened = |what: &str| {
        let opened = versions.open(None).expect(what);
        (opened.head.trained.seed, opened.returned.is_some())
    };
    assert_eq!(opened("sound"), (3, false));
    disk.damage(Path::new(HEAD), |bytes| bytes[30] ^= 1);
    assert_eq!(opened("damaged"), (2, true));
    disk.damage(Path::new("heads/birds.head.versions/2"), Vec::clear);
    assert_eq!(opened("two damaged"), (1, true));
    // Training on does not keep the damaged one in the place of a sound one.
    replace(&store, 4);
    assert_eq!(opened("mended"), (4, false));
    assert_eq!(versions.roll_back(None).expect("rolled back"), 1);
    assert_eq!(opened("rolled back"), (1, false));
}

#[test]
fn rolling_back_walks_through_all_heads_and_forward_again() {
    let disk = disk_with(&[1, 2, 3]);
    let store = disk.store();
    let versions = Versions::of(&store, Path::new(HEAD));
    let newest = || versions.open(None).expect("sound").head.trained.seed;
    for wanted in [2, 1] {
        versions.roll_back(None).expect("rolled back");
        assert_eq!(newest(), wanted);
    }
    let error = versions.roll_back(None).expect_err("nothing before");
    assert!(error.to_string().contains("no earlier head"), "{error}");
    versions.roll_back(Some(3)).expect("forward");
    assert_eq!(newest(), 3);
    assert!(versions.roll_back(Some(17)).is_err());
    // A head that came after a rollback goes back to the one that it replaced.
    versions.roll_back(Some(1)).expect("rolled back");
    replace(&store, 4);
    versions.roll_back(None).expect("rolled back");
    assert_eq!(newest(), 1);
}

/// Kills real runs that replace a head at drawn moments, half of them in the last tenth,
/// where files are written. `FIELDTUNE_KILLS=500` kills so many.
#[test]
fn a_killed_run_leaves_a_whole_head() {
    let wanted = std::env::var("FIELDTUNE_KILLS").ok();
    let rounds = wanted.and_then(|text| text.parse().ok()).unwrap_or(24);
    let folder = scratch().join("killed");
    let report = killed_runs::kill_rounds(&folder, rounds);
    println!("{report:?}");
    assert_eq!(report.rounds, rounds);
    assert!(report.killed > 0, "{report:?}");
}

#[test]
fn the_command_says_that_it_took_an_earlier_head() {
    let folder = scratch().join("returned");
    fs::create_dir_all(&folder).expect("made");
    let head = folder.join("ground.head");
    let train = |epochs: &str| {
        let mut command = fieldtune();
        command
            .arg("train")
            .arg(demo_samples())
            .arg("-o")
            .arg(&head);
        command.args(["--head", "linear", "--epochs", epochs, "--time", "1s"]);
        run(&mut command).succeeded();
    };
    train("2");
    assert!(!folder.join("ground.head.versions").exists());
    let first = fs::read(&head).expect("a head");
    train("3");
    let mut damaged = fs::read(&head).expect("a head");
    damaged.truncate(100);
    fs::write(&head, &damaged).expect("written");
    let photo = demo_samples().join("brick");
    let photo = fs::read_dir(photo).expect("a folder").next();
    let photo = photo.expect("a file").expect("a name").path();
    let ran = run(fieldtune().arg("predict").arg(&head).arg(&photo));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("used version 1 instead"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    run(fieldtune().args(["head", "rollback"]).arg(&head)).succeeded();
    assert_eq!(fs::read(&head).expect("a head"), first);
    run(fieldtune().arg("predict").arg(&head).arg(&photo)).succeeded();
    let listed = run(fieldtune()
        .args(["head", "rollback", "--list", "--json"])
        .arg(&head));
    assert_eq!(listed.json()["versions"][0]["version"], 1);
}

#[test]
fn one_process_writes_a_head_at_a_time() {
    let folder = scratch().join("locked");
    fs::create_dir_all(&folder).expect("made");
    let head = folder.join("ground.head");
    let lock = fieldtune::store::Lock::take(&head).expect("free");
    let start = Instant::now();
    let mut second = fieldtune();
    second.arg("train").arg(demo_samples()).arg("-o").arg(&head);
    let ran = run(second.stdin(Stdio::null()));
    ran.refused(1, "another process");
    run(fieldtune().args(["head", "rollback"]).arg(&head)).refused(1, "another process");
    assert!(start.elapsed() < Duration::from_secs(600));
    drop(lock);
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
    // One that a killed process left locks nobody out.
    fs::write(folder.join(".ground.head.lock"), "1234").expect("written");
    fieldtune::store::Lock::take(&head).expect("free");
}
