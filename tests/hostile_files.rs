//! Promise: no file from a stranger crashes the program. Head files, cache entries,
//! manifests, lists of samples and pictures are altered in drawn ways, their checksums made
//! right again so that what lies behind them is reached, and read: each is taken or refused.
//! `FIELDTUNE_MUTATIONS=1000000` tries so many of each kind.
//!
//! Files that once did harm belong into `tests/hostile_files/`, which is read first.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fieldtune::cache::{Cache, Key, KeyParts};
use fieldtune::head::Head;
use fieldtune::manifest::Manifest;
use fieldtune::preprocess::View;
use fieldtune::preprocess::decode;
use fieldtune::samples::SampleSet;
use fieldtune::signature;
use fieldtune_core::Kernel;
use fieldtune_core::random::Random;
use fieldtune_tests::small_heads::small_head_bytes;
use fieldtune_tests::{encoded, solid, striped};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

fn mutations(usual: u64) -> u64 {
    let wanted = std::env::var("FIELDTUNE_MUTATIONS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// One to eight alterations: bits, bytes, extreme numbers, parts doubled, moved or cut off.
fn altered(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(8) {
        let length = bytes.len() as u32;
        if length == 0 {
            break;
        }
        let at = random.below(length) as usize;
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.bits() as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            3 => {
                let extreme = [0, 1, u32::MAX, 0x7fff_ffff, 0x7fc0_0000][random.below(5) as usize];
                let place = bytes[at..].iter_mut();
                place.zip(extreme.to_le_bytes()).for_each(|(b, e)| *b = e);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + 1 + random.below(16) as usize).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.below(length) as usize;
                bytes.splice(to..to, part);
            }
            _ => {
                let end = (at + 1 + random.below(16) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

/// Runs `read` on the stored files of one kind and on altered ones; says which bytes did
/// harm.
fn attack(kind: &str, seeds: &[Vec<u8>], rounds: u64, read: impl Fn(&[u8], &mut Random)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile_files");
    let mut random = Random::new(0xbad);
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a name").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(kind) {
            read(&fs::read(&path).expect("readable"), &mut random);
        }
    }
    for round in 0..rounds {
        let mut random = Random::new(round);
        let seed = &seeds[random.below(seeds.len() as u32) as usize];
        let bytes = altered(seed, &mut random);
        let ended = catch_unwind(AssertUnwindSafe(|| read(&bytes, &mut random)));
        assert!(ended.is_ok(), "{kind} {round}: panicked on {bytes:02x?}");
    }
    println!("{kind}: {rounds} altered files");
}

#[test]
fn head_files() {
    let path = Path::new("a.head");
    let seeds: Vec<Vec<u8>> = (1..4).map(small_head_bytes).collect();
    let read = |bytes: &[u8], random: &mut Random| {
        let mut bytes = bytes.to_vec();
        // Behind the checksum: the length and the sum made right again, mostly.
        if bytes.len() > 20 && random.below(8) > 0 {
            let length = (bytes.len() - 20) as u32;
            bytes[12..16].copy_from_slice(&length.to_le_bytes());
            let sum = crc32(&[&bytes[8..16], &bytes[20..]]);
            bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        }
        let _ = signature::signed(&bytes);
        let Ok(head) = Head::read(&bytes, path) else {
            return;
        };
        // What was taken must serve.
        let features = head.backbone.features;
        if features < 10_000 {
            let _ = head.predict(&vec![0.5; features], Kernel::best());
        }
        if let Ok(bytes) = head.to_bytes() {
            let again = Head::read(&bytes, path).expect("reads what it writes");
            assert_eq!(again.to_bytes().expect("writes"), bytes);
        }
    };
    attack("head", &seeds, mutations(60_000), read);
}

/// CRC-32 (ISO-HDLC) over several parts, bit by bit.
fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn cache_entries() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path()).expect("opened");
    let key = Key::of(&KeyParts {
        sample: &[1; 32],
        backbone: &[2; 32],
        cut: "features",
        preprocessing: "rgb",
        view: View::Original,
    });
    let features = [1.5; 40];
    cache.put(&key, &features).expect("kept");
    let path = cache.path(&key).expect("a path");
    let seed = fs::read(&path).expect("an entry");
    let read = |bytes: &[u8], _: &mut Random| {
        fs::write(&path, bytes).expect("written");
        let mut found = [0.0; 40];
        if cache.get(&key, &mut found) {
            assert_eq!(found, features);
        }
    };
    attack("entry", &[seed], mutations(5_000), read);
}

#[test]
fn manifests() {
    let own = include_bytes!("../models/efficientnet-lite0/manifest.toml");
    let read = |bytes: &[u8], _: &mut Random| {
        if let Ok(manifest) = Manifest::parse(bytes, Path::new("manifest.toml")) {
            let _ = manifest.identity();
            let _ = manifest.file_beside(Path::new("manifest.toml"));
        }
    };
    attack("manifest", &[own.to_vec()], mutations(20_000), read);
}

#[test]
fn lists_of_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.png"), solid(3)).expect("written");
    let lists = [
        ("list.csv", &b"path,label,group\na.png,x,1\n\"a.png\",\"y \"\"z\"\"\",2\n../b,x,\n"[..]),
        (
            "list.jsonl",
            b"{\"path\":\"a.png\",\"label\":\"x\"}\n{\"path\":\"a.png\",\"label\":\"\\u00e9\",\"group\":\"1\"}\n",
        ),
    ];
    let inside = folder.path().canonicalize().expect("there");
    for (name, seed) in lists {
        let path = inside.join(name);
        let read = |bytes: &[u8], _: &mut Random| {
            fs::write(&path, bytes).expect("written");
            if let Ok(set) = SampleSet::open(&path) {
                for sample in &set.samples {
                    let target = sample.path.canonicalize().expect("a file that is there");
                    assert!(target.starts_with(&inside), "{}", target.display());
                }
            }
        };
        attack(name, &[seed.to_vec()], mutations(5_000), read);
    }
}

#[test]
fn pictures() {
    let picture = RgbImage::from_fn(24, 16, |x, y| Rgb([x as u8 * 9, y as u8 * 13, 77]));
    let picture = DynamicImage::from(picture);
    let mut seeds = vec![solid(9), striped(3)];
    for format in [ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Jpeg] {
        seeds.push(encoded(&picture, format));
    }
    let read = |bytes: &[u8], _: &mut Random| {
        if let Ok(decoded) = decode(bytes, Path::new("a.png")) {
            let area = decoded.width() as usize * decoded.height() as usize;
            assert_eq!(decoded.pixels().len(), 3 * area);
        }
    };
    attack("picture", &seeds, mutations(8_000), read);
}
