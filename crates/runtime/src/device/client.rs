//! The host's side of the line: asks a device, waits for its answer, asks again when it was
//! lost. What is asked for which purpose is in `device.rs`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fieldtune_core::link::{
    self, DATA_BYTES, Limits, MAX_FRAME_BYTES, PROTOCOL, Place, Receiver, Refusal, Reply, Request,
    SLOTS, SlotState, UNREADABLE,
};

use super::port::{self, Port};
use crate::error::{Error, ErrorKind, Result};

/// A device answers within this time, or says that it is at work.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same while it trains: between two signs of life lies a part of the training.
const TRAINING_PATIENCE: Duration = Duration::from_secs(120);
/// No microcontroller keeps a longer head.
const MAX_HEAD_BYTES: usize = 1 << 24;
/// How often something is asked before the device is given up.
const ATTEMPTS: usize = 4;

/// Who a device is; see [`link::Info`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Program and version.
    pub program: String,
    /// The board.
    pub board: String,
    /// What it can hold.
    pub limits: Limits,
    /// Size of its stack in bytes, 0 where it does not know.
    pub stack_bytes: u32,
    /// The most of the stack that was in use since it started, in bytes.
    pub stack_used_bytes: u32,
    /// The most of the arena that was in use since it started, in bytes.
    pub arena_used_bytes: u32,
}

/// A device at the other end of a line.
pub struct Client {
    port: Box<dyn Port>,
    name: PathBuf,
    receiver: Receiver,
    sequence: u8,
}

impl Client {
    /// Opens `port` and makes sure that a device of this protocol answers. Returns what it
    /// said of itself. A port is the path of a serial device such as `/dev/ttyACM0`, with its
    /// speed `baud`; or `simulated`, a device in this process; or `simulated:FILE`, one whose
    /// flash is kept in FILE.
    ///
    /// # Errors
    /// `Failed` when the port cannot be opened or nothing answers; `Mismatch` when the
    /// device speaks another version of the protocol.
    pub fn open(port: &str, baud: u32) -> Result<(Self, Info)> {
        let mut client = Self {
            port: port::open(port, baud)?,
            name: port.into(),
            receiver: Receiver::new(),
            sequence: 0,
        };
        // Ends whatever a host before left half-said.
        client.send(&[0])?;
        let info = client.info()?;
        Ok((client, info))
    }

