//! A microcontroller at the end of a line on which a stranger talks. The bytes are records:
//! one that says what comes, two with its length, then either bytes as they go over the line,
//! or a message that is framed with a right checksum, or an answer for the host to read.

use fieldtune_core::device::{Device, Memory, Names};
use fieldtune_core::link::{self, Job, MAX_FRAME_BYTES, Place, Receiver, Reply, Request};
use fieldtune_tests::devices::{Flash, Sent};

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of the host, to be framed.
    Message,
    /// Bytes on the line to the device.
    Line,
    /// Bytes on the line to the host.
    Answer,
}

const KINDS: [Kind; 3] = [Kind::Message, Kind::Line, Kind::Answer];

/// A record as it stands in a case.
pub fn record(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let number = KINDS.iter().position(|it| *it == kind).unwrap_or(0);
    let length = (bytes.len() as u16).to_le_bytes();
    [&[number as u8], &length[..], bytes].concat()
}

fn next_record<'a>(bytes: &mut &'a [u8]) -> Option<(Kind, &'a [u8])> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
    let (record, rest) = rest.split_at(length);
    *bytes = rest;
    Some((KINDS[usize::from(head[0]) % KINDS.len()], record))
}

/// Most passes over all samples that a training may ask for: more only take time.
const MAX_EPOCHS: u32 = 20;

/// Bytes of a job's memory.
const JOB_BYTES: usize = 1000;

/// One conversation.
pub fn device(mut bytes: &[u8]) {
    let (mut job, mut sample, mut workspace) = (vec![0; JOB_BYTES], vec![0; 2000], vec![0; 16_000]);
    let (mut arena, mut labels) = (vec![0.0; 8000], vec![0; 60]);
    let (mut order, mut batch_labels) = (vec![0; 60], vec![0; 16]);
    let memory = Memory {
        job: &mut job,
        sample: &mut sample,
        workspace: &mut workspace,
        arena: &mut arena,
        labels: &mut labels,
        order: &mut order,
        batch_labels: &mut batch_labels,
    };
    let names = Names {
        program: "test",
        board: "desk",
    };
    let mut device = Device::new(names, memory, Flash::new(4096, 256), Sent::default());
    let mut patience = Patience::default();
    let mut frame = [0; MAX_FRAME_BYTES];
    while let Some((kind, record)) = next_record(&mut bytes) {
        match kind {
            Kind::Answer => answer(record),
            // A frame among these bytes may be any request: only short ones, which cannot
            // hold a job.
            Kind::Line => record
                .iter()
                .take(64)
                .for_each(|byte| device.receive(*byte)),
            Kind::Message if patience.has(record) => {
                let framed = link::encode_bytes(record, &mut frame);
                let framed = framed.map_or(&[][..], |length| &frame[..length]);
                framed.iter().for_each(|byte| device.receive(*byte));
            }
            Kind::Message => {}
        }
    }
}

/// What the host does with bytes of a device.
fn answer(bytes: &[u8]) {
    let mut receiver = Receiver::new();
    for byte in bytes {
        if let Some(Ok(message)) = receiver.push(*byte) {
            let _ = link::decode::<Reply<'_>>(message);
        }
    }
    let _ = link::decode::<Reply<'_>>(bytes);
}

/// Knows the job that the device was told, so as not to wait for a training that is legal
/// and long.
struct Patience {
    job: Vec<u8>,
    begun: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            job: vec![0; JOB_BYTES],
            begun: 0,
        }
    }
}

impl Patience {
    fn has(&mut self, message: &[u8]) -> bool {
        match link::decode::<Request<'_>>(message) {
            Ok((
                _,
                Request::Write {
                    place: Place::Job,
                    offset_bytes,
                    bytes,
                },
            )) => {
                let start = offset_bytes as usize;
                let end = start.saturating_add(bytes.len());
                if let Some(place) = self.job.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
                true
            }
            Ok((_, Request::Begin { job_bytes })) => {
                self.begun = job_bytes as usize;
                true
            }
            Ok((_, Request::Train)) => {
                let job = self.job.get(..self.begun).map(Job::decode);
                let short = |job: &Job<'_>| {
                    let steps = job.training.adversary.map_or(0, |it| it.steps);
                    job.training.epochs.saturating_mul(1 + steps) <= MAX_EPOCHS
                };
                !matches!(job, Some(Ok(job)) if !short(&job))
            }
            _ => true,
        }
    }
}
