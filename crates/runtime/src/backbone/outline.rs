//! An ONNX file that is part of the program, read without copying its weights: they stay
//! where they are until they are used.

use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use prost::Message;
use prost::bytes::Bytes;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// ONNX's `ModelProto`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct ModelParts {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphParts>,
}

/// ONNX's `GraphProto`, as far as it is needed, its parts not yet read.
#[derive(Clone, PartialEq, Message)]
struct GraphParts {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    node: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    initializer: Vec<Bytes>,
}

/// ONNX's `TensorProto`, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct TensorParts {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
}

/// A tensor that the file stores.
#[derive(Debug)]
pub(super) struct Stored {
    pub shape: Vec<usize>,
    pub numbers: Numbers,
}

/// Little-endian numbers, as they stand in a file.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// Of 16 bits.
    Half(Bytes),
    /// Of 32 bits.
    Single(Bytes),
}

impl Numbers {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Half(bytes) => bytes.len() / size_of::<f16>(),
            Self::Single(bytes) => bytes.len() / size_of::<f32>(),
        }
    }

    /// The numbers; no conversion loses anything.
    pub fn read(&self) -> Vec<f32> {
        match self {
            Self::Half(bytes) => {
                let (pairs, _) = bytes.as_chunks();
                let halves: Vec<f16> = pairs.iter().copied().map(f16::from_le_bytes).collect();
                halves.to_f32_vec()
            }
            Self::Single(bytes) => {
                let (fours, _) = bytes.as_chunks();
                fours.iter().copied().map(f32::from_le_bytes).collect()
            }
        }
    }
}

/// The nodes of a file, and where its weights are.
#[derive(Debug)]
pub(super) struct Outline {
    pub nodes: Vec<NodeProto>,
    stored: HashMap<String, Stored>,
    /// What a `Cast` to 32-bit numbers makes of a stored tensor, and that tensor.
    widened: HashMap<String, String>,
}

impl Outline {
    /// `None` where the file is not ONNX, or keeps numbers in another way than as bytes.
    pub fn read(bytes: &'static [u8]) -> Option<Self> {
        let graph = ModelParts::decode(Bytes::from_static(bytes)).ok()?.graph?;
        let nodes: Result<Vec<_>, _> = graph.node.into_iter().map(NodeProto::decode).collect();
        let stored = graph.initializer.into_iter().map(Stored::read);
        let stored: HashMap<String, Stored> = stored.collect::<Option<_>>()?;
        let nodes = nodes.ok()?;
        let widened = nodes.iter().filter_map(|node| widened(node, &stored));
        Some(Self {
            widened: widened.collect(),
            nodes,
            stored,
        })
    }

    /// A tensor that the file stores, or that is one of those in another element type.
    pub fn stored(&self, name: &str) -> Option<&Stored> {
        let name = self.widened.get(name).map_or(name, String::as_str);
        self.stored.get(name)
    }
}

impl Stored {
    fn read(message: Bytes) -> Option<(String, Self)> {
        let parts = TensorParts::decode(message).ok()?;
        let sizes = parts.dims.iter().map(|size| usize::try_from(*size).ok());
        let shape: Vec<usize> = sizes.collect::<Option<_>>()?;
        let (numbers, element_bytes) = match DataType::try_from(parts.data_type).ok()? {
            DataType::Float => (Numbers::Single(parts.raw_data.clone()), size_of::<f32>()),
            DataType::Float16 => (Numbers::Half(parts.raw_data.clone()), size_of::<f16>()),
            _ => return None,
        };
        let whole = shape.iter().product::<usize>() * element_bytes == parts.raw_data.len();
        whole.then_some((parts.name, Self { shape, numbers }))
    }
}

/// The names of what a node makes and reads, where it only makes numbers of 32 bits of what
/// is stored.
fn widened(node: &NodeProto, stored: &HashMap<String, Stored>) -> Option<(String, String)> {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
        return None;
    };
    let to = node.attribute.iter().find(|it| it.name == "to")?;
    let single = to.i == i64::from(DataType::Float as i32);
    let widens = node.op_type == "Cast" && single && stored.contains_key(input);
    widens.then(|| (output.clone(), input.clone()))
}
