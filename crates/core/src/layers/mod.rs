//! One file a kind of layer, forward and backward side by side, and [`Job`], which
//! runs the layer that a table names. All work on slices that the caller has cut from
//! the arena; shapes were checked by the table.

mod activation;
mod convolution;
mod dense;
mod depthwise;
pub(crate) mod dropout;
mod norm;
mod pointwise;
mod pool;
mod root;
mod window;

pub(crate) use window::Axis;

use crate::Kernel;
use crate::network::{Layer, Network};
use convolution::Convolution;
use dense::Dense;
use norm::BatchNorm;
use pool::MaxPool;

/// How a layer treats memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Writes its output elsewhere.
    Moves,
    /// Changes its input element by element, in place or in a copy.
    Changes,
    /// Reads the same elements in another shape.
    Keeps,
}

/// What a layer's backward pass needs beside the gradient by its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing of the forward pass.
    Nothing,
    /// Its input.
    Input,
    /// Its output.
    Output,
}

impl Layer {
    pub(crate) fn manner(&self) -> Manner {
        match self {
            Self::Dense { .. }
            | Self::Convolution(_)
            | Self::GlobalAveragePool
            | Self::MaxPool(_)
            | Self::Branch { .. } => Manner::Moves,
            Self::Input(_) | Self::Flatten => Manner::Keeps,
            _ => Manner::Changes,
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Relu | Self::Relu6 => Needs::Output,
            Self::Dense { .. }
            | Self::Convolution(_)
            | Self::MaxPool(_)
            | Self::BatchNorm { .. }
            | Self::HardSwish
            | Self::Silu
            | Self::RootLength => Needs::Input,
            _ => Needs::Nothing,
        }
    }
}

/// One layer of a table over some rows of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Job<'n> {
    pub network: &'n Network,
    pub index: usize,
    pub kernel: Kernel,
    pub rows: usize,
}

/// One layer's weights, biases and constants.
pub(crate) struct Parameters<'p> {
    pub weights: &'p [f32],
    pub biases: &'p [f32],
    pub constants: &'p [f32],
}

impl Job<'_> {
    fn layer(&self) -> Layer {
        self.network.layers()[self.index]
    }

    /// Working space of all passes, in elements.
    pub fn scratch_elements(&self) -> usize {
        match self.layer() {
            Layer::Dense { .. } => self.dense().scratch_elements(),
            Layer::Convolution(sizes) => self.convolution(sizes).scratch_elements(),
            _ => 0,
        }
    }

    /// A layer that [`Manner::Moves`], but for a branch, which reads another tensor: from
    /// `x` `[rows, width]` to `y`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], own: &Parameters<'_>, scratch: &mut [f32]) {
        match self.layer() {
            Layer::Dense { .. } => self.dense().forward(x, own.weights, own.biases, y, scratch),
            Layer::Convolution(sizes) => {
                self.convolution(sizes)
                    .forward(x, own.weights, own.biases, y, scratch);
            }
            Layer::GlobalAveragePool => pool::global_average(x, y, self.positions()),
            Layer::MaxPool(window) => self.max_pool(window).forward(x, y),
            _ => {}
        }
    }

    /// A layer that [`Manner::Changes`], but for dropout and addition, which need more
    /// than the values.
    pub fn change(&self, values: &mut [f32], own: &Parameters<'_>) {
        match self.layer() {
            Layer::Relu => activation::relu(values),
            Layer::Relu6 => activation::relu6(values),
            Layer::HardSwish => activation::hard_swish(values),
            Layer::Silu => activation::silu(values),
            Layer::RootLength => root::forward(values, self.width()),
            Layer::BatchNorm { channels } => {
                self.batch_norm(channels)
                    .forward(values, own.weights, own.biases, own.constants);
            }
            _ => {}
        }
    }

    /// Adds the gradients of the layer's own weights `dw` and biases `db`.
    pub fn backward_parameters(
        &self,
        x: &[f32],
        dy: &[f32],
        [dw, db]: [&mut [f32]; 2],
        constants: &[f32],
        scratch: &mut [f32],
    ) {
        match self.layer() {
            Layer::Dense { .. } => self.dense().backward_parameters(x, dy, dw, db, scratch),
            Layer::Convolution(sizes) => {
                self.convolution(sizes)
                    .backward_parameters(x, dy, dw, db, scratch);
            }
            Layer::BatchNorm { channels } => {
                self.batch_norm(channels)
                    .backward_parameters(x, dy, dw, db, constants);
            }
            _ => {}
        }
    }

    /// For a layer that [`Manner::Moves`]: the gradient by its input, from `dy` to `dx`. A
    /// branch does not read its input.
    pub fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32], w: &[f32], scratch: &mut [f32]) {
        match self.layer() {
            Layer::Dense { .. } => self.dense().backward_input(dy, w, dx, scratch),
            Layer::Convolution(sizes) => {
                self.convolution(sizes).backward_input(dy, w, dx, scratch);
            }
            Layer::GlobalAveragePool => pool::global_average_backward(dy, dx, self.positions()),
            Layer::MaxPool(window) => self.max_pool(window).backward(x, dy, dx),
            Layer::Branch { .. } => dx.fill(0.0),
            _ => {}
        }
    }

    /// For a layer that [`Manner::Changes`]: the gradient, in place. `kept` is what it
    /// [`Needs`].
    pub fn backward_change(&self, kept: &[f32], dy: &mut [f32], own: &Parameters<'_>) {
        match self.layer() {
            Layer::Relu => activation::relu_backward(kept, dy),
            Layer::Relu6 => activation::relu6_backward(kept, dy),
            Layer::HardSwish => activation::hard_swish_backward(kept, dy),
            Layer::Silu => activation::silu_backward(kept, dy),
            Layer::RootLength => root::backward(kept, dy, self.width()),
            Layer::BatchNorm { channels } => {
                self.batch_norm(channels)
                    .backward_input(dy, own.weights, own.constants);
            }
            _ => {}
        }
    }

    /// Elements of one sample before the layer.
    fn width(&self) -> usize {
        self.network.width(self.index)
    }

    /// Positions of a channel before the layer.
    fn positions(&self) -> usize {
        self.network.shape(self.index).positions()
    }

    fn dense(&self) -> Dense {
        Dense {
            kernel: self.kernel,
            rows: self.rows,
            inputs: self.network.width(self.index),
            outputs: self.network.width(self.index + 1),
        }
    }

    fn convolution(&self, sizes: crate::network::Convolution) -> Convolution {
        Convolution {
            kernel: self.kernel,
            rows: self.rows,
            sizes,
            input: self.network.shape(self.index),
            output: self.network.shape(self.index + 1),
        }
    }

    fn batch_norm(&self, channels: u32) -> BatchNorm {
        BatchNorm {
            channels: channels as usize,
            positions: self.positions(),
        }
    }

    fn max_pool(&self, window: crate::network::Window) -> MaxPool {
        MaxPool {
            window,
            input: self.network.shape(self.index),
            output: self.network.shape(self.index + 1),
        }
    }
}
