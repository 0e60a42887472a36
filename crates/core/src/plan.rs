//! The memory plan: which tensor stands where in the arena, known before any
//! training. The arena needs exactly [`Plan::elements`], and not one more.

use crate::adversary::Middle;
use crate::layers::{Job, Manner};
use crate::network::Network;
use crate::tensors::{PerTensor, Residual, Residuals, kept, residuals, roots, slot_widths};
use crate::{Error, Kernel};
use core::ops::Range;

/// A stretch of the arena, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    elements: usize,
}

impl Span {
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.elements
    }

    /// A part of this span, `range` counted from its start.
    pub fn part(self, range: Range<usize>) -> Self {
        Self {
            start: self.start + range.start,
            elements: range.len(),
        }
    }
}

/// One span a tensor for a whole batch: entry `i` is what layer `i` reads.
pub(crate) type Activations = PerTensor<Span>;

/// Where everything stands.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) batch: usize,
    pub(crate) parameters: Span,
    pub(crate) gradients: Span,
    /// Optimiser state: one or two arrays as long as the parameters.
    pub(crate) state: Span,
    /// The parameters at the start, where the decay pulls towards them; else empty.
    pub(crate) anchor: Span,
    /// The parameters' running average; empty without one.
    pub(crate) average: Span,
    /// The best parameters so far; empty without early stopping.
    pub(crate) best: Span,
    pub(crate) clean: Activations,
    /// Activations above a perturbed layer; empty without an adversary.
    pub(crate) perturbed: Activations,
    /// Norms of the rows that are perturbed, `[B]`; empty without an adversary.
    pub(crate) norms: Span,
    /// Softmax of the clean logits, `[B, K]`; empty without an adversary.
    pub(crate) probabilities: Span,
    /// Where a perturbed pass starts, when its tensors are not all kept; else empty.
    pub(crate) start: Span,
    /// Tensors that are kept through a pass; those between are computed again.
    pub(crate) kept: PerTensor<usize>,
    /// Gradients that wait for the layer whose input was added elsewhere.
    pub(crate) residuals: Residuals<Span>,
    /// Gradients by activations, used in turn.
    pub(crate) deltas: [Span; 2],
    /// Working space of convolutions and matrix products.
    pub(crate) scratch: Span,
    parts: [usize; PARTS.len()],
    elements: usize,
}

/// Names of the parts, in the order of the arena.
const PARTS: [&str; 8] = [
    "parameters",
    "gradients",
    "optimizer_state",
    "parameter_copies",
    "activations",
    "adversarial",
    "deltas",
    "packing",
];

/// What a plan depends on beside the layers.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// B, the rows of a batch.
    pub batch: usize,
    /// Arrays of optimiser state, each as long as the parameters.
    pub state_arrays: usize,
    /// Whether the parameters at the start are kept.
    pub anchored: bool,
    /// Whether the parameters' average is kept.
    pub average: bool,
    /// Whether the best parameters are kept.
    pub keep_best: bool,
    /// Which layers' inputs are perturbed; `None` without adversarial features.
    pub perturbed: Option<Middle>,
    /// Whether to keep few activations and compute the others again.
    pub recompute: bool,
    /// The kernel that will run: its packing space is part of the plan.
    pub kernel: Kernel,
}

