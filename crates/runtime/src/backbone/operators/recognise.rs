//! Which of tract's nodes are layers that can run in blocks of channels, after tract's own
//! decluttering: convolutions, 1x1 convolutions written as sums over an axis, biases,
//! clamps, additions, sums over all pixels. A node that is not recognised stays tract's.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{AxisOp, InOut};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};

use super::layers::{Clamp, Kind, Map, Values, Weights, Window};

/// Most elements of a kernel in one direction: above, tract's own way is as good.
const MAX_KERNEL: usize = 32;

/// A node as a layer; the rest of it is filled in where the values are numbered.
#[derive(Debug)]
pub(super) struct Recognised {
    /// `None` for a node that only changes the name of a value.
    pub kind: Option<Kind>,
    /// Which of the node's inputs are the layer's.
    pub inputs: Vec<OutletId>,
    pub bias: Vec<f32>,
    pub clamp: Clamp,
}

impl Recognised {
    fn new(kind: Kind, input: OutletId) -> Self {
        Self {
            kind: Some(kind),
            inputs: vec![input],
            bias: Vec::new(),
            clamp: Clamp::NONE,
        }
    }
}

/// The size of a tensor of 32-bit numbers of shape `[C, H, W]` or `[1, C, H, W]`.
pub(super) fn map(fact: &TypedFact) -> Option<Map> {
    if fact.datum_type != f32::datum_type() || fact.konst.is_some() {
        return None;
    }
    let shape = match fact.shape.as_concrete()? {
        [1, rest @ ..] if rest.len() == 3 => rest,
        shape => shape,
    };
    match *shape {
        [channels, height, width] if channels * height * width > 0 => Some(Map {
            channels,
            height,
            width,
        }),
        _ => None,
    }
}

/// The layer that a node is, if it is one.
pub(super) fn layer(model: &TypedModel, node: &TypedNode) -> Option<Recognised> {
    let [output] = node.outputs.as_slice() else {
        return None;
    };
    let result = map(&output.fact)?;
    let first = *node.inputs.first()?;
    if let Some(convolution) = node.op_as::<Conv>() {
        return self::convolution(model, node, convolution, result);
    }
    if let Some(sum) = node.op_as::<EinSum>() {
        return point_convolution(model, node, sum);
    }
    if let Some(operator) = node.op_as::<TypedBinOp>() {
        return binary(model, node, operator, result);
    }
    let input = map(model.outlet_fact(first).ok()?)?;
    if let Some(reduce) = node.op_as::<Reduce>() {
        let rank = model.outlet_fact(first).ok()?.rank();
        let pixels = reduce.axes.as_slice() == [rank - 2, rank - 1];
        let sums = matches!(reduce.reducer, Reducer::Sum) && pixels;
        return sums.then(|| Recognised::new(Kind::Sum, first));
    }
    // Only the batch axis comes or goes.
    let renames = matches!(node.op_as::<AxisOp>()?, AxisOp::Add(0) | AxisOp::Rm(0));
    (renames && input == result).then(|| Recognised {
        kind: None,
        ..Recognised::new(Kind::Clamp, first)
    })
}

/// The values of a constant of 32-bit numbers.
fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    let constant = model.outlet_fact(outlet).ok()?.konst.clone()?;
    let plain = constant.datum_type() == f32::datum_type() && constant.as_plain_ram().is_some();
    plain.then_some(constant)
}

fn values(tensor: &Tensor) -> Option<&[f32]> {
    tensor.as_plain_ram()?.as_slice::<f32>().ok()
}

fn convolution(
    model: &TypedModel,
    node: &TypedNode,
    convolution: &Conv,
    result: Map,
) -> Option<Recognised> {
    let pool = &convolution.pool_spec;
    let [input, kernel, bias] = *node.inputs.as_slice() else {
        return None;
    };
    let source = map(model.outlet_fact(input).ok()?)?;
    let planar = matches!(pool.data_format, DataFormat::NCHW | DataFormat::CHW);
    let ordered = matches!(convolution.kernel_fmt, KernelFormat::OIHW);
    if !planar || !ordered || convolution.q_params.is_some() || pool.rank() != 2 {
        return None;
    }
    let axes = pool.computed_padding(&[source.height, source.width]);
    let window = Window {
        kernel: [pool.kernel_shape[0], pool.kernel_shape[1]],
        stride: [pool.stride(0), pool.stride(1)],
        dilation: [pool.dilation(0), pool.dilation(1)],
        before: [axes[0].pad_before, axes[1].pad_before],
    };
    let expected = [axes[0].convoluted, axes[1].convoluted] == [result.height, result.width];
    if !expected || window.kernel.iter().any(|size| *size > MAX_KERNEL) {
        return None;
    }
    let tensor = constant(model, kernel)?;
    let [height, width] = window.kernel;
    let inputs = source.channels / convolution.group;
    if tensor.shape() != [result.channels, inputs, height, width] {
        return None;
    }
    let weights = Weights {
        values: Values::Tensor(tensor),
        strides: [inputs * height * width, height * width, width, 1],
        scale: vec![1.0; result.channels],
    };
    let channels = [source.channels, result.channels];
    let kind = match convolution.group {
        group if channels == [group; 2] => Kind::Depthwise(window, weights, None),
        1 => Kind::Dense(window, weights),
        _ => return None,
    };
    let bias = constant(model, bias)?;
    let bias = match *values(&bias)? {
        [all] => vec![all; result.channels],
        ref each if each.len() == result.channels => each.to_vec(),
        _ => return None,
    };
    Some(Recognised {
        bias,
        ..Recognised::new(kind, input)
    })
}

