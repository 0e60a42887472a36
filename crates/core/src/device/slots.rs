//! Two places in flash for heads, so that a cut of power at any moment leaves the old head
//! or the new one.
//!
//! A slot begins with one word: magic, counter, length, CRC-32 of both and of the head file
//! that follows. A new head goes into the slot that is not in use:
//!
//! | step | this slot | the other | after a cut here |
//! |---|---|---|---|
//! | 1. erase its pages, the first one first | torn | old head | old head |
//! | 2. write the head file behind the first word | no first word | old head | old head |
//! | 3. read it back | no first word | old head | old head |
//! | 4. write the first word | torn, or whole | old head | old head, or new head |
//!
//! A torn first word does not match its checksum. Both slots whole: the higher counter is
//! in use.

use crate::head::CHECKSUM;
use crate::link::{SLOTS, SlotState};

/// Bytes that are written at a time: a multiple of what the flash of common
/// microcontrollers writes at once (4 to 32 bytes).
pub const WORD_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"FTS1";

/// The flash refused to erase or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Flash memory that can be read like any memory. Erased bytes are 255.
pub trait Storage {
    /// All of it; [`SLOTS`] slots of equal size stand here.
    fn bytes(&self) -> &[u8];

    /// What is erased at a time.
    fn page_bytes(&self) -> usize;

    /// Erases the page that begins at `offset_bytes`.
    ///
    /// # Errors
    /// [`Broken`] when the flash does not do it.
    fn erase(&mut self, offset_bytes: usize) -> Result<(), Broken>;

    /// Writes an erased word at `offset_bytes`, a multiple of [`WORD_BYTES`].
    ///
    /// # Errors
    /// [`Broken`] when the flash does not do it.
    fn program(&mut self, offset_bytes: usize, word: &[u8; WORD_BYTES]) -> Result<(), Broken>;
}

/// The slots of a [`Storage`].
pub struct Slots<S> {
    storage: S,
}

impl<S: Storage> Slots<S> {
    /// The slots of `storage`, with whatever they hold.
    pub fn new(storage: S) -> Self {
        Self { storage }
    }

    /// Gives the flash back.
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Size of one slot: whole pages.
    pub fn slot_bytes(&self) -> usize {
        let page = self.page_bytes().max(1);
        self.storage.bytes().len() / SLOTS / page * page
    }

    /// What is erased at a time.
    pub fn page_bytes(&self) -> usize {
        self.storage.page_bytes()
    }

    /// The longest head file.
    pub fn head_bytes(&self) -> usize {
        self.slot_bytes().saturating_sub(WORD_BYTES)
    }

    fn slot(&self, index: usize) -> &[u8] {
        let start = index * self.slot_bytes();
        let end = start + self.slot_bytes();
        self.storage.bytes().get(start..end).unwrap_or_default()
    }

    /// What slot `index` holds, if that is whole.
    pub fn state(&self, index: usize) -> Option<SlotState> {
        whole(self.slot(index)).map(|(state, _)| state)
    }

    /// The slot in use.
    pub fn active(&self) -> Option<usize> {
        let whole = (0..SLOTS).filter_map(|index| Some((self.state(index)?.counter, index)));
        whole.max().map(|(_, index)| index)
    }

    /// The head file in use.
    pub fn head(&self) -> Option<&[u8]> {
        whole(self.slot(self.active()?)).map(|(_, head)| head)
    }

    /// Keeps a head file beside the one in use, then uses it.
    ///
    /// # Errors
    /// [`Broken`] when it is longer than [`Self::head_bytes`], or the flash does not keep
    /// it; the head before it is still there then.
    pub fn write(&mut self, head: &[u8]) -> Result<SlotState, Broken> {
        if head.is_empty() || head.len() > self.head_bytes() {
            return Err(Broken);
        }
        let active = self.active();
        let counter = active.and_then(|active| self.state(active));
        let state = SlotState {
            counter: counter.map_or(1, |state| state.counter.wrapping_add(1)),
            head_bytes: head.len() as u32,
            checksum: 0,
        };
        let state = SlotState {
            checksum: checksum(&state, head),
            ..state
        };
        let target = active.map_or(0, |active| (active + 1) % SLOTS);
        let start = target * self.slot_bytes();
        let used = start + WORD_BYTES + head.len();
        for page in (start..used).step_by(self.page_bytes().max(1)) {
            self.storage.erase(page)?;
        }
        for (index, part) in head.chunks(WORD_BYTES).enumerate() {
            let mut word = [0xff; WORD_BYTES];
            word[..part.len()].copy_from_slice(part);
            let place = start + WORD_BYTES * (index + 1);
            self.storage.program(place, &word)?;
        }
        let written = self.slot(target).get(WORD_BYTES..WORD_BYTES + head.len());
        if written != Some(head) {
            return Err(Broken);
        }
        self.storage.program(start, &first_word(&state))?;
        if self.state(target) == Some(state) {
            Ok(state)
        } else {
            Err(Broken)
        }
    }
}

/// The head in a slot, if it is whole.
fn whole(slot: &[u8]) -> Option<(SlotState, &[u8])> {
    let (first, rest) = slot.split_first_chunk::<WORD_BYTES>()?;
    let number = |at: usize| {
        let bytes = first.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let state = SlotState {
        counter: number(4),
        head_bytes: number(8),
        checksum: number(12),
    };
    let head = rest.get(..state.head_bytes as usize)?;
    let sound = first[..4] == MAGIC && state.checksum == checksum(&state, head);
    sound.then_some((state, head))
}

fn first_word(state: &SlotState) -> [u8; WORD_BYTES] {
    let mut word = [0xff; WORD_BYTES];
    word[..4].copy_from_slice(&MAGIC);
    let numbers = [state.counter, state.head_bytes, state.checksum];
    for (place, number) in word[4..].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    word
}

fn checksum(state: &SlotState, head: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(&state.counter.to_le_bytes());
    digest.update(&state.head_bytes.to_le_bytes());
    digest.update(head);
    digest.finalize()
}
