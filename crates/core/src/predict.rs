//! From features to probabilities, without a trainer: what inference needs.

use crate::layers::{dense::Dense, relu};
use crate::loss::softmax;
use crate::network::{Layer, Network};
use crate::{Error, Kernel};

/// Elements of working space that [`logits`] needs for batches of `rows`.
pub fn workspace_elements(network: &Network, rows: usize, kernel: Kernel) -> usize {
    let scratch = network.layers().iter().map(|layer| match *layer {
        Layer::Dense { inputs, outputs } => {
            Dense::scratch_elements(kernel, rows, inputs as usize, outputs as usize)
        }
        Layer::Relu => 0,
    });
    2 * rows * network.largest_width(1) + scratch.max().unwrap_or(0)
}

/// Runs the layers: `features` `[rows, F]` to `logits` `[rows, K]`. `parameters` are
/// laid out as [`Network::weights`] says.
///
/// # Errors
/// [`Error::NoRoom`] when a slice is too short, [`Error::Batch`] for no rows.
pub fn logits(
    network: &Network,
    parameters: &[f32],
    kernel: Kernel,
    features: &[f32],
    workspace: &mut [f32],
    logits: &mut [f32],
) -> Result<(), Error> {
    let rows = features.len() / network.inputs();
    let need = workspace_elements(network, rows, kernel);
    let out = rows * network.classes();
    if rows == 0 {
        return Err(Error::Batch);
    }
    for (need, have) in [
        (need, workspace.len()),
        (out, logits.len()),
        (network.parameter_elements(), parameters.len()),
    ] {
        if have < need {
            return Err(Error::NoRoom { need, have });
        }
    }
    let widest = rows * network.largest_width(1);
    let (mut front, rest) = workspace.split_at_mut(widest);
    let (mut back, scratch) = rest.split_at_mut(widest);
    for (index, layer) in network.layers().iter().enumerate() {
        match *layer {
            Layer::Dense { inputs, outputs } => {
                let job = Dense {
                    kernel,
                    rows,
                    inputs: inputs as usize,
                    outputs: outputs as usize,
                };
                let x = if index == 0 { features } else { &*front };
                let [w, b] = [network.weights(index), network.biases(index)];
                job.forward(x, &parameters[w], &parameters[b], back, scratch);
                core::mem::swap(&mut front, &mut back);
            }
            Layer::Relu => relu::forward(&mut front[..rows * network.width(index)]),
        }
    }
    logits[..out].copy_from_slice(&front[..out]);
    Ok(())
}

/// Turns `logits` `[rows, K]` into calibrated probabilities, in place: softmax of
/// `logits / temperature` (Guo et al., 2017).
pub fn probabilities(logits: &mut [f32], classes: usize, temperature: f32) {
    for row in logits.chunks_exact_mut(classes) {
        for value in row.iter_mut() {
            *value /= temperature;
        }
        softmax(row);
    }
}
