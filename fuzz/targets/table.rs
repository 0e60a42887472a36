//! See `fieldtune_fuzz::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("table"), |bytes: &[u8]| {
    fieldtune_fuzz::table(bytes)
});
