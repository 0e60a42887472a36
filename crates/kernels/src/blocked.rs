//! Convolutions of one image in blocks of channels, for a frozen network.
//!
//! A map of `[channels, height, width]` is kept as `[blocks, height, width, 16]`: 16
//! channels of one pixel stand together (64 bytes, one line of the cache), so that every
//! instruction set loads and stores whole vectors and nothing is reordered between
//! layers. The last block is filled up with zeros.
//!
//! Two shapes of work cover what such a network does: [`Product`] mixes channels (a 1x1
//! convolution is one, and so is any other whose padding stands in memory), [`Depthwise`]
//! keeps them apart. Both add the bias, and clamp the result before it is stored;
//! `Product` can add another map in between, for residual networks.
//!
//! `lanes.rs` is the definition; the other files do the same with one instruction set
//! each and are compared with it. Which layer is which is decided elsewhere, and nothing
//! here allocates.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;
mod tiles;

pub use tiles::{Depthwise, Product};

/// Channels of a block.
pub const BLOCK_CHANNELS: usize = 16;

/// A way to compute convolutions in blocks: an instruction set.
///
/// A value exists only where the CPU that runs the program has the instructions.
#[derive(Clone, Copy)]
pub struct Convolver {
    name: &'static str,
    product: fn(Product<'_>),
    depthwise: fn(Depthwise<'_>),
}

impl Convolver {
    /// Plain Rust, the same bits on every CPU.
    pub fn lanes() -> Self {
        Self {
            name: "lanes",
            product: lanes::product,
            depthwise: lanes::depthwise,
        }
    }

    /// The fastest for the CPU that runs the program.
    pub fn best() -> Self {
        Self::available().last().unwrap_or_else(Self::lanes)
    }

    /// Every one this CPU can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let simd = avx2::detect().into_iter().chain(avx512::detect());
        #[cfg(target_arch = "aarch64")]
        let simd = core::iter::once(neon::CONVOLVER);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let simd = core::iter::empty();
        core::iter::once(Self::lanes()).chain(simd)
    }

    /// The instruction set's name, such as `lanes` or `avx512f`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Computes a [`Product`].
    ///
    /// # Panics
    /// When a slice is too short for the sizes given.
    pub fn product(&self, work: Product<'_>) {
        work.check();
        (self.product)(work);
    }

    /// Computes a [`Depthwise`].
    ///
    /// # Panics
    /// When a slice is too short for the sizes given.
    pub fn depthwise(&self, work: Depthwise<'_>) {
        work.check();
        (self.depthwise)(work);
    }
}

impl core::fmt::Debug for Convolver {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name)
    }
}
