//! Where a network can be cut, and what stands before and after each cut. Reads the
//! neutral graph of `backbone.rs`; prints nothing, runs nothing.

mod suggestions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

pub use crate::backbone::Broken;
use crate::backbone::{self, Graph, GraphNode, Question, Tap, lone_tensors, not_so_shaped};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Layout};
use crate::tail::draft;
use suggestions::suggest;

/// Operators whose constant inputs are weights. Of the others they are sizes, axes and
/// limits.
const WEIGHTED: [&str; 23] = [
    "Add",
    "BatchNormalization",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Div",
    "Einsum",
    "GRU",
    "Gather",
    "Gemm",
    "GroupNormalization",
    "InstanceNormalization",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "Mul",
    "PRelu",
    "QLinearConv",
    "QLinearMatMul",
    "RMSNormalization",
    "RNN",
    "Sub",
];

/// A tensor through which every path from the input to the output passes. The batch axis
/// is left out of `shape`; multiply-accumulates (MACs) are those of one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Its name in the ONNX file, as `--cut` and `Backbone::load` take it.
    pub tensor: String,
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// Elements of one sample times four bytes: what one cached feature vector takes.
    pub bytes_per_sample: usize,
    /// Work before the cut: paid once a sample.
    pub macs_before: u64,
    /// Work after the cut.
    pub macs_after: u64,
    /// Weights before the cut.
    pub parameters_before: u64,
    /// Weights after the cut.
    pub parameters_after: u64,
    /// Whether the tail after the cut can be imported into the engine and has weights to
    /// train beside those of the classifier, which is replaced: what `--head tail` accepts.
    pub trainable: bool,
    /// Why, in a few words.
    pub reason: String,
    /// Whether all that comes later needs nothing else of the network.
    pub alone: bool,
}

/// Cuts to try first, by the names of their tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Suggestions {
    /// The least work a sample, at a vector small enough for a head and a cache.
    pub fastest: Option<String>,
    /// Where others cut: before the classifier, or where the manifest says.
    pub best_guess: Option<String>,
    /// The tail with the most weights that can be trained.
    pub most_trainable: Option<String>,
}

/// The input of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedInput {
    /// Its name in the ONNX file.
    pub tensor: String,
    /// Shape of one sample, without the batch axis.
    pub shape: Vec<usize>,
    /// Type of the elements, as in "F32".
    pub element: String,
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The input that takes the sample.
    pub input: InspectedInput,
    /// Name of the output up to which the network was read.
    pub output: String,
    /// Names of all outputs.
    pub outputs: Vec<String>,
    /// In the order of the network, the output last.
    pub cuts: Vec<Cut>,
    /// Work of the whole network for one sample.
    pub macs: u64,
    /// Weights of the whole network.
    pub parameters: u64,
    /// Cuts to try first.
    pub suggestions: Suggestions,
    /// Nodes that cannot be run. Cuts that need them are not listed.
    pub broken: Vec<Broken>,
}

impl InspectedInput {
    /// The image input this looks like: one or three channels first or last. `None` for
    /// anything else.
    pub fn as_image(&self) -> Option<Input> {
        let [first, middle, last] = *self.shape.as_slice() else {
            return None;
        };
        let (layout, channels, height, width) = match (first, last) {
            (1 | 3, _) => (Layout::Nchw, first, middle, last),
            (_, 1 | 3) => (Layout::Nhwc, last, first, middle),
            _ => return None,
        };
        Some(Input {
            tensor: self.tensor.clone(),
            layout,
            channels,
            height,
            width,
        })
    }
}

/// What is wanted of [`inspect_with`].
#[derive(Clone, Debug, Default)]
pub struct Wishes<'a> {
    /// The input that takes the sample; without it the file must declare its size.
    pub input: Option<&'a Input>,
    /// Values of the other inputs.
    pub fixed_inputs: BTreeMap<String, f32>,
    /// Where the network ends; its first output if it is not named.
    pub output: Option<&'a str>,
    /// List tensors too that later ones do not depend on alone.
    pub all: bool,
    /// List this cut only: a tensor, or several with commas between them.
    pub cut: Option<&'a str>,
    /// The cut that a manifest names.
    pub default_cut: Option<&'a str>,
}

/// Lists the cuts of an ONNX file. `file` names it in messages. Without `input` the file
/// itself must declare the size of its input; the batch axis may be open.
///
/// # Errors
/// As [`inspect_with`].
pub fn inspect(bytes: &[u8], file: &Path, input: Option<&Input>) -> Result<Inspection> {
    let wishes = Wishes {
        input,
        ..Wishes::default()
    };
    inspect_with(bytes, file, &wishes)
}

