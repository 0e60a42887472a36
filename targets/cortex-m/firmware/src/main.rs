//! The firmware: gives memory, flash and a serial port to `fieldtune_core`'s state machine
//! and hands it every byte that comes. What is said on the line is in core's `LINK.md`.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;
#[cfg(target_os = "none")]
mod flash;

#[cfg(target_os = "none")]
mod firmware {
    use cortex_m_rt::entry;
    use fieldtune_core::device::{Device, Memory, Names, sizes};

    use crate::board::{self, Uart};
    use crate::flash::EmulatedFlash;

    #[entry]
    fn main() -> ! {
        // The macro makes each of these a mutable reference that exists once.
        static mut JOB: [u8; sizes::JOB_BYTES] = [0; _];
        static mut SAMPLE: [u8; sizes::SAMPLE_BYTES] = [0; _];
        static mut WORKSPACE: [u8; sizes::WORKSPACE_BYTES] = [0; _];
        static mut ARENA: [f32; sizes::ARENA_ELEMENTS] = [0.0; _];
        static mut LABELS: [u16; sizes::SAMPLES] = [0; _];
        static mut ORDER: [u32; sizes::SAMPLES] = [0; _];
        static mut BATCH_LABELS: [u16; sizes::BATCH] = [0; _];
        let memory = Memory {
            job: JOB,
            sample: SAMPLE,
            workspace: WORKSPACE,
            arena: ARENA,
            labels: LABELS,
            order: ORDER,
            batch_labels: BATCH_LABELS,
        };
        let names = Names {
            program: sizes::PROGRAM,
            board: board::NAME,
        };
        let Some((receiver, sender)) = Uart::take() else {
            panic!("the serial port is taken once");
        };
        let flash = EmulatedFlash::new(board::heads());
        let mut device = Device::new(names, memory, flash, sender);
        device.greet();
        loop {
            device.receive(receiver.read());
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program is for a Cortex-M: targets/cortex-m/check builds and runs it");
    std::process::exit(2);
}
