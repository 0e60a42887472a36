//! The parts of a cut: tensors whose values become features, as they are or each channel's
//! mean over all positions. The text that says so is `TENSOR[:mean]`, several with commas
//! between them. Whether a network has those tensors is looked up in `onnx.rs`.

use std::fmt;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{TractErrorContext, format_err};

/// Stands behind the name of a tensor whose positions are averaged.
const MEAN: &str = ":mean";

/// One tensor of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Its name.
    pub tensor: String,
    /// Whether the features are the means of its channels, its first axis after the batch.
    pub mean: bool,
}

impl Tap {
    /// A tensor as it is.
    pub fn whole(tensor: &str) -> Self {
        Self {
            tensor: tensor.into(),
            mean: false,
        }
    }

    /// Reads a cut. A tensor may itself be called as a whole cut is written, or as a part of
    /// one: `known` tells. Tensors that are not known are in the answer too.
    pub fn all(cut: &str, known: impl Fn(&str) -> bool) -> Vec<Self> {
        if known(cut) {
            return vec![Self::whole(cut)];
        }
        let parts = cut.split(',').map(str::trim);
        parts.map(|part| Self::parse(part, &known)).collect()
    }

    /// Reads `TENSOR` or `TENSOR:mean`.
    fn parse(text: &str, known: impl Fn(&str) -> bool) -> Self {
        match text.strip_suffix(MEAN) {
            Some(tensor) if !known(text) => Self {
                tensor: tensor.into(),
                mean: true,
            },
            _ => Self::whole(text),
        }
    }

    /// Shape of the features, from the tensor's, both without the batch axis. `None` where
    /// there are no positions to take a mean over.
    pub fn shape<'a>(&self, tensor: &'a [usize]) -> Option<&'a [usize]> {
        match tensor {
            [_, _, ..] if self.mean => tensor.get(..1),
            _ if self.mean => None,
            whole => Some(whole),
        }
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tensor)?;
        f.write_str(if self.mean { MEAN } else { "" })
    }
}

/// Writes the outputs' features one after the other.
pub(super) fn copy_out(outputs: &[TValue], taps: &[Tap], features: &mut [f32]) -> TractResult<()> {
    let mut rest = features;
    for (output, tap) in outputs.iter().zip(taps) {
        let output = output.cast_to::<f32>()?;
        let plain = output.try_as_plain_ram()?;
        let values = plain.as_slice::<f32>()?;
        let count = match tap.mean {
            true => output.shape().get(1).copied().unwrap_or(0),
            false => values.len(),
        };
        let (place, others) = rest
            .split_at_mut_checked(count)
            .context("the cut gave too many elements")?;
        if tap.mean {
            means(values, place);
        } else {
            place.copy_from_slice(values);
        }
        rest = others;
    }
    match rest.len() {
        0 => Ok(()),
        missing => Err(format_err!("the cut gave {missing} elements too few")),
    }
}

/// Means over the positions of `[channels, positions]`.
fn means(values: &[f32], channels: &mut [f32]) {
    let positions = values.len() / channels.len().max(1);
    for (mean, values) in channels.iter_mut().zip(values.chunks(positions.max(1))) {
        *mean = values.iter().sum::<f32>() / values.len() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_asks_for_the_mean_unless_the_tensor_is_called_so() {
        let found = Tap::parse("relu:0:mean", |name| name == "relu:0");
        assert_eq!((found.tensor.as_str(), found.mean), ("relu:0", true));
        assert_eq!(found.to_string(), "relu:0:mean");
        let named = Tap::parse("batch:mean", |name| name == "batch:mean");
        assert_eq!(named, Tap::whole("batch:mean"));
        assert_eq!(Tap::parse("relu:0", |_| true), Tap::whole("relu:0"));
    }

    #[test]
    fn only_maps_have_positions() {
        let tap = Tap::parse("x:mean", |_| false);
        assert_eq!(tap.shape(&[8, 7, 5]), Some([8].as_slice()));
        assert_eq!(tap.shape(&[8]), None);
        assert_eq!(tap.shape(&[]), None);
        assert_eq!(Tap::whole("x").shape(&[8, 7]), Some([8, 7].as_slice()));
    }

    #[test]
    fn tensors_stand_one_after_the_other() {
        let map = Tensor::from_shape(&[1, 2, 1, 3], &[1f32, 2., 6., 0., 0., 3.]);
        let vector = Tensor::from_shape(&[1, 2], &[7f32, 8.]);
        let outputs = [map, vector].map(|tensor| tensor.expect("sound").into_tvalue());
        let taps = [Tap::parse("map:mean", |_| false), Tap::whole("vector")];
        let mut features = [0.0; 4];
        copy_out(&outputs, &taps, &mut features).expect("fits");
        assert_eq!(features, [3.0, 1.0, 7.0, 8.0]);
        assert!(copy_out(&outputs, &taps, &mut [0.0; 5]).is_err());
        assert!(copy_out(&outputs, &taps, &mut [0.0; 3]).is_err());
    }
}
