//! The memory plan: which tensor stands where in the arena, known before any
//! training. The arena needs exactly [`Plan::elements`], and not one more.

use crate::layers::dense::Dense;
use crate::network::{Layer, MAX_LAYERS, Network};
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

/// Outputs of all layers for one batch: entry `i` is what layer `i` reads.
pub(crate) type Activations = heapless::Vec<Span, { MAX_LAYERS + 1 }>;

/// Where everything stands.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) batch: usize,
    pub(crate) parameters: Span,
    pub(crate) gradients: Span,
    /// Optimiser state: one or two arrays as long as the parameters.
    pub(crate) state: Span,
    pub(crate) clean: Activations,
    /// Activations above a perturbed layer; empty without an adversary.
    pub(crate) perturbed: Activations,
    /// Softmax of the clean logits, `[B, K]`; empty without an adversary.
    pub(crate) probabilities: Span,
    /// Gradients by activations, used in turn.
    pub(crate) deltas: [Span; 2],
    /// Packing space of the matrix products.
    pub(crate) scratch: Span,
    elements: usize,
}

/// What a plan depends on beside the layers.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// B, the rows of a batch.
    pub batch: usize,
    /// Arrays of optimiser state, each as long as the parameters.
    pub state_arrays: usize,
    /// Whether adversarial features are trained along.
    pub adversarial: bool,
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
        let mut end = 0usize;
        let mut take = |elements: usize| {
            let span = Span {
                start: end,
                elements,
            };
            end += elements;
            span
        };
        let parameters = network.parameter_elements();
        let lowest = usize::from(!demand.adversarial);
        let delta = demand.batch * network.largest_width(lowest);
        Ok(Self {
            batch: demand.batch,
            parameters: take(parameters),
            gradients: take(parameters),
            state: take(parameters * demand.state_arrays),
            clean: activations(network, demand.batch, &mut take),
            perturbed: if demand.adversarial {
                activations(network, demand.batch, &mut take)
            } else {
                Activations::new()
            },
            probabilities: take(if demand.adversarial {
                demand.batch * network.classes()
            } else {
                0
            }),
            deltas: [take(delta), take(delta)],
            scratch: take(scratch(network, demand)),
            elements: end,
        })
    }

    /// Length of the arena in f32 elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Size of the arena in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements as u64 * size_of::<f32>() as u64
    }

    /// The plan in plain words: every part's name and its size in bytes.
    pub fn parts(&self) -> [(&'static str, u64); 7] {
        let bytes = |elements: usize| elements as u64 * size_of::<f32>() as u64;
        let start = |activations: &Activations| activations.first().map_or(0, |s| s.start);
        let perturbed = if self.perturbed.is_empty() {
            0
        } else {
            self.probabilities.start - start(&self.perturbed)
        };
        let clean = self.probabilities.start - start(&self.clean) - perturbed;
        [
            ("parameters", bytes(self.parameters.elements)),
            ("gradients", bytes(self.gradients.elements)),
            ("optimizer_state", bytes(self.state.elements)),
            ("activations", bytes(clean)),
            (
                "adversarial",
                bytes(perturbed + self.probabilities.elements),
            ),
            ("deltas", bytes(2 * self.deltas[0].elements)),
            ("packing", bytes(self.scratch.elements)),
        ]
    }
}

fn activations(
    network: &Network,
    batch: usize,
    take: &mut impl FnMut(usize) -> Span,
) -> Activations {
    let mut spans = Activations::new();
    let mut last = take(batch * network.inputs());
    // One more span than layers, and a network has at most MAX_LAYERS: all fit.
    let _ = spans.push(last);
    for (index, layer) in network.layers().iter().enumerate() {
        last = match layer {
            Layer::Dense { .. } => take(batch * network.width(index + 1)),
            // In place: the output overwrites the input.
            Layer::Relu => last,
        };
        let _ = spans.push(last);
    }
    spans
}

fn scratch(network: &Network, demand: &Demand) -> usize {
    let needs = network.layers().iter().map(|layer| match *layer {
        Layer::Dense { inputs, outputs } => Dense::scratch_elements(
            demand.kernel,
            demand.batch,
            inputs as usize,
            outputs as usize,
        ),
        Layer::Relu => 0,
    });
    needs.max().unwrap_or(0)
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
            adversarial,
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
