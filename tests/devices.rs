//! A microcontroller without hardware, for promises about what it says and what it keeps:
//! core's state machine on a line and a flash in memory.

use std::cell::RefCell;
use std::rc::Rc;

use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::device::{Broken, Device, Line, Memory, Names, Storage, WORD_BYTES};
use fieldtune_core::head::Backbone;
use fieldtune_core::link::{self, Job, MAX_FRAME_BYTES, Place, Receiver, Reply, Request, Training};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::transform::Transform;

/// Flash whose power can be cut.
#[derive(Clone, Debug)]
pub struct Flash {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Size of its pages.
    pub page_bytes: usize,
    /// Erasing and writing that is still done before the power goes; `None` for always.
    pub left: Option<usize>,
    /// Decides what is left of the step in which it goes.
    pub random: Random,
    /// Steps done so far.
    pub steps: usize,
}

impl Flash {
    /// Erased flash of two slots of `slot_bytes`.
    pub fn new(slot_bytes: usize, page_bytes: usize) -> Self {
        Self {
            bytes: vec![0xff; 2 * slot_bytes],
            page_bytes,
            left: None,
            random: Random::new(1),
            steps: 0,
        }
    }

    /// The same flash after a restart: whole, but with what a cut left.
    pub fn restarted(&self) -> Self {
        Self {
            left: None,
            ..self.clone()
        }
    }

    /// Changes the bytes from `start` by `change`; in the step in which the power goes,
    /// each bit by chance.
    fn step(&mut self, start: usize, length: usize, change: impl Fn(usize, u8) -> u8) -> bool {
        self.steps += 1;
        let whole = self.left != Some(0);
        let torn = self.left == Some(0);
        for (index, byte) in self.bytes[start..start + length].iter_mut().enumerate() {
            let mask = if whole {
                0xff
            } else {
                self.random.bits() as u8
            };
            *byte = (*byte & !mask) | (change(index, *byte) & mask);
        }
        self.left = match self.left {
            Some(0) => Some(usize::MAX),
            Some(usize::MAX) => Some(usize::MAX),
            Some(left) => Some(left - 1),
            None => None,
        };
        !torn
    }
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn erase(&mut self, offset_bytes: usize) -> Result<(), Broken> {
        assert_eq!(offset_bytes % self.page_bytes, 0, "pages are erased whole");
        if self.left == Some(usize::MAX) {
            return Err(Broken);
        }
        let done = self.step(offset_bytes, self.page_bytes, |_, _| 0xff);
        done.then_some(()).ok_or(Broken)
    }

    fn program(&mut self, offset_bytes: usize, word: &[u8; WORD_BYTES]) -> Result<(), Broken> {
        assert_eq!(offset_bytes % WORD_BYTES, 0, "words are written whole");
        if self.left == Some(usize::MAX) {
            return Err(Broken);
        }
        let erased = &self.bytes[offset_bytes..offset_bytes + WORD_BYTES];
        assert!(
            erased.iter().all(|byte| *byte == 0xff),
            "only erased words are written"
        );
        let done = self.step(offset_bytes, WORD_BYTES, |index, old| old & word[index]);
        done.then_some(()).ok_or(Broken)
    }
}

/// What a device has said.
#[derive(Clone, Default)]
pub struct Sent(Rc<RefCell<Vec<u8>>>);

impl Line for Sent {
    fn send(&mut self, bytes: &[u8]) {
        self.0.borrow_mut().extend(bytes);
    }

    fn stack_bytes(&self) -> (u32, u32) {
        (1000, 100)
    }
}

/// A device on the desk, and the host that talks to it.
pub struct Desk {
    /// The device.
    pub device: Device<'static, Flash, Sent>,
    sent: Sent,
    sequence: u8,
}

impl Desk {
    /// A device with some KB of memory.
    pub fn new(flash: Flash) -> Self {
        let sent = Sent::default();
        let memory = Memory {
            job: vec![0; 1000].leak(),
            sample: vec![0; 2000].leak(),
            workspace: vec![0; 16_000].leak(),
            arena: vec![0.0; 8000].leak(),
            labels: vec![0; 60].leak(),
            order: vec![0; 60].leak(),
            batch_labels: vec![0; 16].leak(),
        };
        let names = Names {
            program: "test",
            board: "desk",
        };
        Self {
            device: Device::new(names, memory, flash, sent.clone()),
            sent,
            sequence: 0,
        }
    }

