//! A head as ONNX nodes: transform of the features, layers, calibration, and the score
//! that tells samples of no class. Only operators that opset 7 has, in forms that did not
//! change since, but for `Clip` and `ReduceMin`, whose old and new form are both known.

use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::transform::Transform;
use fieldtune_core::unknown::{CENTRE_SHARE, Unknown};
use tract_onnx::pb::AttributeProto;

use super::Parts;
use super::builder::{Builder, float, integer, integers};

/// Keeps a division by a length of 0 a 0.
const TINY: f32 = 1e-36;

/// Adds a head on features `[N, F]` of each view that it judges. Gives the names of the
/// outputs: probabilities `[N, K]` by the mean of the views' logits, and the score `[N]` of
/// the first where it is wanted; `Err` names a layer that ONNX has no operator for here.
pub(super) fn head(
    builder: &mut Builder,
    parts: &Parts<'_>,
    features: &[String],
) -> Result<Vec<String>, Layer> {
    let width = parts.network.inputs();
    let [first, others @ ..] = features else {
        return Ok(Vec::new());
    };
    let mut all = first.clone();
    if !others.is_empty() {
        // All views go through the layers as one batch, so that weights stand there once.
        let names: Vec<&str> = features.iter().map(String::as_str).collect();
        let rows = vec![integer("axis", 0)];
        all = builder.node_with("Concat", &names, "features.all", rows);
    }
    let transformed = transform(builder, &parts.transform, &all, width);
    let mut stack = Stack {
        builder,
        network: parts.network,
        parameters: parts.parameters,
    };
    let mut logits = stack.layers(&transformed)?;
    if !others.is_empty() {
        logits = mean_of_views(builder, &logits, features.len(), parts.network.classes());
    }
    let mut outputs = vec![probabilities(builder, logits, parts.temperature)];
    if let Some(unknown) = &parts.unknown {
        let sizes = [parts.network.classes(), width];
        let one = match others {
            [] => transformed,
            _ => transform(builder, &parts.transform, first, width),
        };
        outputs.push(unknown_score(builder, unknown, &one, sizes));
    }
    Ok(outputs)
}

/// `[N, K]` of `[views N, K]`, one view after another.
fn mean_of_views(builder: &mut Builder, logits: &str, views: usize, classes: usize) -> String {
    let apart = builder.reshape(logits, &[views as i64, -1], "head.views");
    let share = vec![1.0 / views as f32; views];
    let share = builder.floats("head.view_share", &[1, views], share);
    let mean = builder.node("MatMul", &[&share, &apart], "head.mean");
    builder.reshape(&mean, &[-1, classes as i64], "head.mean_logits")
}

/// See [`Transform`]; `features` is `[N, F]`.
fn transform(
    builder: &mut Builder,
    transform: &Transform<'_>,
    features: &str,
    width: usize,
) -> String {
    let mut x = features.to_string();
    if transform.signed_root {
        x = signed_root(builder, &x, "transform");
    }
    if transform.length > 0.0 {
        x = of_length(builder, &x, width, transform.length, "transform");
    }
    if !transform.shift.is_empty() {
        let shift = builder.floats("transform.shift", &[1, width], transform.shift.iter());
        x = builder.node("Sub", &[&x, &shift], "transform.shifted");
    }
    if !transform.scale.is_empty() {
        let scale = builder.floats("transform.scale", &[1, width], transform.scale.iter());
        x = builder.node("Mul", &[&x, &scale], "transform.scaled");
    }
    x
}

/// `sign(x) sqrt(|x|)` as `x / sqrt(|x|)`, which is 0 for 0.
fn signed_root(builder: &mut Builder, x: &str, whose: &str) -> String {
    let name = |what: &str| format!("{whose}.{what}");
    let tiny = builder.floats(&name("tiny"), &[1], [TINY]);
    let size = builder.node("Abs", &[x], &name("size"));
    let above = builder.node("Add", &[&size, &tiny], &name("size_above_zero"));
    let root = builder.node("Sqrt", &[&above], &name("root"));
    builder.node("Div", &[x, &root], &name("signed_root"))
}

/// Rows of `x` `[N, width]` brought to a length; zeros stay.
fn of_length(builder: &mut Builder, x: &str, width: usize, length: f32, whose: &str) -> String {
    let name = |what: &str| format!("{whose}.{what}");
    let tiny = builder.floats(&name("least"), &[1], [TINY]);
    let square = builder.node("Mul", &[x, x], &name("square"));
    let sum = sum_of_last_axis(builder, &square, width, &name("square_sum"));
    let above = builder.node("Add", &[&sum, &tiny], &name("square_sum_above_zero"));
    let norm = builder.node("Sqrt", &[&above], &name("norm"));
    let unit = builder.node("Div", &[x, &norm], &name("unit"));
    let length = builder.floats(&name("length"), &[1], [length]);
    builder.node("Mul", &[&unit, &length], &name("of_length"))
}

