//! Which tensors of a network share memory: changes in place, residual operands, and
//! what is kept or computed again on the way back.

use crate::layers::{Manner, Needs};
use crate::network::{Layer, MAX_LAYERS, Network};

/// A list with one entry a tensor.
pub(crate) type PerTensor<T> = heapless::Vec<T, { MAX_LAYERS + 1 }>;

/// One residual addition or branch: the input of layer `from` is used again by layer
/// `add`. Those that are open at the same time have different slots: numbers here, memory
/// in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Residual<S> {
    pub from: usize,
    pub add: usize,
    pub slot: S,
}

/// One entry an addition or branch.
pub(crate) type Residuals<S> = heapless::Vec<Residual<S>, MAX_LAYERS>;

/// All residual additions and branches, in the order of their ends.
pub(crate) fn residuals(network: &Network) -> Residuals<usize> {
    let mut found = Residuals::<usize>::new();
    for (add, layer) in network.layers().iter().enumerate() {
        let Some(from) = layer.reads() else {
            continue;
        };
        let taken = |slot| found.iter().any(|r| r.slot == slot && r.add >= from);
        let slot = (0..MAX_LAYERS).find(|slot| !taken(*slot)).unwrap_or(0);
        // At most one a layer: all fit.
        let _ = found.push(Residual { from, add, slot });
    }
    found
}

/// Elements of one sample in each residual slot.
pub(crate) fn slot_widths(network: &Network) -> heapless::Vec<usize, MAX_LAYERS> {
    let mut widths = heapless::Vec::<usize, MAX_LAYERS>::new();
    for residual in residuals(network) {
        while widths.len() <= residual.slot {
            let _ = widths.push(0);
        }
        let width = &mut widths[residual.slot];
        *width = (*width).max(network.width(residual.from));
    }
    widths
}

/// The tensor whose memory each tensor stands in: itself, or an earlier one that the
/// layers between have changed in place.
pub(crate) fn roots(network: &Network) -> PerTensor<usize> {
    let mut roots = PerTensor::<usize>::new();
    let _ = roots.push(0);
    for index in 0..network.layers().len() {
        let root = if in_place(network, index, &roots) {
            roots[index]
        } else {
            index + 1
        };
        let _ = roots.push(root);
    }
    roots
}

/// Whether layer `index` may write over its input: nothing else reads that tensor
/// afterwards, not even a backward pass. `roots` are those up to that tensor.
fn in_place(network: &Network, index: usize, roots: &[usize]) -> bool {
    let layer = &network.layers()[index];
    match layer.manner() {
        Manner::Keeps => return true,
        Manner::Moves => return false,
        Manner::Changes => {}
    }
    // By whichever name: layers that keep their elements give them another one.
    let read_again = |other: &Layer| {
        let from = other.reads().and_then(|from| roots.get(from));
        from == Some(&roots[index])
    };
    if layer.needs() == Needs::Input || network.layers()[index..].iter().any(read_again) {
        return false;
    }
    // A change in place below, whose backward pass looks at what it wrote.
    let below = network.layers()[..index].iter().rev();
    let below = below.copied().find(|layer| layer.manner() != Manner::Keeps);
    match (below, layer) {
        // Both keep the signs, and a clamped element stays clamped.
        (Some(Layer::Relu | Layer::Relu6), Layer::Relu | Layer::Relu6) => true,
        // Dropped elements have no gradient anyway, the others keep their sign.
        (Some(Layer::Relu), Layer::Dropout { .. }) => true,
        (Some(below), _) => below.needs() != Needs::Output,
        // The features themselves: an adversary starts from them.
        (None, _) => true,
    }
}