/// Lists the cuts of the ONNX file at `file`, whose content is `bytes`. Weights may be in
/// files beside it. A node that cannot be run ends the list, and is named.
///
/// # Errors
/// `BadInput`, naming the file: damaged, several inputs of which none is named, sizes left
/// open; `Usage` when it has no such output or cut.
pub fn inspect_with(bytes: &[u8], file: &Path, wishes: &Wishes<'_>) -> Result<Inspection> {
    let answer = backbone::graph(&Question {
        bytes,
        file,
        input: wishes.input,
        fixed: &wishes.fixed_inputs,
        output: wishes.output,
        cut: wishes.cut,
    })?;
    let mut found = survey(&answer.graph);
    if found.cuts.is_empty() {
        return Err(nowhere(file, &answer.broken));
    }
    found.outputs = answer.outputs;
    found.broken = answer.broken;
    let known = |name: &str| answer.graph.tensors.contains_key(name);
    let usable = |cut: &&str| joined(&answer.graph, &Tap::all(cut, known)).is_some();
    let default = wishes.default_cut.filter(usable);
    found.suggestions = suggest(&found.cuts, default);
    if !answer.cut.is_empty() {
        if let Some(tap) = wrongly_shaped(&answer.graph, &answer.cut) {
            return Err(not_so_shaped(file, tap));
        }
        let cut = joined(&answer.graph, &answer.cut).ok_or_else(|| {
            let cut = named(&answer.cut);
            let what = format_args!("the cut \"{cut}\" does not lead to the output");
            let remedy = "name the output with --output, or leave --cut out to list the cuts";
            Error::at(ErrorKind::Usage, file, what, remedy)
        })?;
        found.cuts = vec![cut];
    } else if wishes.all {
        found.cuts = every(&answer.graph, found.cuts);
    }
    Ok(found)
}

/// The error about a network without cuts.
fn nowhere(file: &Path, broken: &[Broken]) -> Error {
    let what = match broken.first() {
        Some(node) => format!(
            "has the node {} of the operator {}, which cannot be run here ({}), and no cut before it",
            node.node, node.operator, node.reason
        ),
        None => "has no tensor at which it can be cut".into(),
    };
    let remedy = "export the network again, or use another";
    Error::at(ErrorKind::BadInput, file, what, remedy)
}

/// A node that works on the sample, with what it costs.
struct Step<'a> {
    node: &'a GraphNode,
    macs: u64,
    parameters: u64,
}

pub(crate) fn survey(graph: &Graph) -> Inspection {
    let steps = steps(graph);
    let nodes: Vec<&GraphNode> = steps.iter().map(|step| step.node).collect();
    let cuts = lone_tensors(&graph.input, &graph.output, &nodes);
    let macs = steps
        .iter()
        .map(|step| step.macs)
        .fold(0, u64::saturating_add);
    let parameters = steps
        .iter()
        .map(|step| step.parameters)
        .fold(0, u64::saturating_add);
    let mut found = Vec::new();
    let mut macs_before = 0u64;
    let mut parameters_before = 0u64;
    for (position, step) in steps.iter().enumerate() {
        macs_before = macs_before.saturating_add(step.macs);
        parameters_before = parameters_before.saturating_add(step.parameters);
        let Some(tensor) = cuts.get(&position) else {
            continue;
        };
        let shape = graph
            .tensors
            .get(*tensor)
            .and_then(|tensor| tensor.shape.clone());
        let Some(shape) = shape else {
            continue;
        };
        let parameters_after = parameters - parameters_before;
        let (trainable, reason) = tail(graph, tensor);
        found.push(Cut {
            tensor: tensor.to_string(),
            bytes_per_sample: product(&shape).saturating_mul(4) as usize,
            shape,
            macs_before,
            macs_after: macs - macs_before,
            parameters_before,
            parameters_after,
            trainable,
            reason,
            alone: true,
        });
    }
    let input_shape = graph
        .tensors
        .get(&graph.input)
        .and_then(|tensor| tensor.shape.clone());
    Inspection {
        input: InspectedInput {
            tensor: graph.input.clone(),
            shape: input_shape.unwrap_or_default(),
            element: graph.input_element.clone(),
        },
        output: graph.output.clone(),
        outputs: Vec::new(),
        suggestions: suggest(&found, None),
        broken: Vec::new(),
        cuts: found,
        macs,
        parameters,
    }
}

