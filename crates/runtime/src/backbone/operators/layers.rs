//! A part of a network as a list of layers, and what can be joined: bias, scale, clamp and
//! residual addition into the convolution before them, a 1x1 convolution into the
//! depthwise one after it. Filled by `recognise.rs`, turned into steps by `program.rs`.

use std::sync::Arc;

use tract_onnx::prelude::Tensor;

use super::super::outline::Numbers;

/// Size of a tensor between layers, without its batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Map {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// What a convolution looks at: `[height, width]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns to the left that are taken as zeros.
    pub before: [usize; 2],
}

impl Window {
    /// One pixel at a time.
    pub(super) const POINT: Self = Self {
        kernel: [1; 2],
        stride: [1; 2],
        dilation: [1; 2],
        before: [0; 2],
    };

    pub(super) fn is_point(&self) -> bool {
        *self == Self::POINT
    }

    /// Rows (`axis` 0) or columns (1) that so many outputs look at.
    pub(super) fn reach(&self, axis: usize, outputs: usize) -> usize {
        (outputs - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }
}

/// Numbers as the network has them, not copied.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Tensor(Arc<Tensor>),
    Stored(Numbers),
}

impl Values {
    /// How many there are; `None` where a tensor holds other than plain 32-bit numbers.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::Tensor(tensor) => Some(plain(tensor)?.len()),
            Self::Stored(numbers) => Some(numbers.count()),
        }
    }

    /// `count` of them from `start` on, in `buffer` where they have to be converted; `None`
    /// as in [`Values::count`], or where there are not so many.
    pub(super) fn part<'a>(
        &'a self,
        start: usize,
        count: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Option<&'a [f32]> {
        match self {
            Self::Tensor(tensor) => plain(tensor)?.get(start..start + count),
            Self::Stored(numbers) => {
                numbers.read_part(start, count, buffer)?;
                Some(buffer)
            }
        }
    }
}

fn plain(tensor: &Tensor) -> Option<&[f32]> {
    tensor.as_plain_ram()?.as_slice::<f32>().ok()
}

/// The weights of a layer.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub values: Values,
    /// Elements between two output channels, input channels, rows and columns.
    pub strides: [usize; 4],
    /// Multiplies the weights of every output channel.
    pub scale: Vec<f32>,
}

/// Bounds of the values a layer gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    pub low: f32,
    pub high: f32,
}

impl Clamp {
    pub(super) const NONE: Self = Self {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };

    /// This, then `next`.
    fn then(self, next: Self) -> Self {
        let bounded = |value: f32| value.max(next.low).min(next.high);
        Self {
            low: bounded(self.low),
            high: bounded(self.high),
        }
    }
}

/// What a layer does with its input.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Every output channel from every input channel.
    Dense(Window, Weights),
    /// Every channel by itself; may take its input from a dense convolution that is
    /// computed on the way.
    Depthwise(Window, Weights, Option<Box<Layer>>),
    /// Sum of two maps.
    Add,
    /// Sum over all pixels.
    Sum,
    /// Only the clamp.
    Clamp,
}

/// One layer. Values are numbered; each is made once.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub kind: Kind,
    pub input: usize,
    /// Second term of an addition.
    pub other: Option<usize>,
    pub output: usize,
    /// By output channel; empty where there is none.
    pub bias: Vec<f32>,
    pub clamp: Clamp,
}

impl Layer {
    /// Whether a bias, a scale or an addition can still be joined.
    fn is_open(&self) -> bool {
        let convolves = matches!(self.kind, Kind::Dense(..) | Kind::Depthwise(..));
        convolves && self.clamp == Clamp::NONE && self.other.is_none()
    }
}

/// Layers in the order in which they run, and the values that go in and out.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub layers: Vec<Layer>,
    /// Size of every value.
    pub maps: Vec<Map>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

impl Layers {
    /// How often a value is read; being an output counts.
    fn uses(&self, value: usize) -> usize {
        let read = |layer: &Layer| {
            usize::from(layer.input == value) + usize::from(layer.other == Some(value))
        };
        let inside: usize = self.layers.iter().map(read).sum();
        inside + self.outputs.iter().filter(|it| **it == value).count()
    }

