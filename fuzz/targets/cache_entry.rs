//! See `fieldtune_fuzz::cache_entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("cache_entry"), |bytes: &[u8]| {
    fieldtune_fuzz::cache_entry(bytes)
});
