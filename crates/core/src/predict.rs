//! From features to probabilities, without a trainer: what inference needs.

use crate::layers::{Job, Manner, Parameters};
use crate::loss::softmax;
use crate::network::{Layer, Network};
use crate::plan::scratch;
use crate::tensors::{residuals, slot_widths};
use crate::{Error, Kernel};

/// Elements of working space that [`logits`] needs for batches of `rows`.
pub fn workspace_elements(network: &Network, rows: usize, kernel: Kernel) -> usize {
    let slots: usize = slot_widths(network).iter().sum();
    rows * (2 * network.largest_width(0) + slots) + scratch(network, rows, kernel)
}

/// Runs the layers: `features` `[rows, F]` to `logits` `[rows, K]`. `parameters` are
/// laid out as [`Network::weights`] says. Dropout does nothing here.
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
    let widest = rows * network.largest_width(0);
    let (mut front, rest) = workspace.split_at_mut(widest);
    let (mut back, rest) = rest.split_at_mut(widest);
    let mut operands = Operands::new(network, rows, rest);
    front[..features.len()].copy_from_slice(features);
    for (index, layer) in network.layers().iter().enumerate() {
        operands.keep(index, front);
        let job = Job {
            network,
            index,
            kernel,
            rows,
        };
        let own = Parameters {
            weights: &parameters[network.weights(index)],
            biases: &parameters[network.biases(index)],
            constants: &parameters[network.constants(index)],
        };
        let below = rows * network.width(index);
        match (layer, layer.manner()) {
            (Layer::Dropout { .. }, _) | (_, Manner::Keeps) => {}
            (Layer::Add { .. }, _) => operands.add(index, &mut front[..below]),
            (Layer::Branch { .. }, _) => operands.take(index, front),
            (_, Manner::Changes) => job.change(&mut front[..below], &own),
            (_, Manner::Moves) => {
                let above = rows * network.width(index + 1);
                let scratch = &mut *operands.scratch;
                job.forward(&front[..below], &mut back[..above], &own, scratch);
                core::mem::swap(&mut front, &mut back);
            }
        }
    }
    logits[..out].copy_from_slice(&front[..out]);
    Ok(())
}

/// The inputs of layers that residual additions and branches read again, in slots of their
/// own.
struct Operands<'w> {
    network: &'w Network,
    rows: usize,
    slots: &'w mut [f32],
    scratch: &'w mut [f32],
}

impl<'w> Operands<'w> {
    fn new(network: &'w Network, rows: usize, space: &'w mut [f32]) -> Self {
        let all: usize = slot_widths(network).iter().sum();
        let (slots, scratch) = space.split_at_mut(rows * all);
        Self {
            network,
            rows,
            slots,
            scratch,
        }
    }

    /// Copies the input of layer `index` if a later layer will read it.
    fn keep(&mut self, index: usize, values: &[f32]) {
        let elements = self.rows * self.network.width(index);
        for residual in residuals(self.network).iter().filter(|r| r.from == index) {
            let start = self.start(residual.slot);
            self.slots[start..start + elements].copy_from_slice(&values[..elements]);
        }
    }

    /// Adds the other operand of the addition at `index`.
    fn add(&mut self, index: usize, values: &mut [f32]) {
        for residual in residuals(self.network).iter().filter(|r| r.add == index) {
            let operand = &self.slots[self.start(residual.slot)..];
            for (value, operand) in values.iter_mut().zip(operand) {
                *value += operand;
            }
        }
    }

    /// Brings back what the branch at `index` begins with.
    fn take(&mut self, index: usize, values: &mut [f32]) {
        let elements = self.rows * self.network.width(index + 1);
        for residual in residuals(self.network).iter().filter(|r| r.add == index) {
            let start = self.start(residual.slot);
            values[..elements].copy_from_slice(&self.slots[start..start + elements]);
        }
    }

    fn start(&self, slot: usize) -> usize {
        let widths = slot_widths(self.network);
        self.rows * widths[..slot].iter().sum::<usize>()
    }
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
