//! The kinds of layers: their sizes, what shape they make of a shape, how many
//! parameters they own. Their arithmetic is in `layers/`.

mod written;

use serde::{Deserialize, Serialize};
use written::Written;

/// The most elements of one sample's tensor, and of one layer's parameters: a
/// quarter of what a 32-bit CPU can address in f32, over 16. Sums of a few sizes
/// cannot overflow there, whatever a hostile file states.
pub(crate) const MAX_ELEMENTS: u64 = (u32::MAX / 64) as u64;

/// Shape of one sample: `[channels, rows, columns]`, row-major. A plain vector has
/// one row and one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Channels, or the elements of a plain vector.
    pub channels: u32,
    /// Height of the map.
    pub rows: u32,
    /// Width of the map.
    pub columns: u32,
}

impl Shape {
    /// A plain vector.
    pub const fn flat(elements: u32) -> Self {
        Self::map(elements, 1, 1)
    }

    /// A map of `channels`, each `rows` by `columns`.
    pub const fn map(channels: u32, rows: u32, columns: u32) -> Self {
        Self {
            channels,
            rows,
            columns,
        }
    }

    /// Elements of one sample.
    pub fn elements(&self) -> usize {
        self.channels as usize * self.positions()
    }

    /// Positions of one channel.
    pub fn positions(&self) -> usize {
        self.rows as usize * self.columns as usize
    }

    /// Whether it is a plain vector.
    pub fn is_flat(&self) -> bool {
        self.positions() == 1
    }

    /// Whether it has elements, and not too many to count.
    pub(crate) fn is_sound(&self) -> bool {
        let product = [self.rows, self.columns]
            .iter()
            .try_fold(u64::from(self.channels), |all, size| {
                all.checked_mul(u64::from(*size))
            });
        product.is_some_and(|elements| (1..=MAX_ELEMENTS).contains(&elements))
    }
}

/// A window that slides over a map, as in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [u8; 2],
    /// Steps down and right.
    pub stride: [u8; 2],
    /// Zeros (or, for a maximum, nothing) added above, left, below and right.
    pub padding: [u8; 4],
    /// From one element of the kernel to the next, down and right: 1 where the kernel has
    /// no gaps, and where it has one element only. Stands apart in the head file.
    #[serde(skip, default = "together")]
    pub dilation: [u8; 2],
}

/// The dilation of a kernel without gaps.
const fn together() -> [u8; 2] {
    [1; 2]
}

impl Window {
    /// A square window of `size`, moved by `stride`, with `padding` on every side.
    pub const fn square(size: u8, stride: u8, padding: u8) -> Self {
        Self {
            kernel: [size; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: together(),
        }
    }

    /// Whether the kernel has gaps.
    pub fn is_dilated(&self) -> bool {
        self.dilation != together()
    }

    /// Positions in the window.
    pub fn positions(&self) -> usize {
        usize::from(self.kernel[0]) * usize::from(self.kernel[1])
    }

    /// Whether input and output positions are the same, one by one.
    pub fn is_pointwise(&self) -> bool {
        *self == Self::square(1, 1, 0)
    }

    /// Rows and columns of the output over a map of `shape`; `None` where the window
    /// does not fit or stands wholly in the padding somewhere.
    pub fn output(&self, shape: Shape) -> Option<[u32; 2]> {
        let mut sizes = [0; 2];
        for (axis, size) in [shape.rows, shape.columns].into_iter().enumerate() {
            let (kernel, gap) = (self.kernel[axis], u32::from(self.dilation[axis]));
            let [before, after] = [self.padding[axis], self.padding[axis + 2]].map(u32::from);
            // A map shorter than the gap could fall between two elements.
            let longest = if kernel == 1 { 1 } else { size };
            let gap_fits = (1..=longest).contains(&gap);
            let reach = u32::from(kernel.checked_sub(1)?) * gap + 1;
            if !gap_fits || self.stride[axis] == 0 || before >= reach || after >= reach {
                return None;
            }
            let room = size.checked_add(before + after)?.checked_sub(reach)?;
            sizes[axis] = room / u32::from(self.stride[axis]) + 1;
        }
        Some(sizes)
    }
}

/// Sizes of a convolution: weights `[outputs, inputs / groups, kernel rows, kernel
/// columns]`, biases `[outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convolution {
    /// Channels in.
    pub inputs: u32,
    /// Channels out.
    pub outputs: u32,
    /// Where the kernel stands.
    pub window: Window,
    /// Groups that see only their own channels; `inputs` of them make it depthwise.
    pub groups: u32,
}

