//! A microcontroller that trains and predicts for whoever talks to it over a serial line:
//! what it answers to each [`Request`]. Bytes come in through [`Device::receive`], answers
//! go out through a [`Line`], heads are kept in [`Slots`] of flash. Nothing here knows a
//! register, so the same code runs on any host, where it is tested.
//!
//! All memory is the caller's, see [`Memory`]; nothing allocates.

pub mod sizes;
mod slots;
mod training;

pub use slots::{Broken, Slots, Storage, WORD_BYTES};

use crate::head::{Floats, Head};
use crate::link::{
    self, DATA_BYTES, Fault, Fit, Info, Job, Limits, MAX_FRAME_BYTES, PROTOCOL, Place, Prediction,
    Receiver, Refusal, Reply, Request, SLOTS, UNREADABLE,
};
use crate::predict::{logits, probabilities, workspace_elements};
use crate::sensor::Window;
use crate::{Error, Kernel};

/// What answers go out through, and what only the board knows.
pub trait Line {
    /// Sends bytes to the host; waits until they are on their way.
    fn send(&mut self, bytes: &[u8]);

    /// Size of the stack and the most of it that was in use, in bytes; zeros where it is
    /// not known.
    fn stack_bytes(&self) -> (u32, u32);
}

/// All memory that a device works with, beside some KB of stack.
pub struct Memory<'a> {
    /// Room for a [`Job`].
    pub job: &'a mut [u8],
    /// Room for one sample: features or a window, f32, little-endian.
    pub sample: &'a mut [u8],
    /// Room for the features of all samples; for a head file on its way to the flash; and,
    /// when training ends, for the parameters and the head file made of them.
    pub workspace: &'a mut [u8],
    /// The training arena.
    pub arena: &'a mut [f32],
    /// Room for the label of each sample.
    pub labels: &'a mut [u16],
    /// Room for the order of the samples, as long as `labels`.
    pub order: &'a mut [u32],
    /// Room for the labels of one batch.
    pub batch_labels: &'a mut [u16],
}

/// Names of a device, for people.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Program and version; also goes into head files.
    pub program: &'static str,
    /// The board.
    pub board: &'static str,
}

/// What marks a place in [`Memory::labels`] without a sample.
const NO_LABEL: u16 = u16::MAX;

/// The state machine.
pub struct Device<'a, S, L> {
    receiver: Receiver,
    work: Work<'a, S, L>,
}

/// Everything but the bytes of the frame under way.
struct Work<'a, S, L> {
    names: Names,
    memory: Memory<'a>,
    slots: Slots<S>,
    line: L,
    /// Length of the job in its memory, once it was found sound.
    job_bytes: Option<usize>,
    /// The most of the arena that was in use.
    arena_used_elements: usize,
    /// The last answer with its length: sent again when the host did not get it.
    frame: [u8; MAX_FRAME_BYTES],
    frame_bytes: usize,
    answered: Option<u8>,
}

impl<'a, S: Storage, L: Line> Device<'a, S, L> {
    /// A device that waits for a request.
    pub fn new(names: Names, memory: Memory<'a>, storage: S, line: L) -> Self {
        Self {
            receiver: Receiver::new(),
            work: Work {
                names,
                memory,
                slots: Slots::new(storage),
                line,
                job_bytes: None,
                arena_used_elements: 0,
                frame: [0; MAX_FRAME_BYTES],
                frame_bytes: 0,
                answered: None,
            },
        }
    }

    /// Tells a host that waits for an answer to say its request again: what was asked before
    /// the device started is forgotten. For the firmware to call once, before the first byte.
    pub fn greet(&mut self) {
        self.work.answer_unreadable();
    }

    /// Takes one byte from the line and, when it ends a request, does what is asked and
    /// answers.
    pub fn receive(&mut self, byte: u8) {
        match self.receiver.push(byte) {
            None => {}
            Some(Ok(message)) => self.work.request(message),
            Some(Err(_)) => self.work.answer_unreadable(),
        }
    }

    /// What answers went out through.
    pub fn line_mut(&mut self) -> &mut L {
        &mut self.work.line
    }

    /// Gives the flash back.
    pub fn into_storage(self) -> S {
        self.work.slots.into_storage()
    }
}

/// Sends a reply as a frame, which is kept for the case that it is lost.
fn send<L: Line>(
    line: &mut L,
    frame: &mut [u8; MAX_FRAME_BYTES],
    sequence: u8,
    reply: &Reply<'_>,
) -> usize {
    // Every reply of this module is shorter than a message may be.
    let length = link::encode(sequence, reply, frame).unwrap_or(0);
    line.send(&frame[..length]);
    length
}

