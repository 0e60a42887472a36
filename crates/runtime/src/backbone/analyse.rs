//! An ONNX file in tract's hands: shapes and types of every tensor, inferred node by node
//! so that a failure has a place, with limits checked before each step.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::TractErrorContext;

use super::graph::{Graph, GraphNode, GraphTensor, MAX_TENSOR_ELEMENTS, elements, without_batch};
use super::guard::{MAX_REASON, bad, caught, shortened};
use super::limits::{Known, most_elements};
use super::onnx::{Document, node_name};
use super::pin::Pinned;
use crate::error::Error;

/// Bytes that computed constants may take, beyond a multiple of what the file stores.
const SPARE_CONSTANT_BYTES: usize = 64 << 20;

/// Computed constants may take so many times the bytes of what the file stores: weights of
/// 8 bits become numbers of 32, and some are kept in two forms.
const CONSTANT_FACTOR: usize = 16;

/// Most bytes that the tensors between layers may take at one time, if every tensor is
/// freed after its last use.
const MAX_LIVE_BYTES: usize = 2 << 30;

/// Most numbers of a constant that are looked at for limits.
const MAX_VALUES: usize = 4096;

/// Why a network cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The final word.
    Said(Error),
    /// tract cannot do it.
    Fault(Fault),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}

/// What tract cannot do, and where, if it is known.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The first tensor that the node makes.
    pub tensor: Option<String>,
    pub reason: String,
}

impl Fault {
    /// A failure of the network as a whole.
    pub fn unplaced(error: TractError) -> Trouble {
        Trouble::Fault(Self {
            tensor: None,
            reason: shortened(&format!("{error:#}"), MAX_REASON),
        })
    }
}

/// A file that tract has read.
pub(super) struct Parsed {
    pub model: InferenceModel,
    /// Where each ONNX tensor stands in `model`.
    pub outlets: HashMap<String, OutletId>,
    /// ONNX nodes by tract's numbers.
    nodes: HashMap<usize, NodeProto>,
    pinned: Pinned,
    stored_bytes: usize,
    /// For messages.
    file: PathBuf,
}