impl Convolution {
    /// All outputs see all inputs.
    pub const fn full(inputs: u32, outputs: u32, window: Window) -> Self {
        Self {
            inputs,
            outputs,
            window,
            groups: 1,
        }
    }

    /// One kernel a channel.
    pub const fn depthwise(channels: u32, window: Window) -> Self {
        Self {
            inputs: channels,
            outputs: channels,
            window,
            groups: channels,
        }
    }

    /// Whether every output channel sees its own input channel alone.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.inputs && self.groups == self.outputs
    }

    /// Weights that one output element sums over.
    pub fn fan_in(&self) -> usize {
        (self.inputs / self.groups.max(1)) as usize * self.window.positions()
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let groups = self.groups;
        if groups == 0
            || input.channels != self.inputs
            || !self.inputs.is_multiple_of(groups)
            || !self.outputs.is_multiple_of(groups)
        {
            return None;
        }
        let [rows, columns] = self.window.output(input)?;
        Some(Shape::map(self.outputs, rows, columns))
    }
}

/// One layer. How it stands in the head file is said in `layer/written.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
#[non_exhaustive]
pub enum Layer {
    /// `y = W x + b`: weights `[outputs, inputs]`, biases `[outputs]`. A map is read
    /// as a vector.
    Dense {
        /// Elements of one input.
        inputs: u32,
        /// Elements of one output.
        outputs: u32,
    },
    /// `y = max(x, 0)`.
    Relu,
    /// Says what shape the input has. Only the first layer can be this; without it
    /// the input is a plain vector.
    Input(Shape),
    /// `y = W * x + b`, a convolution as neural networks mean it (the kernel is not
    /// flipped).
    Convolution(Convolution),
    /// `y = scale (x - mean) / deviation + shift`, by channel. Scale and shift are
    /// trained; mean and the deviation's inverse are frozen.
    BatchNorm {
        /// Channels in and out.
        channels: u32,
    },
    /// `y = min(max(x, 0), 6)`.
    Relu6,
    /// `y = x min(max(x + 3, 0), 6) / 6` (Howard et al., 2019).
    HardSwish,
    /// `y = x / (1 + exp(-x))` (Elfwing et al., 2018).
    Silu,
    /// The mean over all positions of a channel.
    GlobalAveragePool,
    /// The largest value in each window.
    MaxPool(Window),
    /// A map read as a vector.
    Flatten,
    /// Sets each element to zero with this chance during training and makes up for it
    /// in the others (Srivastava et al., 2014). Does nothing at prediction.
    Dropout {
        /// The chance in thousandths, below 1000.
        permille: u16,
    },
    /// `y = x + the input of an earlier layer`: the end of a residual block.
    Add {
        /// Index of the layer whose input is added.
        from: u8,
    },
    /// `sign(x) sqrt(|x|)`, then the vector is brought to the length of the square root of
    /// its number of elements: what [`crate::transform::Transform`] does before the first
    /// layer, after pretrained ones. A map is read as one vector.
    RootLength,
    /// `y = the input of an earlier layer`: the start of a second path, such as a shortcut
    /// with a convolution of its own. What stood here before is the end of the first path,
    /// for an [`Layer::Add`] to read.
    Branch {
        /// Index of the layer whose input is the output here.
        from: u8,
    },
}

/// How many parameters a layer owns. They stand in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Trained and decayed, or a batch norm's scale, which is not decayed.
    pub weights: usize,
    /// Trained, never decayed.
    pub biases: usize,
    /// Never trained.
    pub constants: usize,
}

