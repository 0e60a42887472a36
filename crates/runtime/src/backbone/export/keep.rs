//! Which parts of a graph make the tensor at the cut, and how they are written: as they
//! are, and once more for each further view.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb::{AttributeProto, GraphProto, TensorAnnotation};

use super::builder::Builder;
use super::wire::{Field, fields, put};
use crate::preprocess::View;

/// Numbers of fields of a graph.
mod graph {
    pub const NODE: u64 = 1;
    pub const STORED: u64 = 5;
    pub const SPARSE: u64 = 15;
    pub const INPUT: u64 = 11;
    pub const OUTPUT: u64 = 12;
    pub const VALUE_INFO: u64 = 13;
    pub const ANNOTATION: u64 = 14;
}

/// Numbers of fields of a node.
mod node {
    pub const INPUT: u64 = 1;
    pub const OUTPUT: u64 = 2;
    pub const NAME: u64 = 3;
    pub const ATTRIBUTE: u64 = 5;
}

/// Number of the field of a stored tensor's name, of a named value's, and of the place of
/// a tensor whose numbers are in another file.
const STORED_NAME: u64 = 8;
const VALUE_NAME: u64 = 1;
const ELSEWHERE: u64 = 13;

struct Node<'a> {
    bytes: &'a [u8],
    name: &'a str,
    inputs: Vec<String>,
    outputs: Vec<&'a str>,
}

impl Node<'_> {
    /// Its own name and those of its tensors.
    fn names(&self) -> impl Iterator<Item = &str> {
        let tensors = self.inputs.iter().map(String::as_str);
        tensors
            .chain(self.outputs.iter().copied())
            .chain([self.name])
    }
}

/// The part of a graph before a cut.
pub(super) struct Kept<'a> {
    /// Name of the only input.
    pub input: &'a str,
    input_info: &'a [u8],
    cut: Vec<String>,
    /// In the file's order.
    nodes: Vec<Node<'a>>,
    /// Fields besides nodes, inputs and outputs.
    rest: Vec<&'a [u8]>,
    /// Everything that has a name there.
    names: HashSet<String>,
}

impl<'a> Kept<'a> {
    /// # Errors
    /// What is wrong with the file.
    pub fn new(graph: &[Field<'a>], cut: Vec<String>) -> Result<Self, String> {
        let damaged = || "is damaged or not an ONNX file".to_string();
        let of = |number: u64| graph.iter().filter(move |field| field.number == number);
        let nodes: Option<Vec<Node<'a>>> =
            of(graph::NODE).map(|field| node(field.payload)).collect();
        let nodes = nodes.ok_or_else(damaged)?;
        let wanted = wanted(&nodes, &cut);
        let made: HashSet<&str> = nodes
            .iter()
            .flat_map(|node| node.outputs.iter().copied())
            .collect();
        let stored: HashSet<&str> = of(graph::STORED)
            .filter_map(|field| name(field.payload, STORED_NAME))
            .collect();
        let given = |field: &&Field<'a>| {
            let name = name(field.payload, VALUE_NAME).unwrap_or_default();
            !stored.contains(name) && wanted.contains(name)
        };
        let inputs: Vec<&Field<'a>> = of(graph::INPUT).filter(given).collect();
        let [input] = inputs[..] else {
            return Err(format!(
                "has {} inputs before the cut, must have one",
                inputs.len()
            ));
        };
        let input_name = name(input.payload, VALUE_NAME).unwrap_or_default();
        let unknown = |name: &&String| !made.contains(name.as_str()) && *name != input_name;
        if let Some(unknown) = cut.iter().find(unknown) {
            return Err(format!("has no tensor \"{unknown}\""));
        }
        let mut rest = Vec::new();
        for field in graph {
            if stays(field, &wanted)? {
                rest.push(field.whole);
            }
        }
        let names = nodes.iter().flat_map(Node::names);
        let names = names
            .chain(stored.iter().copied())
            .map(str::to_string)
            .collect();
        let needed = |node: &Node<'a>| node.outputs.iter().any(|output| wanted.contains(*output));
        Ok(Self {
            input: input_name,
            input_info: input.payload,
            cut,
            nodes: nodes.into_iter().filter(needed).collect(),
            rest,
            names,
        })
    }

    /// Names that are taken, of what is left out too.
    pub fn names(&self) -> HashSet<String> {
        self.names.clone()
    }

    /// Writes what is kept, but for the input.
    pub fn put(&self, graph: &mut Vec<u8>) {
        self.rest
            .iter()
            .for_each(|field| graph.extend_from_slice(field));
        self.nodes
            .iter()
            .for_each(|node| put(graph, graph::NODE, node.bytes));
    }

    /// The input under another name.
    pub fn input_named(&self, name: &str) -> Vec<u8> {
        let mut renamed = Vec::new();
        for field in fields(self.input_info).unwrap_or_default() {
            match field.number {
                VALUE_NAME => put(&mut renamed, VALUE_NAME, name.as_bytes()),
                _ => renamed.extend_from_slice(field.whole),
            }
        }
        renamed
    }
}

/// Writes once more the nodes that the input passes, now reading `input`. Gives the
/// names of the cut's tensors there. Stored tensors, and what is made of them alone, are shared.
pub(super) fn copied(
    kept: &Kept<'_>,
    builder: &mut Builder,
    view: View,
    input: &str,
    graph: &mut Vec<u8>,
) -> Vec<String> {
    let mut renamed: HashMap<String, String> = HashMap::from([(kept.input.into(), input.into())]);
    let mut pending: Vec<&Node<'_>> = kept.nodes.iter().collect();
    let mut passed = Vec::new();
    // One pass where nodes stand in the order in which they run, as they should.
    loop {
        let before = pending.len();
        pending.retain(|node| {
            let touched = node.inputs.iter().any(|name| renamed.contains_key(name));
            if touched {
                for output in &node.outputs {
                    let name = builder.fresh(&format!("{output}_{}", view.name()));
                    renamed.insert(output.to_string(), name);
                }
                passed.push(*node);
            }
            !touched
        });
        if pending.len() == before {
            break;
        }
    }
    for node in passed {
        put(graph, graph::NODE, &renamed_node(node, &renamed, view));
    }
    let there = |name: &String| renamed.get(name).unwrap_or(name).clone();
    kept.cut.iter().map(there).collect()
}

