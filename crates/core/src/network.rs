//! The layer table: which layers, in which order, of which shapes, and where
//! their parameters stand in the parameter vector. No arithmetic lives here.

use crate::Error;
pub use crate::layer::{Convolution, Layer, Shape, Window};
use crate::layer::{MAX_ELEMENTS, Parameters};
use core::ops::Range;

/// The most layers a head can have.
pub const MAX_LAYERS: usize = 64;

/// A checked layer table. Tensor `i` is the input of layer `i`; the last tensor
/// holds the logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    layers: heapless::Vec<Layer, MAX_LAYERS>,
    /// Input of every layer, and the output of the last.
    shapes: heapless::Vec<Shape, { MAX_LAYERS + 1 }>,
}

impl Network {
    /// Checks a layer table: it begins with a dense layer or says its input's shape,
    /// shapes follow from one another, the output is a plain vector that no activation
    /// has bent, and the parameters can be counted.
    ///
    /// # Errors
    /// [`Error::LayerTable`] or [`Error::TooManyLayers`].
    pub fn new(layers: &[Layer]) -> Result<Self, Error> {
        let mut shape = match layers.first() {
            Some(Layer::Dense { inputs, .. }) => Shape::flat(*inputs),
            Some(Layer::Input(shape)) => *shape,
            _ => return Err(Error::LayerTable),
        };
        if !shape.is_sound() {
            return Err(Error::LayerTable);
        }
        let mut network = Self {
            layers: layers.try_into().map_err(|_| Error::TooManyLayers)?,
            shapes: heapless::Vec::new(),
        };
        let mut parameters = 0u64;
        // One more shape than layers: all fit.
        let _ = network.shapes.push(shape);
        for (index, layer) in layers.iter().enumerate() {
            if matches!(layer, Layer::Input(_)) && index > 0 {
                return Err(Error::LayerTable);
            }
            if let Some(from) = layer.reads() {
                let other = network.shapes[..index].get(from);
                let other = *other.ok_or(Error::LayerTable)?;
                match layer {
                    Layer::Branch { .. } => shape = other,
                    _ if other != shape => return Err(Error::LayerTable),
                    _ => {}
                }
            }
            shape = layer.output(shape).ok_or(Error::LayerTable)?;
            let own = layer.parameters().ok_or(Error::LayerTable)?;
            parameters += (own.weights + own.biases + own.constants) as u64;
            let _ = network.shapes.push(shape);
        }
        let ends_well = matches!(
            layers.last(),
            Some(
                Layer::Dense { .. }
                    | Layer::Convolution(_)
                    | Layer::GlobalAveragePool
                    | Layer::Flatten
            )
        );
        if !ends_well || !shape.is_flat() || network.depth() == 0 || parameters > MAX_ELEMENTS {
            return Err(Error::LayerTable);
        }
        Ok(network)
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

    /// Shape of tensor `index`: before layer `index`, or after the last layer for
    /// `index = layers().len()`.
    pub fn shape(&self, index: usize) -> Shape {
        self.shapes.get(index).copied().unwrap_or_default()
    }

    /// F, the elements of one input.
    pub fn inputs(&self) -> usize {
        self.width(0)
    }

    /// K, the elements of one output.
    pub fn classes(&self) -> usize {
        self.width(self.layers.len())
    }

    /// Elements of one sample in tensor `index`.
    pub fn width(&self, index: usize) -> usize {
        self.shape(index).elements()
    }

    /// The largest width at or after `index`.
    pub fn largest_width(&self, index: usize) -> usize {
        let widths = (index..=self.layers.len()).map(|i| self.width(i));
        widths.max().unwrap_or(0)
    }

    /// Every layer that has a weight matrix, in order: those that are decayed, and at
    /// whose inputs features are perturbed.
    pub fn weighted(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let layers = self.layers.iter().enumerate();
        layers.filter_map(|(i, layer)| layer.is_weighted().then_some(i))
    }

    /// How many layers have a weight matrix.
    pub fn depth(&self) -> usize {
        self.weighted().count()
    }

    /// The lowest layer that has anything to train.
    pub(crate) fn lowest_trained(&self) -> usize {
        let trained = |layer: &Layer| parameters(layer).weights > 0;
        self.layers.iter().position(trained).unwrap_or(0)
    }

    /// Elements of all parameters.
    pub fn parameter_elements(&self) -> usize {
        self.constants(self.layers.len() - 1).end
    }

    /// Where the weights of layer `index` stand in the parameter vector (for a batch
    /// norm its scale); empty for a layer without any.
    pub fn weights(&self, index: usize) -> Range<usize> {
        let before = self.layers.iter().take(index).map(parameters);
        let start = before
            .map(|own| own.weights + own.biases + own.constants)
            .sum();
        start..start + self.own(index).weights
    }

    /// Where the biases of layer `index` stand, right after its weights (for a batch
    /// norm its shift).
    pub fn biases(&self, index: usize) -> Range<usize> {
        let start = self.weights(index).end;
        start..start + self.own(index).biases
    }

    /// Where the numbers of layer `index` stand that training leaves alone, right after
    /// its biases: a batch norm's means, then the inverses of its deviations.
    pub fn constants(&self, index: usize) -> Range<usize> {
        let start = self.biases(index).end;
        start..start + self.own(index).constants
    }

    fn own(&self, index: usize) -> Parameters {
        self.layers.get(index).map(parameters).unwrap_or_default()
    }

    /// Weights that one output element of layer `index` sums over; 0 for a layer without
    /// a weight matrix.
    pub fn fan_in(&self, index: usize) -> usize {
        match self.layers.get(index) {
            Some(Layer::Dense { inputs, .. }) => *inputs as usize,
            Some(Layer::Convolution(convolution)) => convolution.fan_in(),
            _ => 0,
        }
    }

    /// Multiply-adds of one sample's pass through layer `index`.
    pub fn layer_multiply_adds(&self, index: usize) -> u64 {
        self.fan_in(index) as u64 * self.width(index + 1) as u64
    }

    /// Multiply-adds of one sample's forward pass.
    pub fn multiply_adds(&self) -> u64 {
        (0..self.layers.len())
            .map(|i| self.layer_multiply_adds(i))
            .sum()
    }
}

/// A checked layer's parameters.
fn parameters(layer: &Layer) -> Parameters {
    layer.parameters().unwrap_or_default()
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
    fn a_residual_table_has_its_shapes_and_constants() {
        let full = |inputs, outputs, window| {
            Layer::Convolution(Convolution::full(inputs, outputs, window))
        };
        let network = Network::new(&[
            Layer::Input(Shape::map(2, 6, 5)),
            full(2, 4, Window::square(3, 1, 1)),
            Layer::BatchNorm { channels: 4 },
            full(4, 4, Window::square(1, 1, 0)),
            Layer::Add { from: 2 },
            Layer::GlobalAveragePool,
        ])
        .expect("sound");
        assert_eq!(network.shape(5), Shape::map(4, 6, 5));
        assert_eq!(network.classes(), 4);
        assert_eq!((network.weights(2), network.biases(2)), (76..80, 80..84));
        assert_eq!(network.constants(2), 84..92);
        assert_eq!(network.parameter_elements(), 92 + 16 + 4);
        assert_eq!(network.depth(), 2);
        assert_eq!(network.multiply_adds(), 30 * (72 + 16));
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
            &[dense(3, 3), Layer::Input(Shape::flat(3)), dense(3, 2)],
            &[dense(3, 3), Layer::Add { from: 1 }, dense(3, 2)],
            &[dense(3, 2), Layer::Add { from: 0 }, dense(2, 2)],
            &[dense(3, 3), Layer::Branch { from: 1 }, dense(3, 2)],
            &[dense(3, 3), Layer::Branch { from: 9 }, dense(3, 2)],
            &[Layer::Input(Shape::flat(3)), Layer::Flatten],
            &[
                Layer::Input(Shape::map(1, 4, 4)),
                Layer::Convolution(Convolution::full(1, 2, Window::square(3, 1, 0))),
            ],
        ] {
            assert_eq!(Network::new(layers), Err(Error::LayerTable), "{layers:?}");
        }
        assert_eq!(Network::new(&[dense(2, 2); 65]), Err(Error::TooManyLayers));
    }
}
