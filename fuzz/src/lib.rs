//! What the fuzz targets do with bytes from a stranger: each calls what the program calls
//! with a file of that kind, and makes sure of what the program relies on afterwards. One
//! function a target, without libFuzzer, so that `tests/hostile_corpus.rs` replays the
//! corpus through the very same code. [`seeds`] says what fuzzing starts from.

pub mod device;
pub mod mutate;
pub mod seeds;
pub mod series;

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use fieldtune::backbone::Backbone;
use fieldtune::cache::{Cache, Key, KeyParts};
use fieldtune::device::windows;
use fieldtune::error::{Error, ErrorKind};
use fieldtune::head::Head;
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune::preprocess::{Interpolation, View};
use fieldtune::samples::SampleSet;
use fieldtune::signature;
use fieldtune::sound::{Ear, Sound};
use fieldtune::{preprocess, sound};
use fieldtune_core::Kernel;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A target: its name, what it does, and what it starts from.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("head_file", head_file, seeds::head_files),
    ("cache_entry", cache_entry, seeds::cache_entries),
    ("manifest", manifest, seeds::manifests),
    ("onnx", onnx, seeds::onnx_files),
    ("picture", picture, seeds::pictures),
    ("sound", sound, seeds::recordings),
    ("table", table, seeds::tables),
    ("series", series::series, seeds::sensors),
    ("device", device::device, seeds::conversations),
];

/// Writes a target's seeds into the folder `FIELDTUNE_SEEDS`, where that is set: fuzz targets
/// do it when they start, so that no other program has to be built for it.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_seeds(name: &str) {
    let Some(folder) = std::env::var_os("FIELDTUNE_SEEDS") else {
        return;
    };
    let target = TARGETS.iter().find(|(own, ..)| *own == name);
    let (_, _, seeds) = target.expect("a target of this name");
    fs::create_dir_all(&folder).expect("the folder can be made");
    for (index, seed) in seeds().iter().enumerate() {
        let file = Path::new(&folder).join(format!("seed-{index:03}"));
        fs::write(file, seed).expect("the folder can be written");
    }
}

/// Most elements of input and features, or multiply-adds, with which something that was
/// taken is also used: what is legal but large only takes time.
const MAX_USED: u64 = 1 << 22;

/// Refusals say that the file is bad, or that what was asked for is not in it.
fn expected(error: &Error) {
    let kind = error.kind();
    let line = error.to_string();
    assert!(
        matches!(kind, ErrorKind::BadInput | ErrorKind::Usage),
        "{kind:?}: {line}"
    );
    assert!(!line.chars().any(char::is_control), "one line: {line:?}");
}

/// A head file: read, used, written and read again.
pub fn head_file(bytes: &[u8]) {
    let path = Path::new("a.head");
    let _ = signature::signed(bytes);
    let head = match Head::read(bytes, path) {
        Ok(head) => head,
        Err(error) => return expected(&error),
    };
    let features = head.backbone.features;
    let work = head.network.multiply_adds() + widest(&head);
    if work < MAX_USED {
        let sample = vec![0.5; features];
        for kernel in [Kernel::lanes(), Kernel::best()] {
            if let Ok(predictions) = head.predict(&sample, kernel) {
                assert_eq!(predictions.len(), 1);
                let first = &predictions[0];
                assert!(first.label < head.labels.len());
                head.sets.labels(&first.probabilities, 0.9);
            }
        }
    }
    let written = head.to_bytes().expect("what was read can be written");
    let again = Head::read(&written, path).expect("reads what it writes");
    assert_eq!(again.to_bytes().expect("writes"), written);
}

/// Elements of all of a head's tensors for one sample.
fn widest(head: &Head) -> u64 {
    let layers = 0..=head.network.layers().len();
    layers.map(|layer| head.network.width(layer) as u64).sum()
}

/// Values of the cache entry that is read.
const CACHED: [f32; 40] = [1.5; 40];

thread_local! {
    /// Where this thread's files are.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Calls `work` with a folder that is there for all cases of this thread.
fn in_folder(work: impl FnOnce(&Path)) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            fs::write(folder.path().join("a.png"), b"not looked into").expect("written");
            folder
        });
        work(folder.path());
    });
}

/// The cache of a folder and the key of its one entry.
fn cache(folder: &Path) -> (Cache, Key) {
    let key = Key::of(&KeyParts {
        sample: &[1; 32],
        backbone: &[2; 32],
        cut: "features",
        preprocessing: "rgb",
        view: View::Original,
    });
    (Cache::open(folder).expect("a folder for the cache"), key)
}

/// An entry of the feature cache. The first byte says whether the digest is made right.
pub fn cache_entry(bytes: &[u8]) {
    let Some((repair, entry)) = bytes.split_first() else {
        return;
    };
    let mut entry = entry.to_vec();
    if repair % 8 > 0 {
        let digest = Sha256::digest(&entry);
        entry.extend(digest);
    }
    in_folder(|folder| {
        let (cache, key) = cache(folder);
        let path = cache.path(&key).expect("a path");
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, &entry).expect("written");
        let mut found = CACHED;
        let hit = cache.get(&key, &mut found);
        assert!(hit || found == CACHED, "a miss changes nothing");
    });
}

