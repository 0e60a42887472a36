//! A device in this process: the firmware's own state machine on memory of the size that
//! the firmware has, with its flash in a file or in memory. For trying without a board, and
//! to compare a board with.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use fieldtune_core::device::sizes;
use fieldtune_core::device::{Broken, Device, Line, Memory, Names, Storage, WORD_BYTES};

use super::port::Port;
use crate::error::{Error, ErrorKind, Result};
use crate::store;

/// A simulated device and what it has sent.
pub(super) struct Simulated {
    device: Device<'static, Flash, Sent>,
    sent: Rc<RefCell<VecDeque<u8>>>,
}

impl Simulated {
    /// A device whose flash is in `file`, or in memory. A file that is not there is an
    /// empty flash.
    pub(super) fn new(file: Option<&Path>) -> Result<Self> {
        let sent = Rc::new(RefCell::new(VecDeque::new()));
        let names = Names {
            program: sizes::PROGRAM,
            board: "simulated",
        };
        // One device a process, until its end.
        let memory = Memory {
            job: vec![0; sizes::JOB_BYTES].leak(),
            sample: vec![0; sizes::SAMPLE_BYTES].leak(),
            workspace: vec![0; sizes::WORKSPACE_BYTES].leak(),
            arena: vec![0.0; sizes::ARENA_ELEMENTS].leak(),
            labels: vec![0; sizes::SAMPLES].leak(),
            order: vec![0; sizes::SAMPLES].leak(),
            batch_labels: vec![0; sizes::BATCH].leak(),
        };
        let flash = Flash::open(file)?;
        let line = Sent(Rc::clone(&sent));
        Ok(Self {
            device: Device::new(names, memory, flash, line),
            sent,
        })
    }
}

impl Port for Simulated {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        bytes.iter().for_each(|byte| self.device.receive(*byte));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], _: Duration) -> std::io::Result<usize> {
        let mut sent = self.sent.borrow_mut();
        let count = buffer.len().min(sent.len());
        for (place, byte) in buffer.iter_mut().zip(sent.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

/// What the device has said and the host has not read.
struct Sent(Rc<RefCell<VecDeque<u8>>>);

impl Line for Sent {
    fn send(&mut self, bytes: &[u8]) {
        self.0.borrow_mut().extend(bytes);
    }

    fn stack_bytes(&self) -> (u32, u32) {
        (0, 0)
    }
}

struct Flash {
    bytes: Vec<u8>,
    file: Option<PathBuf>,
}

impl Flash {
    fn open(file: Option<&Path>) -> Result<Self> {
        let empty = vec![0xff; sizes::FLASH_BYTES];
        let bytes = match file {
            Some(file) if file.exists() => store::read(file, sizes::FLASH_BYTES as u64)?,
            _ => empty,
        };
        if let Some(file) = file.filter(|_| bytes.len() != sizes::FLASH_BYTES) {
            let what = format_args!("is no flash of a simulated device ({} bytes)", bytes.len());
            let remedy = "name a new file, or one made by `--port simulated:FILE`";
            return Err(Error::at(ErrorKind::BadInput, file, what, remedy));
        }
        Ok(Self {
            bytes,
            file: file.map(Path::to_path_buf),
        })
    }
}

impl Drop for Flash {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A flash that cannot be kept is a device that forgets; the head was sent to
            // the host already.
            let _ = store::write_atomically(file, &self.bytes);
        }
    }
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn page_bytes(&self) -> usize {
        sizes::PAGE_BYTES
    }

    fn erase(&mut self, offset_bytes: usize) -> std::result::Result<(), Broken> {
        let end = offset_bytes + sizes::PAGE_BYTES;
        let page = self.bytes.get_mut(offset_bytes..end).ok_or(Broken)?;
        page.fill(0xff);
        Ok(())
    }

    fn program(
        &mut self,
        offset_bytes: usize,
        word: &[u8; WORD_BYTES],
    ) -> std::result::Result<(), Broken> {
        let end = offset_bytes + WORD_BYTES;
        let place = self.bytes.get_mut(offset_bytes..end).ok_or(Broken)?;
        // Flash can clear bits, not set them.
        place
            .iter_mut()
            .zip(word)
            .for_each(|(byte, new)| *byte &= new);
        Ok(())
    }
}
