//! A layer as it stands in the head file. Windows with gaps have kinds of their own, so
//! that tables without them are written as they always were.

use super::{Convolution, Layer, Shape, Window};
use serde::{Deserialize, Serialize};

/// The order of the variants is the file's number of a kind: new ones go to the end.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Written {
    Dense { inputs: u32, outputs: u32 },
    Relu,
    Input(Shape),
    Convolution(Convolution),
    BatchNorm { channels: u32 },
    Relu6,
    HardSwish,
    Silu,
    GlobalAveragePool,
    MaxPool(Window),
    Flatten,
    Dropout { permille: u16 },
    Add { from: u8 },
    RootLength,
    DilatedConvolution(Convolution, [u8; 2]),
    DilatedMaxPool(Window, [u8; 2]),
    Branch { from: u8 },
}

impl From<Layer> for Written {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::Dense { inputs, outputs } => Self::Dense { inputs, outputs },
            Layer::Relu => Self::Relu,
            Layer::Input(shape) => Self::Input(shape),
            Layer::Convolution(sizes) if sizes.window.is_dilated() => {
                Self::DilatedConvolution(sizes, sizes.window.dilation)
            }
            Layer::Convolution(sizes) => Self::Convolution(sizes),
            Layer::BatchNorm { channels } => Self::BatchNorm { channels },
            Layer::Relu6 => Self::Relu6,
            Layer::HardSwish => Self::HardSwish,
            Layer::Silu => Self::Silu,
            Layer::GlobalAveragePool => Self::GlobalAveragePool,
            Layer::MaxPool(window) if window.is_dilated() => {
                Self::DilatedMaxPool(window, window.dilation)
            }
            Layer::MaxPool(window) => Self::MaxPool(window),
            Layer::Flatten => Self::Flatten,
            Layer::Dropout { permille } => Self::Dropout { permille },
            Layer::Add { from } => Self::Add { from },
            Layer::RootLength => Self::RootLength,
            Layer::Branch { from } => Self::Branch { from },
        }
    }
}

impl From<Written> for Layer {
    fn from(written: Written) -> Self {
        match written {
            Written::Dense { inputs, outputs } => Self::Dense { inputs, outputs },
            Written::Relu => Self::Relu,
            Written::Input(shape) => Self::Input(shape),
            Written::Convolution(sizes) => Self::Convolution(sizes),
            Written::BatchNorm { channels } => Self::BatchNorm { channels },
            Written::Relu6 => Self::Relu6,
            Written::HardSwish => Self::HardSwish,
            Written::Silu => Self::Silu,
            Written::GlobalAveragePool => Self::GlobalAveragePool,
            Written::MaxPool(window) => Self::MaxPool(window),
            Written::Flatten => Self::Flatten,
            Written::Dropout { permille } => Self::Dropout { permille },
            Written::Add { from } => Self::Add { from },
            Written::RootLength => Self::RootLength,
            Written::DilatedConvolution(mut sizes, dilation) => {
                sizes.window.dilation = dilation;
                Self::Convolution(sizes)
            }
            Written::DilatedMaxPool(mut window, dilation) => {
                window.dilation = dilation;
                Self::MaxPool(window)
            }
            Written::Branch { from } => Self::Branch { from },
        }
    }
}