impl Parsed {
    /// Gives a pinned document to tract. With `faults` a node that tract cannot read is
    /// noted there and replaced by a blank; without it is the error.
    pub fn new(
        mut document: Document,
        pinned: Pinned,
        mut faults: Option<&mut Vec<Fault>>,
    ) -> Result<Self, Trouble> {
        let onnx = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .with_ignore_output_shapes(true)
            .with_ignore_output_types(true);
        let stored_bytes = document
            .stored()
            .iter()
            .map(|tensor| tensor_bytes(tensor))
            .sum();
        let file = document.file.clone();
        let mut proto = document.into_proto();
        for fault in unknown_operators(&onnx, &proto) {
            match faults.as_deref_mut() {
                Some(faults) => faults.push(fault),
                None => return Err(Trouble::Fault(fault)),
            }
        }
        let mut outcome = caught(|| onnx.parse(&proto, None));
        if !matches!(outcome, Ok(Ok(_))) {
            let found = unreadable_nodes(&onnx, &proto);
            match faults {
                Some(faults) if !found.is_empty() => {
                    blank(&mut proto, &found);
                    faults.extend(found);
                    outcome = caught(|| onnx.parse(&proto, None));
                }
                _ => {
                    if let Some(fault) = found.into_iter().next() {
                        return Err(Trouble::Fault(fault));
                    }
                }
            }
        }
        let unplaced = |reason| {
            Trouble::Fault(Fault {
                tensor: None,
                reason,
            })
        };
        let parsed = outcome.map_err(unplaced)?.map_err(Fault::unplaced)?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            let what = format!(
                "uses the tensor \"{}\", which nothing makes",
                shortened(name, 80)
            );
            return Err(bad(&file, what, "export the network again").into());
        }
        let nodes = proto.graph.into_iter().flat_map(|graph| graph.node);
        let placed = |node: NodeProto| {
            let outlet = node
                .output
                .iter()
                .find_map(|name| parsed.outlets_by_name.get(name))?;
            Some((outlet.node, node))
        };
        Ok(Self {
            nodes: nodes.filter_map(placed).collect(),
            model: parsed.model,
            outlets: parsed.outlets_by_name,
            pinned,
            stored_bytes,
            file,
        })
    }

    /// Infers shapes and types in the order of the network. With `faults` failures are
    /// noted there, and what depends on them stays unknown.
    pub fn analyse(&mut self, mut faults: Option<&mut Vec<Fault>>) -> Result<(), Trouble> {
        let order = self.model.eval_order().map_err(Fault::unplaced)?;
        let mut constant_bytes = 0usize;
        for &id in &order {
            self.check_before(id)?;
            let step = caught(|| infer(&mut self.model, id));
            let failed = match step {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(shortened(&format!("{:#}", error), MAX_REASON)),
                Err(reason) => Some(reason),
            };
            if let Some(reason) = failed {
                let tensor = self
                    .nodes
                    .get(&id)
                    .and_then(|node| node.output.first())
                    .cloned();
                let fault = Fault { tensor, reason };
                match faults.as_deref_mut() {
                    Some(faults) => faults.push(fault),
                    None => return Err(Trouble::Fault(fault)),
                }
            }
            constant_bytes = constant_bytes.saturating_add(self.check_after(id)?);
            let most = self.stored_bytes.saturating_mul(CONSTANT_FACTOR);
            if constant_bytes > most.saturating_add(SPARE_CONSTANT_BYTES) {
                let what = "computes constants many times larger than what it stores";
                return Err(bad(&self.file, what, "export the network again").into());
            }
        }
        self.check_live(&order)
    }

    fn too_large(&self, node: &NodeProto, elements: f64) -> Trouble {
        let what = format!(
            "has a tensor of up to {elements:.0} elements, which is too large, in the node {} ({})",
            node_name(node),
            shortened(&node.op_type, 40)
        );
        bad(&self.file, what, "use a smaller network").into()
    }

    fn check_before(&self, id: usize) -> Result<(), Trouble> {
        let Some(node) = self.nodes.get(&id) else {
            return Ok(());
        };
        let inputs = Inputs {
            parsed: self,
            node,
            id,
        };
        let perm = node.attribute.iter().find(|it| it.name == "perm");
        let rank = inputs.shape(0).map(|shape| shape.len());
        if perm.is_some_and(|perm| rank.is_some_and(|rank| rank != perm.ints.len())) {
            let what = format!("permutes other axes than there are in {}", node_name(node));
            return Err(bad(&self.file, what, "export the network again").into());
        }
        let largest = MAX_TENSOR_ELEMENTS as f64;
        match most_elements(node, &inputs) {
            // Not a number counts as too large.
            Some(most) if most > largest || most.is_nan() => Err(self.too_large(node, most)),
            _ => Ok(()),
        }
    }

    /// Refuses results that are too large. Bytes of those that are computed constants.
    fn check_after(&self, id: usize) -> Result<usize, Trouble> {
        let mut bytes = 0usize;
        for output in &self.model.node(id).outputs {
            let shape = output.fact.shape.as_concrete_finite().ok().flatten();
            let Some(node) = self.nodes.get(&id) else {
                continue;
            };
            if let Some(shape) = shape.filter(|shape| elements(shape).is_none()) {
                let count = shape.iter().map(|size| *size as f64).product();
                return Err(self.too_large(node, count));
            }
            if let Some(value) = output.fact.value.concretize() {
                bytes = bytes
                    .saturating_add(value.volume().saturating_mul(value.datum_type().size_of()));
            }
        }
        Ok(bytes)
    }

    /// Refuses a network whose tensors between layers do not fit together.
    fn check_live(&self, order: &[usize]) -> Result<(), Trouble> {
        let bytes = |outlet: &OutletId| -> usize {
            let Ok(fact) = self.model.outlet_fact(*outlet) else {
                return 0;
            };
            let shape = fact.shape.as_concrete_finite().ok().flatten();
            let count = shape.and_then(|shape| elements(&shape)).unwrap_or(0);
            let size = fact
                .datum_type
                .concretize()
                .map_or(4, |element| element.size_of());
            count.saturating_mul(size)
        };
        let mut last: HashMap<OutletId, usize> = HashMap::new();
        for (position, id) in order.iter().enumerate() {
            last.extend(
                self.model
                    .node(*id)
                    .inputs
                    .iter()
                    .map(|outlet| (*outlet, position)),
            );
        }
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        let mut live = 0usize;
        for (position, id) in order.iter().enumerate() {
            for slot in 0..self.model.node(*id).outputs.len() {
                let outlet = OutletId::new(*id, slot);
                let size = bytes(&outlet);
                live = live.saturating_add(size);
                let end = last.get(&outlet).copied().unwrap_or(position);
                let freed = ends.entry(end).or_default();
                *freed = freed.saturating_add(size);
            }
            if live > MAX_LIVE_BYTES {
                let what = "needs more than 2 GiB for the tensors between its layers";
                return Err(bad(&self.file, what, "use a smaller network").into());
            }
            live = live.saturating_sub(ends.remove(&position).unwrap_or(0));
        }
        Ok(())
    }

    /// The network in neutral words, up to `output`.
    pub fn describe(&self, output: &str) -> TractResult<Graph> {
        let names: HashMap<OutletId, &String> =
            self.outlets.iter().map(|(name, id)| (*id, name)).collect();
        let named = |outlet: &OutletId| names.get(outlet).map(|name| (*name).clone());
        let model = &self.model;
        let input = self.outlets.get(&self.pinned.name).copied();
        let element =
            input.and_then(|input| model.outlet_fact(input).ok()?.datum_type.concretize());
        let mut graph = Graph {
            input: self.pinned.name.clone(),
            input_element: element.map_or("unknown".into(), |element| format!("{element:?}")),
            output: output.into(),
            nodes: Vec::new(),
            tensors: BTreeMap::new(),
            constants: super::tail::constants(&self.model, &self.outlets, &self.nodes),
        };
        for id in model.eval_order()? {
            let node = model.node(id);
            let onnx = self.nodes.get(&id);
            let slots = (0..node.outputs.len()).map(|slot| OutletId::new(id, slot));
            let outputs: Vec<(String, OutletId)> = slots
                .filter_map(|outlet| Some((named(&outlet)?, outlet)))
                .collect();
            for (name, outlet) in &outputs {
                let stored = onnx.is_none() && *name != graph.input;
                let tensor = described(model.outlet_fact(*outlet)?, stored)?;
                graph.tensors.insert(name.clone(), tensor);
            }
            if let Some(onnx) = onnx {
                graph.nodes.push(GraphNode {
                    inputs: node.inputs.iter().filter_map(named).collect(),
                    outputs: outputs.into_iter().map(|(name, _)| name).collect(),
                    ..GraphNode::from(onnx)
                });
            }
        }
        Ok(graph)
    }
}

