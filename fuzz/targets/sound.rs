//! See `fieldtune_fuzz::sound`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("sound"), |bytes: &[u8]| {
    fieldtune_fuzz::sound(bytes)
});