/// A cut at several tensors, or at one that others bypass. `None` where one of them is not
/// on the way to the output or has no fixed shape.
fn joined(graph: &Graph, taps: &[Tap]) -> Option<Cut> {
    let steps = steps(graph);
    let makers = makers(&steps);
    let shape = |tap: &Tap| tap.shape(shape_of(graph, tap)?).map(<[usize]>::to_vec);
    let shapes: Vec<Vec<usize>> = taps.iter().map(shape).collect::<Option<_>>()?;
    let shape = match shapes.as_slice() {
        [shape] => shape.clone(),
        several => vec![several.iter().map(|shape| product(shape) as usize).sum()],
    };
    let before = cone(&steps, &makers, taps.iter().map(|tap| tap.tensor.as_str()));
    let total = |of: fn(&Step<'_>) -> u64, inside: bool| {
        let chosen = steps
            .iter()
            .enumerate()
            .filter(|(step, _)| before.contains(step) || !inside);
        chosen
            .map(|(_, step)| of(step))
            .fold(0, u64::saturating_add)
    };
    let (macs, parameters) = (
        total(|step| step.macs, true),
        total(|step| step.parameters, true),
    );
    Some(Cut {
        tensor: named(taps),
        bytes_per_sample: product(&shape).saturating_mul(4) as usize,
        shape,
        macs_before: macs,
        macs_after: total(|step| step.macs, false) - macs,
        parameters_before: parameters,
        parameters_after: total(|step| step.parameters, false) - parameters,
        trainable: false,
        reason: "what comes later needs other tensors too".into(),
        alone: false,
    })
}

fn shape_of<'a>(graph: &'a Graph, tap: &Tap) -> Option<&'a [usize]> {
    graph.tensors.get(&tap.tensor)?.shape.as_deref()
}

/// The first of `taps` that has not the shape which its suffix asks for.
fn wrongly_shaped<'a>(graph: &Graph, taps: &'a [Tap]) -> Option<&'a Tap> {
    taps.iter()
        .find(|tap| shape_of(graph, tap).is_some_and(|shape| tap.shape(shape).is_none()))
}

/// The cut as the user writes it.
fn named(taps: &[Tap]) -> String {
    let names: Vec<String> = taps.iter().map(Tap::to_string).collect();
    names.join(",")
}

/// `alone` and every other tensor with a fixed shape that depends on the sample, in the
/// order of the network.
fn every(graph: &Graph, alone: Vec<Cut>) -> Vec<Cut> {
    let mut alone: BTreeMap<String, Cut> = alone
        .into_iter()
        .map(|cut| (cut.tensor.clone(), cut))
        .collect();
    let steps = steps(graph);
    let made = steps.iter().flat_map(|step| &step.node.outputs);
    made.filter_map(|name| {
        let known = alone.remove(name);
        let usable = graph.tensors.get(name).is_some_and(|tensor| tensor.number);
        known.or_else(|| joined(graph, &[Tap::whole(name)]).filter(|_| usable))
    })
    .collect()
}

/// Position of the step that makes each tensor.
fn makers<'a>(steps: &[Step<'a>]) -> BTreeMap<&'a str, usize> {
    let made = steps.iter().enumerate().flat_map(|(position, step)| {
        let outputs = step.node.outputs.iter();
        outputs.map(move |name| (name.as_str(), position))
    });
    made.collect()
}

/// Positions of the steps that `tensors` depend on.
fn cone<'a>(
    steps: &[Step<'a>],
    makers: &BTreeMap<&'a str, usize>,
    tensors: impl Iterator<Item = &'a str>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = tensors
        .filter_map(|name| makers.get(name))
        .copied()
        .collect();
    while let Some(position) = open.pop() {
        if found.insert(position) {
            let inputs = steps
                .get(position)
                .into_iter()
                .flat_map(|step| &step.node.inputs);
            open.extend(inputs.filter_map(|name| makers.get(name.as_str())));
        }
    }
    found
}

