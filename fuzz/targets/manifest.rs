//! See `fieldtune_fuzz::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("manifest"), |bytes: &[u8]| {
    fieldtune_fuzz::manifest(bytes)
});
