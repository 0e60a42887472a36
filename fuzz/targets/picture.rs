//! See `fieldtune_fuzz::picture`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("picture"), |bytes: &[u8]| {
    fieldtune_fuzz::picture(bytes)
});
