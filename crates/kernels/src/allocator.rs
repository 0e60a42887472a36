//! The one setting of the C library's allocator that a small board needs. It stands here
//! since a call into C is unsafe code.

/// Has every block of so many bytes and more come from the system, and go back to it when it
/// is freed. Without this, glibc raises its limit to the size of each large block that is
/// freed, 32 MB at most, and keeps what lies between others: loading a network then leaves
/// half as much again as it needs. To be called before memory is taken.
///
/// Returns whether the setting was taken; `false` where the C library is not glibc.
pub fn return_blocks_of(bytes: u32) -> bool {
    set(bytes)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(bytes: u32) -> bool {
    use core::ffi::c_int;

    /// `M_MMAP_THRESHOLD` of malloc.h.
    const MMAP_THRESHOLD: c_int = -3;
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    let Ok(bytes) = c_int::try_from(bytes) else {
        return false;
    };
    // SAFETY: the signature is that of glibc's malloc.h; the function takes two numbers,
    // keeps no pointer, and locks what it changes.
    unsafe { mallopt(MMAP_THRESHOLD, bytes) == 1 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_bytes: u32) -> bool {
    false
}
