//! What the import of a tail reads from an ONNX file beside the graph: attributes of the
//! nodes, all their operands, and the values of constants. What layers they make is said
//! in `crate::tail`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

/// One setting of an ONNX node. Kinds that no layer needs are left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f32),
    /// A list of whole numbers, such as strides.
    Integers(Vec<i64>),
    /// A word, such as "SAME_UPPER".
    Text(String),
}

/// What an ONNX node says beside its operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// Its name, or that of its first output where it has none.
    pub name: String,
    /// Tensors it reads, by position; absent optional ones are empty.
    pub operands: Vec<String>,
    /// Its settings.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A tensor that does not depend on the sample: weights, sizes, limits. A clone shares the
/// values.
#[derive(Clone, Debug)]
pub(crate) struct Constant(Arc<Tensor>);

impl Constant {
    /// Numbers in row-major order, for tests.
    #[cfg(test)]
    pub fn new(shape: &[usize], values: &[f32]) -> Self {
        Self(Tensor::from_shape(shape, values).unwrap().into_arc_tensor())
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// All numbers, row-major; `None` when they are no numbers.
    pub fn values(&self) -> Option<Vec<f32>> {
        let cast = self.0.cast_to::<f32>().ok()?;
        let plain = cast.try_as_plain_ram().ok()?;
        Some(plain.as_slice::<f32>().ok()?.to_vec())
    }

    /// All numbers as whole ones; `None` when they are no numbers.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let cast = self.0.cast_to::<i64>().ok()?;
        let plain = cast.try_as_plain_ram().ok()?;
        Some(plain.as_slice::<i64>().ok()?.to_vec())
    }
}

impl From<&NodeProto> for Details {
    fn from(node: &NodeProto) -> Self {
        let first = || node.output.iter().find(|name| !name.is_empty());
        let name = match node.name.as_str() {
            "" => first().cloned().unwrap_or_default(),
            name => name.into(),
        };
        Self {
            name,
            operands: node.input.clone(),
            attributes: attributes(node),
        }
    }
}

/// The files of old exporters leave the type open, so the value that is there decides.
fn attributes(node: &NodeProto) -> BTreeMap<String, Attribute> {
    use tract_onnx::pb::attribute_proto::AttributeType;
    let read = |attribute: &tract_onnx::pb::AttributeProto| {
        let value = match AttributeType::try_from(attribute.r#type).ok()? {
            AttributeType::Int => Attribute::Integer(attribute.i),
            AttributeType::Float => Attribute::Float(attribute.f),
            AttributeType::Ints => Attribute::Integers(attribute.ints.clone()),
            AttributeType::String => {
                Attribute::Text(String::from_utf8_lossy(&attribute.s).into_owned())
            }
            _ => return None,
        };
        Some((attribute.name.clone(), value))
    };
    node.attribute.iter().filter_map(read).collect()
}

/// Every tensor whose value is known, by name. A cast that was too large to be computed
/// while shapes were inferred has the numbers of what it casts.
pub(super) fn constants(
    model: &InferenceModel,
    outlets: &HashMap<String, OutletId>,
    nodes: &HashMap<usize, NodeProto>,
) -> BTreeMap<String, Constant> {
    let value = |outlet: OutletId| model.outlet_fact(outlet).ok()?.value.concretize();
    let through_cast = |outlet: OutletId| {
        let passes = |node: &&NodeProto| matches!(node.op_type.as_str(), "Cast" | "Identity");
        nodes.get(&outlet.node).filter(passes)?;
        value(*model.node(outlet.node).inputs.first()?)
    };
    let found = outlets.iter().filter_map(|(name, outlet)| {
        let tensor = value(*outlet).or_else(|| through_cast(*outlet))?;
        Some((name.clone(), Constant(tensor)))
    });
    found.collect()
}
