//! The layer table: which layers, in which order, of which sizes, and where
//! their parameters stand in the parameter vector. No arithmetic lives here.

use crate::Error;
use core::ops::Range;
use serde::{Deserialize, Serialize};

/// The most layers a head can have.
pub const MAX_LAYERS: usize = 32;

/// One layer. The order of the variants is part of the head file's format: new
/// ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layer {
    /// `y = W x + b`: weights `[outputs, inputs]`, biases `[outputs]`.
    Dense {
        /// Elements of one input.
        inputs: u32,
        /// Elements of one output.
        outputs: u32,
    },
    /// `y = max(x, 0)`, as many elements out as in.
    Relu,
}

/// A checked layer table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    layers: heapless::Vec<Layer, MAX_LAYERS>,
    inputs: usize,
}

impl Network {
    /// Checks a layer table: it starts and ends with a dense layer, sizes follow
    /// from one another, and the parameters can be counted.
    ///
    /// # Errors
    /// [`Error::LayerTable`] or [`Error::TooManyLayers`].
    pub fn new(layers: &[Layer]) -> Result<Self, Error> {
        let Some(Layer::Dense { inputs, .. }) = layers.first() else {
            return Err(Error::LayerTable);
        };
        if !matches!(layers.last(), Some(Layer::Dense { .. })) {
            return Err(Error::LayerTable);
        }
        let (mut width, mut parameters) = (*inputs, 0u64);
        for layer in layers {
            if let Layer::Dense { inputs, outputs } = *layer {
                if inputs != width || inputs == 0 || outputs == 0 {
                    return Err(Error::LayerTable);
                }
                parameters += u64::from(inputs) * u64::from(outputs) + u64::from(outputs);
                width = outputs;
            }
        }
        // A quarter of the address space of a 32-bit CPU: sums of sizes cannot
        // overflow there, whatever a hostile file states.
        if parameters > u64::from(u32::MAX) / 16 {
            return Err(Error::LayerTable);
        }
        Ok(Self {
            inputs: *inputs as usize,
            layers: layers.try_into().map_err(|_| Error::TooManyLayers)?,
        })
    }

    /// Dense layers with ReLU between them: `inputs`, each of `hidden`, `classes`.
    /// No hidden layer makes a linear head.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn mlp(inputs: usize, hidden: &[usize], classes: usize) -> Result<Self, Error> {
        let narrow = |size: usize| u32::try_from(size).map_err(|_| Error::LayerTable);
        let mut layers = heapless::Vec::<Layer, MAX_LAYERS>::new();
        let mut push = |layer| layers.push(layer).map_err(|_| Error::TooManyLayers);
        let mut width = narrow(inputs)?;
        for size in hidden {
            let outputs = narrow(*size)?;
            push(Layer::Dense {
                inputs: width,
                outputs,
            })?;
            push(Layer::Relu)?;
            width = outputs;
        }
        push(Layer::Dense {
            inputs: width,
            outputs: narrow(classes)?,
        })?;
        Self::new(&layers)
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// F, the elements of one input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// K, the elements of one output.
    pub fn classes(&self) -> usize {
        self.width(self.layers.len())
    }

    /// Elements of one sample before layer `index` (so after the last layer for
    /// `index = layers().len()`).
    pub fn width(&self, index: usize) -> usize {
        let before = self.layers.iter().take(index).rev();
        let mut outputs = before.filter_map(|layer| match layer {
            Layer::Dense { outputs, .. } => Some(*outputs as usize),
            Layer::Relu => None,
        });
        outputs.next().unwrap_or(self.inputs)
    }

    /// The largest width at or after `index`.
    pub fn largest_width(&self, index: usize) -> usize {
        let widths = (index..=self.layers.len()).map(|i| self.width(i));
        widths.max().unwrap_or(0)
    }

    /// Every layer that has parameters, in order.
    pub fn parametrised(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let layers = self.layers.iter().enumerate();
        layers.filter_map(|(i, layer)| matches!(layer, Layer::Dense { .. }).then_some(i))
    }

    /// How many layers have parameters.
    pub fn depth(&self) -> usize {
        self.parametrised().count()
    }

    /// Elements of all weights and biases.
    pub fn parameter_elements(&self) -> usize {
        self.biases(self.layers.len() - 1).end
    }

    /// Where the weights of layer `index` stand in the parameter vector; empty for
    /// a layer without any.
    pub fn weights(&self, index: usize) -> Range<usize> {
        let before = self.layers.iter().take(index);
        let start = before
            .map(|layer| layer.parameters().0 + layer.parameters().1)
            .sum();
        start
            ..start
                + self
                    .layers
                    .get(index)
                    .map_or(0, |layer| layer.parameters().0)
    }

    /// Where the biases of layer `index` stand: right after its weights.
    pub fn biases(&self, index: usize) -> Range<usize> {
        let start = self.weights(index).end;
        start
            ..start
                + self
                    .layers
                    .get(index)
                    .map_or(0, |layer| layer.parameters().1)
    }

    /// Multiply-adds of one sample's forward pass.
    pub fn multiply_adds(&self) -> u64 {
        let weights = self.layers.iter().map(|layer| layer.parameters().0 as u64);
        weights.sum()
    }
}

impl Layer {
    /// Elements of weights and of biases.
    fn parameters(&self) -> (usize, usize) {
        match *self {
            Self::Dense { inputs, outputs } => {
                (inputs as usize * outputs as usize, outputs as usize)
            }
            Self::Relu => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_one_after_another() {
        let network = Network::mlp(6, &[5, 4], 3).expect("sound");
        assert_eq!(network.layers().len(), 5);
        assert_eq!((network.weights(0), network.biases(0)), (0..30, 30..35));
        assert_eq!((network.weights(1), network.biases(1)), (35..35, 35..35));
        assert_eq!((network.weights(4), network.biases(4)), (59..71, 71..74));
        assert_eq!(network.parameter_elements(), 74);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|i| network.width(i)),
            [6, 5, 5, 4, 4, 3]
        );
        assert_eq!(
            (network.classes(), network.depth(), network.largest_width(1)),
            (3, 3, 5)
        );
        assert_eq!(network.multiply_adds(), 62);
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let dense = |inputs, outputs| Layer::Dense { inputs, outputs };
        for layers in [
            &[][..],
            &[Layer::Relu],
            &[dense(3, 2), Layer::Relu],
            &[dense(3, 2), dense(3, 2)],
            &[dense(0, 2)],
            &[dense(3, 0)],
            &[dense(u32::MAX, u32::MAX)],
        ] {
            assert_eq!(Network::new(layers), Err(Error::LayerTable), "{layers:?}");
        }
        assert_eq!(Network::new(&[dense(2, 2); 33]), Err(Error::TooManyLayers));
    }
}
