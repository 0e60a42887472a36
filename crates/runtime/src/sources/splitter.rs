//! What makes samples of the bytes of a source.

use crate::error::Result;

/// What bytes brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A sample, as the bytes of a file of its kind.
    Sample(Vec<u8>),
    /// Something to tell the user.
    Note(String),
}

/// Cuts a stream of bytes into samples. Memory is bounded, whatever the bytes.
pub trait Splitter: Send {
    /// Takes the next bytes and gives what they complete to `found`.
    ///
    /// # Errors
    /// When the stream cannot be used at all, such as one of another format.
    fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> Result<()>;

    /// The source begins anew, with its header if it has one.
    fn begin(&mut self);

    /// What came so far is not to be part of a sample; the stream goes on.
    fn clear(&mut self);
}
