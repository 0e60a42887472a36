//! What fuzzing starts from: small whole files of every kind.

use std::fs;
use std::path::{Path, PathBuf};

use fieldtune_core::head::Head as File;
use fieldtune_core::link::{self, MAX_MESSAGE_BYTES, Place, Reply, Request};
use fieldtune_core::network::Network;
use fieldtune_tests::devices::{Desk, Flash, floats, job, rows};
use fieldtune_tests::layer_tables::tables as layer_tables;
use fieldtune_tests::small_heads::{small_head, small_head_bytes};
use fieldtune_tests::sounds::golden_recordings;
use fieldtune_tests::{encoded, repository, solid, striped};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};

use super::device::{Kind, record};
use super::{CACHED, cache};

/// Files of a folder with this extension, in the order of their names.
fn files(folder: &Path, extension: Option<&str>) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder of the repository is there");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    paths.retain(|path| extension.is_none_or(|it| path.extension().is_some_and(|own| own == it)));
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).expect("readable");
    paths.iter().map(read).collect()
}

/// Heads of every kind of layer, a plain one, one with all that can be in a file, and a
/// signed one.
pub fn head_files() -> Vec<Vec<u8>> {
    let mut seeds = vec![small_head_bytes(1)];
    let mut full = small_head(2);
    full.fitted.signed_root = true;
    full.fitted.length = 2.0;
    full.fitted.shift = floats(&[0.5; 4]);
    full.fitted.scale = floats(&[2.0; 4]);
    full.unknown.means = floats(&[0.25; 8]);
    full.unknown.directions = floats(&[0.5; 4]);
    full.unknown.threshold = 3.0;
    full.unknown.false_alarms = 0.05;
    full.sets.counts = vec![2, 0, 0];
    full.sets.tables = floats(&[0.9, 0.4]);
    seeds.extend(full.to_bytes());
    for (_, network) in layer_tables() {
        seeds.extend(with_network(network));
    }
    seeds.extend(files(
        &repository().join("tests/signed_heads"),
        Some("head"),
    ));
    seeds
}

fn with_network(network: Network) -> Option<Vec<u8>> {
    let mut head = small_head(3);
    let classes = network.classes();
    head.labels = (0..classes).map(|class| format!("class {class}")).collect();
    head.trained.samples = vec![3; classes];
    head.backbone.features = network.inputs();
    head.parameters = (0..network.parameter_elements())
        .map(|index| (index % 7) as f32 / 8.0)
        .collect();
    head.network = network;
    let bytes = head.to_bytes().ok()?;
    File::decode(&bytes).ok()?;
    Some(bytes)
}

/// An entry without its digest, behind a byte that has it made; and a whole one.
pub fn cache_entries() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (cache, key) = cache(folder.path());
    cache.put(&key, &CACHED).expect("kept");
    let whole = fs::read(cache.path(&key).expect("a path")).expect("an entry");
    let open = whole[..whole.len() - 32].to_vec();
    vec![[vec![1], open].concat(), [vec![0], whole].concat()]
}

/// The manifests of the repository's own models, and one that says everything.
pub fn manifests() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for folder in fs::read_dir(repository().join("models")).expect("models") {
        let path = folder.expect("an entry").path().join("manifest.toml");
        seeds.extend(fs::read(path));
    }
    let full = include_str!("everything.toml");
    seeds.push(full.into());
    seeds
}

/// The golden networks, sound and hostile ones.
pub fn onnx_files() -> Vec<Vec<u8>> {
    let golden = repository().join("tests/golden");
    let mut seeds = files(&golden.join("any_onnx"), Some("onnx"));
    seeds.extend(files(&golden.join("hostile_onnx"), Some("onnx")));
    seeds.retain(|bytes| bytes.len() < 8192);
    seeds
}

/// Small pictures of every format, with and without transparency.
pub fn pictures() -> Vec<Vec<u8>> {
    let picture = RgbImage::from_fn(12, 7, |x, y| Rgb([x as u8 * 19, y as u8 * 30, 77]));
    let picture = DynamicImage::from(picture);
    let clear = RgbaImage::from_fn(9, 5, |x, y| {
        image::Rgba([x as u8 * 20, 9, 200, y as u8 * 50])
    });
    let clear = DynamicImage::from(clear);
    let grey = DynamicImage::from(picture.to_luma16());
    let mut seeds = vec![solid(9), striped(3)];
    for format in [
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Jpeg,
        ImageFormat::Png,
    ] {
        seeds.push(encoded(&picture, format));
    }
    for format in [ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Png] {
        seeds.push(encoded(&clear, format));
    }
    seeds.push(encoded(&grey, ImageFormat::Png));
    seeds
}

/// The golden recordings: WAV of every sample format, FLAC, Ogg Vorbis and MP3; those of many
/// bytes cut short.
pub fn recordings() -> Vec<Vec<u8>> {
    let mut seeds = files(&golden_recordings(), None);
    seeds.iter_mut().for_each(|bytes| bytes.truncate(6_000));
    seeds.push(fieldtune_tests::sounds::wav(&[0.5, -0.5, 0.25, 0.0]));
    seeds
}