/// A sum over the channels of every pixel, as tract writes a 1x1 convolution.
fn point_convolution(model: &TypedModel, node: &TypedNode, sum: &EinSum) -> Option<Recognised> {
    let single = sum.operating_dt == f32::datum_type() && sum.q_params.is_none();
    if !single || node.inputs.len() != 2 {
        return None;
    }
    // Either factor can come first.
    let constants = [0, 1].map(|slot| constant(model, node.inputs[slot]));
    let (slot, tensor) = match constants {
        [None, Some(tensor)] => (0, tensor),
        [Some(tensor), None] => (1, tensor),
        _ => return None,
    };
    let input = node.inputs[slot];
    let fact = model.outlet_fact(input).ok()?;
    let source = map(fact)?;
    let result = map(&node.outputs[0].fact)?;
    if tensor.rank() != 2 {
        return None;
    }
    let result_rank = node.outputs[0].fact.rank();
    // Places of the channel axes: in the input, the output and both axes of the weights.
    let at = |rank: usize, axis: usize| axis + rank - 3;
    let mut found = [false; 4];
    let mut order = None;
    for axis in sum.axes.iter_all_axes() {
        let [from, to] = [InOut::In(slot), InOut::Out(0)].map(|side| positions(axis, side));
        let weight = positions(axis, InOut::In(1 - slot));
        match (from, to, weight) {
            // What is summed over.
            ([from], [], [place]) if *from == at(fact.rank(), 0) && *place < 2 => {
                order = Some(*place == 1);
                found[0] = true;
            }
            ([], [to], [_]) if *to == at(result_rank, 0) => found[1] = true,
            ([from], [to], []) if same_pixel_axis(*from, fact.rank(), *to, result_rank, 1) => {
                found[2] = true;
            }
            ([from], [to], []) if same_pixel_axis(*from, fact.rank(), *to, result_rank, 2) => {
                found[3] = true;
            }
            // The batch axis of 1, on one side or on both.
            ([0], [] | [0], []) if fact.rank() == 4 => {}
            ([], [0], []) if result_rank == 4 => {}
            _ => return None,
        }
    }
    let outputs_first = order?;
    let shape = match outputs_first {
        true => [result.channels, source.channels],
        false => [source.channels, result.channels],
    };
    let fits = tensor.shape() == shape && source.pixels() == result.pixels();
    if found != [true; 4] || !fits {
        return None;
    }
    let strides = match outputs_first {
        true => [source.channels, 1, 0, 0],
        false => [1, result.channels, 0, 0],
    };
    let weights = Weights {
        values: Values::Tensor(tensor),
        strides,
        scale: vec![1.0; result.channels],
    };
    Some(Recognised::new(Kind::Dense(Window::POINT, weights), input))
}

/// Where an axis stands in one tensor of a sum.
fn positions(axis: &tract_onnx::tract_core::axes::Axis, side: InOut) -> &[usize] {
    match side {
        InOut::In(slot) => axis.inputs.get(slot).map_or(&[], |it| it.as_slice()),
        InOut::Out(slot) => axis.outputs.get(slot).map_or(&[], |it| it.as_slice()),
    }
}

/// Whether two places are the `axis`th of channels, rows and columns on both sides.
fn same_pixel_axis(from: usize, from_rank: usize, to: usize, to_rank: usize, axis: usize) -> bool {
    from + 3 == axis + from_rank && to + 3 == axis + to_rank
}

/// Clamps, biases and scales by a constant, and the sum of two maps.
fn binary(
    model: &TypedModel,
    node: &TypedNode,
    operator: &TypedBinOp,
    result: Map,
) -> Option<Recognised> {
    let [first, second] = *node.inputs.as_slice() else {
        return None;
    };
    if operator.1.is_some_and(|it| it != f32::datum_type()) {
        return None;
    }
    let operator = &operator.0;
    let (input, constant) = match [first, second].map(|it| constant(model, it)) {
        [None, Some(constant)] => (first, constant),
        [Some(constant), None] => (second, constant),
        [None, None] => {
            let same = |it| model.outlet_fact(it).ok().and_then(map) == Some(result);
            let adds = operator.is::<Add>() && same(first) && same(second);
            return adds.then(|| Recognised {
                inputs: vec![first, second],
                ..Recognised::new(Kind::Add, first)
            });
        }
        _ => return None,
    };
    if map(model.outlet_fact(input).ok()?)? != result {
        return None;
    }
    let each = by_channel(&constant, result.channels)?;
    let clamped = |low, high| Recognised {
        clamp: Clamp { low, high },
        ..Recognised::new(Kind::Clamp, input)
    };
    match constant.len() {
        1 if operator.is::<Max>() => return Some(clamped(each[0], f32::INFINITY)),
        1 if operator.is::<Min>() => return Some(clamped(f32::NEG_INFINITY, each[0])),
        _ => {}
    }
    let (scale, bias) = if operator.is::<Add>() {
        (tensor1(&vec![1.0f32; result.channels]), each)
    } else if operator.is::<Mul>() {
        (tensor1(&each), Vec::new())
    } else {
        return None;
    };
    let weights = Weights {
        values: Values::Tensor(Arc::new(scale)),
        strides: [1, 0, 0, 0],
        scale: vec![1.0; result.channels],
    };
    Some(Recognised {
        bias,
        ..Recognised::new(Kind::Depthwise(Window::POINT, weights, None), input)
    })
}

/// A constant that has one value, or one for each channel, spread over the channels.
fn by_channel(constant: &Tensor, channels: usize) -> Option<Vec<f32>> {
    let values = values(constant)?;
    if let [all] = *values {
        return (!all.is_nan()).then(|| vec![all; channels]);
    }
    let shape = match constant.shape() {
        [1, rest @ ..] if rest.len() == 3 => rest,
        shape => shape,
    };
    (shape == [channels, 1, 1]).then(|| values.to_vec())
}