fn renamed_node(node: &Node<'_>, renamed: &HashMap<String, String>, view: View) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields(node.bytes).unwrap_or_default() {
        match field.number {
            node::INPUT | node::OUTPUT => {
                let name = renamed
                    .get(field.text())
                    .map_or(field.text(), String::as_str);
                put(&mut bytes, field.number, name.as_bytes());
            }
            node::NAME => {
                let name = format!("{}_{}", field.text(), view.name());
                put(&mut bytes, node::NAME, name.as_bytes());
            }
            node::ATTRIBUTE if holds_graph(field.payload) => {
                let mut attribute = AttributeProto::decode(field.payload).unwrap_or_default();
                let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
                graphs.for_each(|graph| rename_graph(graph, renamed));
                put(&mut bytes, node::ATTRIBUTE, &attribute.encode_to_vec());
            }
            _ => bytes.extend_from_slice(field.whole),
        }
    }
    bytes
}

/// A graph inside a node reads tensors of the graph around it by their names.
fn rename_graph(graph: &mut GraphProto, renamed: &HashMap<String, String>) {
    for node in &mut graph.node {
        for input in &mut node.input {
            if let Some(name) = renamed.get(input.as_str()) {
                input.clone_from(name);
            }
        }
        for attribute in &mut node.attribute {
            let inner = attribute.g.iter_mut().chain(&mut attribute.graphs);
            inner.for_each(|graph| rename_graph(graph, renamed));
        }
    }
    for output in &mut graph.output {
        if let Some(name) = renamed.get(output.name.as_str()) {
            output.name.clone_from(name);
        }
    }
}

fn holds_graph(attribute: &[u8]) -> bool {
    AttributeProto::decode(attribute)
        .is_ok_and(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

/// Names of all tensors that the cut's are made from, and its own.
fn wanted(nodes: &[Node<'_>], cut: &[String]) -> HashSet<String> {
    let makers: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.outputs.iter().map(move |name| (*name, index)))
        .collect();
    let mut wanted: HashSet<String> = cut.iter().cloned().collect();
    let mut open = cut.to_vec();
    while let Some(name) = open.pop() {
        let Some(node) = makers
            .get(name.as_str())
            .and_then(|index| nodes.get(*index))
        else {
            continue;
        };
        for input in &node.inputs {
            if wanted.insert(input.clone()) {
                open.push(input.clone());
            }
        }
    }
    wanted
}

/// Whether a field besides nodes, inputs and outputs is about something that is kept.
fn stays(field: &Field<'_>, wanted: &HashSet<String>) -> Result<bool, String> {
    let payload = field.payload;
    let named = |number: u64| name(payload, number).is_some_and(|name| wanted.contains(name));
    Ok(match field.number {
        graph::NODE | graph::INPUT | graph::OUTPUT => false,
        graph::STORED => {
            let stays = named(STORED_NAME);
            if stays
                && fields(payload).is_some_and(|all| all.iter().any(|it| it.number == ELSEWHERE))
            {
                return Err("keeps its weights in other files".into());
            }
            stays
        }
        graph::SPARSE => fields(payload).is_some_and(|parts| {
            let values = parts.first().map_or(&[][..], |values| values.payload);
            name(values, STORED_NAME).is_some_and(|name| wanted.contains(name))
        }),
        graph::VALUE_INFO => named(VALUE_NAME),
        graph::ANNOTATION => TensorAnnotation::decode(payload)
            .is_ok_and(|annotation| wanted.contains(annotation.tensor_name())),
        _ => true,
    })
}

/// The text in the first field of this number.
fn name(message: &[u8], number: u64) -> Option<&str> {
    let fields = fields(message)?;
    fields
        .iter()
        .find(|field| field.number == number)
        .map(Field::text)
}

fn node(bytes: &[u8]) -> Option<Node<'_>> {
    let parts = fields(bytes)?;
    let named = |number: u64| parts.iter().filter(move |part| part.number == number);
    let mut inputs: Vec<String> = named(node::INPUT)
        .map(|input| input.text().into())
        .collect();
    for attribute in named(node::ATTRIBUTE).filter(|attribute| holds_graph(attribute.payload)) {
        let attribute = AttributeProto::decode(attribute.payload).ok()?;
        attribute
            .g
            .iter()
            .chain(&attribute.graphs)
            .for_each(|graph| reads(graph, &mut inputs));
    }
    inputs.retain(|input| !input.is_empty());
    Some(Node {
        bytes,
        name: named(node::NAME)
            .map(|name| name.text())
            .next()
            .unwrap_or_default(),
        inputs,
        outputs: named(node::OUTPUT)
            .map(|output| output.text())
            .filter(|name| !name.is_empty())
            .collect(),
    })
}

/// Names that a graph inside a node reads, its own among them: names are unique.
fn reads(graph: &GraphProto, names: &mut Vec<String>) {
    for node in &graph.node {
        names.extend(node.input.iter().cloned());
        let inner = node
            .attribute
            .iter()
            .flat_map(|it| it.g.iter().chain(&it.graphs));
        inner.for_each(|graph| reads(graph, names));
    }
    names.extend(graph.output.iter().map(|output| output.name.clone()));
}
