//! A head file is read back as it was written, and a damaged one is refused.

use fieldtune_core::Error;
use fieldtune_core::head::{
    Backbone, CrossValidation, FORMAT, Floats, HEADER_BYTES, Head, Trained,
};
use fieldtune_core::network::Layer;
use fieldtune_core::sets::Sets;
use fieldtune_core::transform::Transform;
use fieldtune_core::unknown::Unknown;
use fieldtune_tests::layer_tables::tables;
use proptest::prelude::*;

fn parameters(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| (i as f32 * 0.25 - 3.0).to_le_bytes())
        .collect()
}

fn head<'a>(parameters: &'a [u8], shift: &'a [u8]) -> Head<'a> {
    // Twelve numbers for three classes of four features.
    let means = &parameters[..48];
    Head {
        labels: ["ants", "bees", "käfer"].into_iter().collect(),
        backbone: Backbone {
            name: "test",
            sha256: [7; 32],
            cut: "features",
            features: 4,
            preprocessing: "rgb",
            views: 1,
        },
        transform: Transform {
            signed_root: true,
            length: 2.0,
            shift: Floats::new(shift),
            ..Transform::default()
        },
        layers: [
            Layer::Dense {
                inputs: 4,
                outputs: 5,
            },
            Layer::Relu,
            Layer::Dense {
                inputs: 5,
                outputs: 3,
            },
        ]
        .into_iter()
        .collect(),
        parameters: Floats::new(parameters),
        temperature: 1.5,
        unknown_below: 0.25,
        trained: Trained {
            program: "fieldtune test",
            recipe: "none",
            seed: 9,
            samples: [3, 4, 5].into_iter().collect(),
            cross_validation: Some(CrossValidation {
                accuracy: 0.9,
                low: 0.8,
                high: 0.95,
                n: 12,
            }),
        },
        unknown: Unknown {
            means: Floats::new(means),
            directions: Floats::new(&means[..16]),
            threshold: 3.5,
            false_alarms: 0.05,
        },
        sets: Sets {
            counts: [2, 0, 0, 1].into_iter().collect(),
            tables: Floats::new(&TABLES),
        },
    }
}

/// 1, 0.5 and 0.25.
const TABLES: [u8; 12] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x3e];

fn file() -> Vec<u8> {
    let (parameters, shift) = (parameters(43), parameters(4));
    let head = head(&parameters, &shift);
    let mut buffer = vec![0xaa; 2000];
    let file = head.encode(&mut buffer).expect("sound head").to_vec();
    assert_eq!(file.len(), head.file_bytes().expect("size"));
    assert_eq!(Head::decode(&file).expect("readable"), head);
    file
}

#[test]
fn reads_back_what_was_written() {
    let file = file();
    assert_eq!(&file[..8], b"FTHEAD\r\n");
    assert_eq!(
        usize::from(file[12]) + 256 * usize::from(file[13]),
        file.len() - HEADER_BYTES
    );
}

#[test]
fn every_flipped_byte_is_noticed() {
    let file = file();
    for position in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[position] ^= 1 << bit;
            assert!(Head::decode(&damaged).is_err(), "byte {position} bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_every_extra_byte_is_noticed() {
    let file = file();
    for length in 0..file.len() {
        let error = Head::decode(&file[..length]).expect_err("cut short");
        assert!(
            matches!(error, Error::Length | Error::NotAHead),
            "{length}: {error}"
        );
    }
    let mut longer = file.clone();
    longer.push(0);
    assert_eq!(Head::decode(&longer), Err(Error::Length));
    assert_eq!(
        Head::decode(b"\xff\xd8\xff\xe0 a jpeg"),
        Err(Error::NotAHead)
    );
}

#[test]
fn another_format_is_named() {
    for found in [0, FORMAT + 1] {
        let newer = as_format(u8::try_from(found).expect("small"));
        assert_eq!(Head::decode(&newer), Err(Error::Version { found }));
    }
}

#[test]
fn older_formats_are_read_and_know_no_place_of_their_classes() {
    let (parameters, shift) = (parameters(43), parameters(4));
    let expected = Head {
        unknown: Unknown::default(),
        sets: Sets::default(),
        ..head(&parameters, &shift)
    };
    // What the newer format appends: three empty sequences, two numbers, one sequence.
    let mut buffer = vec![0; 2000];
    let newer = expected.encode(&mut buffer).expect("sound head");
    for format in [1, 2] {
        let mut older = newer[..newer.len() - 12].to_vec();
        older[8] = format;
        let length = (older.len() - HEADER_BYTES) as u32;
        older[12..16].copy_from_slice(&length.to_le_bytes());
        let crc = crc32(&older);
        older[16..20].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Head::decode(&older).as_ref(), Ok(&expected), "{format}");
        // Nothing may follow where the older formats end.
        assert_eq!(Head::decode(&as_format(format)), Err(Error::Content));
    }
}