/// A manifest: read, and what it says used.
pub fn manifest(bytes: &[u8]) {
    let path = Path::new("manifest.toml");
    match Manifest::parse(bytes, path) {
        Ok(manifest) => {
            manifest.identity();
            let file = manifest.file_beside(path);
            assert_eq!(file.parent(), Some(Path::new("")), "stays in its folder");
            manifest.stated_sha256();
            if let Some(sound) = &manifest.sound {
                assert_eq!(
                    Sound::of_identity(&sound.identity()).as_ref(),
                    Some(sound),
                    "identities are read back"
                );
                let _ = Ear::new(sound);
            }
        }
        Err(error) => expected(&error),
    }
}

/// An ONNX file: inspected, loaded at its last cut, and run once where it is small.
pub fn onnx(bytes: &[u8]) {
    let path = Path::new("damaged.onnx");
    let input = Input {
        tensor: String::new(),
        layout: Layout::Nchw,
        channels: 3,
        height: 8,
        width: 8,
    };
    let found = inspect(bytes, path, Some(&input));
    let last = found.as_ref().ok().and_then(|found| found.cuts.last());
    let cut = last.map_or("features", |cut| &cut.tensor);
    let flags = Flags::default();
    let manifest = Manifest::from_flags(path, input, flags).expect("sound flags");
    match Backbone::load_beside(&manifest, bytes, path, cut).and_then(|it| run_once(&it)) {
        Ok(()) => {}
        Err(error) => expected(&error),
    }
    if let Err(error) = found {
        expected(&error);
    }
}

fn run_once(backbone: &Backbone) -> Result<(), Error> {
    let elements = backbone
        .input_elements()
        .saturating_add(backbone.features());
    if elements as u64 > MAX_USED {
        return Ok(());
    }
    let input = vec![0.5; backbone.input_elements()];
    let mut features = vec![0.0; backbone.features()];
    backbone.worker()?.run(&input, &mut features)
}

/// A picture: decoded, and made a network's input.
pub fn picture(bytes: &[u8]) {
    let path = Path::new("a.png");
    preprocess::dimensions(bytes);
    let decoded = match preprocess::decode(bytes, path) {
        Ok(decoded) => decoded,
        Err(error) => return expected(&error),
    };
    let area = decoded.width() as usize * decoded.height() as usize;
    assert!(area > 0);
    assert_eq!(decoded.pixels().len(), 3 * area);
    if area as u64 > MAX_USED {
        return;
    }
    let input = Input {
        tensor: String::new(),
        layout: Layout::Nhwc,
        channels: 3,
        height: 5,
        width: 7,
    };
    let flags = Flags {
        interpolation: Some(Interpolation::Bicubic),
        ..Flags::default()
    };
    let manifest = Manifest::from_flags(path, input, flags).expect("sound flags");
    let mut tensor = vec![f32::NAN; manifest.input.elements()];
    for view in [View::Original, View::Mirrored, View::Near] {
        let (preprocessing, input) = (&manifest.preprocessing, &manifest.input);
        let made = preprocessing.tensor(&decoded, input, view, &mut tensor);
        made.expect("every picture becomes an input");
        assert!(tensor.iter().all(|value| value.is_finite()));
    }
}

/// Rate of the spectra of recordings.
const RATE_HZ: u32 = 8_000;

/// A recording: decoded, and where it is short its spectrum taken.
pub fn sound(bytes: &[u8]) {
    let path = Path::new("a.wav");
    if let Err(error) = sound::decode::stated(bytes, path) {
        expected(&error);
    }
    let ear = Ear::new(&Sound::usual(RATE_HZ)).expect("usual settings");
    let recording = match ear.decode(bytes, path) {
        Ok(recording) => recording,
        Err(error) => return expected(&error),
    };
    let samples = &recording.samples;
    assert!(!samples.is_empty());
    assert!(samples.iter().all(|value| value.is_finite()));
    if samples.len() < 2 * RATE_HZ as usize {
        let plain = ear.plain(samples).expect("a spectrum");
        let _ = ear.heard(samples, &plain, View::Original, path);
    }
}

/// Values a channel of the windows in tables.
const WINDOW: usize = 16;

/// A table: a list of samples in CSV or JSON lines, or a sensor's recording in CSV. The first
/// byte says which.
pub fn table(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let names = ["list.csv", "list.jsonl", "sensor.csv"];
    let name = names[usize::from(*kind) % names.len()];
    in_folder(|folder| {
        let inside = folder.canonicalize().expect("there");
        let path = inside.join(name);
        fs::write(&path, text).expect("written");
        let refused = match name {
            "sensor.csv" => windows::read(&path, WINDOW).map(|(shape, windows)| {
                let right = |window: &Vec<f32>| window.len() == shape.elements();
                assert!(windows.iter().all(right) && !windows.is_empty());
            }),
            _ => SampleSet::open(&path).map(|set| {
                for sample in &set.samples {
                    assert!(sample.label < set.labels.len());
                    let target = sample.path.canonicalize().expect("a file that is there");
                    // An absolute path in a list may lead anywhere.
                    let relative = sample.path.starts_with(&inside);
                    assert!(!relative || target.starts_with(&inside), "{target:?}");
                }
            }),
        };
        if let Err(error) = refused {
            expected(&error);
        }
    });
}