/// The nodes whose results depend on the sample. What only shapes depend on is constant,
/// since the input's size is fixed.
fn steps(graph: &Graph) -> Vec<Step<'_>> {
    let mut variable: BTreeSet<&str> = BTreeSet::from([graph.input.as_str()]);
    let mut counted: BTreeSet<&str> = BTreeSet::new();
    let mut steps = Vec::new();
    for node in &graph.nodes {
        let depends = node
            .inputs
            .iter()
            .any(|name| variable.contains(name.as_str()));
        if !depends || matches!(node.operator.as_str(), "Shape" | "Size") {
            continue;
        }
        let mut parameters = 0u64;
        for name in &node.inputs {
            if !variable.contains(name.as_str()) && counted.insert(name) {
                parameters = parameters.saturating_add(weights(graph, node, name));
            }
        }
        variable.extend(node.outputs.iter().map(String::as_str));
        let macs = macs(graph, node);
        steps.push(Step {
            node,
            macs,
            parameters,
        });
    }
    steps
}

/// Elements of a constant input that is a weight. Scalars are settings.
fn weights(graph: &Graph, node: &GraphNode, name: &str) -> u64 {
    let shape = shape(graph, Some(name));
    match WEIGHTED.contains(&node.operator.as_str()) && !shape.is_empty() {
        true => product(shape),
        false => 0,
    }
}

/// Whether what stands after a tensor can be trained, and why.
fn tail(graph: &Graph, tensor: &str) -> (bool, String) {
    match draft(graph, tensor) {
        Ok(draft) => {
            let layers = draft.weighted_layers();
            let noun = if layers == 1 { "layer" } else { "layers" };
            (true, format!("{layers} {noun} with weights can be trained"))
        }
        Err(refusal) => (false, refusal.to_string()),
    }
}

/// Multiply-accumulates of one node for one sample.
fn macs(graph: &Graph, node: &GraphNode) -> u64 {
    let input = |index: usize| shape(graph, node.inputs.get(index).map(String::as_str));
    let output = product(shape(graph, node.outputs.first().map(String::as_str)));
    match node.operator.as_str() {
        // [outputs, inputs / groups, height, width]: one filter an output element.
        "Conv" | "ConvInteger" => {
            output.saturating_mul(product(input(1).get(1..).unwrap_or_default()))
        }
        // [batch, inputs, scales: index 3 holds the filter.]
        "QLinearConv" => output.saturating_mul(product(input(3).get(1..).unwrap_or_default())),
        // [inputs, outputs / groups, height, width]: one filter an input element.
        "ConvTranspose" => {
            product(input(0)).saturating_mul(product(input(1).get(1..).unwrap_or_default()))
        }
        // The batch axis is gone, so the whole first operand is the inner axis.
        "Gemm" => output.saturating_mul(product(input(0))),
        "MatMul" | "MatMulInteger" => output.saturating_mul(size(input(0).last())),
        "QLinearMatMul" => output.saturating_mul(size(input(0).last())),
        // [steps, batch, inputs] through [directions, gates, inputs] and [.., .., units].
        "GRU" | "LSTM" | "RNN" => {
            let weights = product(input(1)).saturating_add(product(input(2)));
            size(input(0).first()).saturating_mul(weights)
        }
        "Einsum" => node
            .equation
            .as_deref()
            .map_or(0, |equation| einsum_macs(graph, node, equation)),
        _ => 0,
    }
}

/// Product of the sizes of all indices. Operands that lost their batch axis are aligned at
/// the end.
fn einsum_macs(graph: &Graph, node: &GraphNode, equation: &str) -> u64 {
    let operands = equation.split("->").next().unwrap_or_default().split(',');
    let mut sizes: BTreeMap<char, u64> = BTreeMap::new();
    for (operand, name) in operands.zip(&node.inputs) {
        let letters = operand
            .chars()
            .rev()
            .filter(|letter| letter.is_alphabetic());
        for (letter, size) in letters.zip(shape(graph, Some(name)).iter().rev()) {
            sizes.insert(letter, *size as u64);
        }
    }
    sizes
        .values()
        .fold(1, |product, size| product.saturating_mul(*size))
}

fn shape<'a>(graph: &'a Graph, name: Option<&str>) -> &'a [usize] {
    let tensor = name.and_then(|name| graph.tensors.get(name));
    tensor
        .and_then(|tensor| tensor.shape.as_deref())
        .unwrap_or_default()
}

fn product(shape: &[usize]) -> u64 {
    shape
        .iter()
        .fold(1, |product, size| product.saturating_mul(*size as u64))
}