    /// The port's name, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// What the device says of itself.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn info(&mut self) -> Result<Info> {
        let message = self.ask(&Request::Info)?;
        let Ok(Reply::Info(info)) = reply(&message) else {
            return Err(self.confused());
        };
        if info.protocol != PROTOCOL {
            let what = format_args!(
                "speaks protocol {} ({}), this program {PROTOCOL}",
                info.protocol, info.program
            );
            let remedy = "write the firmware of the same version to the device";
            return Err(Error::at(ErrorKind::Mismatch, &self.name, what, remedy));
        }
        Ok(Info {
            program: info.program.into(),
            board: info.board.into(),
            limits: info.limits,
            stack_bytes: info.stack_bytes,
            stack_used_bytes: info.stack_used_bytes,
            arena_used_bytes: info.arena_used_bytes,
        })
    }

    /// What the slots of the flash hold, and which is in use.
    ///
    /// # Errors
    /// `Failed` when the line fails.
    pub fn slots(&mut self) -> Result<([Option<SlotState>; SLOTS], Option<usize>)> {
        let message = self.ask(&Request::Slots)?;
        match reply(&message) {
            Ok(Reply::Slots { slots, active }) => Ok((slots, active.map(usize::from))),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes `bytes` into the device's memory, in as many pieces as it takes.
    ///
    /// # Errors
    /// `OverBudget` when they do not fit, `Failed` when the line fails.
    pub fn write(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        for (index, piece) in bytes.chunks(DATA_BYTES).enumerate() {
            self.done(&Request::Write {
                place,
                offset_bytes: (index * DATA_BYTES) as u32,
                bytes: piece,
            })?;
        }
        Ok(())
    }

    /// Asks for what is only to be done.
    ///
    /// # Errors
    /// What the device refuses, or `Failed` when the line fails.
    pub fn done(&mut self, request: &Request<'_>) -> Result<()> {
        let message = self.ask(request)?;
        match reply(&message) {
            Ok(Reply::Done) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The head file in use, whole.
    ///
    /// # Errors
    /// `BadInput` when there is none, `Failed` when the line fails.
    pub fn head(&mut self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        loop {
            let message = self.ask(&Request::Read {
                offset_bytes: head.len() as u32,
                length_bytes: DATA_BYTES as u16,
            })?;
            match reply(&message) {
                Ok(Reply::Bytes([])) => return Ok(head),
                Ok(Reply::Bytes(bytes)) if head.len() < MAX_HEAD_BYTES => {
                    head.extend_from_slice(bytes);
                }
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Asks, and returns the answer's message.
    ///
    /// # Errors
    /// `Failed` when there is none.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Vec<u8>> {
        self.ask_at_length(request, PATIENCE, &mut |_, _| ())
    }

    /// Asks for a training, and returns the answer's message. `progress` gets samples passed
    /// and samples to pass.
    ///
    /// # Errors
    /// `Failed` when there is no answer.
    pub fn train(&mut self, progress: &mut dyn FnMut(u32, u32)) -> Result<Vec<u8>> {
        self.ask_at_length(&Request::Train, TRAINING_PATIENCE, progress)
    }

    fn ask_at_length(
        &mut self,
        request: &Request<'_>,
        patience: Duration,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<u8>> {
        self.sequence = self.sequence % u8::MAX + 1;
        let mut frame = [0; MAX_FRAME_BYTES];
        let length = link::encode(self.sequence, request, &mut frame);
        let length = length.ok_or_else(|| self.confused())?;
        for _ in 0..ATTEMPTS {
            self.send(&frame[..length])?;
            if let Some(message) = self.answer(patience, progress)? {
                return Ok(message);
            }
        }
        let remedy = "check cable, --baud, and that the firmware of fieldtune runs on the device";
        let what = "no answer";
        Err(Error::at(ErrorKind::Failed, &self.name, what, remedy))
    }

    /// Waits for the answer to the last request. `None` when it did not come, or the device
    /// could not read the request.
    fn answer(
        &mut self,
        patience: Duration,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Option<Vec<u8>>> {
        let mut heard = Instant::now();
        let mut buffer = [0; MAX_FRAME_BYTES];
        while heard.elapsed() < patience {
            let wait = patience.saturating_sub(heard.elapsed());
            let count = self.port.receive(&mut buffer, wait);
            let count = count.map_err(|error| self.lost(&error))?;
            for byte in &buffer[..count] {
                // A damaged frame is as good as none: the request is sent again.
                let Some(Ok(message)) = self.receiver.push(*byte) else {
                    continue;
                };
                match link::decode::<Reply<'_>>(message) {
                    Ok((UNREADABLE, _)) => return Ok(None),
                    Ok((sequence, Reply::Working { done, all })) if sequence == self.sequence => {
                        progress(done, all);
                        heard = Instant::now();
                    }
                    Ok((sequence, _)) if sequence == self.sequence => {
                        return Ok(Some(message.to_vec()));
                    }
                    // An answer to what was given up, or no message at all.
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.port.send(bytes);
        sent.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &std::io::Error) -> Error {
        let what = format_args!("the line is gone: {error}");
        Error::at(
            ErrorKind::Failed,
            &self.name,
            what,
            "plug the device in again",
        )
    }

    fn confused(&self) -> Error {
        let what = "answers something else than was asked";
        let remedy = "write the firmware of the same version to the device";
        Error::at(ErrorKind::Failed, &self.name, what, remedy)
    }

    /// What is wrong with an answer that was not hoped for.
    pub fn unexpected(&self, reply: &std::result::Result<Reply<'_>, link::Fault>) -> Error {
        match reply {
            Ok(Reply::Refused(refusal)) => refused(*refusal, &self.name),
            _ => self.confused(),
        }
    }
}

/// The reply in an answer's message.
pub fn reply(message: &[u8]) -> std::result::Result<Reply<'_>, link::Fault> {
    link::decode(message).map(|(_, reply)| reply)
}

/// A device's refusal as the command says it.
pub fn refused(refusal: Refusal, port: &Path) -> Error {
    let (kind, what, remedy) = match refusal {
        Refusal::NoRoom { need, have } => (
            ErrorKind::OverBudget,
            format!("this is too much for the device: it needs {need}, there are {have}"),
            "give fewer samples, a smaller --batch, or a --cut with fewer features",
        ),
        Refusal::Job => (
            ErrorKind::Usage,
            "the device cannot train this head".into(),
            "choose another --head or --cut",
        ),
        Refusal::Sample => (
            ErrorKind::BadInput,
            "a sample has values that are no finite numbers".into(),
            "look for absurd values in it",
        ),
        Refusal::Label | Refusal::NoJob | Refusal::SampleMissing { .. } => (
            ErrorKind::Failed,
            "the device lost what was sent to it".into(),
            "run again; it may have started anew",
        ),
        Refusal::Diverged => (
            ErrorKind::Failed,
            "training diverged: the loss is not a number".into(),
            "lower --lambda or --adversarial, or look for samples with absurd values",
        ),
        Refusal::NoHead => (
            ErrorKind::BadInput,
            "the device has no head".into(),
            "train one with `fieldtune device train`, or load one with `fieldtune device load`",
        ),
        Refusal::Head => (
            ErrorKind::BadInput,
            "the head did not arrive whole, or is of another version".into(),
            "run again, or write the firmware of the same version to the device",
        ),
        Refusal::Flash => (
            ErrorKind::Failed,
            "the device's flash does not keep what is written to it".into(),
            "run again; if it stays, the flash is worn out",
        ),
        Refusal::Unreadable => (
            ErrorKind::Failed,
            "the line garbles what is sent".into(),
            "check the cable, or lower --baud",
        ),
    };
    Error::at(kind, port, what, remedy)
}
