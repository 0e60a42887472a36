//! The one error type of the core: small, copyable, without text of its own.

/// Why the core refused. The runtime adds the file's name and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice is shorter than the plan asks for; both in elements.
    NoRoom {
        /// Elements needed.
        need: usize,
        /// Elements given.
        have: usize,
    },
    /// The layer table is empty, or a layer cannot follow the one before it.
    LayerTable,
    /// More layers than [`crate::network::MAX_LAYERS`].
    TooManyLayers,
    /// More classes than [`crate::head::MAX_CLASSES`], or fewer than two.
    Classes,
    /// A batch of no rows, or of more rows than planned.
    Batch,
    /// A label that is not below the number of classes.
    Label,
    /// The loss is no longer a finite number: the learning rate is too large, or
    /// the features hold infinities.
    Diverged,
    /// Not a head file: the first bytes are others.
    NotAHead,
    /// A head file of another format version.
    Version {
        /// The version the file states.
        found: u16,
    },
    /// The file ends early, or has bytes to spare.
    Length,
    /// The checksum does not match: the file is damaged.
    Checksum,
    /// The content contradicts itself, such as weights of the wrong size.
    Content,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRoom { need, have } => {
                write!(f, "needs {need} elements of memory, has {have}")
            }
            Self::LayerTable => f.write_str("the layers do not fit together"),
            Self::TooManyLayers => {
                write!(f, "more than {} layers", crate::network::MAX_LAYERS)
            }
            Self::Classes => {
                write!(f, "needs 2 to {} classes", crate::head::MAX_CLASSES)
            }
            Self::Batch => f.write_str("the batch is empty or larger than planned"),
            Self::Label => f.write_str("a label is out of range"),
            Self::Diverged => f.write_str("training diverged: the loss is not a number"),
            Self::NotAHead => f.write_str("not a fieldtune head file"),
            Self::Version { found } => write!(
                f,
                "head format {found}, this program reads {}",
                crate::head::FORMAT
            ),
            Self::Length => f.write_str("the head file is cut short or has extra bytes"),
            Self::Checksum => f.write_str("the head file is damaged: its checksum does not match"),
            Self::Content => f.write_str("the head file contradicts itself"),
        }
    }
}

impl core::error::Error for Error {}
