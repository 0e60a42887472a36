//! See `fieldtune_fuzz::head_file`; its files are changed by `fieldtune_fuzz::mutate`.
#![no_main]

use fieldtune_fuzz::{head_file, mutate, write_seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(init: write_seeds("head_file"), |bytes: &[u8]| head_file(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let usual = |bytes: &mut Vec<u8>| {
        let size = bytes.len();
        let room = (size + 64).min(max_size.max(size));
        bytes.resize(room.max(1), 0);
        let size = fuzzer_mutate(bytes, size, room);
        bytes.truncate(size);
    };
    let file = mutate::head_file(&data[..size], seed, usual);
    if file.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..file.len()].copy_from_slice(&file);
    file.len()
});
