//! What host and device say to each other. The order of variants and fields is the wire's:
//! new ones go to the end, and anything else is a new [`PROTOCOL`](super::PROTOCOL).

use serde::{Deserialize, Serialize};

/// How many heads the flash holds: the one in use, and room for the next.
pub const SLOTS: usize = 2;

/// What the host asks. All but [`Self::Train`] and [`Self::Install`] can be done twice
/// without harm; an answer that was lost is sent again without doing the work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Who are you, and what can you hold? Answered by [`Reply::Info`]. Starts a session.
    Info,
    /// What is in the flash? Answered by [`Reply::Slots`].
    Slots,
    /// Puts bytes into memory. Answered by [`Reply::Done`].
    Write {
        /// Which memory.
        place: Place,
        /// Where in it.
        offset_bytes: u32,
        /// What; at most [`DATA_BYTES`](super::DATA_BYTES).
        bytes: &'a [u8],
    },
    /// The job was written: forget earlier samples, and say whether this training fits.
    /// Answered by [`Reply::Began`].
    Begin {
        /// Length of the [`Job`](super::Job) in its memory.
        job_bytes: u32,
    },
    /// The sample was written: compute its features where it is a window, and keep it.
    /// Answered by [`Reply::Done`].
    Add {
        /// Its place among the samples, from 0.
        index: u32,
        /// Index of its class.
        label: u16,
    },
    /// Train on all samples and keep the head in flash. Answered by any number of
    /// [`Reply::Working`], then [`Reply::Trained`]. The samples are gone afterwards.
    Train,
    /// The sample was written: label it. Answered by [`Reply::Prediction`].
    Predict,
    /// A head file was written into the workspace: keep it in flash and use it. Samples are
    /// gone. Answered by [`Reply::Installed`].
    Install {
        /// Length of the head file.
        head_bytes: u32,
    },
    /// A part of the head file in use. Answered by [`Reply::Bytes`].
    Read {
        /// From here.
        offset_bytes: u32,
        /// So many; at most [`DATA_BYTES`](super::DATA_BYTES). Fewer come at the end.
        length_bytes: u16,
    },
}

/// Memory of the device that the host writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The [`Job`](super::Job).
    Job,
    /// One sample: features, or the values of a window, f32.
    Sample,
    /// Where samples are kept, and a head file on its way to the flash.
    Workspace,
}

/// What the device answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// To [`Request::Info`].
    #[serde(borrow)]
    Info(Info<'a>),
    /// To [`Request::Slots`]: what each slot holds; `None` for nothing that is whole.
    Slots {
        /// In the order of the flash.
        slots: [Option<SlotState>; SLOTS],
        /// The one in use.
        active: Option<u8>,
    },
    /// It is done.
    Done,
    /// To [`Request::Begin`].
    Began(Fit),
    /// Still at it; the answer follows.
    Working {
        /// Samples passed so far.
        done: u32,
        /// Samples to pass.
        all: u32,
    },
    /// To [`Request::Train`].
    Trained(Trained),
    /// To [`Request::Predict`].
    #[serde(borrow)]
    Prediction(Prediction<'a>),
    /// To [`Request::Install`].
    Installed(SlotState),
    /// To [`Request::Read`].
    Bytes(&'a [u8]),
    /// It cannot be done.
    Refused(Refusal),
}

/// Who the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info<'a> {
    /// The version of the protocol.
    pub protocol: u16,
    /// Program and version.
    pub program: &'a str,
    /// The board.
    pub board: &'a str,
    /// What it can hold.
    pub limits: Limits,
    /// Size of the stack, 0 where it is not known.
    pub stack_bytes: u32,
    /// The most of the stack that was in use since the start.
    pub stack_used_bytes: u32,
    /// The most of the arena that was in use since the start.
    pub arena_used_bytes: u32,
}

/// What a device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest job.
    pub job_bytes: u32,
    /// The longest sample.
    pub sample_bytes: u32,
    /// All samples together; and twice the parameters with the rest of a head file.
    pub workspace_bytes: u32,
    /// The most samples.
    pub samples: u32,
    /// The largest batch.
    pub batch: u16,
    /// The training arena.
    pub arena_elements: u32,
    /// The longest head file.
    pub head_bytes: u32,
    /// What the flash erases at a time.
    pub page_bytes: u32,
    /// Size of one slot of the flash.
    pub slot_bytes: u32,
}

/// One slot of the flash with a whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// Rises with every head that is kept; the highest is in use.
    pub counter: u32,
    /// Length of the head file.
    pub head_bytes: u32,
    /// CRC-32 of counter, length and head file.
    pub checksum: u32,
}

/// What a job will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// F, features a sample.
    pub features: u32,
    /// The most samples of that size.
    pub samples: u32,
    /// The arena, as the memory plan has it.
    pub arena_elements: u32,
}

/// What training brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Mean loss of the last epoch, in nats.
    pub loss: f32,
    /// Where the head lies.
    pub slot: SlotState,
    /// The arena that training used, as the memory plan has it.
    pub arena_bytes: u32,
    /// The most of the stack that was in use since the start.
    pub stack_used_bytes: u32,
}

/// What the head says about a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction<'a> {
    /// Index of the likeliest class.
    pub label: u16,
    /// Whether the head doubts that it is any of its classes.
    pub unknown: bool,
    /// How far it is from all classes, where the head knows where they lie.
    pub unknown_score: Option<f32>,
    /// Calibrated probability of each class `[K]`, f32, little-endian.
    pub probabilities: &'a [u8],
}

/// Why the device refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The frame was damaged; say it again.
    Unreadable,
    /// More than there is room for; bytes of the place written to, or elements of the arena.
    NoRoom {
        /// Needed.
        need: u32,
        /// There.
        have: u32,
    },
    /// Training or samples without a job.
    NoJob,
    /// The job contradicts itself or cannot be trained.
    Job,
    /// Sample `index` was not given.
    SampleMissing {
        /// Its place, from 0.
        index: u32,
    },
    /// The sample holds a value that is not finite.
    Sample,
    /// There is no such class.
    Label,
    /// The loss is no longer a finite number.
    Diverged,
    /// No slot holds a head.
    NoHead,
    /// What was to be installed is no head, or damaged.
    Head,
    /// The flash does not keep what is written to it.
    Flash,
}
