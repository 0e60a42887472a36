//! The layers of a network straight from the nodes of its file: tract would copy and convert
//! every weight several times before they become the same layers. Only what is written in the
//! plainest way is taken.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::TractErrorContext;

use super::super::outline::{Numbers, Outline};
use super::layers::{Clamp, Kind, Layer, Layers, Map, Values, Weights, Window};
use super::program::Program;
use super::{Blocked, Work};

/// Layers, and which tensors they make.
pub(in crate::backbone) struct Front<'a> {
    outline: &'a Outline,
    layers: Layers,
    /// Biases of matrix products: added after the sums, as tract does. Joined with them they
    /// would be the first term, which changes the last bits.
    biases: Vec<Layer>,
    /// Numbers of the values that are known, by the names of their tensors.
    values: HashMap<&'a str, usize>,
    /// Tensors without axes for rows and columns.
    flat: HashSet<&'a str>,
}

impl<'a> Front<'a> {
    /// The layers among the nodes at these places, which stand in an order in which they can
    /// run, from the input on.
    pub(in crate::backbone) fn read(
        outline: &'a Outline,
        nodes: &[usize],
        (input, shape): (&'a str, &[usize]),
    ) -> Option<Self> {
        let [1, channels, height, width] = *shape else {
            return None;
        };
        let map = Map {
            channels,
            height,
            width,
        };
        let mut front = Self {
            outline,
            layers: Layers {
                maps: vec![map],
                inputs: vec![0],
                ..Layers::default()
            },
            biases: Vec::new(),
            values: HashMap::from([(input, 0)]),
            flat: HashSet::new(),
        };
        for node in nodes.iter().filter_map(|index| outline.nodes.get(*index)) {
            front.add(node);
        }
        Some(front)
    }

    /// A model of the layers, with these tensors as its outputs. Fails where no layer makes
    /// one of them.
    pub(in crate::backbone) fn model(
        mut self,
        (input, shape): (&str, &[usize]),
        tensors: &[&str],
    ) -> TractResult<TypedModel> {
        let value = |tensor: &&str| {
            let value = self.values.get(tensor).copied();
            value.filter(|value| !self.layers.inputs.contains(value))
        };
        let values: Option<Vec<usize>> = tensors.iter().map(value).collect();
        self.layers.outputs = values.context("a tensor that no layer makes")?;
        let fact = |(tensor, value): (&&str, &usize)| {
            let map = self.layers.maps[*value];
            match self.flat.contains(tensor) {
                true => f32::fact([1, map.channels]),
                false => f32::fact([1, map.channels, map.height, map.width]),
            }
        };
        let facts = tensors.iter().zip(&self.layers.outputs).map(fact).collect();
        let mut layers = self.layers.join();
        layers.layers.extend(self.biases);
        Program::check(&layers).context("layers that no step does")?;
        let mut operator = Blocked {
            work: Work::Layers(layers),
            facts,
        };
        operator.pack()?;
        let mut model = TypedModel::default();
        let input = model.add_source(input, f32::fact(shape))?;
        let outputs = model.wire_node("layers", operator, &[input])?;
        model.select_output_outlets(&outputs)?;
        Ok(model)
    }

    /// A node as a layer, if it is one and all that it reads is known.
    fn add(&mut self, node: &'a NodeProto) -> Option<()> {
        let ([first, ..], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            return None;
        };
        let input = *self.values.get(first.as_str())?;
        let from = self.layers.maps[input];
        let mut layer = plain(Kind::Clamp, input);
        let mut to = from;
        match (node.op_type.as_str(), self.flat.contains(first.as_str())) {
            ("Flatten", false) => {
                let axis = node
                    .attribute
                    .iter()
                    .all(|it| it.name == "axis" && it.i == 1);
                if from.pixels() == 1 && axis {
                    self.values.insert(output, input);
                    self.flat.insert(output);
                }
                return None;
            }
            ("Gemm", true) => {
                (layer, to) = self.product(node, layer, from)?;
                layer.output = self.value(to);
                self.values.insert(output, layer.output);
                self.flat.insert(output);
                self.biases.push(layer);
                return Some(());
            }
            ("Conv", false) => {
                (layer.kind, to) = self.convolution(node, from)?;
                layer.bias = self.stored(node, 2, &[to.channels])?.read()?;
            }
            ("Clip", false) => {
                let bound = |place| self.stored(node, place, &[])?.read()?.first().copied();
                let (low, high) = (bound(1)?, bound(2)?);
                layer.clamp = Clamp { low, high };
            }
            ("Add", false) => {
                let other = *self.values.get(node.input.get(1)?.as_str())?;
                layer.kind = Kind::Add;
                layer.other = Some(other).filter(|other| self.layers.maps[*other] == from);
                layer.other?;
            }
            ("GlobalAveragePool", false) => {
                layer.kind = Kind::Sum;
                (to.height, to.width) = (1, 1);
                let share = (from.pixels() as f32).recip();
                layer = self.after(layer, to, share);
            }
            _ => return None,
        }
        layer.output = self.value(to);
        self.values.insert(output, layer.output);
        self.layers.layers.push(layer);
        Some(())
    }

    fn value(&mut self, map: Map) -> usize {
        self.layers.maps.push(map);
        self.layers.maps.len() - 1
    }

    /// Appends a layer; returns one behind it that multiplies what it makes.
    fn after(&mut self, mut layer: Layer, to: Map, factor: f32) -> Layer {
        layer.output = self.value(to);
        let weights = Weights {
            values: Values::Tensor(Arc::new(tensor1(&vec![factor; to.channels]))),
            strides: [1, 0, 0, 0],
            scale: vec![1.0; to.channels],
        };
        let next = plain(Kind::Depthwise(Window::POINT, weights, None), layer.output);
        self.layers.layers.push(layer);
        next
    }

    /// Appends a matrix product; returns the layer that adds its bias, and how much it makes.
    fn product(&mut self, node: &NodeProto, mut layer: Layer, from: Map) -> Option<(Layer, Map)> {
        let usual = node.attribute.iter().all(|it| match it.name.as_str() {
            "alpha" | "beta" => it.f == 1.0,
            "transA" => it.i == 0,
            "transB" => it.i == 1,
            _ => false,
        });
        let turned = node.attribute.iter().any(|it| it.name == "transB");
        let stored = self.outline.stored(node.input.get(1)?)?;
        let [channels, inputs] = *stored.shape.as_slice() else {
            return None;
        };
        let bias = self.stored(node, 2, &[channels])?.read()?;
        if !usual || !turned || inputs != from.channels || channels == 0 {
            return None;
        }
        let weights = Weights {
            values: Values::Stored(stored.numbers.clone()),
            strides: [inputs, 1, 0, 0],
            scale: vec![1.0; channels],
        };
        layer.kind = Kind::Dense(Window::POINT, weights);
        let to = Map { channels, ..from };
        let mut adds = self.after(layer, to, 1.0);
        adds.bias = bias;
        Some((adds, to))
    }

    /// A convolution without its bias, and the size of what it makes.
    fn convolution(&self, node: &NodeProto, from: Map) -> Option<(Kind, Map)> {
        let known = [
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ];
        let plain = node.attribute.iter().all(|attribute| {
            let padded = attribute.name != "auto_pad" || attribute.s == b"NOTSET";
            padded && known.contains(&attribute.name.as_str())
        });
        let stored = self.outline.stored(node.input.get(1)?)?;
        let [channels, inputs, height, width] = *stored.shape.as_slice() else {
            return None;
        };
        let kernel = [height, width];
        let stated = sizes(node, "kernel_shape", kernel)?;
        let [top, left, bottom, right] = sizes(node, "pads", [0; 4])?;
        let window = Window {
            kernel,
            stride: sizes(node, "strides", [1; 2])?,
            dilation: sizes(node, "dilations", [1; 2])?,
            before: [top, left],
        };
        let size = |axis: usize, inner: usize| {
            let reach = window.reach(axis, 1);
            Some((inner.checked_sub(reach)?).checked_div(window.stride[axis])? + 1)
        };
        let to = Map {
            channels,
            height: size(0, top + from.height + bottom)?,
            width: size(1, left + from.width + right)?,
        };
        let [group] = match node.attribute.iter().find(|it| it.name == "group") {
            Some(group) => [usize::try_from(group.i).ok()?],
            None => [1],
        };
        let weights = Weights {
            values: Values::Stored(stored.numbers.clone()),
            strides: [inputs * height * width, height * width, width, 1],
            scale: vec![1.0; channels],
        };
        let kind = match group {
            1 if inputs == from.channels => Kind::Dense(window, weights),
            _ if [from.channels, channels] == [group; 2] && inputs == 1 => {
                Kind::Depthwise(window, weights, None)
            }
            _ => return None,
        };
        (plain && stated == kernel && channels > 0).then_some((kind, to))
    }

    /// What the file stores for an input of a node, if it has this shape.
    fn stored(&self, node: &NodeProto, place: usize, shape: &[usize]) -> Option<&Numbers> {
        let stored = self.outline.stored(node.input.get(place)?)?;
        (stored.shape == shape).then_some(&stored.numbers)
    }
}

/// A layer of this kind whose output is not yet numbered.
fn plain(kind: Kind, input: usize) -> Layer {
    Layer {
        kind,
        input,
        other: None,
        output: 0,
        bias: Vec::new(),
        clamp: Clamp::NONE,
    }
}

/// The places of the nodes that these tensors need, in the file's order.
pub(in crate::backbone) fn needed(outline: &Outline, tensors: &[&str]) -> Vec<usize> {
    let mut wanted: HashSet<&str> = tensors.iter().copied().collect();
    let mut found = Vec::new();
    // A node that stands before what it reads is not found to be read, and its tensor later
    // not found to be made.
    for (index, node) in outline.nodes.iter().enumerate().rev() {
        if node
            .output
            .iter()
            .any(|name| wanted.contains(name.as_str()))
        {
            wanted.extend(node.input.iter().map(String::as_str));
            found.push(index);
        }
    }
    found.reverse();
    found
}

/// An attribute of so many sizes.
fn sizes<const N: usize>(node: &NodeProto, name: &str, usual: [usize; N]) -> Option<[usize; N]> {
    let Some(attribute) = node.attribute.iter().find(|it| it.name == name) else {
        return Some(usual);
    };
    let sizes = attribute
        .ints
        .iter()
        .map(|size| usize::try_from(*size).ok());
    sizes.collect::<Option<Vec<_>>>()?.try_into().ok()
}