#[test]
fn formats_without_newer_layers_are_read() {
    for format in [3, 4] {
        assert_eq!(
            Head::decode(&as_format(format)),
            Head::decode(&file()),
            "{format}"
        );
    }
}

/// The test's head, marked as another format.
fn as_format(format: u8) -> Vec<u8> {
    let mut other = file();
    other[8] = format;
    let crc = crc32(&other);
    other[16..20].copy_from_slice(&crc.to_le_bytes());
    other
}

#[test]
fn every_kind_of_layer_reads_back() {
    for (name, network) in tables() {
        let values = parameters(network.parameter_elements());
        let spare = parameters(43);
        let mut head = head(&spare, &[]);
        head.parameters = Floats::new(&values);
        (head.unknown, head.sets) = (Unknown::default(), Sets::default());
        head.layers = network.layers().iter().copied().collect();
        head.backbone.features = network.inputs() as u32;
        let labels = &["a", "b", "c", "d"][..network.classes()];
        head.labels = labels.iter().copied().collect();
        head.trained.samples = labels.iter().map(|_| 2).collect();
        let mut buffer = vec![0; head.file_bytes().expect("size")];
        let file = head.encode(&mut buffer).expect("sound head");
        assert_eq!(Head::decode(file).as_ref(), Ok(&head), "{name}");
    }
}

/// CRC-32 bit by bit, so that the test does not share the codec's table.
fn crc32(file: &[u8]) -> u32 {
    let covered = file[8..16].iter().chain(&file[HEADER_BYTES..]);
    !covered.fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn heads_that_contradict_themselves_are_not_written() {
    let [long, tall] = [parameters(13), parameters(36)];
    let (parameters, shift) = (parameters(43), parameters(4));
    let sound = head(&parameters, &shift);
    let nan = f32::NAN.to_le_bytes().repeat(43);
    let cases: [(&str, Head<'_>); 12] = [
        (
            "label missing",
            Head {
                labels: ["a", "b"].into_iter().collect(),
                ..sound.clone()
            },
        ),
        (
            "newline",
            Head {
                labels: ["a", "b", "c\nd"].into_iter().collect(),
                ..sound.clone()
            },
        ),
        (
            "too few weights",
            Head {
                parameters: Floats::new(&parameters[4..]),
                ..sound.clone()
            },
        ),
        (
            "half a number",
            Head {
                parameters: Floats::new(&parameters[1..]),
                ..sound.clone()
            },
        ),
        (
            "not numbers",
            Head {
                parameters: Floats::new(&nan),
                ..sound.clone()
            },
        ),
        (
            "temperature",
            Head {
                temperature: 0.0,
                ..sound.clone()
            },
        ),
        (
            "threshold",
            Head {
                unknown_below: f32::NAN,
                ..sound.clone()
            },
        ),
        ("shift", head(&parameters, &shift[4..])),
        (
            "a mean too long",
            Head {
                unknown: Unknown {
                    means: Floats::new(&long),
                    ..sound.unknown
                },
                ..sound.clone()
            },
        ),
        (
            "nine directions",
            Head {
                unknown: Unknown {
                    directions: Floats::new(&tall),
                    ..sound.unknown
                },
                ..sound.clone()
            },
        ),
        (
            "all false alarms",
            Head {
                unknown: Unknown {
                    false_alarms: 1.0,
                    ..sound.unknown
                },
                ..sound.clone()
            },
        ),
        (
            "a table short",
            Head {
                sets: Sets {
                    tables: Floats::new(&TABLES[4..]),
                    ..sound.sets.clone()
                },
                ..sound.clone()
            },
        ),
    ];
    for (what, head) in cases {
        assert_eq!(head.encode(&mut [0; 2000]), Err(Error::Content), "{what}");
    }
    assert!(matches!(
        sound.encode(&mut [0; 100]),
        Err(Error::NoRoom { .. })
    ));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Head::decode(&bytes).is_err());
    }

    /// A damaged payload with a checksum that fits: the content checks stand alone.
    #[test]
    fn damage_behind_a_valid_checksum_never_panics(
        position in 0usize..400, value in any::<u8>(), more in 0usize..400, other in any::<u8>(),
    ) {
        let mut file = file();
        let length = file.len() - HEADER_BYTES;
        file[HEADER_BYTES + position % length] = value;
        file[HEADER_BYTES + more % length] = other;
        let crc = crc32(&file);
        file[16..20].copy_from_slice(&crc.to_le_bytes());
        if let Ok(head) = Head::decode(&file) {
            let network = head.network().expect("a decoded head has a sound network");
            prop_assert_eq!(network.classes(), head.labels.len());
        }
    }
}
