//! Folding: a batch norm with frozen statistics right after a layer with weights is one
//! more scale and shift of its outputs, so it can be taken into the weights and biases.
//! The outputs stay the same up to rounding; a layer, its memory and its time are saved.

use crate::Error;
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::tensors::PerTensor;

/// Folds every batch norm that directly follows a dense layer or a convolution, unless a
/// residual addition or a branch reads what stands between the two.
///
/// `parameters` are laid out for `network` on entry; on return their first part is laid
/// out for the network returned, which has no more parameters than before.
///
/// # Errors
/// [`Error::NoRoom`] when there are fewer parameters than the network has.
pub fn batch_norms(network: &Network, parameters: &mut [f32]) -> Result<Network, Error> {
    let (need, have) = (network.parameter_elements(), parameters.len());
    if have < need {
        return Err(Error::NoRoom { need, have });
    }
    let mut layers = heapless::Vec::<Layer, MAX_LAYERS>::new();
    // Where each tensor of the old table is in the new one.
    let mut tensors = PerTensor::<u8>::new();
    let mut end = 0;
    for (index, layer) in network.layers().iter().enumerate() {
        // At most as many as before: all fit, and their numbers fit in a byte.
        let _ = tensors.push(layers.len() as u8);
        if folds(network, index) {
            fold(network, index, parameters, end);
            continue;
        }
        let own = network.weights(index).start..network.constants(index).end;
        parameters.copy_within(own.clone(), end);
        end += own.len();
        let _ = layers.push(match *layer {
            Layer::Add { from } => Layer::Add {
                from: tensors[usize::from(from)],
            },
            Layer::Branch { from } => Layer::Branch {
                from: tensors[usize::from(from)],
            },
            other => other,
        });
    }
    Network::new(&layers)
}

/// Whether layer `index` is a batch norm that can go into the layer below it.
fn folds(network: &Network, index: usize) -> bool {
    let layers = network.layers();
    let [Some(Layer::BatchNorm { .. }), Some(below)] = [
        layers.get(index),
        index.checked_sub(1).and_then(|i| layers.get(i)),
    ] else {
        return false;
    };
    let read = |layer: &Layer| layer.reads() == Some(index);
    below.is_weighted() && !layers.iter().any(read)
}

/// Takes batch norm `index` into the layer whose parameters end at `end`.
fn fold(network: &Network, index: usize, parameters: &mut [f32], end: usize) {
    let (fan_in, channels) = (network.fan_in(index - 1), network.weights(index).len());
    let starts = [
        network.weights(index).start,
        network.biases(index).start,
        network.constants(index).start,
        network.constants(index).start + channels,
    ];
    let biases = end - channels;
    let weights = biases - channels * fan_in;
    for channel in 0..channels {
        let [scale, shift, mean, inverse] = starts.map(|start| parameters[start + channel]);
        let factor = scale * inverse;
        let own = weights + channel * fan_in;
        for weight in &mut parameters[own..own + fan_in] {
            *weight *= factor;
        }
        let bias = &mut parameters[biases + channel];
        *bias = (*bias - mean) * factor + shift;
    }
}
