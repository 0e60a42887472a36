//! An ONNX file as it was written, before anything runs it: read, checked, and reduced to
//! the nodes that a tensor needs, in an order in which they can be run. Names tract only
//! for its protobuf types. Shapes are not inferred here; see `analyse.rs`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::*;

use super::Tap;
use super::graph::{GraphNode, nearest};
use super::guard::{bad, shortened};
use crate::error::{Error, ErrorKind, Result};

/// Most nodes a network may have, subgraphs included. Far above any network for a board;
/// some passes take time that grows with the square of it.
const MAX_NODES: usize = 20_000;

/// An ONNX file whose graph can be reduced and pinned.
pub(super) struct Document {
    proto: ModelProto,
    /// The graph of `proto`, which has none itself.
    pub graph: GraphProto,
    /// Names of the inputs that the file declares, initialisers left out.
    pub declared: Vec<String>,
    /// For messages.
    pub file: PathBuf,
}

impl Document {
    /// Reads a file's bytes.
    pub fn read(bytes: &[u8], file: &Path) -> Result<Self> {
        let damaged = || {
            let remedy = "copy it again, or export the network to ONNX";
            let what = "is damaged or not an ONNX file";
            Error::at(ErrorKind::BadInput, file, what, remedy)
        };
        let mut reader = bytes;
        let proto = tract_onnx::onnx().proto_model_for_read(&mut reader);
        let mut proto = proto.map_err(|_| damaged())?;
        let graph = proto.graph.take().ok_or_else(damaged)?;
        proto.training_info.clear();
        proto.metadata_props.clear();
        let stored: HashSet<&str> = graph
            .initializer
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        let inputs = graph.input.iter().map(|input| &input.name);
        let declared = inputs.filter(|name| !stored.contains(name.as_str()));
        let document = Self {
            declared: declared.cloned().collect(),
            proto,
            graph,
            file: file.into(),
        };
        let nodes = count_nodes(&document.graph);
        if nodes > MAX_NODES {
            let what = format!("has {nodes} nodes, at most {MAX_NODES} can be handled");
            return Err(document.wrong(what, "use a smaller network"));
        }
        Ok(document)
    }

    /// Takes the file apart for tract.
    pub fn into_proto(self) -> ModelProto {
        ModelProto {
            graph: Some(self.graph),
            ..self.proto
        }
    }

    /// The first output, or the one with this name.
    pub fn output(&self, name: Option<&str>) -> Result<String> {
        let outputs = || self.graph.output.iter().map(|output| output.name.as_str());
        match name {
            None => outputs()
                .next()
                .map(str::to_string)
                .ok_or_else(|| self.wrong("has no output".into(), "export the network again")),
            Some(name) if outputs().any(|output| output == name) => Ok(name.into()),
            Some(name) => {
                let near = nearest(name, outputs());
                let what = format_args!("has no output \"{name}\"; its outputs are {near}");
                let remedy = "name one of them with --output";
                Err(Error::at(ErrorKind::Usage, &self.file, what, remedy))
            }
        }
    }

    /// Names of all outputs.
    pub fn outputs(&self) -> Vec<String> {
        self.graph.output.iter().map(|it| it.name.clone()).collect()
    }