/// The sum over the last axis, which stays with size 1. A product, since the form of the
/// sum's own operator depends on the opset.
fn sum_of_last_axis(builder: &mut Builder, tensor: &str, size: usize, wanted: &str) -> String {
    let ones = vec![1.0; size];
    let ones = builder.floats(&format!("{wanted}.ones"), &[size, 1], ones);
    builder.node("MatMul", &[tensor, &ones], wanted)
}

/// `[N, K]` probabilities of logits `[N, K]`.
fn probabilities(builder: &mut Builder, logits: String, temperature: f32) -> String {
    let mut logits = logits;
    if temperature != 1.0 {
        let temperature = builder.floats("head.temperature", &[1], [temperature]);
        logits = builder.node("Div", &[&logits, &temperature], "head.calibrated");
    }
    let axis = vec![integer("axis", 1)];
    builder.node_with("Softmax", &[&logits], "probabilities", axis)
}

/// `[N]`; see `fieldtune_core::unknown`. `x` is transformed, `[N, F]`.
fn unknown_score(
    builder: &mut Builder,
    unknown: &Unknown<'_>,
    x: &str,
    [classes, width]: [usize; 2],
) -> String {
    let means: Vec<f32> = unknown.means.iter().collect();
    let share = 1.0 / classes as f32;
    let centre = (0..width).map(|i| means.iter().skip(i).step_by(width).sum::<f32>() * share);
    let centre: Vec<f32> = centre.collect();
    let rows = unknown.directions.len() / width;
    let wide = builder.reshape(x, &[-1, 1, width as i64], "unknown.features");
    let means = builder.floats("unknown.means", &[1, classes, width], means);
    let away = builder.node("Sub", &[&wide, &means], "unknown.away");
    let square = builder.node("Mul", &[&away, &away], "unknown.square");
    let mut distance = sum_of_last_axis(builder, &square, width, "unknown.distance");
    if rows > 0 {
        let columns = (0..width).flat_map(|i| (0..rows).map(move |row| row * width + i));
        let columns: Vec<f32> = columns.map(|at| unknown.directions.get(at)).collect();
        let directions = builder.floats("unknown.directions", &[width, rows], columns);
        let along = builder.node("MatMul", &[&away, &directions], "unknown.along");
        let square = builder.node("Mul", &[&along, &along], "unknown.along_square");
        let along = sum_of_last_axis(builder, &square, rows, "unknown.along_distance");
        distance = builder.node("Sub", &[&distance, &along], "unknown.class_distance");
    }
    let nearest = least(builder, &distance, classes);
    let centre = builder.floats("unknown.centre", &[1, width], centre);
    let away = builder.node("Sub", &[x, &centre], "unknown.from_centre");
    let square = builder.node("Mul", &[&away, &away], "unknown.from_centre_square");
    let from_centre = sum_of_last_axis(builder, &square, width, "unknown.centre_distance");
    let quarter = builder.floats("unknown.centre_share", &[1], [CENTRE_SHARE]);
    let taken = builder.node("Mul", &[&from_centre, &quarter], "unknown.taken_off");
    let score = builder.node("Sub", &[&nearest, &taken], "unknown.score");
    builder.reshape(&score, &[-1], "unknown_score")
}

/// `[N, 1]`: the least over classes of `[N, K, 1]`.
fn least(builder: &mut Builder, distance: &str, classes: usize) -> String {
    let flat = builder.reshape(distance, &[-1, classes as i64], "unknown.distances");
    let wanted = "unknown.nearest";
    if builder.opset >= 18 {
        let axes = builder.integers("unknown.class_axis", &[1]);
        return builder.node("ReduceMin", &[&flat, &axes], wanted);
    }
    let axes = vec![integers("axes", [1])];
    builder.node_with("ReduceMin", &[&flat], wanted, axes)
}

/// How the elements of a sample stand in a tensor.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// `[N, elements]`.
    Flat,
    /// `[N, channels, rows, columns]`.
    Map(Shape),
}

#[derive(Clone)]
struct Value {
    tensor: String,
    form: Form,
}

/// The layers of a network, one after another.
struct Stack<'b, 'n> {
    builder: &'b mut Builder,
    network: &'n Network,
    parameters: &'n [f32],
}

