//! The walk through the graph from the cut to the output: which operators become which
//! layers, in which order, and what of the graph the engine has no layers for. What one
//! operator means is in `operators.rs`.
//!
//! A path is followed as far as it goes before the next is begun, so that there are few
//! branches, each of which is a copy: the main path of a residual block, then a branch and
//! its shortcut, then the addition of both.

use std::collections::BTreeMap;

use fieldtune_core::network::{Layer, MAX_LAYERS, Shape};

use super::Refusal;
use super::weights::{Numbers, Scaling};
use crate::backbone::{Constant, Graph, GraphNode};

/// Layers that training adds after the tail: square root, length, classifier.
pub(super) const ADDED_LAYERS: usize = 3;

/// Most elements of one sample's tensor, as in the engine.
const MAX_ELEMENTS: usize = 1 << 26;

/// One layer and where its numbers come from.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub layer: Layer,
    pub numbers: Numbers,
}

/// A tail that can be trained, its weights not yet read.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(super) steps: Vec<Step>,
    /// Where the network's own classifier begins.
    pub(super) classifier: usize,
}

impl Draft {
    /// Layers with a weight matrix that stay when the classifier is replaced.
    pub fn weighted_layers(&self) -> usize {
        let kept = self.steps[..self.classifier].iter();
        kept.filter(|step| matches!(step.numbers, Numbers::Product(_)))
            .count()
    }
}

/// What an operator becomes.
pub(super) enum Meaning {
    /// A layer.
    Layer(Layer, Numbers),
    /// One more scale and shift of each channel.
    Scaling(Scaling),
    /// Nothing: the same numbers under another name.
    Same,
    /// A softmax or its like: the end of what a classifier computes.
    End,
}

/// A sigmoid that waits for the product with its own input.
struct Gate {
    /// The engine's number of the tensor it was made of.
    of: usize,
    layer: Layer,
}

/// The state of the walk.
pub(super) struct Walk<'g> {
    pub graph: &'g Graph,
    steps: Vec<Step>,
    /// Shape of every tensor of the engine, the current one last.
    shapes: Vec<Shape>,
    /// Which tensor of the engine an ONNX tensor is.
    places: BTreeMap<&'g str, usize>,
    gates: BTreeMap<&'g str, Gate>,
    /// The tensor made last.
    newest: &'g str,
    /// The operator that ended it.
    end: Option<&'g str>,
}

/// The layers after the tensor `cut`.
///
/// # Errors
/// What the engine cannot train, and why.
pub(crate) fn draft(graph: &Graph, cut: &str) -> Result<Draft, Refusal> {
    let (name, tensor) = graph
        .tensors
        .get_key_value(cut)
        .ok_or_else(|| Refusal::of_all("there is no such tensor"))?;
    let shape = tensor.shape.as_deref().and_then(engine_shape);
    let shape = shape.ok_or_else(|| Refusal::of_all("its shape is not one of the engine's"))?;
    if *name == graph.output {
        return Err(Refusal::of_all("nothing stands after it"));
    }
    let mut walk = Walk {
        graph,
        steps: vec![Step {
            layer: Layer::Input(shape),
            numbers: Numbers::None,
        }],
        shapes: vec![shape, shape],
        places: BTreeMap::from([(name.as_str(), 1)]),
        gates: BTreeMap::new(),
        newest: name,
        end: None,
    };
    let mut readers = BTreeMap::<&str, Vec<usize>>::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for operand in &node.details.operands {
            readers.entry(operand).or_default().push(index);
        }
    }
    let mut left: Vec<bool> = graph
        .nodes
        .iter()
        .map(|node| !walk.is_constant(node))
        .collect();
    while let Some(index) = walk.next(&readers, &left) {
        left[index] = false;
        let node = &graph.nodes[index];
        walk.take(node)
            .map_err(|reason| Refusal::of(node, reason))?;
    }
    // Nodes stand in order, so what the first of the rest lacks is not to come.
    let mut rest = graph.nodes.iter().zip(&left);
    match rest.find(|(node, left)| **left && walk.reads(node)) {
        Some((node, _)) => Err(Refusal::of(node, walk.lacks(node))),
        None => walk.finish(),
    }
}