/// What holds a job or a head, some KB each, is never inlined: else all of them would take
/// their room on the stack at once.
impl<S: Storage, L: Line> Work<'_, S, L> {
    fn request(&mut self, message: &[u8]) {
        match link::decode::<Request<'_>>(message) {
            Ok((sequence, request)) => {
                let again = self.answered == Some(sequence) && request != Request::Info;
                if again {
                    self.line.send(&self.frame[..self.frame_bytes]);
                } else {
                    self.answer(sequence, &request);
                }
            }
            Err(Fault::Message | Fault::Checksum | Fault::Stuffing | Fault::TooLong) => {
                self.answer_unreadable();
            }
        }
    }

    fn answer_unreadable(&mut self) {
        let mut frame = [0; MAX_FRAME_BYTES];
        let reply = Reply::Refused(Refusal::Unreadable);
        send(&mut self.line, &mut frame, UNREADABLE, &reply);
    }

    fn answer(&mut self, sequence: u8, request: &Request<'_>) {
        let reply = match *request {
            Request::Info => Ok(Reply::Info(self.info())),
            Request::Slots => Ok(Reply::Slots {
                slots: core::array::from_fn(|index| self.slots.state(index)),
                active: self.slots.active().map(|index| index as u8),
            }),
            Request::Write {
                place,
                offset_bytes,
                bytes,
            } => self.write(place, offset_bytes as usize, bytes),
            Request::Begin { job_bytes } => self.begin(job_bytes as usize),
            Request::Add { index, label } => self.add(index as usize, label),
            Request::Train => self.train(sequence),
            Request::Predict => {
                self.predict_into(sequence);
                return;
            }
            Request::Install { head_bytes } => self.install(head_bytes as usize),
            Request::Read {
                offset_bytes,
                length_bytes,
            } => {
                self.read_into(sequence, offset_bytes as usize, length_bytes.into());
                return;
            }
        };
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.frame_bytes = send(&mut self.line, &mut self.frame, sequence, &reply);
        self.answered = Some(sequence);
    }

    fn info(&self) -> Info<'static> {
        let (stack_bytes, stack_used_bytes) = self.line.stack_bytes();
        let samples = self.memory.labels.len().min(self.memory.order.len());
        Info {
            protocol: PROTOCOL,
            program: self.names.program,
            board: self.names.board,
            limits: Limits {
                job_bytes: self.memory.job.len() as u32,
                sample_bytes: self.memory.sample.len() as u32,
                workspace_bytes: self.memory.workspace.len() as u32,
                samples: samples as u32,
                batch: self.memory.batch_labels.len().min(u16::MAX.into()) as u16,
                arena_elements: self.memory.arena.len() as u32,
                head_bytes: self.slots.head_bytes() as u32,
                page_bytes: self.slots.page_bytes() as u32,
                slot_bytes: self.slots.slot_bytes() as u32,
            },
            stack_bytes,
            stack_used_bytes,
            arena_used_bytes: (self.arena_used_elements * size_of::<f32>()) as u32,
        }
    }

    fn write(
        &mut self,
        place: Place,
        offset_bytes: usize,
        bytes: &[u8],
    ) -> Result<Reply<'static>, Refusal> {
        let memory = match place {
            Place::Job => {
                self.job_bytes = None;
                &mut *self.memory.job
            }
            Place::Sample => &mut *self.memory.sample,
            Place::Workspace => {
                self.memory.labels.fill(NO_LABEL);
                &mut *self.memory.workspace
            }
        };
        let end = offset_bytes.saturating_add(bytes.len());
        let refusal = no_room(end, memory.len());
        let place = memory.get_mut(offset_bytes..end).ok_or(refusal)?;
        place.copy_from_slice(bytes);
        Ok(Reply::Done)
    }

    #[inline(never)]
    fn begin(&mut self, job_bytes: usize) -> Result<Reply<'static>, Refusal> {
        self.job_bytes = None;
        self.memory.labels.fill(NO_LABEL);
        let have = self.memory.job.len();
        let refusal = no_room(job_bytes, have);
        let job = self.memory.job.get(..job_bytes).ok_or(refusal)?;
        let job = Job::decode(job).map_err(|_| Refusal::Job)?;
        let fit = training::fit(&job, &self.info().limits)?;
        self.job_bytes = Some(job_bytes);
        Ok(Reply::Began(fit))
    }

    #[inline(never)]
    fn add(&mut self, index: usize, label: u16) -> Result<Reply<'static>, Refusal> {
        let job = self.memory.job.get(..self.job_bytes.ok_or(Refusal::NoJob)?);
        let job = Job::decode(job.unwrap_or_default()).map_err(|_| Refusal::NoJob)?;
        if usize::from(label) >= job.labels.len() {
            return Err(Refusal::Label);
        }
        let features = job.backbone.features as usize;
        let have = self.memory.labels.len().min(self.memory.order.len());
        if index >= have {
            return Err(no_room(index + 1, have));
        }
        let row_bytes = features * size_of::<f32>();
        let end = (index + 1) * row_bytes;
        let refusal = no_room(end, self.memory.workspace.len());
        let row = self.memory.workspace.get_mut(end - row_bytes..end);
        let row = row.ok_or(refusal)?;
        let window = Window::from_preprocessing(job.backbone.preprocessing);
        let (values, work) = features_of(window, features, self.memory.sample, self.memory.arena)?;
        note(&mut self.arena_used_elements, features + work);
        job.transform.apply(values);
        for (place, value) in row.chunks_exact_mut(4).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        self.memory.labels[index] = label;
        Ok(Reply::Done)
    }

    #[inline(never)]
    fn install(&mut self, head_bytes: usize) -> Result<Reply<'static>, Refusal> {
        let have = self.memory.workspace.len().min(self.slots.head_bytes());
        let refusal = no_room(head_bytes, have);
        let file = self.memory.workspace.get(..head_bytes.min(have));
        let file = file.filter(|_| head_bytes <= have).ok_or(refusal)?;
        let head = Head::decode(file).map_err(|_| Refusal::Head)?;
        let elements = predicting_elements(&head).map_err(|_| Refusal::Head)?;
        let have = self.memory.arena.len();
        if elements > have {
            return Err(no_room(elements, have));
        }
        let state = self.slots.write(file).map_err(|_| Refusal::Flash)?;
        Ok(Reply::Installed(state))
    }

    /// Answers with a part of the head in use, straight from the flash.
    fn read_into(&mut self, sequence: u8, offset_bytes: usize, length_bytes: usize) {
        let reply = match self.slots.head() {
            None => Reply::Refused(Refusal::NoHead),
            Some(head) => {
                let start = offset_bytes.min(head.len());
                let end = start + length_bytes.min(DATA_BYTES).min(head.len() - start);
                Reply::Bytes(&head[start..end])
            }
        };
        self.frame_bytes = send(&mut self.line, &mut self.frame, sequence, &reply);
        self.answered = Some(sequence);
    }

    /// Answers with a prediction, whose probabilities stand in the sample's memory.
    #[inline(never)]
    fn predict_into(&mut self, sequence: u8) {
        let used = &mut self.arena_used_elements;
        let found = match self.slots.head() {
            None => Err(Refusal::NoHead),
            Some(head) => predict(head, self.memory.sample, self.memory.arena, used),
        };
        let reply = match found {
            Ok(prediction) => Reply::Prediction(prediction),
            Err(refusal) => Reply::Refused(refusal),
        };
        self.frame_bytes = send(&mut self.line, &mut self.frame, sequence, &reply);
        self.answered = Some(sequence);
    }

    #[inline(never)]
    fn train(&mut self, sequence: u8) -> Result<Reply<'static>, Refusal> {
        let job_bytes = self.job_bytes.ok_or(Refusal::NoJob)?;
        let (line, frame) = (&mut self.line, &mut self.frame);
        let mut tell = |done, all| {
            send(line, frame, sequence, &Reply::Working { done, all });
        };
        let memory = &mut self.memory;
        let brought = training::train(job_bytes, self.names.program, memory, &mut tell)?;
        note(&mut self.arena_used_elements, brought.arena_elements);
        let file = self.memory.workspace.get(brought.file).unwrap_or_default();
        let slot = self.slots.write(file).map_err(|_| Refusal::Flash)?;
        Ok(Reply::Trained(link::Trained {
            loss: brought.loss,
            slot,
            arena_bytes: (brought.arena_elements * size_of::<f32>()) as u32,
            stack_used_bytes: self.line.stack_bytes().1,
        }))
    }
}