impl Stack<'_, '_> {
    /// Logits `[N, K]` of transformed features `[N, F]`.
    fn layers(&mut self, features: &str) -> Result<String, Layer> {
        let mut value = Value {
            tensor: features.into(),
            form: Form::Flat,
        };
        let mut before = Vec::new();
        for (index, layer) in self.network.layers().iter().enumerate() {
            before.push(value.clone());
            value = self.layer(index, layer, value, &before)?;
        }
        let last = self.network.layers().len();
        Ok(self.flat(value, last).tensor)
    }

    fn layer(
        &mut self,
        index: usize,
        layer: &Layer,
        value: Value,
        before: &[Value],
    ) -> Result<Value, Layer> {
        let name = |what: &str| format!("head.{index}.{what}");
        let shape = self.network.shape(index);
        Ok(match layer {
            // These say how elements are read; whoever reads them next asks for it.
            Layer::Input(_) | Layer::Flatten | Layer::Dropout { .. } => value,
            Layer::Dense { inputs, outputs } => {
                let x = self.flat(value, index).tensor;
                let dims = [*outputs as usize, *inputs as usize];
                let (weights, biases) = self.weights(index, &dims);
                let turned = vec![integer("transB", 1)];
                let inputs = [x.as_str(), &weights, &biases];
                let tensor = self
                    .builder
                    .node_with("Gemm", &inputs, &name("dense"), turned);
                let form = Form::Flat;
                Value { tensor, form }
            }
            Layer::Convolution(convolution) => self.convolution(index, convolution, value),
            Layer::BatchNorm { .. } => self.batch_norm(index, value),
            Layer::GlobalAveragePool => {
                let x = self.map(value, shape, index).tensor;
                self.made(index, "GlobalAveragePool", &[&x], "mean", Vec::new())
            }
            Layer::MaxPool(window) => {
                let x = self.map(value, shape, index).tensor;
                let mut attributes = standing(window);
                attributes.push(integers("kernel_shape", window.kernel.map(u32::from)));
                self.made(index, "MaxPool", &[&x], "largest", attributes)
            }
            Layer::Add { from } => {
                let other = before.get(usize::from(*from)).ok_or(*layer)?.clone();
                let other = match value.form {
                    Form::Flat => self.flat(other, usize::from(*from)),
                    Form::Map(shape) => self.map(other, shape, usize::from(*from)),
                };
                let inputs = [value.tensor.as_str(), &other.tensor];
                let tensor = self.builder.node("Add", &inputs, &name("sum"));
                Value { tensor, ..value }
            }
            Layer::Relu | Layer::Relu6 | Layer::HardSwish | Layer::Silu => Value {
                tensor: self.activation(index, layer, &value.tensor),
                ..value
            },
            Layer::Branch { from } => before.get(usize::from(*from)).ok_or(*layer)?.clone(),
            Layer::RootLength => {
                let x = self.flat(value, index).tensor;
                let width = self.network.width(index);
                let whose = format!("head.{index}");
                let root = signed_root(self.builder, &x, &whose);
                let length = (width as f32).sqrt();
                Value {
                    tensor: of_length(self.builder, &root, width, length, &whose),
                    form: Form::Flat,
                }
            }
            _ => return Err(*layer),
        })
    }

    /// Element by element.
    fn activation(&mut self, index: usize, layer: &Layer, x: &str) -> String {
        let name = |what: &str| format!("head.{index}.{what}");
        let builder = &mut *self.builder;
        match layer {
            Layer::Relu6 if builder.opset < 11 => {
                let bounds = vec![float("min", 0.0), float("max", 6.0)];
                builder.node_with("Clip", &[x], &name("relu6"), bounds)
            }
            Layer::Relu6 => {
                let low = builder.floats(&name("low"), &[], [0.0]);
                let high = builder.floats(&name("high"), &[], [6.0]);
                builder.node("Clip", &[x, &low, &high], &name("relu6"))
            }
            Layer::HardSwish => {
                let slope = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
                let gate = builder.node_with("HardSigmoid", &[x], &name("gate"), slope);
                builder.node("Mul", &[x, &gate], &name("hard_swish"))
            }
            Layer::Silu => {
                let gate = builder.node("Sigmoid", &[x], &name("gate"));
                builder.node("Mul", &[x, &gate], &name("silu"))
            }
            _ => builder.node("Relu", &[x], &name("relu")),
        }
    }

