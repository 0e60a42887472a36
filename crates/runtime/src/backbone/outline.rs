//! An ONNX file that is part of the program, read without copying its weights: they stay
//! where they are until they are used.

use std::collections::HashMap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use prost::Message;
use prost::bytes::Bytes;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

/// Numbers that are converted at a time: half's vector instructions want more than one.
const CONVERTED: usize = 64;

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

    /// All of them; no conversion loses anything.
    pub fn read(&self) -> Option<Vec<f32>> {
        let mut values = Vec::new();
        self.read_part(0, self.count(), &mut values)?;
        Some(values)
    }

    /// Puts `count` of them from `start` on into `values`; `None` where there are not so many.
    pub fn read_part(&self, start: usize, count: usize, values: &mut Vec<f32>) -> Option<()> {
        let end = start
            .checked_add(count)
            .filter(|end| *end <= self.count())?;
        values.clear();
        match self {
            Self::Half(bytes) => {
                let (halves, _) = bytes.as_chunks();
                values.resize(count, 0.0);
                let sources = halves.get(start..end)?.chunks(CONVERTED);
                for (source, target) in sources.zip(values.chunks_mut(CONVERTED)) {
                    let mut halves = [f16::ZERO; CONVERTED];
                    for (half, bytes) in halves.iter_mut().zip(source) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves.get(..source.len())?.convert_to_f32_slice(target);
                }
            }
            Self::Single(bytes) => {
                let (singles, _) = bytes.as_chunks();
                let singles = singles.get(start..end)?.iter().copied();
                values.extend(singles.map(f32::from_le_bytes));
            }
        }
        Some(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_anywhere_in_a_file() {
        // 1, -2, the smallest number above 0, and its negative.
        let halves: [u16; 4] = [0x3c00, 0xc000, 0x0001, 0x8001];
        let bytes = halves.repeat(50).into_iter().flat_map(u16::to_le_bytes);
        // From an odd address.
        let bytes: Vec<u8> = [0].into_iter().chain(bytes).collect();
        let numbers = Numbers::Half(Bytes::from(bytes).slice(1..));
        let all = numbers.read().expect("whole");
        let tiny = 5.960_464_5e-8;
        assert_eq!((numbers.count(), all.len()), (200, 200));
        assert_eq!(all[196..], [1.0, -2.0, tiny, -tiny]);
        let mut part = vec![7.0; 3];
        numbers.read_part(61, 71, &mut part).expect("inside");
        assert_eq!(part, all[61..132]);
        assert!(numbers.read_part(198, 3, &mut part).is_none());
        assert!(numbers.read_part(usize::MAX, 1, &mut part).is_none());
    }
}