impl Plan {
    /// Lays out the arena for training `network`.
    ///
    /// # Errors
    /// [`Error::Batch`] for an empty batch, [`Error::Classes`] for fewer than two
    /// or too many classes.
    pub fn new(network: &Network, demand: &Demand) -> Result<Self, Error> {
        if demand.batch == 0 {
            return Err(Error::Batch);
        }
        if !(2..=crate::head::MAX_CLASSES).contains(&network.classes()) {
            return Err(Error::Classes);
        }
        let parameters = network.parameter_elements();
        let kept = kept(network, demand.recompute);
        let copies = |wanted: bool| if wanted { parameters } else { 0 };
        let mut arena = Layout::default();
        let mut plan = Self {
            batch: demand.batch,
            parameters: arena.take(parameters),
            gradients: arena.close(0).take(parameters),
            state: arena.close(1).take(parameters * demand.state_arrays),
            anchor: arena.close(2).take(copies(demand.anchored)),
            average: arena.take(copies(demand.average)),
            best: arena.take(copies(demand.keep_best)),
            clean: arena.close(3).activations(network, demand.batch, &kept, 0),
            perturbed: Activations::new(),
            norms: Span::default(),
            probabilities: Span::default(),
            start: Span::default(),
            kept,
            residuals: Residuals::new(),
            deltas: [Span::default(); 2],
            scratch: Span::default(),
            parts: [0; PARTS.len()],
            elements: 0,
        };
        arena.close(4);
        if let Some(lowest) = perturbed_layers(network, demand.perturbed).next() {
            plan.perturbed = arena.activations(network, demand.batch, &plan.kept, lowest);
            plan.norms = arena.take(demand.batch);
            plan.probabilities = arena.take(demand.batch * network.classes());
            if demand.recompute {
                let layers = perturbed_layers(network, demand.perturbed);
                let widths = layers.map(|layer| network.width(layer));
                plan.start = arena.take(demand.batch * widths.max().unwrap_or(0));
            }
        }
        arena.close(5);
        plan.deltas =
            delta_widths(network, demand.perturbed).map(|width| arena.take(demand.batch * width));
        plan.residuals = arena.residuals(network, demand.batch);
        plan.scratch = arena
            .close(6)
            .take(scratch(network, demand.batch, demand.kernel));
        arena.close(7);
        (plan.parts, plan.elements) = (arena.parts, arena.end);
        Ok(plan)
    }

    /// What must not change between two steps.
    pub(crate) fn kept_between_steps(&self) -> [Span; 5] {
        [
            self.parameters,
            self.state,
            self.anchor,
            self.average,
            self.best,
        ]
    }

    /// How many elements that are: what a checkpoint keeps.
    pub fn kept_elements(&self) -> usize {
        let spans = self.kept_between_steps();
        spans.iter().map(|span| span.range().len()).sum()
    }

    /// Length of the arena in f32 elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Size of the arena in bytes.
    pub fn bytes(&self) -> u64 {
        bytes(self.elements)
    }

    /// The plan in plain words: every part's name and its size in bytes.
    pub fn parts(&self) -> [(&'static str, u64); 8] {
        core::array::from_fn(|part| (PARTS[part], bytes(self.parts[part])))
    }

    /// The largest tensors, largest first: whose they are and their sizes in bytes.
    pub fn largest_tensors(&self, network: &Network) -> heapless::Vec<Tensor, LARGEST> {
        let mut found = heapless::Vec::<Tensor, LARGEST>::new();
        let mut offer = |kind: TensorKind, layer: usize, elements: usize| {
            let tensor = Tensor {
                kind,
                layer,
                bytes: bytes(elements),
            };
            let place = found
                .iter()
                .position(|other| other.bytes < tensor.bytes)
                .unwrap_or(found.len());
            if place < LARGEST && tensor.bytes > 0 {
                if found.is_full() {
                    found.pop();
                }
                // There is room for one more.
                let _ = found.insert(place, tensor);
            }
        };
        let roots = roots(network);
        for layer in 0..network.layers().len() {
            offer(TensorKind::Weights, layer, network.weights(layer).len());
        }
        for (kind, spans) in [
            (TensorKind::Activation, &self.clean),
            (TensorKind::Perturbed, &self.perturbed),
        ] {
            for (tensor, span) in spans.iter().enumerate() {
                if roots[tensor] == tensor {
                    offer(kind, tensor, span.elements);
                }
            }
        }
        for delta in self.deltas {
            offer(TensorKind::Delta, 0, delta.elements);
        }
        offer(TensorKind::Packing, 0, self.scratch.elements);
        found
    }

    /// Multiply-adds of one sample's forward pass that are done twice, because what
    /// they made was not kept.
    pub fn recomputed_multiply_adds(&self, network: &Network) -> u64 {
        let stretches = self.kept.windows(2).rev().skip(1);
        let again = stretches.flat_map(|pair| {
            let end = self.clean[pair[1]];
            (pair[0]..pair[1]).take_while(move |layer| self.clean[layer + 1] != end)
        });
        again.map(|layer| network.layer_multiply_adds(layer)).sum()
    }
}

/// How many tensors [`Plan::largest_tensors`] names.
pub const LARGEST: usize = 5;

/// One tensor of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// What it holds.
    pub kind: TensorKind,
    /// The layer that owns it, or that reads it; 0 where layers share it.
    pub layer: usize,
    /// Its size.
    pub bytes: u64,
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// A layer's weights; as many bytes again for their gradients and each array of
    /// optimiser state.
    Weights,
    /// A layer's input for one batch.
    Activation,
    /// The same at the perturbed features.
    Perturbed,
    /// The gradient by an activation; there are two.
    Delta,
    /// Working space of convolutions and matrix products.
    Packing,
}