/// One step of tract's inference: what one node says about the tensors around it.
fn infer(model: &mut InferenceModel, id: usize) -> TractResult<()> {
    let node = model.node(id);
    let observed = node.op.observe_outlets(model, node)?;
    let outputs = (0..node.outputs.len()).map(|slot| OutletId::new(id, slot));
    let places = [node.inputs.to_vec(), outputs.collect(), observed];
    let facts = |outlets: &Vec<OutletId>| -> TractResult<Vec<InferenceFact>> {
        let fact = |outlet: &OutletId| model.outlet_fact(*outlet).cloned();
        outlets.iter().map(fact).collect()
    };
    let [inputs, outputs, seen] = [facts(&places[0])?, facts(&places[1])?, facts(&places[2])?];
    let op = &mut model.node_mut(id).op;
    let said = op.infer(
        inputs.iter().collect(),
        outputs.iter().collect(),
        seen.iter().collect(),
    )?;
    for (outlets, facts) in places.iter().zip([said.0, said.1, said.2]) {
        for (outlet, fact) in outlets.iter().zip(facts) {
            let known = model.outlet_fact(*outlet)?;
            let unified = known
                .unify(&fact)
                .context("the network contradicts itself")?;
            if unified != *known {
                model.set_outlet_fact(*outlet, unified)?;
            }
        }
    }
    Ok(())
}

fn described(fact: &InferenceFact, stored: bool) -> TractResult<GraphTensor> {
    let element = fact.datum_type.concretize();
    let constant = stored || fact.value.concretize().is_some();
    let shape = fact.shape.as_concrete_finite().ok().flatten();
    Ok(GraphTensor {
        shape: shape.map(|shape| match constant {
            true => shape.to_vec(),
            false => without_batch(&shape).to_vec(),
        }),
        float: element.is_some_and(|element| element.is_float()),
        number: element.is_some_and(|element| element.is_number()),
    })
}

