//! Changes a head file where it means something: takes it apart into fields, changes one or
//! two, makes what hangs together fit again (mostly), and puts length and checksum right, so
//! that what lies behind them is reached.

use fieldtune_core::network::{Layer, Network};
use fieldtune_core::random::Random;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
const HEADER_BYTES: usize = fieldtune_core::head::HEADER_BYTES;

/// Most bytes of parameters that are made up for a changed layer table.
const MAX_PARAMETER_BYTES: usize = 1 << 16;

/// Everything in a head file, in its order and without any check. Texts are bytes: postcard
/// writes both alike.
#[derive(Debug, Serialize, Deserialize)]
struct Loose {
    labels: Vec<Vec<u8>>,
    backbone: (Vec<u8>, [u8; 32], Vec<u8>, u32, Vec<u8>, u8),
    signed_root: bool,
    length: f32,
    shift: Vec<u8>,
    scale: Vec<u8>,
    layers: Vec<Layer>,
    parameters: Vec<u8>,
    temperature: f32,
    unknown_below: f32,
    program: Vec<u8>,
    recipe: Vec<u8>,
    seed: u64,
    samples: Vec<u32>,
    cross_validation: Option<(f32, f32, f32, u32)>,
    means: Vec<u8>,
    directions: Vec<u8>,
    threshold: f32,
    false_alarms: f32,
    counts: Vec<u32>,
    tables: Vec<u8>,
}

/// A changed head file. `usual` is the fuzzer's own change of bytes, in place of what it is
/// given.
pub fn head_file(file: &[u8], seed: u32, mut usual: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut random = Random::new(seed.into());
    let mut file = file.to_vec();
    let way = random.below(16);
    if way == 0 || file.len() < HEADER_BYTES {
        usual(&mut file);
        return file;
    }
    let (header, payload) = file.split_at(HEADER_BYTES);
    let mut header = header.to_vec();
    let mut payload = payload.to_vec();
    match postcard::from_bytes::<Loose>(&payload) {
        Ok(mut loose) if way > 4 => {
            for _ in 0..=random.below(3) {
                change(&mut loose, &mut random, &mut usual);
            }
            if random.below(4) > 0 {
                repair(&mut loose);
            }
            payload = postcard::to_allocvec(&loose).unwrap_or(payload);
        }
        _ => usual(&mut payload),
    }
    if random.below(16) == 0 {
        header[8] = random.below(7) as u8;
    }
    sealed(&header, &payload)
}

/// Header and payload with the right length and checksum.
fn sealed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = [header, payload].concat();
    file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let covered = file[8..16].iter().chain(&file[HEADER_BYTES..]);
    let sum = !covered.fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    file[16..20].copy_from_slice(&sum.to_le_bytes());
    file
}

/// Changes one field.
fn change(loose: &mut Loose, random: &mut Random, usual: &mut impl FnMut(&mut Vec<u8>)) {
    match random.below(22) {
        0 => change_list(&mut loose.labels, random, usual),
        1 => usual(&mut loose.backbone.0),
        2 => usual(&mut loose.backbone.2),
        3 => loose.backbone.3 = whole(random),
        4 => usual(&mut loose.backbone.4),
        5 => loose.backbone.5 = random.bits() as u8,
        6 => loose.signed_root = !loose.signed_root,
        7 => loose.length = number(random),
        8 => usual(&mut loose.shift),
        9 => usual(&mut loose.scale),
        10 => loose.temperature = number(random),
        11 => loose.unknown_below = number(random),
        12 => usual(&mut loose.recipe),
        13 => change_list(&mut loose.samples, random, usual),
        14 => loose.cross_validation = Some((number(random), number(random), 1.0, whole(random))),
        15 => usual(&mut loose.means),
        16 => usual(&mut loose.directions),
        17 => loose.threshold = number(random),
        18 => change_list(&mut loose.counts, random, usual),
        19 => usual(&mut loose.tables),
        20 => usual(&mut loose.parameters),
        _ => change_list(&mut loose.layers, random, usual),
    }
}

/// Adds, drops, doubles, moves or changes an item.
fn change_list<T: Serialize + DeserializeOwned>(
    items: &mut Vec<T>,
    random: &mut Random,
    usual: &mut impl FnMut(&mut Vec<u8>),
) {
    let count = items.len() as u32;
    let (at, other) = (random.below(count) as usize, random.below(count) as usize);
    match random.below(4) {
        _ if items.is_empty() => {}
        0 => drop(items.remove(at)),
        1 => items.swap(at, other),
        2 => items.extend(changed(&items[at], |_| ())),
        _ => {
            if let Some(new) = changed(&items[at], usual) {
                items[at] = new;
            }
        }
    }
}

/// What a value becomes when its bytes are changed; `None` where that is none.
fn changed<T: Serialize + DeserializeOwned>(
    value: &T,
    mut usual: impl FnMut(&mut Vec<u8>),
) -> Option<T> {
    let mut bytes = postcard::to_allocvec(value).ok()?;
    usual(&mut bytes);
    postcard::from_bytes(&bytes).ok()
}

/// Makes the counts and sizes fit the layer table, where it is one.
fn repair(loose: &mut Loose) {
    let Ok(network) = Network::new(&loose.layers) else {
        return;
    };
    let (inputs, classes) = (network.inputs(), network.classes());
    let parameter_bytes = 4 * network.parameter_elements();
    if parameter_bytes > MAX_PARAMETER_BYTES || classes > 256 || inputs > MAX_PARAMETER_BYTES {
        return;
    }
    loose.parameters.resize(parameter_bytes, 0x3e);
    finite(&mut loose.parameters);
    loose.backbone.3 = inputs as u32;
    loose.labels.resize_with(classes, || b"one more".to_vec());
    loose.samples.resize(classes, 3);
    for (field, count) in [
        (&mut loose.shift, inputs),
        (&mut loose.scale, inputs),
        (&mut loose.means, inputs * classes),
    ] {
        if !field.is_empty() && 4 * count <= MAX_PARAMETER_BYTES {
            field.resize(4 * count, 0x3e);
        }
        finite(field);
    }
    let directions = loose.directions.len() / (4 * inputs.max(1));
    loose.directions.truncate(4 * inputs * directions);
    if loose.means.is_empty() {
        loose.directions.clear();
    }
    finite(&mut loose.directions);
    if !loose.counts.is_empty() {
        loose.counts.resize(classes + 1, 0);
    }
}

/// Turns what is no number into small ones.
fn finite(floats: &mut [u8]) {
    for bytes in floats.chunks_exact_mut(4) {
        let value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if !value.is_finite() {
            bytes[3] = 0x3e;
        }
    }
}

fn whole(random: &mut Random) -> u32 {
    match random.below(3) {
        0 => random.below(20),
        1 => [u32::MAX, 1 << 31, 1 << 16, 0][random.below(4) as usize],
        _ => random.bits(),
    }
}

fn number(random: &mut Random) -> f32 {
    let extreme = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-45,
        f32::INFINITY,
    ];
    match random.below(3) {
        0 => extreme[random.below(8) as usize],
        1 => random.uniform(),
        _ => f32::from_bits(random.bits()),
    }
}