    /// The number of the last question.
    pub fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Sends bytes and returns the messages that came back.
    pub fn say(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        bytes.iter().for_each(|byte| self.device.receive(*byte));
        let mut receiver = Receiver::new();
        let mut messages = Vec::new();
        for byte in self.sent.0.take() {
            if let Some(message) = receiver.push(byte) {
                messages.push(message.expect("the device's frames are sound").to_vec());
            }
        }
        messages
    }

    /// Asks, and hands the last answer to `judge`.
    pub fn ask<T>(&mut self, request: &Request<'_>, judge: impl FnOnce(Reply<'_>) -> T) -> T {
        self.sequence = self.sequence % 255 + 1;
        let messages = self.say(&frame(self.sequence, request));
        let last = messages.last().expect("an answer");
        let (sequence, reply) = link::decode::<Reply<'_>>(last).expect("a reply");
        assert_eq!(sequence, self.sequence);
        judge(reply)
    }

    /// Writes bytes in pieces.
    pub fn write(&mut self, place: Place, bytes: &[u8]) {
        for (index, piece) in bytes.chunks(700).enumerate() {
            let request = Request::Write {
                place,
                offset_bytes: 700 * index as u32,
                bytes: piece,
            };
            self.ask(&request, |reply| assert_eq!(reply, Reply::Done));
        }
    }

    /// The head file in use.
    pub fn head(&mut self) -> Vec<u8> {
        let mut head = Vec::new();
        loop {
            let request = Request::Read {
                offset_bytes: head.len() as u32,
                length_bytes: 500,
            };
            let piece = self.ask(&request, |reply| match reply {
                Reply::Bytes(bytes) => bytes.to_vec(),
                other => panic!("{other:?}"),
            });
            if piece.is_empty() {
                return head;
            }
            head.extend(piece);
        }
    }

    /// Begins a job, adds samples, trains; what came of it.
    pub fn train<T>(
        &mut self,
        job: &Job<'_>,
        rows: &[(Vec<f32>, u16)],
        judge: impl FnOnce(Reply<'_>) -> T,
    ) -> T {
        let mut bytes = vec![0; 1000];
        let job = job.encode(&mut bytes).expect("a sound job");
        let job_bytes = job.len() as u32;
        self.write(Place::Job, job);
        let began = |reply: Reply<'_>| assert!(matches!(reply, Reply::Began(_)), "{reply:?}");
        self.ask(&Request::Begin { job_bytes }, began);
        for (index, (row, label)) in rows.iter().enumerate() {
            self.write(Place::Sample, &floats(row));
            let (index, label) = (index as u32, *label);
            self.ask(&Request::Add { index, label }, |reply| {
                assert_eq!(reply, Reply::Done);
            });
        }
        self.ask(&Request::Train, judge)
    }
}

/// A request as a frame.
pub fn frame(sequence: u8, request: &Request<'_>) -> Vec<u8> {
    let mut frame = [0; MAX_FRAME_BYTES];
    let length = link::encode(sequence, request, &mut frame).expect("a message that fits");
    frame[..length].to_vec()
}

/// Numbers as they go over the line.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A linear head of two classes on six features.
pub fn job() -> Job<'static> {
    let network = Network::mlp(6, &[], 2).expect("a sound network");
    Job {
        labels: ["ants", "bees"].into_iter().collect(),
        backbone: Backbone {
            name: "test",
            sha256: [7; 32],
            cut: "features",
            features: 6,
            preprocessing: "rgb",
            views: 0,
        },
        transform: Transform {
            signed_root: true,
            length: 2.0,
            ..Transform::default()
        },
        layers: network.layers().iter().copied().collect(),
        training: Training {
            standardise: false,
            imprint_gain: 3.0,
            recipe: "a test",
            seed: 5,
            epochs: 20,
            batch: 4,
            learning_rate: 0.01,
            optimizer: Optimizer::SGD,
            decay: Decay {
                mode: Mode::Structural,
                lambda: 0.1,
            },
            adversary: Some(Adversary::new(0.1)),
            temperature: 1.5,
        },
    }
}

/// Samples that `job` can tell apart.
pub fn rows(count: usize) -> Vec<(Vec<f32>, u16)> {
    let mut random = Random::new(9);
    let row = |index: usize| {
        let label = (index % 2) as u16;
        let mut value =
            |feature: usize| random.uniform() + if feature % 2 == index % 2 { 1.0 } else { 0.0 };
        ((0..6).map(&mut value).collect(), label)
    };
    (0..count).map(row).collect()
}
