//! How much memory the project's own firmware gives to what, so that a simulated device
//! refuses what a real one refuses. Made for 256 KiB of RAM; another firmware may choose
//! other sizes, the host asks for them.

/// Program and version, as device and head files name it.
pub const PROGRAM: &str = concat!("fieldtune device ", env!("CARGO_PKG_VERSION"));
/// Room for a job.
pub const JOB_BYTES: usize = 4 * 1024;
/// Room for one sample: 2048 features.
pub const SAMPLE_BYTES: usize = 8 * 1024;
/// Room for the features of all samples.
pub const WORKSPACE_BYTES: usize = 86 * 1024;
/// The training arena.
pub const ARENA_ELEMENTS: usize = 22 * 1024;
/// The most samples.
pub const SAMPLES: usize = 512;
/// The largest batch.
pub const BATCH: usize = 64;
/// What the flash erases at a time.
pub const PAGE_BYTES: usize = 4 * 1024;
/// The flash for both heads.
pub const FLASH_BYTES: usize = 256 * 1024;
