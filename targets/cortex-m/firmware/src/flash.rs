//! Flash for heads, emulated in RAM: QEMU's boards have none that can be written. On a real
//! board this file is replaced by one that calls its flash driver.

use fieldtune_core::device::{Broken, Storage, WORD_BYTES, sizes};

/// RAM that behaves as flash does: erasing sets all bits of a page, writing clears some.
pub struct EmulatedFlash {
    bytes: &'static mut [u8],
}

impl EmulatedFlash {
    /// Flash with whatever is in `bytes`.
    pub fn new(bytes: &'static mut [u8]) -> Self {
        Self { bytes }
    }
}

impl Storage for EmulatedFlash {
    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn page_bytes(&self) -> usize {
        sizes::PAGE_BYTES
    }

    fn erase(&mut self, offset_bytes: usize) -> Result<(), Broken> {
        let end = offset_bytes + sizes::PAGE_BYTES;
        let page = self.bytes.get_mut(offset_bytes..end).ok_or(Broken)?;
        page.fill(0xff);
        Ok(())
    }

    fn program(&mut self, offset_bytes: usize, word: &[u8; WORD_BYTES]) -> Result<(), Broken> {
        let end = offset_bytes + WORD_BYTES;
        let place = self.bytes.get_mut(offset_bytes..end).ok_or(Broken)?;
        for (byte, new) in place.iter_mut().zip(word) {
            *byte &= new;
        }
        Ok(())
    }
}
