//! Where the numbers of a tail's layers come from, and reading them: the file's layouts
//! turned into the engine's, scales and shifts taken into the weights before them.

use fieldtune_core::network::Layer;

use super::import::Draft;
use super::{Refusal, Tail};
use crate::backbone::Constant;

/// The parameters of a layer, not yet read.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// It has none.
    None,
    /// A weight matrix.
    Product(Product),
    /// A depthwise convolution that takes the mean of this many positions.
    Mean { channels: usize, positions: usize },
    /// A batch norm.
    Norm(Scaling),
}

impl Numbers {
    /// Whether training changes them.
    pub fn is_trained(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Weights and biases of a dense layer or a convolution.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub weights: Constant,
    /// Whether the file has them as `[inputs, outputs]`.
    pub by_input: bool,
    /// What each output's weights are multiplied by.
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Product {
    /// One more scale and shift of the outputs.
    pub fn take_over(&mut self, scaling: &Scaling) {
        let own = self.scale.iter_mut().zip(&mut self.bias).enumerate();
        for (channel, (scale, bias)) in own {
            let (factor, offset) = scaling.of(channel);
            *scale *= factor;
            *bias = *bias * factor + offset;
        }
    }

    fn read(&self) -> Option<Vec<f32>> {
        let file = self.weights.values()?;
        let outputs = self.scale.len();
        let inputs = file.len() / outputs.max(1);
        let mut values = Vec::with_capacity(file.len() + outputs);
        for (output, scale) in self.scale.iter().enumerate() {
            if self.by_input {
                let column = file.iter().skip(output).step_by(outputs);
                values.extend(column.map(|value| value * scale));
            } else {
                let row = &file[output * inputs..(output + 1) * inputs];
                values.extend(row.iter().map(|value| value * scale));
            }
        }
        values.extend(&self.bias);
        Some(values)
    }
}

/// `y = scale (x - mean) inverse + shift` by channel.
#[derive(Clone, Debug)]
pub(super) struct Scaling {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub mean: Vec<f32>,
    pub inverse: Vec<f32>,
}

impl Scaling {
    /// `y = scale x + shift`.
    pub fn plain(scale: Vec<f32>, shift: Vec<f32>) -> Self {
        let channels = scale.len();
        Self {
            scale,
            shift,
            mean: vec![0.0; channels],
            inverse: vec![1.0; channels],
        }
    }

    /// Factor and offset of a channel.
    fn of(&self, channel: usize) -> (f32, f32) {
        let factor = self.scale[channel] * self.inverse[channel];
        (factor, self.shift[channel] - self.mean[channel] * factor)
    }
}

impl Draft {
    /// Reads the weights.
    ///
    /// # Errors
    /// When they are no finite numbers.
    pub fn read(self, cut: &str) -> Result<Tail, Refusal> {
        let mut parameters = Vec::new();
        for step in &self.steps {
            match &step.numbers {
                Numbers::None => {}
                Numbers::Product(product) => {
                    let no_numbers = || Refusal::of_all("a layer's weights are no numbers");
                    parameters.extend(product.read().ok_or_else(no_numbers)?);
                }
                Numbers::Mean {
                    channels,
                    positions,
                } => {
                    let share = 1.0 / *positions as f32;
                    parameters.extend(std::iter::repeat_n(share, channels * positions));
                    parameters.extend(std::iter::repeat_n(0.0, *channels));
                }
                Numbers::Norm(scaling) => {
                    for values in [
                        &scaling.scale,
                        &scaling.shift,
                        &scaling.mean,
                        &scaling.inverse,
                    ] {
                        parameters.extend(values);
                    }
                }
            }
        }
        if !parameters.iter().all(|value| value.is_finite()) {
            return Err(Refusal::of_all("a weight is not a finite number"));
        }
        let layers: Vec<Layer> = self.steps.iter().map(|step| step.layer).collect();
        let tail = Tail {
            cut: cut.into(),
            layers,
            parameters,
            classifier: self.classifier,
        };
        let fits = tail
            .whole()
            .is_ok_and(|(network, own)| network.parameter_elements() == own.len());
        if fits {
            Ok(tail)
        } else {
            Err(Refusal::of_all(
                "its weights do not have the sizes of its layers",
            ))
        }
    }
}
