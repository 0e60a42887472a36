//! When a network cannot be used up to a cut: which node is to blame, and the nearest cut
//! before it that works. Works by trying, so it costs several loads, of a file that is
//! refused anyway.

use std::collections::BTreeSet;
use std::path::Path;

use super::analyse::Fault;
use super::graph::{GraphNode, lone_tensors};
use super::guard::shortened;
use crate::error::{Error, ErrorKind};

/// Most nodes that are tried one by one.
const MAX_TRIES: usize = 48;

/// The error about `fault` in a network of `nodes` from `input` to `output`, which are in
/// an order in which they can be run. `works` tells whether it can be cut at a tensor.
pub(super) fn explained(
    file: &Path,
    fault: &Fault,
    nodes: &[GraphNode],
    input: &str,
    output: &str,
    works: &dyn Fn(&str) -> bool,
) -> Error {
    let steps = depending(nodes, input);
    let cuts: Vec<(usize, &str)> = lone_tensors(input, output, &steps).into_iter().collect();
    let made_by = |tensor: &str| {
        steps
            .iter()
            .position(|step| step.outputs.iter().any(|made| made == tensor))
    };
    let known = fault.tensor.as_deref();
    let (culprit, cut) = match known.and_then(made_by) {
        Some(position) => {
            let mut before = cuts.iter().rev().filter(|(cut, _)| *cut < position);
            let cut = before.find(|(_, tensor)| works(tensor));
            (steps.get(position).copied(), cut.map(|(_, tensor)| *tensor))
        }
        // A constant cannot be computed: whoever reads it is to blame for the place.
        None if known.is_some() => {
            let culprit = nodes
                .iter()
                .find(|node| node.outputs.iter().any(|made| Some(made.as_str()) == known));
            (
                culprit,
                last_working(&cuts, works).map(|(_, tensor)| tensor),
            )
        }
        None => {
            let last = last_working(&cuts, works);
            let after = last.map_or(0, |(position, _)| position + 1);
            let tried = steps.iter().skip(after).take(MAX_TRIES);
            let fails = |step: &&&GraphNode| step.outputs.first().is_some_and(|made| !works(made));
            (
                tried.copied().find(|step| fails(&step)),
                last.map(|(_, tensor)| tensor),
            )
        }
    };
    let reason = shortened(&fault.reason, super::guard::MAX_REASON);
    let what = match culprit {
        Some(node) => {
            let operator = shortened(&node.operator, 40);
            format!(
                "has the node {} of the operator {operator}, which cannot be run here ({reason})",
                node.name
            )
        }
        None => format!("is not a network that can be run here ({reason})"),
    };
    let remedy = match cut {
        Some(cut) => format!(
            "the nearest cut before it that works is --cut \"{}\"",
            shortened(cut, 120)
        ),
        None => "no cut before it works; export the network again or use another".into(),
    };
    Error::at(ErrorKind::BadInput, file, what, remedy)
}

/// The nodes whose results depend on `input`.
fn depending<'a>(nodes: &'a [GraphNode], input: &str) -> Vec<&'a GraphNode> {
    let mut variable: BTreeSet<&str> = BTreeSet::from([input]);
    let mut found = Vec::new();
    for node in nodes {
        if node
            .inputs
            .iter()
            .any(|name| variable.contains(name.as_str()))
        {
            variable.extend(node.outputs.iter().map(String::as_str));
            found.push(node);
        }
    }
    found
}

/// The last of `cuts` that works, if what stands before a working cut works.
fn last_working<'a>(
    cuts: &[(usize, &'a str)],
    works: &dyn Fn(&str) -> bool,
) -> Option<(usize, &'a str)> {
    let count = cuts.partition_point(|(_, tensor)| works(tensor));
    count
        .checked_sub(1)
        .and_then(|last| cuts.get(last))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[&str], output: &str) -> GraphNode {
        GraphNode {
            name: format!("\"{name}\""),
            operator: "Relu".into(),
            details: Default::default(),
            inputs: inputs.iter().map(|name| name.to_string()).collect(),
            outputs: vec![output.into()],
            equation: None,
        }
    }

    /// x -> a -> (b, c) -> d -> y.
    fn nodes() -> Vec<GraphNode> {
        vec![
            node("first", &["x"], "a"),
            node("left", &["a"], "b"),
            node("right", &["a"], "c"),
            node("join", &["b", "c"], "d"),
            node("last", &["d"], "y"),
        ]
    }

    fn explain(tensor: Option<&str>, broken: &[&str]) -> String {
        let fault = Fault {
            tensor: tensor.map(str::to_string),
            reason: "no reason".into(),
        };
        let works = |tensor: &str| !broken.contains(&tensor);
        explained(Path::new("n.onnx"), &fault, &nodes(), "x", "y", &works).to_string()
    }

    #[test]
    fn the_node_and_the_nearest_cut_are_named() {
        for tensor in [None, Some("c")] {
            let line = explain(tensor, &["c", "d", "y"]);
            assert!(line.contains("\"right\" of the operator Relu"), "{line}");
            assert!(line.ends_with("--cut \"a\""), "{line}");
        }
        let line = explain(None, &["y"]);
        assert!(
            line.contains("\"last\"") && line.ends_with("--cut \"d\""),
            "{line}"
        );
        let line = explain(None, &["a", "b", "c", "d", "y"]);
        assert!(
            line.contains("\"first\"") && line.contains("no cut before it works"),
            "{line}"
        );
    }
}