fn note(highest: &mut usize, elements: usize) {
    *highest = (*highest).max(elements);
}

fn no_room(need: usize, have: usize) -> Refusal {
    Refusal::NoRoom {
        need: need.min(u32::MAX as usize) as u32,
        have: have as u32,
    }
}

/// The features `[F]` of the sample in `bytes`, at the start of the arena, and how many
/// more elements of it computing them took.
fn features_of<'a>(
    window: Option<Window>,
    features: usize,
    bytes: &[u8],
    arena: &'a mut [f32],
) -> Result<(&'a mut [f32], usize), Refusal> {
    let sample = Floats::new(bytes);
    let elements = window.map_or(features, |window| window.elements());
    let work = window.map_or(0, |window| window.length);
    let have = arena.len();
    let need = features + work;
    if sample.len() < elements {
        return Err(no_room(elements * size_of::<f32>(), bytes.len()));
    }
    if have < need {
        return Err(no_room(need, have));
    }
    let (values, rest) = arena.split_at_mut(features);
    match window {
        Some(window) if window.features() != features => return Err(Refusal::Job),
        Some(window) => window
            .compute(|index| sample.get(index), &mut rest[..work], values)
            .map_err(|_| Refusal::Job)?,
        None => sample.copy_to(values),
    }
    if values.iter().all(|value| value.is_finite()) {
        Ok((values, work))
    } else {
        Err(Refusal::Sample)
    }
}

