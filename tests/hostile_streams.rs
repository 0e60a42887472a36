//! Promise: whatever bytes a source sends, in whatever pieces, they are cut into the same whole
//! samples or refused with one line; nothing panics, and nothing is kept without bound.

use std::path::Path;
use std::time::Duration;

use fieldtune::series::table;
use fieldtune::sound::decode;
use fieldtune::sources::{
    Extent, Format, Found, Lines, Mjpeg, Sounds, Splitter, WantedLines, WantedSounds,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The samples of a stream in these pieces, and the error that ended it.
fn cut(
    splitter: &mut dyn Splitter,
    bytes: &[u8],
    pieces: &[usize],
) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut samples, mut rest) = (Vec::new(), bytes);
    let mut keep = |found| {
        if let Found::Sample(sample) = found {
            samples.push(sample);
        }
    };
    let mut lengths = pieces.iter().copied().chain(std::iter::repeat(997));
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, more) = rest.split_at(length);
        if let Err(error) = splitter.push(piece, &mut keep) {
            return (samples, Some(error.to_string()));
        }
        rest = more;
    }
    (samples, None)
}

fn lines() -> Lines {
    let wanted = WantedLines {
        extent: Extent::Rows { window: 4, hop: 3 },
        header: None,
        columns: None,
    };
    Lines::new("port".into(), wanted).expect("sound")
}

fn sounds() -> Sounds {
    let wanted = WantedSounds {
        window: Duration::from_millis(5),
        hop: Duration::from_millis(3),
        bare: Format {
            rate_hz: 8_000,
            channels: 1,
        },
        skip_silence: false,
    };
    Sounds::new("sound".into(), wanted)
}

/// Bytes that are often markers of a JPEG picture.
fn markers() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => Just(0xff_u8),
        2 => prop::sample::select(vec![0xd8, 0xd9, 0xda, 0xe1, 0xd0, 0x01, 0x00]),
        2 => 0..6_u8,
        1 => any::<u8>(),
    ];
    vec(byte, 0..600)
}

/// Text that is often rows of two columns.
fn rows() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => (any::<i16>(), -9.0..9.0_f32).prop_map(|(x, y)| format!("{x},{y}")),
        1 => Just("x,y".to_string()),
        1 => "[0-9,.xe\\-\r ]{0,12}",
        1 => any::<String>(),
    ];
    let text = vec(line, 0..40).prop_map(|lines| (lines.join("\n") + "\n").into_bytes());
    prop_oneof![4 => text, 1 => vec(any::<u8>(), 0..400)]
}

/// Bytes that often begin like a WAV file.
fn waves() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        2 => Just(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\xff\xff\xff\xff".to_vec()),
        1 => Just(b"RIFF\xff\xff\xff\xffWAVE".to_vec()),
        1 => Just(Vec::new()),
    ];
    (head, vec(any::<u8>(), 0..500), any::<u16>(), any::<u8>()).prop_map(
        |(mut head, body, place, value)| {
            head.extend(body);
            // One byte of it is another.
            if !head.is_empty() && value < 128 {
                let place = usize::from(place) % head.len();
                head[place] = value;
            }
            head
        },
    )
}

proptest! {
    #[test]
    fn pictures_do_not_depend_on_the_pieces(bytes in markers(), pieces in vec(1..50_usize, 0..60)) {
        let (samples, error) = cut(&mut Mjpeg::default(), &bytes, &pieces);
        prop_assert_eq!(&error, &None);
        prop_assert_eq!(cut(&mut Mjpeg::default(), &bytes, &[]), (samples.clone(), error));
        let total: usize = samples.iter().map(Vec::len).sum();
        prop_assert!(total <= bytes.len());
        for sample in samples {
            prop_assert!(sample.starts_with(&[0xff, 0xd8]) && sample.ends_with(&[0xff, 0xd9]));
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_pieces(bytes in rows(), pieces in vec(1..50_usize, 0..60)) {
        let found = cut(&mut lines(), &bytes, &pieces);
        prop_assert_eq!(&cut(&mut lines(), &bytes, &[]), &found);
        for sample in found.0 {
            let table = table::parse(&sample, Path::new("window")).expect("a file");
            prop_assert_eq!(table.rows(), 4);
        }
    }

    #[test]
    fn sound_does_not_depend_on_the_pieces(bytes in waves(), pieces in vec(1..50_usize, 0..60)) {
        let found = cut(&mut sounds(), &bytes, &pieces);
        prop_assert_eq!(&cut(&mut sounds(), &bytes, &[]), &found);
        if let Some(line) = &found.1 {
            prop_assert!(line.starts_with("sound: ") && line.contains("; "), "{}", line);
        }
        for sample in found.0.iter().take(2) {
            let heard = decode::decode(sample, Path::new("window"), 8_000);
            prop_assert!(heard.is_ok(), "{:?}", heard);
        }
    }
}