fn size(size: Option<&usize>) -> u64 {
    size.map_or(0, |size| *size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::{Attribute, Constant, Details, GraphTensor};

    fn node(operator: &str, inputs: &[&str], output: &str) -> GraphNode {
        let inputs: Vec<String> = inputs.iter().map(|name| name.to_string()).collect();
        GraphNode {
            name: String::new(),
            operator: operator.into(),
            details: Details {
                name: format!("node of {output}"),
                operands: inputs.clone(),
                ..Details::default()
            },
            inputs,
            outputs: vec![output.into()],
            equation: None,
        }
    }

    fn graph(nodes: Vec<GraphNode>, shapes: &[(&str, &[usize])]) -> Graph {
        let tensor = |shape: &[usize]| GraphTensor {
            shape: Some(shape.to_vec()),
            float: true,
            number: true,
        };
        let weights = shapes.iter().filter(|(name, _)| name.starts_with('w'));
        Graph {
            constants: weights
                .map(|(name, shape)| {
                    let values = vec![0.5; shape.iter().product()];
                    (name.to_string(), Constant::new(shape, &values))
                })
                .collect(),
            input: "x".into(),
            input_element: "F32".into(),
            output: nodes
                .last()
                .map(|node| node.outputs[0].clone())
                .unwrap_or_default(),
            nodes,
            tensors: shapes
                .iter()
                .map(|(name, shape)| (name.to_string(), tensor(shape)))
                .collect(),
        }
    }

    /// x -> a -> (b, skip) -> sum -> flat -> y: `b` is not a cut.
    fn residual() -> Graph {
        let mut nodes = vec![
            node("Conv", &["x", "w1"], "a"),
            node("Conv", &["a", "w2"], "b"),
            node("Add", &["b", "a"], "sum"),
            node("Flatten", &["sum"], "flat"),
            node("Gemm", &["flat", "w3"], "y"),
        ];
        let pads = Attribute::Integers(vec![1; 4]);
        nodes[0].details.attributes.insert("pads".into(), pads);
        let shapes: [(&str, &[usize]); 9] = [
            ("x", &[3, 4, 4]),
            ("w1", &[8, 3, 3, 3]),
            ("w2", &[8, 8, 1, 1]),
            ("w3", &[128, 5]),
            ("a", &[8, 4, 4]),
            ("b", &[8, 4, 4]),
            ("sum", &[8, 4, 4]),
            ("flat", &[128]),
            ("y", &[5]),
        ];
        graph(nodes, &shapes)
    }

    #[test]
    fn only_tensors_on_every_path_are_cuts() {
        let inspection = survey(&residual());
        let names: Vec<&str> = inspection
            .cuts
            .iter()
            .map(|cut| cut.tensor.as_str())
            .collect();
        assert_eq!(names, ["a", "sum", "flat", "y"]);
    }

    #[test]
    fn work_and_weights_are_counted_by_hand() {
        let cuts = survey(&residual()).cuts;
        let first = 8 * 16 * 27;
        let (second, last) = (8 * 16 * 8, 128 * 5);
        assert_eq!(
            (cuts[0].macs_before, cuts[0].macs_after),
            (first, second + last)
        );
        assert_eq!(
            (cuts[1].macs_before, cuts[1].macs_after),
            (first + second, last)
        );
        assert_eq!(
            (cuts[1].parameters_before, cuts[1].parameters_after),
            (216 + 64, 640)
        );
        assert_eq!(cuts[1].bytes_per_sample, 4 * 128);
    }

    #[test]
    fn a_tail_is_trainable_where_it_can_be_imported_and_keeps_weights() {
        let cuts = survey(&residual()).cuts;
        assert!(cuts[0].trainable, "{cuts:?}");
        // Behind the sum stands the classifier alone, which is replaced.
        assert!(cuts[1..].iter().all(|cut| !cut.trainable), "{cuts:?}");
        assert!(cuts[1].reason.contains("classifier"), "{cuts:?}");
        let mut other = residual();
        other.nodes[4].operator = "LSTM".into();
        let cut = &survey(&other).cuts[0];
        let named = cut.reason.contains("LSTM (\"node of y\")");
        assert!(!cut.trainable && named, "{cut:?}");
    }

    #[test]
    fn an_equation_multiplies_every_index_once() {
        let shapes: [(&str, &[usize]); 3] = [("x", &[6, 7]), ("w", &[7, 5]), ("y", &[6, 5])];
        let mut einsum = node("Einsum", &["x", "w"], "y");
        einsum.equation = Some("bij,jk->bik".into());
        assert_eq!(survey(&graph(vec![einsum], &shapes)).macs, 6 * 7 * 5);
    }
}
