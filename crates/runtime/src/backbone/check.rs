//! Refuses what a damaged or hostile graph could make tract allocate or loop over before
//! any shape is known: tensors that do not hold what they declare, and attributes out of
//! all proportion. What depends on shapes is in `limits.rs`.

use std::collections::BTreeSet;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::graph::elements;
use super::guard::shortened;
use super::onnx::node_name;

/// Attributes that are sizes in pixels, steps or channels.
const SIZES: [&str; 12] = [
    "blocksize",
    "dilations",
    "group",
    "hidden_size",
    "kernel_shape",
    "num_groups",
    "num_heads",
    "output_padding",
    "output_shape",
    "pads",
    "size",
    "strides",
];

/// Largest magnitude of such an attribute.
const MAX_SIZE: i64 = 1 << 20;

/// Most places that one window of a convolution or pool may cover.
const MAX_WINDOW: i64 = 1 << 20;

/// Longest text of an attribute that is parsed, in bytes.
const MAX_EQUATION_BYTES: usize = 256;

/// What is wrong with a graph, if anything.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
    }
    for node in &graph.node {
        for attribute in &node.attribute {
            check_attribute(node, attribute)?;
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                check_tensor(tensor)?;
            }
            if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
                return Err(format!(
                    "keeps a sparse tensor in the node {}",
                    node_name(node)
                ));
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                check(inner)?;
            }
        }
    }
    Ok(())
}

fn check_attribute(node: &NodeProto, attribute: &AttributeProto) -> Result<(), String> {
    let name = attribute.name.as_str();
    let wrong = |value: &dyn std::fmt::Display| {
        let (node, operator) = (node_name(node), shortened(&node.op_type, 40));
        Err(format!(
            "has the node {node} ({operator}) with `{name}` of {value}"
        ))
    };
    let values = || attribute.ints.iter().chain([&attribute.i]);
    let too_large = |value: &&i64| !(-MAX_SIZE..=MAX_SIZE).contains(*value);
    if let Some(value) = values().find(|value| SIZES.contains(&name) && too_large(value)) {
        return wrong(value);
    }
    let positive = ["strides", "dilations", "kernel_shape", "blocksize"].contains(&name);
    if let Some(value) = attribute.ints.iter().find(|value| positive && **value < 1) {
        return wrong(value);
    }
    if name == "kernel_shape" {
        let window = attribute
            .ints
            .iter()
            .fold(1i64, |all, size| all.saturating_mul(*size));
        if window > MAX_WINDOW {
            return wrong(&format!("{window} places"));
        }
    }
    // tract searches for the steps of a permutation, and never ends where there are none.
    let axes: BTreeSet<i64> = attribute.ints.iter().copied().collect();
    if name == "perm" && !axes.into_iter().eq(0..attribute.ints.len() as i64) {
        return wrong(&shortened(&format!("{:?}", attribute.ints), 80));
    }
    if name == "equation" && attribute.s.len() > MAX_EQUATION_BYTES {
        return wrong(&format!("{} bytes", attribute.s.len()));
    }
    Ok(())
}

/// Elements that a tensor declares.
pub(super) fn declared_elements(tensor: &TensorProto) -> Result<usize, String> {
    let sizes: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|size| usize::try_from(*size).ok())
        .collect();
    sizes.and_then(|sizes| elements(&sizes)).ok_or_else(|| {
        let (name, dims) = (
            shortened(&tensor.name, 80),
            shortened(&format!("{:?}", tensor.dims), 80),
        );
        format!("stores a tensor of {dims} (\"{name}\"), which is too large or negative")
    })
}

fn check_tensor(tensor: &TensorProto) -> Result<(), String> {
    let count = declared_elements(tensor)?;
    if is_external(tensor) || tensor.raw_data.is_empty() {
        return Ok(());
    }
    match element_bytes(tensor.data_type).and_then(|bytes| count.checked_mul(bytes)) {
        Some(bytes) if bytes != tensor.raw_data.len() => {
            let (name, found) = (shortened(&tensor.name, 80), tensor.raw_data.len());
            Err(format!(
                "stores {found} bytes of \"{name}\", which has {bytes}"
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a tensor's values are in a file of their own.
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Bytes of one element; `None` for texts and types that are packed or unknown.
pub(super) fn element_bytes(data_type: i32) -> Option<usize> {
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Float => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Double => 8,
        _ => return None,
    })
}