impl<'g> Walk<'g> {
    /// Whether a node makes what does not depend on the sample.
    fn is_constant(&self, node: &GraphNode) -> bool {
        let made = node.outputs.first();
        made.is_some_and(|made| self.graph.constants.contains_key(made))
    }

    /// The node to take: one that goes on from the newest tensor, else the first whose
    /// operands are all there.
    fn next(&self, readers: &BTreeMap<&str, Vec<usize>>, left: &[bool]) -> Option<usize> {
        let nodes = &self.graph.nodes;
        let fits = |index: &usize| {
            let node = &nodes[*index];
            left[*index] && self.reads(node) && self.foreign(node).is_none()
        };
        let going_on = readers.get(self.newest).into_iter().flatten().copied();
        let going_on = going_on.into_iter().find(|index| fits(index));
        going_on.or_else(|| (0..nodes.len()).find(fits))
    }

    /// An operand that is neither constant nor follows from the cut.
    fn foreign(&self, node: &'g GraphNode) -> Option<&'g str> {
        let known = |name: &str| {
            name.is_empty()
                || self.places.contains_key(name)
                || self.gates.contains_key(name)
                || self.graph.constants.contains_key(name)
        };
        let mut operands = node.details.operands.iter().map(String::as_str);
        operands.find(|name| !known(name))
    }

    fn lacks(&self, node: &'g GraphNode) -> String {
        let name = self.foreign(node).unwrap_or_default();
        format!("also reads \"{name}\", which is not made of the cut alone")
    }

    /// Whether a node reads anything that follows from the cut.
    fn reads(&self, node: &GraphNode) -> bool {
        let mut operands = node.details.operands.iter().map(String::as_str);
        operands.any(|name| self.places.contains_key(name) || self.gates.contains_key(name))
    }

    /// The current tensor's number.
    fn current(&self) -> usize {
        self.steps.len()
    }

    /// The current tensor's shape in the engine.
    pub fn shape(&self) -> Shape {
        self.shapes[self.current()]
    }

    /// The constant that a node has as operand `index`.
    pub fn constant(&self, node: &GraphNode, index: usize) -> Option<&'g Constant> {
        self.graph.constants.get(node.details.operands.get(index)?)
    }

