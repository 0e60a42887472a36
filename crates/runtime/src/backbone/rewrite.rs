//! Operators that tract lacks or gets wrong, said in others that it has. Only where the result is equal
//! by definition; what cannot be said so is left, and refused by name later.

use std::collections::HashMap;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::onnx::Document;

/// `Upsample` was renamed `Resize` in this operator set, with the same meaning.
const RESIZE_OPSET: i64 = 10;

/// Says old operators in new ones. Every tensor keeps its name.
pub(super) fn rewrite(document: &mut Document) {
    let nodes = || document.graph.node.iter();
    let has = |operator: &str| nodes().any(|node| node.op_type == operator);
    // The first operator set in which Slice and TopK take inputs instead of attributes.
    let upsamples = has("Upsample") && !has("TopK");
    let version = document.opset();
    if upsamples && version.is_some_and(|version| version < RESIZE_OPSET) {
        let stored = upsample(&mut document.graph);
        document.graph.initializer.extend(stored);
        document.set_opset(RESIZE_OPSET);
    }
}

/// Operators that mix elements but keep the shape. tract 0.23.9 takes whatever stands
/// between `DequantizeLinear` and `QuantizeLinear` and keeps axes for a function of one
/// element, and makes a table of it: every softmax of one element is 1.
const MIXING: [&str; 10] = [
    "CumSum",
    "Hardmax",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
    "Softmax",
];

/// Most nodes that are looked at in front of a quantiser.
const MAX_CHAIN: usize = 16;

/// Writes `QuantizeLinear` behind such operators as the arithmetic that it stands for, so
/// that no table is made: saturate(round(x / scale) + zero point), halves to even. Adds
/// tensors that the file does not have, so it is for running only.
pub(super) fn spell_out_quantisers(document: &mut Document) {
    let graph = &mut document.graph;
    let makers = graph.node.iter().enumerate().flat_map(|(index, node)| {
        let outputs = node.output.iter();
        outputs.map(move |name| (name.clone(), index))
    });
    let makers: HashMap<String, usize> = makers.collect();
    let first_maker = |index: usize| {
        let node = graph.node.get(index)?;
        makers.get(node.input.first()?).copied()
    };
    let mixes = |index: usize| {
        let chain = std::iter::successors(first_maker(index), |index| first_maker(*index));
        let mut operators = chain
            .take(MAX_CHAIN)
            .filter_map(|index| graph.node.get(index))
            .map(|node| node.op_type.as_str())
            .take_while(|operator| *operator != "DequantizeLinear");
        operators.any(|operator| MIXING.contains(&operator))
    };
    let quantises = |index: &usize| {
        let node = graph.node.get(*index);
        node.is_some_and(|node| node.op_type == "QuantizeLinear")
    };
    let chosen: Vec<usize> = (0..graph.node.len())
        .filter(quantises)
        .filter(|it| mixes(*it))
        .collect();
    // From the end, so that indices stay.
    for index in chosen.into_iter().rev() {
        let stored = |name: &String| graph.initializer.iter().find(|it| it.name == *name);
        let spelt = graph
            .node
            .get(index)
            .and_then(|node| spelt_out(node, index, &stored));
        if let Some((nodes, constants)) = spelt {
            graph.node.splice(index..=index, nodes);
            graph.initializer.extend(constants);
        }
    }
}