    /// The tensors that `cut` names: one, or several with commas between them, each with
    /// a suffix behind it where not its values but what `Take` says become features.
    pub fn taps(&self, cut: &str) -> Result<Vec<Tap>> {
        let made: HashSet<&str> = self.made().collect();
        let known = |name: &str| made.contains(name) || self.declared.iter().any(|it| it == name);
        let taps = Tap::all(cut, known);
        let mut named = taps.iter().map(|tap| &tap.tensor);
        if let Some(unknown) = named.find(|name| !known(name)) {
            let near = nearest(unknown, self.made());
            let what = format_args!("has no tensor \"{unknown}\"; the nearest names are {near}");
            let remedy = format_args!(
                "list the cuts with `fieldtune inspect {}`",
                self.file.display()
            );
            return Err(Error::at(ErrorKind::Usage, &self.file, what, remedy));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = taps.iter().find(|tap| !seen.insert(&tap.tensor)) {
            let what = format_args!("the cut names \"{}\" twice", twice.tensor);
            let remedy = "name each tensor once";
            return Err(Error::at(ErrorKind::Usage, &self.file, what, remedy));
        }
        Ok(taps)
    }

    /// Names of the tensors that nodes make.
    fn made(&self) -> impl Iterator<Item = &str> {
        let nodes = self.graph.node.iter();
        let outputs = nodes.flat_map(|node| node.output.iter().map(String::as_str));
        outputs.filter(|name| !name.is_empty())
    }

    /// Drops what `tensors` do not need, and puts the nodes in an order in which they can
    /// be run, as near to the file's as possible. `tensors` become the outputs.
    pub fn keep_only(&mut self, tensors: &[String]) -> Result<()> {
        let nodes: Vec<Vec<String>> = self.graph.node.iter().map(reads).collect();
        let makers = self.makers()?;
        let mut needed: HashSet<String> = HashSet::new();
        let mut kept: BTreeSet<usize> = BTreeSet::new();
        let mut open: Vec<String> = tensors.to_vec();
        while let Some(name) = open.pop() {
            if !needed.insert(name.clone()) {
                continue;
            }
            let maker = makers.get(&name).filter(|maker| kept.insert(**maker));
            let read = maker.and_then(|maker| nodes.get(*maker));
            open.extend(read.into_iter().flatten().cloned());
        }
        let order = self.order(&nodes, &makers, &kept)?;
        let mut all: Vec<Option<NodeProto>> = std::mem::take(&mut self.graph.node)
            .into_iter()
            .map(Some)
            .collect();
        self.graph.node = order
            .into_iter()
            .filter_map(|index| all.get_mut(index)?.take())
            .collect();
        let graph = &mut self.graph;
        graph
            .initializer
            .retain(|tensor| needed.contains(&tensor.name));
        graph.sparse_initializer.retain(|sparse| {
            let values = sparse.values.as_ref();
            values.is_some_and(|values| needed.contains(&values.name))
        });
        graph.input.retain(|input| needed.contains(&input.name));
        graph.value_info.clear();
        graph.quantization_annotation.clear();
        graph.output = tensors
            .iter()
            .map(|name| ValueInfoProto {
                name: name.clone(),
                ..ValueInfoProto::default()
            })
            .collect();
        self.check_kept(&needed)
    }

    /// Index of the node that makes each tensor.
    fn makers(&self) -> Result<HashMap<String, usize>> {
        let mut makers = HashMap::new();
        let given = self.graph.initializer.iter().map(|tensor| &tensor.name);
        let given: HashSet<&str> = given.chain(&self.declared).map(String::as_str).collect();
        for (index, node) in self.graph.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                let twice = makers.insert(name.clone(), index).is_some();
                if twice || given.contains(name.as_str()) {
                    let name = shortened(name, 80);
                    let what = format!("makes the tensor \"{name}\" twice");
                    return Err(self.wrong(what, "export the network again"));
                }
            }
        }
        Ok(makers)
    }

    /// `kept` in an order in which every node stands after those whose results it reads.
    fn order(
        &self,
        nodes: &[Vec<String>],
        makers: &HashMap<String, usize>,
        kept: &BTreeSet<usize>,
    ) -> Result<Vec<usize>> {
        let mut waiting: HashMap<usize, usize> = HashMap::new();
        let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
        for &index in kept {
            let reads = nodes.get(index).into_iter().flatten();
            let before: BTreeSet<usize> =
                reads.filter_map(|name| makers.get(name)).copied().collect();
            waiting.insert(index, before.len());
            for maker in before {
                readers.entry(maker).or_default().push(index);
            }
        }
        let ready = waiting.iter().filter(|(_, count)| **count == 0);
        let mut ready: BTreeSet<usize> = ready.map(|(index, _)| *index).collect();
        let mut order = Vec::with_capacity(kept.len());
        while let Some(index) = ready.pop_first() {
            order.push(index);
            for reader in readers.get(&index).into_iter().flatten() {
                if let Some(count) = waiting.get_mut(reader) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(*reader);
                    }
                }
            }
        }
        if order.len() == kept.len() {
            return Ok(order);
        }
        let done: HashSet<usize> = order.into_iter().collect();
        let stuck = kept.iter().find(|index| !done.contains(index));
        let stuck = stuck.and_then(|index| self.graph.node.get(*index));
        let name = stuck.map(node_name).unwrap_or_default();
        let what = format!("has a circle of nodes, none of which can run first (near {name})");
        Err(self.wrong(what, "export the network again"))
    }

    /// What was kept hangs together: every tensor that is read is made or given.
    fn check_kept(&self, needed: &HashSet<String>) -> Result<()> {
        let graph = &self.graph;
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| &values.name);
            let what = format!("keeps \"{}\" as a sparse tensor", shortened(name, 80));
            return Err(self.wrong(what, "export the network with dense weights"));
        }
        let mut given: HashSet<&str> = graph
            .initializer
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        given.extend(graph.input.iter().map(|input| input.name.as_str()));
        given.extend(self.made());
        for node in &graph.node {
            let missing = node
                .input
                .iter()
                .find(|name| !name.is_empty() && !given.contains(name.as_str()));
            if let Some(name) = missing {
                let name = shortened(name, 80);
                let what = format!("uses the tensor \"{name}\", which nothing makes");
                return Err(self.wrong(what, "export the network again"));
            }
        }
        let lost = graph
            .output
            .iter()
            .find(|it| !given.contains(it.name.as_str()));
        if let Some(lost) = lost.filter(|lost| needed.contains(&lost.name)) {
            let what = format!("has no tensor \"{}\"", shortened(&lost.name, 80));
            return Err(self.wrong(what, "export the network again"));
        }
        super::check::check(graph)
            .map_err(|what| self.wrong(what, "use another export of the network"))
    }

    /// Version of the standard operator set.
    pub fn opset(&self) -> Option<i64> {
        let mut imports = self.proto.opset_import.iter();
        let usual = imports.find(|it| it.domain.is_empty() || it.domain == "ai.onnx");
        usual.map(|import| import.version)
    }

    /// Says that the graph is written in another standard operator set.
    pub fn set_opset(&mut self, version: i64) {
        for import in &mut self.proto.opset_import {
            if import.domain.is_empty() || import.domain == "ai.onnx" {
                import.version = version;
            }
        }
    }

    /// The kept nodes without anything of ONNX's own types.
    pub fn nodes(&self) -> Vec<GraphNode> {
        self.graph.node.iter().map(GraphNode::from).collect()
    }

    /// Every tensor that the file stores, those in attributes and subgraphs included.
    pub fn stored(&mut self) -> Vec<&mut TensorProto> {
        let mut found = Vec::new();
        stored(&mut self.graph, &mut found);
        found
    }

    /// A `BadInput` about this file.
    pub fn wrong(&self, what: String, remedy: &str) -> Error {
        bad(&self.file, what, remedy)
    }
}

