//! What each ONNX operator is in the engine, or why it is nothing there. All that
//! depends on one node alone; the order of the nodes is `import.rs`'s.

use fieldtune_core::network::{Convolution, Layer, Shape, Window};

use super::import::{Meaning, Walk, agrees};
use super::weights::{Numbers, Product, Scaling};
use crate::backbone::{Attribute, Constant, GraphNode};

/// A sigmoid that can gate its own input, with the layer that both make.
pub(super) fn gate(node: &GraphNode) -> Option<Layer> {
    let near = |value: f32, wanted: f32| (value - wanted).abs() < 1e-4;
    match node.operator.as_str() {
        "Sigmoid" => Some(Layer::Silu),
        "HardSigmoid" => {
            let (alpha, beta) = (float(node, "alpha", 0.2), float(node, "beta", 0.5));
            (near(alpha, 1.0 / 6.0) && near(beta, 0.5)).then_some(Layer::HardSwish)
        }
        _ => None,
    }
}

/// What `node` does to the current tensor, its operand `data`.
pub(super) fn meaning(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Meaning, String> {
    let plain = |layer| Ok(Meaning::Layer(layer, Numbers::None));
    match node.operator.as_str() {
        "Identity" => Ok(Meaning::Same),
        "Cast" if integer(node, "to", 0) == 1 => Ok(Meaning::Same),
        "Softmax" | "LogSoftmax" | "Sigmoid" => Ok(Meaning::End),
        "Relu" => plain(Layer::Relu),
        "HardSwish" => plain(Layer::HardSwish),
        "Clip" => plain(clip(walk, node)?),
        "Dropout" => dropout(walk, node),
        "Conv" => convolution(walk, node),
        "Gemm" => gemm(walk, node, data),
        "MatMul" => matrix_product(walk, node, data),
        "BatchNormalization" => batch_norm(walk, node).map(Meaning::Scaling),
        "Add" | "Sub" | "Mul" | "Div" => by_constant(walk, node, data).map(Meaning::Scaling),
        "GlobalAveragePool" => plain(Layer::GlobalAveragePool),
        "GlobalMaxPool" => plain(Layer::MaxPool(whole_map(walk)?)),
        "ReduceMean" => reduce_mean(walk, node, data),
        "MaxPool" => {
            let (window, _) = pool_window(walk, node, data)?;
            plain(Layer::MaxPool(window))
        }
        "AveragePool" => average_pool(walk, node, data),
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => reshape(walk, node),
        "Transpose" if walk.shape().is_flat() => Ok(Meaning::Same),
        "Transpose" => Err("changes the order of a map's axes; cut after it".into()),
        _ => Err("is no layer that can be trained".into()),
    }
}

/// Shape of a layer's output; `None` where it does not fit.
pub(super) fn output_shape(layer: &Layer, input: Shape) -> Option<Shape> {
    match layer {
        Layer::Dense { outputs, .. } => Some(Shape::flat(*outputs)),
        Layer::Convolution(convolution) => {
            let [rows, columns] = convolution.window.output(input)?;
            Some(Shape::map(convolution.outputs, rows, columns))
        }
        Layer::MaxPool(window) => {
            let [rows, columns] = window.output(input)?;
            Some(Shape::map(input.channels, rows, columns))
        }
        Layer::GlobalAveragePool => Some(Shape::flat(input.channels)),
        Layer::Flatten => Some(Shape::flat(u32::try_from(input.elements()).ok()?)),
        _ => Some(input),
    }
}

fn integer(node: &GraphNode, name: &str, usual: i64) -> i64 {
    match node.details.attributes.get(name) {
        Some(Attribute::Integer(value)) => *value,
        _ => usual,
    }
}

fn float(node: &GraphNode, name: &str, usual: f32) -> f32 {
    match node.details.attributes.get(name) {
        Some(Attribute::Float(value)) => *value,
        _ => usual,
    }
}

fn integers<'n>(node: &'n GraphNode, name: &str) -> Option<&'n [i64]> {
    match node.details.attributes.get(name) {
        Some(Attribute::Integers(values)) => Some(values),
        _ => None,
    }
}

fn text<'n>(node: &'n GraphNode, name: &str) -> &'n str {
    match node.details.attributes.get(name) {
        Some(Attribute::Text(value)) => value,
        _ => "",
    }
}

/// The only number of operand `index`.
fn scalar(walk: &Walk<'_>, node: &GraphNode, index: usize) -> Option<f32> {
    match walk.constant(node, index)?.values()?.as_slice() {
        [value] => Some(*value),
        _ => None,
    }
}

