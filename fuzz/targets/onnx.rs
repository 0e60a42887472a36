//! See `fieldtune_fuzz::onnx`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fieldtune_fuzz::write_seeds("onnx"), |bytes: &[u8]| {
    fieldtune_fuzz::onnx(bytes)
});
