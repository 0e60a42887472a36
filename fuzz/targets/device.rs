//! See `fieldtune_fuzz::device::device`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("device"), |bytes: &[u8]| {
    fieldtune_fuzz::device::device(bytes)
});
