//! The layers that a network begins with, straight from the nodes of its file: tract would
//! copy and convert every weight several times before they become the same layers. Only what
//! is written in the plainest way is taken; where a node is not, the network goes on in
//! tract.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::TractErrorContext;

use super::super::outline::{Numbers, Outline};
use super::layers::{Clamp, Kind, Layer, Layers, Map, Values, Weights, Window};
use super::program::Program;
use super::{Blocked, Work};

/// Layers, and which nodes they stand for.
pub(in crate::backbone) struct Front<'a> {
    outline: &'a Outline,
    layers: Layers,
    /// Numbers of the values that are known, by the names of their tensors.
    values: HashMap<&'a str, usize>,
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
            values: HashMap::from([(input, 0)]),
        };
        for node in nodes.iter().filter_map(|index| outline.nodes.get(*index)) {
            front.add(node);
        }
        Some(front)
    }

    /// Whether a layer makes this tensor.
    pub(in crate::backbone) fn makes(&self, tensor: &str) -> bool {
        let value = self.values.get(tensor);
        value.is_some_and(|value| !self.layers.inputs.contains(value))
    }

    /// The shape of a tensor that a layer makes.
    pub(in crate::backbone) fn shape(&self, tensor: &str) -> Option<[usize; 4]> {
        let map = self.layers.maps.get(*self.values.get(tensor)?)?;
        Some([1, map.channels, map.height, map.width])
    }

    /// Puts the layers that these tensors need into a model without nodes of its own or after
    /// those that it has. Returns where each tensor is.
    pub(in crate::backbone) fn wire(
        mut self,
        model: &mut TypedModel,
        input: OutletId,
        tensors: &[&str],
    ) -> TractResult<TVec<OutletId>> {
        let values = tensors
            .iter()
            .map(|tensor| self.values.get(tensor).copied());
        let values = values.collect::<Option<_>>();
        self.layers.outputs = values.context("a tensor that no layer makes")?;
        let fact = |value: &usize| {
            let map = self.layers.maps[*value];
            f32::fact([1, map.channels, map.height, map.width])
        };
        let facts = self.layers.outputs.iter().map(fact).collect();
        let layers = self.layers.join();
        Program::check(&layers).context("layers that no step does")?;
        let mut operator = Blocked {
            work: Work::Layers(layers),
            facts,
        };
        operator.pack()?;
        model.wire_node("layers from the file", operator, &[input])
    }

    /// A node as a layer, if it is one and all that it reads is known.
    fn add(&mut self, node: &'a NodeProto) -> Option<()> {
        let [output] = node.output.as_slice() else {
            return None;
        };
        let input = *self.values.get(node.input.first()?.as_str())?;
        let from = self.layers.maps[input];
        let mut layer = Layer {
            kind: Kind::Clamp,
            input,
            other: None,
            output: 0,
            bias: Vec::new(),
            clamp: Clamp::NONE,
        };
        let mut to = from;
        match node.op_type.as_str() {
            "Conv" => {
                (layer.kind, to) = self.convolution(node, from)?;
                layer.bias = self.stored(node, 2, &[to.channels])?.read();
            }
            "Clip" => {
                let bound = |place| self.stored(node, place, &[])?.read().first().copied();
                let (low, high) = (bound(1)?, bound(2)?);
                layer.clamp = Clamp { low, high };
            }
            "Add" => {
                let other = *self.values.get(node.input.get(1)?.as_str())?;
                layer.kind = Kind::Add;
                layer.other = Some(other).filter(|other| self.layers.maps[*other] == from);
                layer.other?;
            }
            "GlobalAveragePool" => {
                layer.kind = Kind::Sum;
                (to.height, to.width) = (1, 1);
                layer = self.mean(layer, from, to);
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

    /// The layer that makes a mean of a sum, behind that.
    fn mean(&mut self, mut sum: Layer, from: Map, to: Map) -> Layer {
        sum.output = self.value(to);
        let share = tensor1(&vec![(from.pixels() as f32).recip(); to.channels]);
        let weights = Weights {
            values: Values::Tensor(Arc::new(share)),
            strides: [1, 0, 0, 0],
            scale: vec![1.0; to.channels],
        };
        let mean = Layer {
            kind: Kind::Depthwise(Window::POINT, weights, None),
            input: sum.output,
            other: None,
            output: 0,
            bias: Vec::new(),
            clamp: Clamp::NONE,
        };
        self.layers.layers.push(sum);
        mean
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