    /// The layer before `index` that makes `value` for that layer alone.
    fn sole_producer(&self, value: usize, index: usize) -> Option<usize> {
        if self.uses(value) != 1 {
            return None;
        }
        self.layers[..index]
            .iter()
            .position(|layer| layer.output == value)
    }

    /// Joins what can be joined.
    pub(super) fn join(mut self) -> Self {
        let mut index = 0;
        while index < self.layers.len() {
            let joined = self.join_point(index)
                || self.join_clamp(index)
                || self.join_addition(index)
                || self.join_expansion(index);
            if !joined {
                index += 1;
            }
        }
        self
    }

    /// A scale and a shift by channel, into the convolution before.
    fn join_point(&mut self, index: usize) -> bool {
        let layer = &self.layers[index];
        let Kind::Depthwise(window, weights, None) = &layer.kind else {
            return false;
        };
        let before = self.sole_producer(layer.input, index);
        let before = before.filter(|before| self.layers[*before].is_open());
        let (true, Some(before)) = (window.is_point(), before) else {
            return false;
        };
        let Some(factors) = weights.point_factors() else {
            return false;
        };
        let layer = self.layers.remove(index);
        let target = &mut self.layers[before];
        let (Kind::Dense(_, weights) | Kind::Depthwise(_, weights, _)) = &mut target.kind else {
            return false;
        };
        target.bias.resize(weights.scale.len(), 0.0);
        let shifts = layer.bias.iter().copied().chain(std::iter::repeat(0.0));
        let channels = weights.scale.iter_mut().zip(&mut target.bias);
        for (((scale, bias), factor), shift) in channels.zip(factors).zip(shifts) {
            *scale *= factor;
            *bias = *bias * factor + shift;
        }
        target.output = layer.output;
        target.clamp = layer.clamp;
        true
    }

    /// A clamp, into whatever is before.
    fn join_clamp(&mut self, index: usize) -> bool {
        let layer = &self.layers[index];
        if !matches!(layer.kind, Kind::Clamp) {
            return false;
        }
        let Some(before) = self.sole_producer(layer.input, index) else {
            return false;
        };
        let layer = self.layers.remove(index);
        let target = &mut self.layers[before];
        target.output = layer.output;
        target.clamp = target.clamp.then(layer.clamp);
        true
    }

    /// An addition, into the later of the two layers that make its terms, if that one is
    /// a dense convolution.
    fn join_addition(&mut self, index: usize) -> bool {
        let layer = &self.layers[index];
        let (Kind::Add, Some(other)) = (&layer.kind, layer.other) else {
            return false;
        };
        let made = |value| {
            let mut layers = self.layers[..index].iter();
            layers.position(|layer| layer.output == value)
        };
        // What comes from outside is there before any layer.
        let (later, earlier) = match made(layer.input) > made(other) {
            true => (layer.input, other),
            false => (other, layer.input),
        };
        let Some(before) = self.sole_producer(later, index) else {
            return false;
        };
        let target = &self.layers[before];
        if !target.is_open() || !matches!(target.kind, Kind::Dense(..)) {
            return false;
        }
        let layer = self.layers.remove(index);
        let target = &mut self.layers[before];
        target.output = layer.output;
        target.clamp = layer.clamp;
        target.other = Some(earlier);
        true
    }

    /// A dense convolution that only a depthwise one reads, into that one.
    fn join_expansion(&mut self, index: usize) -> bool {
        let layer = &self.layers[index];
        let Kind::Depthwise(_, _, None) = layer.kind else {
            return false;
        };
        let Some(before) = self.sole_producer(layer.input, index) else {
            return false;
        };
        let source = &self.layers[before];
        if !matches!(source.kind, Kind::Dense(..)) || source.other.is_some() {
            return false;
        }
        let source = self.layers.remove(before);
        let layer = &mut self.layers[index - 1];
        layer.input = source.input;
        if let Kind::Depthwise(_, _, expansion) = &mut layer.kind {
            *expansion = Some(Box::new(source));
        }
        true
    }
}

impl Weights {
    /// Of a window of one pixel: the factor of every channel.
    fn point_factors(&self) -> Option<Vec<f32>> {
        let mut buffer = Vec::new();
        let scaled = |(channel, scale): (usize, &f32)| {
            let place = channel * self.strides[0];
            let value = self.values.part(place, 1, &mut buffer)?.first()?;
            Some(value * scale)
        };
        self.scale.iter().enumerate().map(scaled).collect()
    }
}
