//! The neutral description of a network that `inspect.rs` works on, and the search for
//! tensor names that were nearly right. Names nothing of tract; filled by `backbone.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::guard::shortened;
use super::tail::{Constant, Details};

/// Most elements one tensor between layers may have. Far above any network for a board;
/// it stops a damaged shape from asking for all memory.
pub(super) const MAX_TENSOR_ELEMENTS: usize = 1 << 26;

/// A network as `inspect.rs` sees it: ONNX operators and tensor names, shapes for a batch
/// of one. Only what the first output needs.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// Name of the input tensor.
    pub input: String,
    /// Element type of the input, as in "F32".
    pub input_element: String,
    /// Name of the first output tensor.
    pub output: String,
    /// In an order in which they can be run.
    pub nodes: Vec<GraphNode>,
    /// Every tensor, by name.
    pub tensors: BTreeMap<String, GraphTensor>,
    /// Every tensor whose value does not depend on the sample, by name.
    pub constants: BTreeMap<String, Constant>,
}

/// One operator of a [`Graph`].
#[derive(Clone, Debug)]
pub(crate) struct GraphNode {
    /// How messages name it, in quotes.
    pub name: String,
    /// ONNX operator.
    pub operator: String,
    /// Tensors it reads, absent optional ones left out.
    pub inputs: Vec<String>,
    /// Tensors it makes.
    pub outputs: Vec<String>,
    /// Of an `Einsum`.
    pub equation: Option<String>,
    /// What the import of a tail needs beside.
    pub details: Details,
}

/// One tensor of a [`Graph`].
#[derive(Clone, Debug)]
pub(crate) struct GraphTensor {
    /// Shape with a batch of 1 and without the batch axis, if it is fixed; of constants
    /// the whole shape.
    pub shape: Option<Vec<usize>>,
    /// Whether its elements are floating-point numbers.
    pub float: bool,
    /// Whether its elements are numbers of any kind.
    pub number: bool,
}

/// Nodes after which a single tensor is all that later nodes still need, with its name.
/// Such a tensor stands on every path from `input` to `output`, whatever the order of the
/// nodes. `nodes` depend on the input and are in an order in which they can be run.
pub(crate) fn lone_tensors<'a>(
    input: &'a str,
    output: &'a str,
    nodes: &[&'a GraphNode],
) -> BTreeMap<usize, &'a str> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::from([(output, 1)]);
    for name in nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(name).or_default() += 1;
    }
    let used = |uses: &BTreeMap<&str, usize>, name: &str| uses.get(name).is_some_and(|n| *n > 0);
    let mut live: BTreeSet<&str> = BTreeSet::from([input]);
    let mut lone = BTreeMap::new();
    for (position, node) in nodes.iter().enumerate() {
        for name in &node.inputs {
            if let Some(left) = uses.get_mut(name.as_str()) {
                *left -= 1;
            }
            if !used(&uses, name) {
                live.remove(name.as_str());
            }
        }
        let results = node.outputs.iter().map(String::as_str);
        live.extend(results.filter(|name| used(&uses, name)));
        let only = live.first().filter(|_| live.len() == 1);
        let fresh = |name: &&&str| node.outputs.iter().any(|made| made == **name);
        if let Some(name) = only.filter(fresh) {
            lone.insert(position, *name);
        }
    }
    lone
}

/// `shape` without its leading 1. A tensor without a batch axis stays as it is.
pub(super) fn without_batch(shape: &[usize]) -> &[usize] {
    match shape {
        [1, rest @ ..] => rest,
        _ => shape,
    }
}

/// Elements of a shape, `None` above [`MAX_TENSOR_ELEMENTS`].
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let product = shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size));
    product.filter(|product| *product <= MAX_TENSOR_ELEMENTS)
}

/// The three of `names` that share most with `wanted` at their two ends.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let score = |name: &str| {
        let same = |(a, b): &(char, char)| a.eq_ignore_ascii_case(b);
        let prefix = wanted.chars().zip(name.chars()).take_while(same).count();
        let suffix = wanted
            .chars()
            .rev()
            .zip(name.chars().rev())
            .take_while(same)
            .count();
        prefix + suffix
    };
    let mut scored: Vec<(usize, &str)> = names.map(|name| (score(name), name)).collect();
    scored.sort_by(|a, b| {
        b.0.cmp(&a.0)
            .then(a.1.len().cmp(&b.1.len()))
            .then(a.1.cmp(b.1))
    });
    let names = scored
        .iter()
        .take(3)
        .map(|(_, name)| format!("\"{}\"", shortened(name, 80)));
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_share_their_ends() {
        let names = ["conv_stem", "features", "feature_map", "logits", "pool"];
        let found = nearest("featuers", names.into_iter());
        assert!(
            found.starts_with("\"features\", \"feature_map\""),
            "{found}"
        );
        assert_eq!(nearest("x", std::iter::empty()), "none");
    }
}