/// Old files have the limits as attributes, newer ones as operands.
fn clip(walk: &Walk<'_>, node: &GraphNode) -> Result<Layer, String> {
    let limit = |index: usize, name: &str, usual: f32| {
        scalar(walk, node, index).unwrap_or_else(|| float(node, name, usual))
    };
    let (low, high) = (limit(1, "min", f32::MIN), limit(2, "max", f32::MAX));
    if low == 0.0 && high == 6.0 {
        Ok(Layer::Relu6)
    } else if low == 0.0 && high >= f32::MAX {
        Ok(Layer::Relu)
    } else {
        Err(format!(
            "clips to {low} and {high}; only 0 and 6 can be trained"
        ))
    }
}

fn dropout(walk: &Walk<'_>, node: &GraphNode) -> Result<Meaning, String> {
    let usual = float(node, "ratio", 0.5);
    let share = scalar(walk, node, 1).unwrap_or(usual);
    if !(0.0..1.0).contains(&share) {
        return Err(format!("drops a share of {share}"));
    }
    let permille = (1000.0 * share).round().min(999.0) as u16;
    Ok(match permille {
        0 => Meaning::Same,
        permille => Meaning::Layer(Layer::Dropout { permille }, Numbers::None),
    })
}

fn weights<'g>(walk: &Walk<'g>, node: &GraphNode, index: usize) -> Result<&'g Constant, String> {
    let found = walk.constant(node, index);
    let found = found.filter(|constant| constant.len() > 0);
    found.ok_or_else(|| format!("has no constant as operand {index}"))
}

/// A bias of one number an output, or zeros.
fn bias(found: Option<&Constant>, outputs: usize, factor: f32) -> Result<Vec<f32>, String> {
    let Some(constant) = found else {
        return Ok(vec![0.0; outputs]);
    };
    let values = constant.values().ok_or("has a bias of no numbers")?;
    let values = match values.as_slice() {
        [one] => vec![*one; outputs],
        _ => values,
    };
    if values.len() != outputs {
        return Err(format!(
            "has a bias of {:?} for {outputs} outputs",
            constant.shape()
        ));
    }
    Ok(values.into_iter().map(|value| factor * value).collect())
}

fn convolution(walk: &Walk<'_>, node: &GraphNode) -> Result<Meaning, String> {
    let kernels = weights(walk, node, 1)?;
    let [outputs, inputs, kernel @ ..] = kernels.shape() else {
        return Err("has weights without a kernel".into());
    };
    let window = window(walk, node, kernel)?;
    let size = |size: usize| u32::try_from(size).map_err(|_| "is too large".to_string());
    let groups = u32::try_from(integer(node, "group", 1)).unwrap_or(0);
    let channels = walk.shape().channels;
    let outputs_size = size(*outputs)?;
    let divides =
        groups > 0 && channels.is_multiple_of(groups) && outputs_size.is_multiple_of(groups);
    if !divides || channels / groups != size(*inputs)? {
        return Err(format!(
            "has weights of {:?} for {channels} channels in {groups} groups",
            kernels.shape()
        ));
    }
    let layer = Layer::Convolution(Convolution {
        inputs: channels,
        outputs: outputs_size,
        window,
        groups,
    });
    let numbers = Numbers::Product(Product {
        weights: kernels.clone(),
        by_input: false,
        scale: vec![1.0; *outputs],
        bias: bias(walk.constant(node, 2), *outputs, 1.0)?,
    });
    Ok(Meaning::Layer(layer, numbers))
}

/// Kernel, strides and padding of a convolution or a pool, over one or two axes.
fn window(walk: &Walk<'_>, node: &GraphNode, kernel: &[usize]) -> Result<Window, String> {
    let axes = kernel.len();
    let listed = |name: &str, count: usize, usual: i64| match integers(node, name) {
        Some(values) if values.len() == count => Ok(values.to_vec()),
        Some(_) => Err(format!("has `{name}` of another number of axes")),
        None => Ok(vec![usual; count]),
    };
    if !matches!(axes, 1 | 2) {
        return Err(format!(
            "has a window over {axes} axes; one or two can be trained"
        ));
    }
    let mut dilations = listed("dilations", axes, 1)?;
    for (gap, size) in dilations.iter_mut().zip(kernel) {
        // One element has no gap.
        *gap = if *size == 1 { 1 } else { *gap };
    }
    let strides = listed("strides", axes, 1)?;
    let input = [walk.shape().rows, walk.shape().columns];
    let mut pads = listed("pads", 2 * axes, 0)?;
    match text(node, "auto_pad") {
        "" | "NOTSET" => {}
        "VALID" => pads.fill(0),
        kind @ ("SAME_UPPER" | "SAME_LOWER") => {
            for axis in 0..axes {
                let (size, stride) = (i64::from(input[axis]), strides[axis].max(1));
                let reach = (kernel[axis] as i64 - 1) * dilations[axis] + 1;
                let all = ((size - 1) / stride * stride + reach - size).max(0);
                let small = all / 2;
                let (before, after) = match kind {
                    "SAME_UPPER" => (small, all - small),
                    _ => (all - small, small),
                };
                (pads[axis], pads[axes + axis]) = (before, after);
            }
        }
        other => return Err(format!("has `auto_pad` {other}")),
    }
    let byte = |value: i64| u8::try_from(value).map_err(|_| "has a window too large".to_string());
    let mut found = Window::square(1, 1, 0);
    for axis in 0..axes {
        found.kernel[axis] = byte(i64::try_from(kernel[axis]).unwrap_or(i64::MAX))?;
        found.stride[axis] = byte(strides[axis])?;
        found.dilation[axis] = byte(dilations[axis])?;
        found.padding[axis] = byte(pads[axis])?;
        found.padding[axis + 2] = byte(pads[axes + axis])?;
    }
    Ok(found)
}

