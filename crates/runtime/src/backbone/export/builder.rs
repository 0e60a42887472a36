//! Writes ONNX nodes and stored tensors: names that are free, attributes, numbers.
//! Which nodes a head needs is in `layers.rs`.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// A graph that grows node by node.
pub(super) struct Builder {
    /// Names of tensors and nodes that are taken.
    names: HashSet<String>,
    pub opset: i64,
    pub nodes: Vec<NodeProto>,
    pub stored: Vec<TensorProto>,
}

impl Builder {
    pub fn new(names: HashSet<String>, opset: i64) -> Self {
        Self {
            names,
            opset,
            nodes: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// `wanted`, or with a number behind it where that is taken.
    pub fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }

    /// Adds a node with one output and gives the output's name, as near to `wanted` as is free.
    pub fn node(&mut self, operator: &str, inputs: &[&str], wanted: &str) -> String {
        self.node_with(operator, inputs, wanted, Vec::new())
    }

    /// As [`Builder::node`], with attributes.
    pub fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        wanted: &str,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.fresh(wanted);
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            op_type: operator.into(),
            attribute,
            ..NodeProto::default()
        });
        output
    }

    /// Stores f32 numbers and gives their name.
    pub fn floats(
        &mut self,
        wanted: &str,
        dims: &[usize],
        values: impl IntoIterator<Item = f32>,
    ) -> String {
        let raw = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.store(wanted, dims, DataType::Float, raw)
    }

    /// Stores i64 numbers and gives their name.
    pub fn integers(&mut self, wanted: &str, values: &[i64]) -> String {
        let raw = values.iter().copied().flat_map(i64::to_le_bytes).collect();
        self.store(wanted, &[values.len()], DataType::Int64, raw)
    }

    fn store(&mut self, wanted: &str, dims: &[usize], element: DataType, raw: Vec<u8>) -> String {
        let name = self.fresh(wanted);
        self.stored.push(TensorProto {
            dims: dims.iter().map(|size| *size as i64).collect(),
            data_type: element as i32,
            name: name.clone(),
            raw_data: raw,
            ..TensorProto::default()
        });
        name
    }

    /// Gives `tensor` another shape; -1 stands for what is left.
    pub fn reshape(&mut self, tensor: &str, shape: &[i64], wanted: &str) -> String {
        let shape = self.integers(&format!("{wanted}.shape"), shape);
        self.node("Reshape", &[tensor, &shape], wanted)
    }
}

/// An attribute that is one whole number.
pub(super) fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    }
}

/// An attribute of several whole numbers.
pub(super) fn integers(name: &str, ints: impl IntoIterator<Item = u32>) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.into_iter().map(i64::from).collect(),
        ..AttributeProto::default()
    }
}

/// An attribute that is a number.
pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Float as i32,
        f,
        ..AttributeProto::default()
    }
}

/// An input or output of f32, its batch of any size.
pub(super) fn value_info(name: &str, sizes: &[usize]) -> ValueInfoProto {
    let dimension = |value| Dimension {
        value: Some(value),
        ..Dimension::default()
    };
    let batch = dimension(dimension::Value::DimParam("N".into()));
    let sizes = sizes.iter();
    let sizes = sizes.map(|size| dimension(dimension::Value::DimValue(*size as i64)));
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto {
            dim: std::iter::once(batch).chain(sizes).collect(),
        }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