/// Lists of samples and a sensor's recording.
pub fn tables() -> Vec<Vec<u8>> {
    let list = "path,label,group\na.png,x,1\n\"a.png\",\"y \"\"z\"\"\",2\n../b,x,\n";
    let lines = "{\"path\":\"a.png\",\"label\":\"x\"}\n{\"path\":\"a.png\",\"label\":\"\\u00e9\",\"group\":\"1\"}\n";
    let mut sensor = String::from("x,y\n");
    (0..33).for_each(|row| sensor += &format!("{row}, -{row}.5e-1\n"));
    let marked = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    vec![marked(0, list), marked(1, lines), marked(2, &sensor)]
}

/// Files of sensors with and without times, evenly and unevenly, and settings about them.
pub fn sensors() -> Vec<Vec<u8>> {
    let marked = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut timed = String::from("time_ms;x;\"a \"\"y\"\"\"\n");
    let mut even = String::from("x\n");
    for row in 0..40_i32 {
        timed += &format!("{};{}e-1;{}\n", 10 * row + row % 3, row % 7, -row);
        even += &format!("{}\n", row * row % 11);
    }
    let settings = "{\"channels\":[\"x\",\"y\"],\"timed\":true,\"period_seconds\":0.5,\
                    \"window_points\":20,\"step_points\":7,\"centre\":\"3f800000bf800000\",\
                    \"scale\":\"3f80000040000000\",\"seed\":20,\"kernel_features\":84,\
                    \"thresholds\":\"\"}";
    let files = [
        (0, &timed),
        (2, &timed),
        (8, &timed),
        (0, &even),
        (4, &even),
    ];
    let mut seeds: Vec<_> = files.map(|(kind, text)| marked(kind, text)).into();
    seeds.push(marked(1, settings));
    seeds
}

/// A host that trains, predicts and installs a head, as one record a message; and the
/// device's answers.
pub fn conversations() -> Vec<Vec<u8>> {
    let mut short = job();
    short.training.epochs = 2;
    short.training.adversary = None;
    let mut bytes = vec![0; 1000];
    let bytes = short.encode(&mut bytes).expect("a sound job").to_vec();
    let job_bytes = bytes.len() as u32;
    let mut talk = Talk::default();
    talk.asks(&Request::Info);
    talk.writes(Place::Job, &bytes);
    talk.asks(&Request::Begin { job_bytes });
    for (index, (row, label)) in rows(5).iter().enumerate() {
        talk.writes(Place::Sample, &floats(row));
        let (index, label) = (index as u32, *label);
        talk.asks(&Request::Add { index, label });
    }
    talk.asks(&Request::Train);
    talk.asks(&Request::Predict);
    let read = Request::Read {
        offset_bytes: 0,
        length_bytes: 500,
    };
    talk.asks(&read);
    talk.asks(&Request::Slots);
    let mut desk = Desk::new(Flash::new(4096, 256));
    desk.train(&job(), &rows(11), |_| ());
    let head = desk.head();
    let mut install = Talk::default();
    install.writes(Place::Workspace, &head);
    let head_bytes = head.len() as u32;
    install.asks(&Request::Install { head_bytes });
    install.writes(Place::Sample, &floats(&[0.5; 6]));
    install.asks(&Request::Predict);
    vec![talk.records, install.records, answers()]
}

fn answers() -> Vec<u8> {
    let mut desk = Desk::new(Flash::new(4096, 256));
    let frame = fieldtune_tests::devices::frame;
    let mut records = Vec::new();
    for request in [Request::Info, Request::Slots, Request::Predict] {
        for message in desk.say(&frame(1, &request)) {
            records.extend(record(Kind::Answer, &message));
        }
    }
    records.extend(record(Kind::Line, &frame(7, &Request::Info)));
    let mut frame = [0; 200];
    let length = link::encode(3, &Reply::Done, &mut frame).unwrap_or(0);
    records.extend(record(Kind::Answer, &frame[..length]));
    records
}

/// What a host says, as records.
#[derive(Default)]
struct Talk {
    records: Vec<u8>,
    sequence: u8,
}

impl Talk {
    fn asks(&mut self, request: &Request<'_>) {
        self.sequence = self.sequence % 255 + 1;
        let mut message = [0; MAX_MESSAGE_BYTES];
        let message = postcard::to_slice(&(self.sequence, request), &mut message);
        let message = message.expect("a message that fits");
        self.records.extend(record(Kind::Message, message));
    }

    fn writes(&mut self, place: Place, bytes: &[u8]) {
        for (index, piece) in bytes.chunks(700).enumerate() {
            self.asks(&Request::Write {
                place,
                offset_bytes: 700 * index as u32,
                bytes: piece,
            });
        }
    }
}
