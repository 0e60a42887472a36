//! Tells the linker where the memory of the machine in `FIELDTUNE_MACHINE` lies, one of
//! QEMU's (mps2-an386 where none is named). Does nothing for other targets.

use std::path::PathBuf;
use std::{env, fs};

/// A machine's memory: where code, data and the emulated flash begin.
struct Machine {
    name: &'static str,
    code: u32,
    data: u32,
    flash: u32,
}

/// All give the firmware 512 KiB for code and 256 KiB of RAM, whatever more they have; the
/// flash for heads is emulated in RAM behind that.
const MACHINES: [Machine; 4] = [
    Machine {
        name: "mps2-an386",
        code: 0,
        data: 0x2000_0000,
        flash: 0x2004_0000,
    },
    Machine {
        name: "mps2-an500",
        code: 0,
        data: 0x2000_0000,
        flash: 0x2004_0000,
    },
    Machine {
        name: "mps2-an505",
        code: 0x1000_0000,
        data: 0x3800_0000,
        flash: 0x3804_0000,
    },
    Machine {
        name: "mps3-an547",
        code: 0,
        data: 0x2000_0000,
        flash: 0x2004_0000,
    },
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FIELDTUNE_MACHINE");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let name = env::var("FIELDTUNE_MACHINE").unwrap_or_else(|_| MACHINES[0].name.into());
    let machine = MACHINES.iter().find(|machine| machine.name == name);
    let Some(machine) = machine else {
        panic!("FIELDTUNE_MACHINE={name}: build.rs of the firmware does not know it");
    };
    let folder = env::var_os("OUT_DIR").expect("cargo names a folder for what is made");
    let folder = PathBuf::from(folder);
    fs::write(folder.join("memory.x"), layout(machine)).expect("the folder can be written");
    println!("cargo:rustc-cfg=machine=\"{}\"", machine.name);
    // cortex-m-rt's script link.x reads the memory.x there.
    println!("cargo:rustc-link-search={}", folder.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}

/// The stack lies below all data: one that grows too long leaves RAM and stops the processor
/// instead of writing over the samples.
const STACK_BYTES: u32 = 64 * 1024;

/// The linker script. The section stands after what `link.x` takes the end of the stack
/// from. What is in `.heads` is not touched when the program starts.
fn layout(machine: &Machine) -> String {
    format!(
        "MEMORY
{{
  FLASH : ORIGIN = {:#x}, LENGTH = 512K
  STACK : ORIGIN = {:#x}, LENGTH = 64K
  RAM   : ORIGIN = {:#x}, LENGTH = 192K
  HEADS : ORIGIN = {:#x}, LENGTH = 256K
}}
_stack_end = ORIGIN(STACK);
_stack_start = ORIGIN(STACK) + LENGTH(STACK);
SECTIONS
{{
  .heads (NOLOAD) : ALIGN(4) {{ *(.heads); }} > HEADS
}} INSERT AFTER .got;
",
        machine.code,
        machine.data,
        machine.data + STACK_BYTES,
        machine.flash
    )
}
