//! The serial line between a microcontroller and its host: frames, and what is said in
//! them. `LINK.md` beside the crate says both byte by byte. Both sides use this module;
//! who answers what is in [`crate::device`].
//!
//! A frame is a zero byte, then a message in postcard and its CRC-32, both stuffed by COBS
//! so that no byte is zero, and a zero byte. Whatever is lost or damaged on the line, the
//! next frame's first byte ends it, and that frame is read again.

mod job;
mod message;

pub use job::{Job, Training};
pub use message::{
    Fit, Info, Limits, Place, Prediction, Refusal, Reply, Request, SLOTS, SlotState, Trained,
};

use crate::head::CHECKSUM;
use serde::{Deserialize, Serialize};

/// The version of frames and messages that this program speaks.
pub const PROTOCOL: u16 = 1;
/// The most bytes that one [`Request::Write`] or [`Reply::Bytes`] carries.
pub const DATA_BYTES: usize = 1024;
/// The longest message: the data and what is said about it.
pub const MAX_MESSAGE_BYTES: usize = DATA_BYTES + 64;
/// The longest frame: checksum, one byte of stuffing for each 254, and both ends.
pub const MAX_FRAME_BYTES: usize = STUFFED_BYTES + 2;
/// The sequence number of an answer to a frame that could not be read. Requests count from
/// 1 to 255 and begin again with 1.
pub const UNREADABLE: u8 = 0;

const CHECKSUM_BYTES: usize = 4;
const PLAIN_BYTES: usize = MAX_MESSAGE_BYTES + CHECKSUM_BYTES;
const STUFFED_BYTES: usize = PLAIN_BYTES + PLAIN_BYTES / 254 + 1;

/// Why the bytes up to an end of frame are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More bytes than [`MAX_FRAME_BYTES`] without an end.
    TooLong,
    /// The stuffing is broken: bytes were lost.
    Stuffing,
    /// The checksum does not match: bytes are damaged.
    Checksum,
    /// The checksum matches, but this is no message of this version.
    Message,
}

/// Writes `message` with its sequence number as one frame and returns its length in bytes.
/// `None` when it is longer than [`MAX_MESSAGE_BYTES`] or does not fit into `frame`.
pub fn encode<T: Serialize>(sequence: u8, message: &T, frame: &mut [u8]) -> Option<usize> {
    let mut plain = [0; MAX_MESSAGE_BYTES];
    let used = postcard::to_slice(&(sequence, message), &mut plain);
    encode_bytes(used.ok()?, frame)
}

/// The same for the bytes of a message, sequence number included.
pub fn encode_bytes(message: &[u8], frame: &mut [u8]) -> Option<usize> {
    let mut plain = [0; PLAIN_BYTES];
    let length = message.len();
    if length > MAX_MESSAGE_BYTES {
        return None;
    }
    plain[..length].copy_from_slice(message);
    let sum = CHECKSUM.checksum(&plain[..length]);
    let end = length + CHECKSUM_BYTES;
    plain[length..end].copy_from_slice(&sum.to_le_bytes());
    let (first, rest) = frame.split_first_mut()?;
    *first = 0;
    let room = rest.len().checked_sub(1)?;
    let length = cobs::try_encode(&plain[..end], &mut rest[..room]).ok()?;
    rest[length] = 0;
    Some(length + 2)
}

/// The message in what a [`Receiver`] returned, with its sequence number.
///
/// # Errors
/// [`Fault::Message`].
pub fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<(u8, T), Fault> {
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        _ => Err(Fault::Message),
    }
}

/// Collects bytes from the line until a frame is whole.
pub struct Receiver {
    bytes: [u8; STUFFED_BYTES],
    length: usize,
    /// Whether the frame under way was longer than the buffer.
    overrun: bool,
}

impl Receiver {
    /// A receiver that waits for the first byte of a frame.
    pub const fn new() -> Self {
        Self {
            bytes: [0; STUFFED_BYTES],
            length: 0,
            overrun: false,
        }
    }

    /// Takes one byte. At the end of a frame returns its message, sequence number included,
    /// or what was wrong with it; a frame of no bytes is nothing.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], Fault>> {
        if byte != 0 {
            match self.bytes.get_mut(self.length) {
                Some(place) => {
                    *place = byte;
                    self.length += 1;
                }
                None => self.overrun = true,
            }
            return None;
        }
        let (length, overrun) = (self.length, self.overrun);
        (self.length, self.overrun) = (0, false);
        match (length, overrun) {
            (0, _) => None,
            (_, true) => Some(Err(Fault::TooLong)),
            _ => Some(checked(&mut self.bytes[..length])),
        }
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

/// The message in a stuffed frame, whose stuffing is taken out in place.
fn checked(frame: &mut [u8]) -> Result<&[u8], Fault> {
    let length = cobs::decode_in_place(frame).map_err(|_| Fault::Stuffing)?;
    let plain = frame.get(..length).ok_or(Fault::Stuffing)?;
    let (message, sum) = plain
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Fault::Checksum)?;
    if u32::from_le_bytes(*sum) == CHECKSUM.checksum(message) {
        Ok(message)
    } else {
        Err(Fault::Checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_fits_and_a_longer_one_is_refused() {
        let mut frame = [0; MAX_FRAME_BYTES];
        let data = [7; DATA_BYTES];
        let write = |bytes| Request::Write {
            place: Place::Workspace,
            offset_bytes: u32::MAX,
            bytes,
        };
        let length = encode(255, &write(&data), &mut frame).expect("fits");
        assert!(frame[1..length - 1].iter().all(|byte| *byte != 0));
        assert_eq!((frame[0], frame[length - 1]), (0, 0));
        let mut receiver = Receiver::new();
        let mut message = heapless::Vec::<u8, MAX_MESSAGE_BYTES>::new();
        for byte in &frame[..length] {
            if let Some(found) = receiver.push(*byte) {
                message.extend(found.expect("sound").iter().copied());
            }
        }
        assert_eq!(decode::<Request<'_>>(&message), Ok((255, write(&data))));
        assert_eq!(encode(1, &write(&[7; DATA_BYTES + 64]), &mut frame), None);
        assert_eq!(encode(1, &write(&data), &mut frame[..100]), None);
    }
}