    /// Shape of a tensor in the file, without the batch axis.
    pub fn file_shape(&self, name: &str) -> Option<&'g [usize]> {
        self.graph.tensors.get(name)?.shape.as_deref()
    }

    fn take(&mut self, node: &'g GraphNode) -> Result<(), String> {
        let output = node.outputs.first().ok_or("makes nothing")?;
        self.newest = output;
        if self.adds(node, output)? {
            return Ok(());
        }
        self.go_to(node)?;
        if self.opens_gate(node, output) || self.closes_gate(node)? {
            return Ok(());
        }
        let data = self.data(node)?;
        match super::operators::meaning(self, node, data)? {
            Meaning::Same => {
                self.places.insert(output, self.current());
            }
            Meaning::End => {
                self.end = Some(&node.operator);
                self.places.insert(output, self.current());
            }
            Meaning::Scaling(scaling) => self.scale(scaling, data, output)?,
            Meaning::Layer(layer, numbers) => self.push(layer, numbers, output)?,
        }
        Ok(())
    }

    /// Begins another path where `node` reads a tensor that is not the current one.
    fn go_to(&mut self, node: &'g GraphNode) -> Result<(), String> {
        let place = |name: &String| {
            let gate = || self.gates.get(name.as_str()).map(|gate| gate.of);
            self.places.get(name.as_str()).copied().or_else(gate)
        };
        let mut places = node.details.operands.iter().filter_map(place);
        match places.next() {
            Some(place) if place != self.current() => self.branch(place),
            _ => Ok(()),
        }
    }

    /// Makes tensor `place` the current one once more.
    fn branch(&mut self, place: usize) -> Result<(), String> {
        let from = u8::try_from(place).map_err(|_| "reaches back too far")?;
        self.append(Layer::Branch { from }, Numbers::None, self.shapes[place])?;
        let current = self.current();
        let places = self.places.values_mut();
        let gates = self.gates.values_mut().map(|gate| &mut gate.of);
        for other in places.chain(gates).filter(|other| **other == place) {
            *other = current;
        }
        Ok(())
    }

    /// The operand that follows from the cut; it is the current tensor.
    fn data(&self, node: &'g GraphNode) -> Result<&'g str, String> {
        let operands = node.details.operands.iter();
        let mut variable = operands.filter(|name| {
            self.places.contains_key(name.as_str()) || self.gates.contains_key(name.as_str())
        });
        let name = variable.next().ok_or("reads nothing of the cut")?;
        if variable.next().is_some() {
            return Err("joins two paths; only an addition of both can be trained".into());
        }
        match self.places.get(name.as_str()) {
            Some(place) if *place == self.current() => Ok(name),
            _ => Err(format!("reads \"{name}\", which only gates its own input")),
        }
    }

    /// An addition of two paths, of which one may be the tensor that both begin at.
    fn adds(&mut self, node: &'g GraphNode, output: &'g str) -> Result<bool, String> {
        let [a, b] = node.details.operands.as_slice() else {
            return Ok(false);
        };
        let place = |name: &String| self.places.get(name.as_str()).copied();
        let (Some(a), Some(b)) = (place(a), place(b)) else {
            return Ok(false);
        };
        if node.operator != "Add" {
            return Ok(false);
        }
        let (other, newest) = (a.min(b), a.max(b));
        if other == newest {
            return Err("adds a tensor to itself".into());
        }
        if newest != self.current() {
            self.branch(newest)?;
        }
        if self.shapes[other] != self.shape() {
            return Err("adds tensors of different shapes".into());
        }
        let from = u8::try_from(other).map_err(|_| "reaches back too far")?;
        self.push(Layer::Add { from }, Numbers::None, output)?;
        Ok(true)
    }

    /// A sigmoid whose only use is the product with its own input.
    fn opens_gate(&mut self, node: &'g GraphNode, output: &'g str) -> bool {
        let Some(layer) = super::operators::gate(node) else {
            return false;
        };
        let input = node.details.operands.first().map_or("", String::as_str);
        let Some(of) = self.places.get(input).copied() else {
            return false;
        };
        let reads = |node: &&GraphNode| node.details.operands.iter().any(|name| name == output);
        let mut users = self.graph.nodes.iter().filter(reads).peekable();
        let product = |user: &GraphNode| {
            user.operator == "Mul" && user.details.operands.iter().any(|name| name == input)
        };
        if users.peek().is_none() || !users.all(product) || of != self.current() {
            return false;
        }
        self.gates.insert(output, Gate { of, layer });
        true
    }

    /// The product of a sigmoid and its own input.
    fn closes_gate(&mut self, node: &'g GraphNode) -> Result<bool, String> {
        let ([a, b], Some(output)) = (node.details.operands.as_slice(), node.outputs.first())
        else {
            return Ok(false);
        };
        let pair = [(a, b), (b, a)].into_iter().find_map(|(gate, input)| {
            Some((
                self.gates.get(gate.as_str())?,
                *self.places.get(input.as_str())?,
            ))
        });
        match pair {
            Some((gate, of)) if node.operator == "Mul" && gate.of == of => {
                let layer = gate.layer;
                if of != self.current() {
                    return Err("closes a path that is not the chain's end".into());
                }
                self.push(layer, Numbers::None, output)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A scale and shift of each channel: taken into the layer before where nothing else
    /// reads that one's output, else a batch norm.
    fn scale(&mut self, scaling: Scaling, data: &str, output: &'g str) -> Result<(), String> {
        let readers = |node: &GraphNode| {
            let operands = node.details.operands.iter();
            operands.filter(|name| *name == data).count()
        };
        let uses: usize = self.graph.nodes.iter().map(readers).sum();
        let last = self.steps.last_mut();
        if let Some(Numbers::Product(product)) = last.map(|step| &mut step.numbers)
            && uses == 1
        {
            product.take_over(&scaling);
            self.places.retain(|_, place| *place != self.steps.len());
            self.places.insert(output, self.current());
            return Ok(());
        }
        let channels = self.shape().channels;
        self.push(
            Layer::BatchNorm { channels },
            Numbers::Norm(scaling),
            output,
        )
    }

    /// One more layer, which makes the tensor `output` of the file.
    fn push(&mut self, layer: Layer, numbers: Numbers, output: &'g str) -> Result<(), String> {
        let shape = super::operators::output_shape(&layer, self.shape())
            .ok_or("does not fit the engine: its window is larger than the map, or its padding than the window")?;
        let file = self.file_shape(output);
        if !file.is_some_and(|file| agrees(file, shape)) {
            let Shape {
                channels,
                rows,
                columns,
            } = shape;
            return Err(format!(
                "would give {channels} x {rows} x {columns} in the engine, but gives {:?} in the file",
                file.unwrap_or_default()
            ));
        }
        self.append(layer, numbers, shape)?;
        self.places.insert(output, self.current());
        Ok(())
    }

    fn append(&mut self, layer: Layer, numbers: Numbers, shape: Shape) -> Result<(), String> {
        if let Some(end) = self.end {
            return Err(format!("comes after {end}, which ends a classifier"));
        }
        if self.steps.len() + 1 + ADDED_LAYERS > MAX_LAYERS {
            return Err(format!(
                "would be one layer too many; a head has up to {MAX_LAYERS}"
            ));
        }
        self.steps.push(Step { layer, numbers });
        self.shapes.push(shape);
        Ok(())
    }

    fn finish(self) -> Result<Draft, Refusal> {
        if self.places.get(self.graph.output.as_str()) != Some(&self.current()) {
            return Err(Refusal::of_all(
                "the network's output is not the end of the chain",
            ));
        }
        let output = self.graph.tensors.get(&self.graph.output);
        if !output.is_some_and(|output| output.float) {
            return Err(Refusal::of_all(
                "the network's output holds no floating-point numbers",
            ));
        }
        let classifier = self.classifier();
        if classifier == self.steps.len() && !self.shape().is_flat() {
            return Err(Refusal::of_all("its end is a map, not a vector"));
        }
        let draft = Draft {
            steps: self.steps,
            classifier,
        };
        if draft.weighted_layers() == 0 {
            let reason = match classifier == draft.steps.len() {
                true => "no weights stand after it",
                false => "only the classifier stands after it, which is replaced anyway",
            };
            return Err(Refusal::of_all(reason));
        }
        let layers: Vec<Layer> = draft.steps.iter().map(|step| step.layer).collect();
        for count in [classifier, layers.len()] {
            super::table(&layers[..count])
                .map_err(|error| Refusal::of_all(format!("it does not fit the engine: {error}")))?;
        }
        Ok(draft)
    }

    /// Where the classifier begins: at the last layer with a weight matrix that sees the
    /// whole sample, if nothing bends its outputs.
    fn classifier(&self) -> usize {
        let weighted = |step: &Step| step.numbers.is_trained();
        let Some(last) = self.steps.iter().rposition(weighted) else {
            return self.steps.len();
        };
        let sees_all = match self.steps[last].layer {
            Layer::Dense { .. } => true,
            Layer::Convolution(_) => self.shapes[last].is_flat(),
            _ => false,
        };
        let straight = |step: &Step| matches!(step.layer, Layer::Flatten | Layer::Dropout { .. });
        match sees_all && self.steps[last + 1..].iter().all(straight) {
            true => last,
            false => self.steps.len(),
        }
    }
}

/// A shape of the file, without its batch axis, as the engine's: a vector, a line of
/// positions, or a map.
pub(super) fn engine_shape(shape: &[usize]) -> Option<Shape> {
    let product = shape
        .iter()
        .try_fold(1usize, |all, size| all.checked_mul(*size))?;
    let size = |size: &usize| u32::try_from(*size).ok().filter(|size| *size > 0);
    match shape {
        _ if product > MAX_ELEMENTS => None,
        [a] => Some(Shape::flat(size(a)?)),
        [a, b] => Some(Shape::map(size(a)?, size(b)?, 1)),
        [a, b, c] => Some(Shape::map(size(a)?, size(b)?, size(c)?)),
        _ => None,
    }
}

/// Whether a tensor of the file is one of this shape in the engine. Axes of size one do not
/// count between vectors.
pub(super) fn agrees(file: &[usize], shape: Shape) -> bool {
    let vector = |sizes: &[usize]| sizes.iter().filter(|size| **size != 1).count() <= 1;
    let product = file
        .iter()
        .try_fold(1usize, |all, size| all.checked_mul(*size));
    engine_shape(file) == Some(shape)
        || (vector(file) && shape.is_flat() && product == Some(shape.elements()))
}
