//! Operators that tract lacks, said in others that it has. Only where the result is equal
//! by definition; what cannot be said so is left, and refused by name later.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::onnx::Document;

/// `Upsample` was renamed `Resize` in this operator set, with the same meaning.
const RESIZE_OPSET: i64 = 10;

/// Rewrites the operators of a document.
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
                    r#type: tract_onnx::pb::attribute_proto::AttributeType::String as i32,
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