    fn convolution(&mut self, index: usize, convolution: &Convolution, value: Value) -> Value {
        let mut x = self.map(value, self.network.shape(index), index).tensor;
        let mut window = convolution.window;
        if window.kernel == [1; 2] && !window.is_pointwise() {
            // Positions are left out before: tract takes the stride of such a convolution
            // over a reshape, and fails ("Invalid axis").
            let mut attributes = standing(&window);
            attributes.push(integers("kernel_shape", [1, 1]));
            let wanted = format!("head.{index}.seen");
            x = self
                .builder
                .node_with("MaxPool", &[&x], &wanted, attributes);
            window = Window::square(1, 1, 0);
        }
        let [rows, columns] = window.kernel.map(usize::from);
        let inputs = (convolution.inputs / convolution.groups.max(1)) as usize;
        let dims = [convolution.outputs as usize, inputs, rows, columns];
        let (weights, biases) = self.weights(index, &dims);
        let mut attributes = standing(&window);
        attributes.push(integers("kernel_shape", window.kernel.map(u32::from)));
        attributes.push(integer("group", convolution.groups.into()));
        self.made(
            index,
            "Conv",
            &[&x, &weights, &biases],
            "convolution",
            attributes,
        )
    }

    /// Its statistics are frozen, so it is a factor and an offset for each channel.
    fn batch_norm(&mut self, index: usize, value: Value) -> Value {
        let shape = self.network.shape(index);
        let x = self.map(value, shape, index).tensor;
        let scale = &self.parameters[self.network.weights(index)];
        let shift = &self.parameters[self.network.biases(index)];
        let (means, inverses) =
            self.parameters[self.network.constants(index)].split_at(scale.len());
        let factors: Vec<f32> = scale.iter().zip(inverses).map(|(a, b)| a * b).collect();
        let offsets = shift.iter().zip(means).zip(&factors);
        let offsets: Vec<f32> = offsets
            .map(|((shift, mean), factor)| shift - mean * factor)
            .collect();
        let dims = [1, factors.len(), 1, 1];
        let factors = self
            .builder
            .floats(&format!("head.{index}.factor"), &dims, factors);
        let offsets = self
            .builder
            .floats(&format!("head.{index}.offset"), &dims, offsets);
        let scaled = format!("head.{index}.scaled");
        let scaled = self.builder.node("Mul", &[&x, &factors], &scaled);
        self.made(index, "Add", &[&scaled, &offsets], "norm", Vec::new())
    }

    /// The node of a layer that makes a map.
    fn made(
        &mut self,
        index: usize,
        operator: &str,
        inputs: &[&str],
        what: &str,
        attributes: Vec<AttributeProto>,
    ) -> Value {
        let wanted = format!("head.{index}.{what}");
        Value {
            tensor: self
                .builder
                .node_with(operator, inputs, &wanted, attributes),
            form: Form::Map(self.network.shape(index + 1)),
        }
    }

    /// Names of the weights, of these dimensions, and biases of a layer.
    fn weights(&mut self, index: usize, dims: &[usize]) -> (String, String) {
        let weights = self.parameters[self.network.weights(index)].iter().copied();
        let biases = &self.parameters[self.network.biases(index)];
        let name = format!("head.{index}.weights");
        let weights = self.builder.floats(&name, dims, weights);
        let name = format!("head.{index}.biases");
        let biases = self
            .builder
            .floats(&name, &[biases.len()], biases.iter().copied());
        (weights, biases)
    }

    /// The value before layer `index` as `[N, elements]`.
    fn flat(&mut self, value: Value, index: usize) -> Value {
        if value.form == Form::Flat {
            return value;
        }
        let elements = self.network.width(index) as i64;
        let wanted = format!("{}.flat", value.tensor);
        Value {
            tensor: self
                .builder
                .reshape(&value.tensor, &[-1, elements], &wanted),
            form: Form::Flat,
        }
    }

    /// The value before layer `index` as a map.
    fn map(&mut self, value: Value, shape: Shape, index: usize) -> Value {
        let form = Form::Map(shape);
        if value.form == form {
            return value;
        }
        let sizes = [shape.channels, shape.rows, shape.columns].map(i64::from);
        let wanted = format!("head.{index}.map");
        let sizes = [-1, sizes[0], sizes[1], sizes[2]];
        let tensor = self.builder.reshape(&value.tensor, &sizes, &wanted);
        Value { tensor, form }
    }
}

/// Stride, padding and dilation of a window; ONNX counts padding in the same order.
fn standing(window: &Window) -> Vec<AttributeProto> {
    let mut attributes = vec![
        integers("strides", window.stride.map(u32::from)),
        integers("pads", window.padding.map(u32::from)),
    ];
    if window.is_dilated() {
        attributes.push(integers("dilations", window.dilation.map(u32::from)));
    }
    attributes
}