fn tensor_bytes(tensor: &tract_onnx::pb::TensorProto) -> usize {
    let typed = tensor.float_data.len() + tensor.int32_data.len();
    let long = tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len();
    tensor.raw_data.len() + 4 * typed + 8 * long
}

/// Nodes of operators that tract does not have.
fn unknown_operators(onnx: &tract_onnx::Onnx, proto: &ModelProto) -> Vec<Fault> {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    let unknown = nodes.filter(|node| !onnx.op_register.0.contains_key(&node.op_type));
    unknown
        .map(|node| Fault {
            tensor: node.output.first().cloned(),
            reason: "tract does not have it".into(),
        })
        .collect()
}

/// Nodes of which tract has the operator, but not as this node uses it.
fn unreadable_nodes(onnx: &tract_onnx::Onnx, proto: &ModelProto) -> Vec<Fault> {
    let Some(graph) = &proto.graph else {
        return Vec::new();
    };
    let imports = &proto.opset_import;
    let usual = imports
        .iter()
        .find(|it| it.domain.is_empty() || it.domain == "ai.onnx");
    let context = ParsingContext {
        onnx_operator_set_version: usual.map_or(0, |import| import.version),
        framework: onnx,
        model: proto,
        parent_graphs: vec![graph],
        model_dir: None,
        template: InferenceModel::default(),
    };
    let fault = |node: &NodeProto| {
        let builder = onnx.op_register.0.get(&node.op_type)?;
        let reason = match caught(|| builder(&context, node)) {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => shortened(&format!("{error:#}"), MAX_REASON),
            Err(reason) => reason,
        };
        let tensor = node.output.first().cloned();
        Some(Fault { tensor, reason })
    };
    graph.node.iter().filter_map(fault).collect()
}

/// Gives the nodes of `faults` an operator that tract takes for unknown.
fn blank(proto: &mut ModelProto, faults: &[Fault]) {
    let broken = |node: &NodeProto| {
        faults
            .iter()
            .any(|fault| fault.tensor.as_ref() == node.output.first())
    };
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        if broken(node) {
            node.op_type = format!("unreadable {}", node.op_type);
            node.attribute.clear();
        }
    }
}

/// The inputs of one node, as far as they are known.
struct Inputs<'a> {
    parsed: &'a Parsed,
    node: &'a NodeProto,
    id: usize,
}

impl Inputs<'_> {
    fn fact(&self, input: usize) -> Option<&InferenceFact> {
        self.node.input.get(input).filter(|name| !name.is_empty())?;
        // tract leaves absent inputs out.
        let before = self
            .node
            .input
            .iter()
            .take(input)
            .filter(|name| !name.is_empty())
            .count();
        let outlet = self.parsed.model.node(self.id).inputs.get(before)?;
        self.parsed.model.outlet_fact(*outlet).ok()
    }
}

impl Known for Inputs<'_> {
    fn shape(&self, input: usize) -> Option<Vec<f64>> {
        let shape = self
            .fact(input)?
            .shape
            .as_concrete_finite()
            .ok()
            .flatten()?;
        Some(shape.iter().map(|size| *size as f64).collect())
    }

    fn values(&self, input: usize) -> Option<Vec<f64>> {
        let value = self.fact(input)?.value.concretize()?;
        if value.volume() > MAX_VALUES
            || !value.datum_type().is_number() && value.datum_type() != TDim::datum_type()
        {
            return None;
        }
        if value.datum_type() == TDim::datum_type() {
            let plain = value.try_as_plain_ram().ok()?;
            let sizes = plain.as_slice::<TDim>().ok()?.iter();
            return sizes
                .map(|size| size.to_i64().ok().map(|size| size as f64))
                .collect();
        }
        let cast = value.cast_to::<f64>().ok()?;
        let plain = cast.try_as_plain_ram().ok()?;
        Some(plain.as_slice::<f64>().ok()?.to_vec())
    }

    fn constant(&self) -> bool {
        let inputs = &self.parsed.model.node(self.id).inputs;
        let known = |outlet: &OutletId| {
            let fact = self.parsed.model.outlet_fact(*outlet);
            fact.is_ok_and(|fact| fact.value.concretize().is_some())
        };
        inputs.iter().all(known)
    }
}
