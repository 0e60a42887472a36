//! Trains on a Cortex-M, without an operating system or a heap, and writes the report
//! of `fieldtune-reproducible` to the debugger (semihosting). The exit status is 0 when
//! the report is complete.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board {
    use cortex_m_rt::entry;
    use cortex_m_semihosting::{debug, hio};
    use fieldtune_reproducible::{Space, report};
    use panic_semihosting as _;

    #[entry]
    fn main() -> ! {
        // The macro makes this a mutable reference that exists once.
        static mut SPACE: Space = Space::new();
        let mut out = hio::hstdout().expect("a debugger is attached");
        if let Err(failure) = report(SPACE, &mut out) {
            panic!("{failure}");
        }
        debug::exit(debug::EXIT_SUCCESS);
        panic!("the debugger let the program go on after its end");
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program is for a Cortex-M: targets/cortex-m/run-emulated builds and runs it");
    std::process::exit(2);
}