/// Products with weights on the left are none that a dense layer computes.
fn require_left_operand(node: &GraphNode, data: &str) -> Result<(), String> {
    match node.details.operands.first() {
        Some(name) if name == data => Ok(()),
        _ => Err("multiplies from the left".into()),
    }
}

fn gemm(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Meaning, String> {
    require_left_operand(node, data)?;
    // With a batch of one, [1, F] and the transposed [F, 1] are the same numbers.
    let transposed = integer(node, "transA", 0) != 0;
    let file = walk.file_shape(data).unwrap_or_default();
    let fits = match file {
        [_] => !transposed || walk.shape().elements() == 1,
        [_, 1] => transposed,
        _ => false,
    };
    if !fits {
        return Err(format!("multiplies a tensor of {file:?}, not a vector"));
    }
    let by_input = integer(node, "transB", 0) == 0;
    let (alpha, beta) = (float(node, "alpha", 1.0), float(node, "beta", 1.0));
    dense(walk, node, by_input, alpha, walk.constant(node, 2), beta)
}

fn matrix_product(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Meaning, String> {
    require_left_operand(node, data)?;
    let file = walk.file_shape(data).unwrap_or_default();
    if file.len() != 1 {
        return Err(format!("multiplies a tensor of {file:?}, not a vector"));
    }
    dense(walk, node, true, 1.0, None, 1.0)
}

fn dense(
    walk: &Walk<'_>,
    node: &GraphNode,
    by_input: bool,
    alpha: f32,
    constant: Option<&Constant>,
    beta: f32,
) -> Result<Meaning, String> {
    let matrix = weights(walk, node, 1)?;
    let [rows, columns] = *matrix.shape() else {
        return Err(format!("has weights of {:?}, not a matrix", matrix.shape()));
    };
    let (inputs, outputs) = if by_input {
        (rows, columns)
    } else {
        (columns, rows)
    };
    if inputs != walk.shape().elements() || outputs == 0 {
        return Err(format!(
            "has weights of {:?} for {} features",
            matrix.shape(),
            walk.shape().elements()
        ));
    }
    let size = |size: usize| u32::try_from(size).map_err(|_| "is too large".to_string());
    let layer = Layer::Dense {
        inputs: size(inputs)?,
        outputs: size(outputs)?,
    };
    let numbers = Numbers::Product(Product {
        weights: matrix.clone(),
        by_input,
        scale: vec![alpha; outputs],
        bias: bias(constant, outputs, beta)?,
    });
    Ok(Meaning::Layer(layer, numbers))
}

fn batch_norm(walk: &Walk<'_>, node: &GraphNode) -> Result<Scaling, String> {
    if integer(node, "training_mode", 0) != 0 {
        return Err("takes its statistics from the batch".into());
    }
    let channels = walk.shape().channels as usize;
    let numbers = |index: usize| {
        let values = weights(walk, node, index)?.values().unwrap_or_default();
        match values.len() == channels {
            true => Ok(values),
            false => Err(format!(
                "has {} numbers for {channels} channels",
                values.len()
            )),
        }
    };
    let epsilon = float(node, "epsilon", 1e-5);
    let inverse = |variance: f32| 1.0 / (variance + epsilon).sqrt();
    Ok(Scaling {
        scale: numbers(1)?,
        shift: numbers(2)?,
        mean: numbers(3)?,
        inverse: numbers(4)?.into_iter().map(inverse).collect(),
    })
}

/// Addition, subtraction, product or quotient with one number, or one a channel.
fn by_constant(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Scaling, String> {
    let operands = &node.details.operands;
    let left = operands.first().is_some_and(|name| name == data);
    let constant = weights(walk, node, usize::from(left))?;
    let channels = walk.shape().channels as usize;
    let rank = walk.file_shape(data).map_or(0, <[usize]>::len);
    let mut sizes = constant.shape().iter().rev().enumerate();
    let by_channel =
        sizes.all(|(from_end, size)| *size == 1 || (from_end + 1 == rank && *size == channels));
    let values = constant.values().filter(|_| by_channel);
    let values = match values {
        Some(values) if values.len() == 1 => vec![values[0]; channels],
        Some(values) if values.len() == channels => values,
        _ => {
            let shape = constant.shape();
            return Err(format!(
                "takes in a constant of {shape:?}, not one number a channel"
            ));
        }
    };
    let ones = vec![1.0; channels];
    let zeros = vec![0.0; channels];
    let negative = |values: &[f32]| values.iter().map(|value| -value).collect();
    let (scale, shift) = match (node.operator.as_str(), left) {
        ("Add", _) => (ones, values),
        ("Sub", true) => (ones, negative(&values)),
        ("Sub", false) => (negative(&ones), values),
        ("Mul", _) => (values, zeros),
        ("Div", true) => (values.iter().map(|value| 1.0 / value).collect(), zeros),
        _ => return Err("divides by a tensor".into()),
    };
    Ok(Scaling::plain(scale, shift))
}

fn whole_map(walk: &Walk<'_>) -> Result<Window, String> {
    let Shape { rows, columns, .. } = walk.shape();
    let byte = |size: u32| u8::try_from(size).map_err(|_| "has a window too large".to_string());
    Ok(Window {
        kernel: [byte(rows)?, byte(columns)?],
        ..Window::square(1, 1, 0)
    })
}

/// The window of a pool, and whether it is the whole map.
fn pool_window(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<(Window, bool), String> {
    let kernel = integers(node, "kernel_shape").ok_or("has no `kernel_shape`")?;
    let sizes: Result<Vec<usize>, _> = kernel.iter().map(|size| usize::try_from(*size)).collect();
    let sizes = sizes.map_err(|_| "has a negative kernel")?;
    let window = window(walk, node, &sizes)?;
    let spatial = walk.file_shape(data).and_then(|shape| shape.get(1..));
    Ok((window, spatial == Some(&sizes) && window.padding == [0; 4]))
}

/// A mean over windows is a depthwise convolution with equal weights.
fn average_pool(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Meaning, String> {
    let (window, whole) = pool_window(walk, node, data)?;
    if whole {
        return Ok(Meaning::Layer(Layer::GlobalAveragePool, Numbers::None));
    }
    if window.padding != [0; 4] && integer(node, "count_include_pad", 0) == 0 {
        return Err("leaves its padding out of the mean".into());
    }
    let channels = walk.shape().channels;
    let numbers = Numbers::Mean {
        channels: channels as usize,
        positions: window.positions(),
    };
    let layer = Layer::Convolution(Convolution::depthwise(channels, window));
    Ok(Meaning::Layer(layer, numbers))
}

fn reduce_mean(walk: &Walk<'_>, node: &GraphNode, data: &str) -> Result<Meaning, String> {
    let rank = walk.file_shape(data).map_or(0, <[usize]>::len) as i64 + 1;
    let given = walk.constant(node, 1).and_then(Constant::integers);
    let axes = given.or_else(|| integers(node, "axes").map(<[i64]>::to_vec));
    let mut axes: Vec<i64> = axes
        .unwrap_or_default()
        .iter()
        .map(|axis| if *axis < 0 { axis + rank } else { *axis })
        .collect();
    axes.sort_unstable();
    if rank > 2 && axes.iter().copied().eq(2..rank) {
        return Ok(Meaning::Layer(Layer::GlobalAveragePool, Numbers::None));
    }
    Err(format!(
        "takes the mean over the axes {axes:?}, not over all positions"
    ))
}

fn reshape(walk: &Walk<'_>, node: &GraphNode) -> Result<Meaning, String> {
    let output = node.outputs.first().map_or("", String::as_str);
    let file = walk.file_shape(output).unwrap_or_default();
    let shape = walk.shape();
    if agrees(file, shape) {
        return Ok(Meaning::Same);
    }
    match file {
        [elements] if *elements == shape.elements() => {
            Ok(Meaning::Layer(Layer::Flatten, Numbers::None))
        }
        _ => Err(format!(
            "makes a tensor of {file:?}, neither a vector nor the same map"
        )),
    }
}
