//! See `fieldtune_fuzz::series`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("series"), |bytes: &[u8]| {
    fieldtune_fuzz::series::series(bytes)
});
