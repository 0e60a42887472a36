//! The numbers room of fieldtune: matrix products, square root, exp and ln.
//!
//! [`multiply`] is the one entry for products. It cuts the work into tiles and
//! hands each tile to a [`Kernel`]: [`lanes`](Kernel::lanes), plain Rust, is the
//! definition; the others (`avx2.rs`, `avx512.rs`, `neon.rs`) do the same with one
//! instruction set each and are compared with it.
//!
//! Words: `A` is `[m, k]`, `B` is `[k, n]`, `C` is `[m, n]`; strides are in
//! elements; a *panel* is a block of columns of `B`, packed so that one row of
//! the panel stands together in memory.
//!
//! What is defined: every element of `C` is summed over `k` in order. `lanes`
//! multiplies, then adds, and so gives the same bits on every CPU. The others
//! use fused multiply-add where the CPU has it.
//!
//! [`return_blocks_of`] sets the allocator of the C library; it is here for the reason that
//! this is the only room with unsafe code. Nothing here knows what a weight, a
//! loss or a file is, and nothing allocates (except `sgemm`, behind the feature
//! of that name, for large products outside the training step).

#![no_std]
#![allow(unsafe_code)] // the one room that may

mod allocator;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocked;
mod lanes;
mod math;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod product;
#[cfg(feature = "sgemm")]
mod sgemm;

pub use allocator::return_blocks_of;
pub use blocked::{BLOCK_CHANNELS, Convolver, Depthwise, Product};
pub use math::{exp, ln, sqrt};
pub use matrix::Matrix;
pub use product::{Kernel, multiply, multiply_strided};
#[cfg(feature = "sgemm")]
pub use sgemm::sgemm;
