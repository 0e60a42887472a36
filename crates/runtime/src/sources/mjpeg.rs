//! Whole JPEG pictures out of a stream of them. Markers are followed as the format says, so
//! that a thumbnail inside of a picture does not end it. What is between pictures, or damaged,
//! is passed over.

use super::splitter::{Found, Splitter};
use crate::error::Result;

/// Largest picture that is put together, in bytes.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between pictures; whether the last byte was 0xff.
    Outside(bool),
    /// Where a marker has to begin.
    Between,
    /// After the 0xff of a marker; whether it stands within the scan.
    Marker { scan: bool },
    /// At the first byte of the length of this marker's segment.
    High(u8),
    /// At the second one.
    Low(u8, u8),
    /// So many bytes before the end of this marker's segment.
    Segment(u8, usize),
    /// In compressed data.
    Scan,
}

/// Finds the pictures.
#[derive(Debug)]
pub struct Mjpeg {
    place: Place,
    frame: Vec<u8>,
    /// Whether it has compressed data yet: without, it is none.
    scanned: bool,
}

impl Default for Mjpeg {
    fn default() -> Self {
        Self {
            place: Place::Outside(false),
            frame: Vec::new(),
            scanned: false,
        }
    }
}

impl Mjpeg {
    /// Takes a byte; whether it ends a picture.
    fn take(&mut self, byte: u8) -> bool {
        if !matches!(self.place, Place::Outside(_)) {
            self.frame.push(byte);
            if self.frame.len() > MAX_FRAME_BYTES {
                self.place = Place::Outside(false);
            }
        }
        self.place = match self.place {
            Place::Outside(true) if byte == START_OF_IMAGE => self.start(),
            Place::Outside(_) => Place::Outside(byte == 0xff),
            Place::Between if byte == 0xff => Place::Marker { scan: false },
            Place::Between => Place::Outside(false),
            Place::Marker { scan } => match byte {
                0xff => Place::Marker { scan },
                START_OF_IMAGE => self.start(),
                END_OF_IMAGE => {
                    self.place = Place::Outside(false);
                    return self.scanned;
                }
                // A 0xff of the data itself, or a point where decoding can begin again.
                0x00 | 0xd0..=0xd7 if scan => Place::Scan,
                0x00 => Place::Outside(false),
                0x01 | 0xd0..=0xd7 => Place::Between,
                marker => Place::High(marker),
            },
            Place::High(marker) => Place::Low(marker, byte),
            Place::Low(marker, high) => match usize::from(u16::from_be_bytes([high, byte])) {
                // The length counts its own two bytes.
                0 | 1 => Place::Outside(false),
                2 => after(marker),
                length => Place::Segment(marker, length - 2),
            },
            Place::Segment(marker, 1) => after(marker),
            Place::Segment(marker, left) => Place::Segment(marker, left - 1),
            Place::Scan if byte == 0xff => Place::Marker { scan: true },
            Place::Scan => Place::Scan,
        };
        self.scanned |= self.place == Place::Scan;
        false
    }

    fn start(&mut self) -> Place {
        self.scanned = false;
        self.frame.clear();
        self.frame.extend([0xff, START_OF_IMAGE]);
        Place::Between
    }
}

/// What follows the segment of a marker.
fn after(marker: u8) -> Place {
    match marker {
        START_OF_SCAN => Place::Scan,
        _ => Place::Between,
    }
}

impl Splitter for Mjpeg {
    fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> Result<()> {
        for byte in bytes {
            if self.take(*byte) {
                found(Found::Sample(std::mem::take(&mut self.frame)));
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        *self = Self::default();
    }

    /// A picture that is half there was still taken before.
    fn clear(&mut self) {
        self.begin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut splitter = Mjpeg::default();
        let mut frames = Vec::new();
        for bytes in bytes.chunks(chunk) {
            let mut keep = |found| match found {
                Found::Sample(frame) => frames.push(frame),
                Found::Note(note) => panic!("{note}"),
            };
            splitter.push(bytes, &mut keep).unwrap();
        }
        frames
    }

    /// The bones of a picture: a segment that holds a thumbnail, a scan with a stuffed 0xff
    /// and a restart, a second scan.
    const PICTURE: [u8; 31] = [
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0, 2, 7, 0xff, 0, 0xff,
        0xd3, 8, 0xff, 0xc4, 0, 3, 9, 0xff, 0xda, 0, 2, 0xff, 0xd9,
    ];

    #[test]
    fn pictures_are_found_whatever_the_pieces_that_they_come_in() {
        let stream = [&[1, 0xff, 2][..], &PICTURE, b"\r\n--frame\r\n", &PICTURE].concat();
        for chunk in 1..stream.len() {
            assert_eq!(frames(&stream, chunk), [PICTURE, PICTURE], "{chunk}");
        }
    }

    #[test]
    fn a_picture_that_is_cut_off_or_damaged_is_passed_over() {
        for cut in 2..PICTURE.len() - 1 {
            // A cut inside of a segment's length may swallow 64 KiB of what follows.
            let stream = [&PICTURE[..cut], &PICTURE.repeat(2200)].concat();
            let found = frames(&stream, 7);
            assert_eq!(found.last().unwrap(), &PICTURE, "{cut}");
        }
        let mut damaged = PICTURE;
        damaged[5] = 1;
        assert_eq!(frames(&[damaged, PICTURE].concat(), 5), [PICTURE]);
    }

    #[test]
    fn a_picture_without_end_does_not_fill_the_memory() {
        let mut splitter = Mjpeg::default();
        let mut none = |_| panic!("no picture ends");
        splitter.push(&PICTURE[..15], &mut none).unwrap();
        let block = vec![5; 1 << 20];
        for _ in 0..40 {
            splitter.push(&block, &mut none).unwrap();
            assert!(splitter.frame.len() <= MAX_FRAME_BYTES + 1);
        }
        assert_eq!(splitter.place, Place::Outside(false));
    }
}
