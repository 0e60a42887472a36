//! Promise: the cache gives back exactly what was kept or nothing at all, and a full disk
//! leaves no half file, neither there nor where a head is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune::cache::{Cache, Key, KeyParts};
use fieldtune::error::ErrorKind;
use fieldtune::preprocess::View;
use fieldtune::store;

const FEATURES: [f32; 5] = [1.0, -0.0, f32::MIN_POSITIVE, 3.4e38, -7.25];

fn key(sample: u8) -> Key {
    Key::of(&KeyParts {
        sample: &[sample; 32],
        backbone: &[9; 32],
        cut: "features",
        preprocessing: "v1",
        view: View::Original,
    })
}

/// What the cache has for `key`; on a miss the buffer must be untouched.
fn get(cache: &Cache, key: &Key) -> Option<[f32; 5]> {
    let mut found = [123.0; 5];
    if cache.get(key, &mut found) {
        return Some(found);
    }
    assert_eq!(found, [123.0; 5]);
    None
}

/// Files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn what_was_kept_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("made/on/demand")).unwrap();
    assert_eq!(get(&cache, &key(1)), None);
    cache.put(&key(1), &FEATURES).unwrap();
    let found = get(&cache, &key(1)).unwrap();
    assert_eq!(found.map(f32::to_bits), FEATURES.map(f32::to_bits));
    assert_eq!(get(&cache, &key(2)), None);
    // Another number of values is another network.
    assert!(!cache.get(&key(1), &mut [0.0; 4]) && !cache.get(&key(1), &mut []));
    assert_eq!(files(folder.path()).len(), 1);
    // A second run, and another process, see the same.
    let again = Cache::open(&folder.path().join("made/on/demand")).unwrap();
    assert!(get(&again, &key(1)).is_some());
}

#[test]
fn every_altered_bit_and_every_cut_is_a_miss_that_heals() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    cache.put(&key(1), &FEATURES).unwrap();
    let path = cache.path(&key(1)).unwrap();
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[index] ^= 1 << bit;
            fs::write(&path, damaged).unwrap();
            assert_eq!(get(&cache, &key(1)), None, "bit {bit} of byte {index}");
        }
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(get(&cache, &key(1)), None, "{length} bytes");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert_eq!(get(&cache, &key(1)), None);
    cache.put(&key(1), &FEATURES).unwrap();
    assert!(get(&cache, &key(1)).is_some());
}

#[test]
fn an_entry_under_another_name_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    cache.put(&key(1), &FEATURES).unwrap();
    cache.put(&key(2), &[0.0; 5]).unwrap();
    let path = |sample| cache.path(&key(sample)).unwrap();
    fs::copy(path(1), path(2)).unwrap();
    assert_eq!(get(&cache, &key(2)), None);
    fs::remove_file(path(1)).unwrap();
    fs::create_dir(path(1)).unwrap();
    assert_eq!(get(&cache, &key(1)), None);
}

#[test]
fn no_cache_keeps_nothing_and_a_bad_folder_is_an_error_not_a_crash() {
    let cache = Cache::off();
    cache.put(&key(1), &FEATURES).unwrap();
    assert_eq!(get(&cache, &key(1)), None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = Cache::open(&file.join("cache")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("file"));
    // The folder goes away after it was opened: made again.
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    cache.put(&key(1), &FEATURES).unwrap();
    assert!(get(&cache, &key(1)).is_some());
}

/// A file system of 64 KiB, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let result = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .output();
        match result {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                println!("NOT TESTED: no right to mount a small disk");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let head = disk.path().join("head.bin");
    store::write_atomically(&head, b"old").unwrap();
    let error = store::write_atomically(&head, &vec![7; 200_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let line = error.to_string();
    assert!(line.contains("head.bin: disk full"), "{line}");
    assert_eq!(fs::read(&head).unwrap(), b"old");

    let cache = Cache::open(disk.path()).unwrap();
    let error = cache.put(&key(1), &vec![0.5; 50_000]).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    assert_eq!(files(disk.path()), [head]);
    // What still fits is kept.
    cache.put(&key(2), &FEATURES).unwrap();
    assert!(get(&cache, &key(2)).is_some());
}