impl core::fmt::Display for Tensor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let layer = self.layer;
        match self.kind {
            TensorKind::Weights => write!(f, "weights of layer {layer}"),
            TensorKind::Activation => write!(f, "input of layer {layer}"),
            TensorKind::Perturbed => write!(f, "perturbed input of layer {layer}"),
            TensorKind::Delta => f.write_str("gradient by an activation"),
            TensorKind::Packing => f.write_str("working space of the products"),
        }
    }
}

fn bytes(elements: usize) -> u64 {
    elements as u64 * size_of::<f32>() as u64
}

/// Working space that any layer of `network` needs for `rows` samples.
pub(crate) fn scratch(network: &Network, rows: usize, kernel: Kernel) -> usize {
    let jobs = (0..network.layers().len()).map(|index| Job {
        network,
        index,
        kernel,
        rows,
    });
    jobs.map(|job| job.scratch_elements()).max().unwrap_or(0)
}

/// The layers whose inputs are perturbed, in order; none without an adversary.
pub(crate) fn perturbed_layers(
    network: &Network,
    perturbed: Option<Middle>,
) -> impl Iterator<Item = usize> + '_ {
    let positions = perturbed.map_or(0..0, |middle| middle.positions(network.depth()));
    let layers = network.weighted().skip(positions.start);
    layers.take(positions.len())
}

/// Elements of one sample in each of the two deltas: a backward pass begins in the first
/// and goes to the other at each layer that moves.
fn delta_widths(network: &Network, perturbed: Option<Middle>) -> [usize; 2] {
    let last = network.layers().len();
    let mut widths = [network.classes(), 0];
    let descend = |widths: &mut [usize; 2], to: usize| {
        let mut current = 0;
        for index in (to..last).rev() {
            if network.layers()[index].manner() == Manner::Moves {
                current = 1 - current;
            }
            widths[current] = widths[current].max(network.width(index));
        }
    };
    // The lowest layer's own input needs no gradient.
    descend(&mut widths, network.lowest_trained() + 1);
    for layer in perturbed_layers(network, perturbed) {
        descend(&mut widths, layer);
    }
    widths
}

/// The arena while it is laid out.
#[derive(Default)]
struct Layout {
    end: usize,
    parts: [usize; PARTS.len()],
}

impl Layout {
    fn take(&mut self, elements: usize) -> Span {
        let start = self.end;
        self.end += elements;
        Span { start, elements }
    }

    /// What was taken since the part before belongs to part `part`.
    fn close(&mut self, part: usize) -> &mut Self {
        let before: usize = self.parts[..part].iter().sum();
        self.parts[part] = self.end - before;
        self
    }

    fn residuals(&mut self, network: &Network, batch: usize) -> Residuals<Span> {
        let slots = slot_widths(network);
        let slots: Activations = slots.iter().map(|width| self.take(batch * width)).collect();
        let placed = residuals(network);
        let placed = placed.iter().map(|residual| Residual {
            from: residual.from,
            add: residual.add,
            slot: slots[residual.slot],
        });
        placed.collect()
    }