impl Layer {
    /// The earlier layer whose input it reads beside its own, if it does.
    pub fn reads(&self) -> Option<usize> {
        match self {
            Self::Add { from } | Self::Branch { from } => Some(usize::from(*from)),
            _ => None,
        }
    }

    /// Shape of the output, `None` when the layer does not fit the input. [`Layer::Add`]
    /// keeps the shape; that its other operand fits is the table's to check, and so is what
    /// [`Layer::Branch`] gives.
    pub(crate) fn output(&self, input: Shape) -> Option<Shape> {
        let output = match self {
            Self::Dense { inputs, outputs } => {
                (*inputs as usize == input.elements()).then_some(Shape::flat(*outputs))
            }
            Self::Input(shape) => Some(*shape),
            Self::Convolution(convolution) => convolution.output(input),
            Self::BatchNorm { channels } => (*channels == input.channels).then_some(input),
            Self::GlobalAveragePool => Some(Shape::flat(input.channels)),
            Self::MaxPool(window) => {
                let [rows, columns] = window.output(input)?;
                Some(Shape::map(input.channels, rows, columns))
            }
            Self::Flatten => Some(Shape::flat(input.elements() as u32)),
            Self::Dropout { permille } => (*permille < 1000).then_some(input),
            Self::Relu
            | Self::Relu6
            | Self::HardSwish
            | Self::Silu
            | Self::Add { .. }
            | Self::Branch { .. }
            | Self::RootLength => Some(input),
        };
        output.filter(Shape::is_sound)
    }

    /// How many parameters it owns; `None` when they cannot be counted.
    pub(crate) fn parameters(&self) -> Option<Parameters> {
        let (per_output, outputs) = match self {
            Self::Dense { inputs, outputs } => (u64::from(*inputs), *outputs),
            Self::Convolution(c) => (c.fan_in() as u64, c.outputs),
            Self::BatchNorm { channels } => {
                let channels = *channels as usize;
                return Some(Parameters {
                    weights: channels,
                    biases: channels,
                    constants: 2 * channels,
                });
            }
            _ => return Some(Parameters::default()),
        };
        let weights = per_output.checked_mul(u64::from(outputs))?;
        (weights <= MAX_ELEMENTS).then_some(Parameters {
            weights: weights as usize,
            biases: outputs as usize,
            constants: 0,
        })
    }

    /// Whether it has a weight matrix, which is what decay is about.
    pub(crate) fn is_weighted(&self) -> bool {
        matches!(self, Self::Dense { .. } | Self::Convolution(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_count_their_positions_as_onnx_does() {
        let input = Shape::map(3, 28, 20);
        for (window, expected) in [
            (Window::square(5, 1, 0), Some([24, 16])),
            (Window::square(3, 1, 1), Some([28, 20])),
            (Window::square(3, 2, 1), Some([14, 10])),
            (Window::square(2, 2, 0), Some([14, 10])),
            (Window::square(29, 1, 0), None),
            (Window::square(3, 0, 1), None),
            (Window::square(0, 1, 0), None),
            (Window::square(3, 1, 3), None),
        ] {
            assert_eq!(window.output(input), expected, "{window:?}");
        }
    }

    #[test]
    fn layers_that_do_not_fit_have_no_output() {
        let window = Window::square(3, 1, 1);
        let map = Shape::map(6, 8, 8);
        let full = |inputs, groups| {
            Layer::Convolution(Convolution {
                inputs,
                outputs: 4,
                window,
                groups,
            })
        };
        assert_eq!(full(6, 2).output(map), Some(Shape::map(4, 8, 8)));
        for layer in [
            full(5, 1),
            full(6, 3),
            full(6, 0),
            Layer::BatchNorm { channels: 5 },
            Layer::Dense {
                inputs: 6,
                outputs: 2,
            },
            Layer::Dropout { permille: 1000 },
            Layer::Input(Shape::map(0, 1, 1)),
            Layer::Input(Shape::map(u32::MAX, u32::MAX, u32::MAX)),
        ] {
            assert_eq!(layer.output(map), None, "{layer:?}");
        }
    }
}