/// The tensors that are kept through a pass, ascending: the input (after what changes it
/// in place), some others, the logits. Those between are computed again when the way back needs them.
///
/// Without `recompute` every tensor is kept. With it, those are chosen that make the
/// kept ones and the largest stretch between two of them smallest together (Chen et
/// al., "Training deep nets with sublinear memory cost", 2016, with the best cap found
/// by trying all).
pub(crate) fn kept(network: &Network, recompute: bool) -> PerTensor<usize> {
    let last = network.layers().len();
    let roots = roots(network);
    let all = || (0..=last).filter(|tensor| ends_span(&roots, *tensor));
    if !recompute {
        return all().collect();
    }
    let owned = |tensor: usize| {
        if roots[tensor] == tensor {
            network.width(tensor)
        } else {
            0
        }
    };
    let between = |a: usize, b: usize| (a + 1..roots[b]).map(owned).sum::<usize>();
    let open = residuals(network);
    let crossed = |tensor: usize| {
        let read_above = |r: &Residual<usize>| roots[r.from] < roots[tensor] && tensor <= r.add;
        open.iter().any(read_above)
    };
    let candidates: PerTensor<usize> = all().filter(|tensor| !crossed(*tensor)).collect();
    let mut best: (usize, PerTensor<usize>) = (usize::MAX, PerTensor::new());
    for (i, a) in candidates.iter().enumerate() {
        for b in &candidates[i + 1..] {
            let (cost, chosen) = chain(&candidates, between(*a, *b), &between, |tensor| {
                network.width(roots[tensor])
            });
            if cost < best.0 {
                best = (cost, chosen);
            }
        }
    }
    best.1
}

/// Goes up the candidates in the longest stretches not above `cap`; returns what that
/// costs and where it stops.
fn chain(
    candidates: &[usize],
    cap: usize,
    between: &impl Fn(usize, usize) -> usize,
    width: impl Fn(usize) -> usize,
) -> (usize, PerTensor<usize>) {
    let mut chosen = PerTensor::<usize>::new();
    let (mut at, mut cost, mut largest) = (0, 0, 0);
    let _ = chosen.push(candidates[0]);
    while let Some(next) = candidates[at + 1..].first() {
        let here = candidates[at];
        let within = |tensor: &&usize| between(here, **tensor) <= cap;
        let reach = candidates[at + 1..].iter().take_while(within).count();
        let to = at + reach.max(1);
        largest = largest.max(between(here, candidates[to]).max(between(here, *next)));
        cost += width(candidates[to]);
        let _ = chosen.push(candidates[to]);
        at = to;
    }
    (cost + largest, chosen)
}

/// Whether `tensor` is the last one in its memory.
fn ends_span(roots: &[usize], tensor: usize) -> bool {
    roots.get(tensor + 1) != Some(&roots[tensor])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Convolution, Shape, Window};

    fn convolution(inputs: u32, outputs: u32) -> Layer {
        Layer::Convolution(Convolution::full(inputs, outputs, Window::square(3, 1, 1)))
    }

    fn residual_network() -> Network {
        Network::new(&[
            Layer::Input(Shape::map(2, 4, 4)), // 0
            convolution(2, 3),                 // 1
            Layer::Relu,                       // 2
            convolution(3, 3),                 // 3
            Layer::BatchNorm { channels: 3 },  // 4
            Layer::Add { from: 3 },            // 5
            Layer::Relu6,                      // 6
            Layer::Dropout { permille: 100 },  // 7
            Layer::GlobalAveragePool,          // 8
            Layer::Dense {
                inputs: 3,
                outputs: 2,
            },
        ])
        .expect("sound")
    }

    #[test]
    fn nothing_that_is_read_again_is_overwritten() {
        let roots = roots(&residual_network());
        // Input keeps; ReLU, Add and ReLU6 work in place; batch norm needs its input;
        // dropout would destroy what ReLU6 looks at.
        assert_eq!(roots[..], [0, 0, 2, 2, 4, 5, 5, 5, 8, 9, 10]);
    }

    #[test]
    fn slots_are_shared_by_additions_that_do_not_meet() {
        let dense = Layer::Dense {
            inputs: 4,
            outputs: 4,
        };
        let add = |from| Layer::Add { from };
        let layers = [dense, dense, add(1), dense, add(3), dense, add(3), dense];
        let network = Network::new(&layers).expect("sound");
        let slots: PerTensor<usize> = residuals(&network).iter().map(|r| r.slot).collect();
        assert_eq!(slots[..], [0, 0, 1]);
        assert_eq!(slot_widths(&network)[..], [4, 4]);
    }

    #[test]
    fn no_addition_crosses_a_kept_tensor() {
        let network = residual_network();
        let kept = kept(&network, true);
        assert_eq!((kept[0], kept[kept.len() - 1]), (1, 10));
        assert!(
            !kept.iter().any(|tensor| (4..=5).contains(tensor)),
            "{kept:?}"
        );
    }
}