/// Elements of the arena that labelling one sample takes.
fn predicting_elements(head: &Head<'_>) -> Result<usize, Error> {
    let network = head.network()?;
    let window = Window::from_preprocessing(head.backbone.preprocessing);
    let work = workspace_elements(&network, 1, Kernel::lanes());
    let window = window.map_or(0, |window| window.length);
    let outputs = network.classes() + network.parameter_elements();
    Ok(network.inputs() + window.max(outputs + work))
}

/// Labels the sample in `bytes`, which become the probabilities.
fn predict<'a>(
    file: &[u8],
    bytes: &'a mut [u8],
    arena: &mut [f32],
    used: &mut usize,
) -> Result<Prediction<'a>, Refusal> {
    let head = Head::decode(file).map_err(|_| Refusal::NoHead)?;
    let network = head.network().map_err(|_| Refusal::NoHead)?;
    let (need, have) = (
        predicting_elements(&head).map_err(|_| Refusal::NoHead)?,
        arena.len(),
    );
    if need > have {
        return Err(no_room(need, have));
    }
    note(used, need);
    let (inputs, classes) = (network.inputs(), network.classes());
    let window = Window::from_preprocessing(head.backbone.preprocessing);
    let (features, _) = features_of(window, inputs, bytes, arena)?;
    head.transform.apply(features);
    let unknown_score = head
        .unknown
        .is_known()
        .then(|| head.unknown.score(features));
    let (features, rest) = arena.split_at_mut(inputs);
    let (outputs, rest) = rest.split_at_mut(classes);
    let (parameters, work) = rest.split_at_mut(network.parameter_elements());
    head.parameters.copy_to(parameters);
    let kernel = Kernel::lanes();
    logits(&network, parameters, kernel, features, work, outputs).map_err(|_| Refusal::Head)?;
    probabilities(outputs, classes, head.temperature);
    let mut best = 0;
    for (class, value) in outputs.iter().enumerate() {
        if *value > outputs[best] {
            best = class;
        }
    }
    let doubted = outputs[best] < head.unknown_below;
    let room = bytes.len();
    let places = bytes.get_mut(..classes * size_of::<f32>());
    let places = places.ok_or(no_room(classes * size_of::<f32>(), room))?;
    for (place, value) in places.chunks_exact_mut(4).zip(outputs.iter()) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    Ok(Prediction {
        label: best as u16,
        unknown: unknown_score.map_or(doubted, |score| score > head.unknown.threshold),
        unknown_score,
        probabilities: places,
    })
}

/// What a job takes on a device with these limits: the host asks before it sends anything,
/// the device before it begins.
///
/// # Errors
/// What is too much, or [`Refusal::Job`].
pub fn fit(job: &Job<'_>, limits: &Limits) -> Result<Fit, Refusal> {
    training::fit(job, limits)
}

/// Whether a device with these limits can keep a head file of `head_bytes` and label with
/// it.
///
/// # Errors
/// What is too much, or [`Refusal::Head`].
pub fn holds(head: &Head<'_>, head_bytes: usize, limits: &Limits) -> Result<(), Refusal> {
    let elements = predicting_elements(head).map_err(|_| Refusal::Head)?;
    let window = Window::from_preprocessing(head.backbone.preprocessing);
    let sample = window.map_or(head.backbone.features as usize, |it| it.elements());
    let outputs = head.labels.len();
    for (need, have) in [
        (head_bytes, limits.head_bytes.min(limits.workspace_bytes)),
        (elements, limits.arena_elements),
        (size_of::<f32>() * sample.max(outputs), limits.sample_bytes),
    ] {
        if need > have as usize {
            return Err(no_room(need, have as usize));
        }
    }
    Ok(())
}

// A reply names a slot by one byte.
const _: () = assert!(SLOTS < 256);