    /// Kept tensors stand alone; those between two kept ones share one stretch with those
    /// between the next two. What ends before layer `from` has no room: a pass that begins
    /// there does not write it.
    fn activations(
        &mut self,
        network: &Network,
        batch: usize,
        kept: &[usize],
        from: usize,
    ) -> Activations {
        let roots = roots(network);
        let written = |root: usize| roots[from.min(roots.len() - 1)..].contains(&root);
        let mut spans = Activations::new();
        let _ = spans.resize(roots.len(), Span::default());
        for tensor in kept {
            let root = roots[*tensor];
            if written(root) {
                spans[root] = self.take(batch * network.width(root));
            }
        }
        let (shared, mut longest) = (self.end, 0);
        for pair in kept.windows(2) {
            let mut end = shared;
            for tensor in pair[0] + 1..roots[pair[1]] {
                if roots[tensor] == tensor && written(tensor) {
                    let elements = batch * network.width(tensor);
                    spans[tensor] = Span {
                        start: end,
                        elements,
                    };
                    end += elements;
                }
            }
            longest = longest.max(end - shared);
        }
        self.end += longest;
        for tensor in 0..spans.len() {
            spans[tensor] = spans[roots[tensor]];
        }
        spans
    }
}

/// The caller's arena, cut into tensors without copying.
pub(crate) struct Arena<'a>(pub &'a mut [f32]);

impl Arena<'_> {
    /// The given spans, all at once. They never overlap in a plan.
    pub fn split<const N: usize>(&mut self, spans: [Span; N]) -> Result<[&mut [f32]; N], Error> {
        let have = self.0.len();
        self.0
            .get_disjoint_mut(spans.map(Span::range))
            .map_err(|_| Error::NoRoom { need: have, have })
    }

    /// One span to write.
    pub fn of(&mut self, span: Span) -> Result<&mut [f32], Error> {
        let [slice] = self.split([span])?;
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(batch: usize, state_arrays: usize, adversarial: bool) -> Demand {
        Demand {
            batch,
            state_arrays,
            perturbed: adversarial.then_some(Middle::All),
            anchored: false,
            average: false,
            keep_best: false,
            recompute: false,
            kernel: Kernel::lanes(),
        }
    }

    #[test]
    fn parts_add_up_and_spans_do_not_overlap() {
        for hidden in [&[][..], &[7], &[9, 5, 300]] {
            for (state, adversarial) in [(0, false), (1, true), (2, false), (2, true)] {
                let network = Network::mlp(11, hidden, 3).expect("sound");
                let plan = Plan::new(&network, &demand(4, state, adversarial)).expect("sound");
                let sum: u64 = plan.parts().iter().map(|(_, bytes)| bytes).sum();
                assert_eq!(sum, plan.bytes());
                let p = network.parameter_elements();
                assert_eq!(
                    (plan.parameters.elements, plan.state.elements),
                    (p, state * p)
                );
                let mut spans = heapless::Vec::<Span, 80>::new();
                for span in [
                    plan.parameters,
                    plan.gradients,
                    plan.state,
                    plan.norms,
                    plan.probabilities,
                ]
                .into_iter()
                .chain(plan.deltas)
                .chain([plan.scratch])
                .chain(plan.clean.iter().copied())
                .chain(plan.perturbed.iter().copied())
                {
                    if span.elements > 0 && !spans.contains(&span) {
                        spans.push(span).expect("few");
                    }
                }
                spans.sort_unstable_by_key(|span| span.start);
                let mut end = 0;
                for span in &spans {
                    assert_eq!(span.start, end, "gap or overlap");
                    end += span.elements;
                }
                assert_eq!(end, plan.elements());
            }
        }
    }

    #[test]
    fn empty_batches_and_single_classes_are_refused() {
        let network = Network::mlp(4, &[], 2).expect("sound");
        assert_eq!(
            Plan::new(&network, &demand(0, 0, false)).err(),
            Some(Error::Batch)
        );
        let network = Network::mlp(4, &[], 1).expect("sound");
        assert_eq!(
            Plan::new(&network, &demand(1, 0, false)).err(),
            Some(Error::Classes)
        );
    }
}