/// The nodes and constants that one `QuantizeLinear` with a single scale stands for.
fn spelt_out<'a>(
    node: &NodeProto,
    index: usize,
    stored: &dyn Fn(&String) -> Option<&'a TensorProto>,
) -> Option<(Vec<NodeProto>, Vec<TensorProto>)> {
    let [input, scale, zero @ ..] = node.input.as_slice() else {
        return None;
    };
    let zero = zero.first().filter(|zero| !zero.is_empty()).map(stored);
    let (kind, zero) = match zero {
        None => (DataType::Uint8, 0.0),
        Some(zero) => byte(zero?)?,
    };
    let (least, most) = match kind {
        DataType::Int8 => (-128.0, 127.0),
        _ => (0.0, 255.0),
    };
    // One scale, so that axes do not matter.
    let single = stored(scale)?.dims.iter().product::<i64>() == 1;
    let name = |what: &str| format!("::{index}:{what}");
    let constant = |what: &str, value: f32| TensorProto {
        name: name(what),
        data_type: DataType::Float as i32,
        float_data: vec![value],
        ..TensorProto::default()
    };
    let constants = vec![
        constant("zero", zero),
        constant("least", least),
        constant("most", most),
    ];
    let step = |operator: &str, inputs: [&str; 2], output: &str| NodeProto {
        // tract takes no name twice.
        name: output.into(),
        op_type: operator.into(),
        input: inputs
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| name.to_string())
            .collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let [divided, rounded, moved, above, within] =
        ["divided", "rounded", "moved", "above", "within"].map(name);
    let mut cast = step("Cast", [&within, ""], node.output.first()?);
    cast.attribute.push(AttributeProto {
        name: "to".into(),
        i: i64::from(kind as i32),
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    });
    let nodes = vec![
        step("Div", [input, scale], &divided),
        step("Round", [&divided, ""], &rounded),
        step("Add", [&rounded, &name("zero")], &moved),
        step("Max", [&moved, &name("least")], &above),
        step("Min", [&above, &name("most")], &within),
        cast,
    ];
    single.then_some((nodes, constants))
}

/// Type and value of a zero point of one byte.
fn byte(tensor: &TensorProto) -> Option<(DataType, f32)> {
    let kind = DataType::try_from(tensor.data_type).ok()?;
    let raw = tensor.raw_data.first().copied();
    let value = match kind {
        DataType::Int8 => raw.map_or_else(
            || tensor.int32_data.first().map(|it| *it as i8),
            |it| Some(it as i8),
        ),
        DataType::Uint8 => {
            let value = raw.or_else(|| tensor.int32_data.first().map(|it| *it as u8));
            return Some((kind, f32::from(value?)));
        }
        _ => None,
    };
    let single = tensor.dims.iter().product::<i64>() == 1;
    value
        .filter(|_| single)
        .map(|value| (kind, f32::from(value)))
}

/// Turns every `Upsample` into `Resize`, and the attributes of both it and `Slice` into
/// inputs, as operator set 10 has them. Returns the new constants.
fn upsample(graph: &mut GraphProto) -> Vec<TensorProto> {
    let mut stored = Vec::new();
    for (index, node) in graph.node.iter_mut().enumerate() {
        match node.op_type.as_str() {
            "Upsample" => {
                node.op_type = "Resize".into();
                node.attribute.push(AttributeProto {
                    name: "nearest_mode".into(),
                    s: b"floor".to_vec(),
                    r#type: AttributeType::String as i32,
                    ..AttributeProto::default()
                });
                if let Some(scales) = take(node, "scales") {
                    let values = scales.floats;
                    stored.push(input(node, index, "scales", values.len(), |tensor| {
                        tensor.data_type = DataType::Float as i32;
                        tensor.float_data = values;
                    }));
                }
            }
            "Slice" => {
                let starts = take(node, "starts").map(|it| it.ints).unwrap_or_default();
                let ends = take(node, "ends").map(|it| it.ints).unwrap_or_default();
                let usual = (0..starts.len() as i64).collect();
                let axes = take(node, "axes").map_or(usual, |it| it.ints);
                for (name, values) in [("starts", starts), ("ends", ends), ("axes", axes)] {
                    stored.push(input(node, index, name, values.len(), |tensor| {
                        tensor.data_type = DataType::Int64 as i32;
                        tensor.int64_data = values;
                    }));
                }
            }
            _ => {}
        }
    }
    stored
}

fn take(node: &mut NodeProto, name: &str) -> Option<AttributeProto> {
    let position = node.attribute.iter().position(|it| it.name == name)?;
    Some(node.attribute.remove(position))
}

/// A constant that becomes the next input of a node.
fn input(
    node: &mut NodeProto,
    index: usize,
    what: &str,
    length: usize,
    fill: impl FnOnce(&mut TensorProto),
) -> TensorProto {
    let mut tensor = TensorProto {
        // No exporter begins a name so.
        name: format!("::{index}:{what}"),
        dims: vec![length as i64],
        ..TensorProto::default()
    };
    fill(&mut tensor);
    node.input.push(tensor.name.clone());
    tensor
}