fn stored<'a>(graph: &'a mut GraphProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(graph.initializer.iter_mut());
    for attribute in graph
        .node
        .iter_mut()
        .flat_map(|node| node.attribute.iter_mut())
    {
        found.extend(attribute.t.iter_mut());
        found.extend(attribute.tensors.iter_mut());
        for inner in attribute.g.iter_mut().chain(attribute.graphs.iter_mut()) {
            stored(inner, found);
        }
    }
}

fn count_nodes(graph: &GraphProto) -> usize {
    let inner = graph.node.iter().flat_map(|node| &node.attribute);
    let inner = inner.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    graph.node.len() + inner.map(count_nodes).sum::<usize>()
}

/// What a node reads: its inputs, and every name that graphs in its attributes use, since
/// those may take tensors from outside.
fn reads(node: &NodeProto) -> Vec<String> {
    let mut names = node.input.clone();
    for graph in node
        .attribute
        .iter()
        .flat_map(|it| it.g.iter().chain(&it.graphs))
    {
        names.extend(graph.node.iter().flat_map(reads));
        names.extend(graph.output.iter().map(|output| output.name.clone()));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// How messages name a node: by its own name, else by the tensor it makes.
pub(super) fn node_name(node: &NodeProto) -> String {
    let first = || node.output.first().cloned().unwrap_or_default();
    let name = if node.name.is_empty() {
        first()
    } else {
        node.name.clone()
    };
    format!("\"{}\"", shortened(&name, 80))
}

impl From<&NodeProto> for GraphNode {
    fn from(node: &NodeProto) -> Self {
        let equation = node.attribute.iter().find(|it| it.name == "equation");
        let equation = equation.map(|it| String::from_utf8_lossy(&it.s).into_owned());
        let outputs = node.output.iter().filter(|name| !name.is_empty());
        Self {
            name: node_name(node),
            details: node.into(),
            operator: node.op_type.clone(),
            inputs: reads(node),
            outputs: outputs.cloned().collect(),
            equation: equation.filter(|_| node.op_type == "Einsum"),
        }
    }
}
