//! What is particular to QEMU's Arm MPS2 and MPS3 boards: the serial port (Arm's CMSDK
//! UART), where the stack lies, and the memory that stands for flash. The only file with
//! unsafe code; a firmware for another board replaces it and `flash.rs`.

#![allow(unsafe_code)] // registers and linker symbols have no safe form

use core::ptr::{addr_of, read_volatile, write_volatile};
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};
use fieldtune_core::device::{Line, sizes};

/// The board, for people.
pub const NAME: &str = if cfg!(machine = "mps2-an505") {
    "Cortex-M33 (mps2-an505)"
} else if cfg!(machine = "mps3-an547") {
    "Cortex-M55 (mps3-an547)"
} else {
    "Cortex-M4F or M7 (mps2-an386, mps2-an500)"
};

/// Address of the first UART; on the boards with TrustZone its secure alias.
const UART: usize = if cfg!(machine = "mps2-an505") {
    0x5020_0000
} else if cfg!(machine = "mps3-an547") {
    0x5930_3000
} else {
    0x4000_4000
};
const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CONTROL: usize = 0x8;
const BAUD_DIVIDER: usize = 0x10;
/// Bits of the state: the one byte of either buffer is taken.
const SENDING: u32 = 1;
const RECEIVED: u32 = 2;
/// Bits of the control register.
const ENABLE_BOTH: u32 = 3;
/// The least that the hardware takes; QEMU's line has no speed.
const DIVIDER: u32 = 16;

fn register(offset: usize) -> u32 {
    // SAFETY: 1. `UART` is the address of this board's UART, which is always powered;
    // 2. `offset` is one of the aligned registers above; 3. they hold plain numbers.
    unsafe { read_volatile((UART + offset) as *const u32) }
}

fn set_register(offset: usize, value: u32) {
    // SAFETY: as in `register`; and writing these registers moves no memory.
    unsafe { write_volatile((UART + offset) as *mut u32, value) }
}

/// The receiving half of the serial port.
pub struct Uart(());

/// The sending half.
pub struct Sender(());

impl Uart {
    /// Switches the port on, the first time it is called; `None` afterwards.
    pub fn take() -> Option<(Self, Sender)> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        set_register(BAUD_DIVIDER, DIVIDER);
        set_register(CONTROL, ENABLE_BOTH);
        Some((Self(()), Sender(())))
    }

    /// Waits for a byte.
    pub fn read(&self) -> u8 {
        while register(STATE) & RECEIVED == 0 {}
        register(DATA) as u8
    }
}

impl Line for Sender {
    fn send(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while register(STATE) & SENDING != 0 {}
            set_register(DATA, u32::from(*byte));
        }
    }

    fn stack_bytes(&self) -> (u32, u32) {
        unsafe extern "C" {
            static _stack_start: u32;
            static _stack_end: u32;
        }
        // The stack grows from its start down to its end. It was painted before `main`; the
        // lowest word that lost its paint is the deepest that was reached.
        let (high, low) = (addr_of!(_stack_start), addr_of!(_stack_end));
        let words = (high as usize - low as usize) / size_of::<u32>();
        let painted = (0..words).take_while(|word| {
            // SAFETY: 1. the linker puts all words from `_stack_end` to `_stack_start` into
            // RAM; 2. they are aligned; 3. any bits are a number. What the program itself
            // writes there meanwhile only changes the number.
            let value = unsafe { read_volatile(low.add(*word)) };
            value == STACK_PAINT_VALUE
        });
        let used = words - painted.count();
        let bytes = |words: usize| (words * size_of::<u32>()) as u32;
        (bytes(words), bytes(used))
    }
}

/// The memory that stands for flash. What is in it stays when the processor starts anew.
pub fn heads() -> &'static mut [u8] {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    #[unsafe(link_section = ".heads")]
    static mut HEADS: [u8; sizes::FLASH_BYTES] = [0xff; sizes::FLASH_BYTES];
    if TAKEN.swap(true, Ordering::Relaxed) {
        return &mut [];
    }
    // SAFETY: 1. only this line names `HEADS`; 2. it runs once, so there is one reference;
    // 3. any bits are bytes, so it does not matter that nothing initialises the section.
    unsafe { &mut *(&raw mut HEADS) }
}

// A device that meets a defect starts anew: the host asks again, and the head in flash is
// as it was.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}

// SAFETY: the handler only resets the processor; it reads and writes no memory.
#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    SCB::sys_reset()
}
