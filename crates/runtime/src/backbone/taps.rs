//! The parts of a cut: tensors whose values become features, as they are, as each channel's
//! mean over all positions, or as what a classifier says. The text that says so is
//! `TENSOR[:mean|:classes]`, several with commas between them. Whether a network has those
//! tensors is looked up in `onnx.rs`.

use std::fmt;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{TractErrorContext, format_err};

/// What becomes of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// They are the features.
    Whole,
    /// The features are the means of its channels, its first axis after the batch.
    Mean,
    /// The tensor has the scores of a classifier before its softmax. With their softmax p,
    /// the features are `CLASSES_WEIGHT p^1.5`: a network that knows its own classes in a
    /// picture says so, and one that does not says little.
    Classes,
}

/// Brings what a classifier says to the size of other layers' features. Power and weight
/// are those that did best with the built-in backbone's.
pub(crate) const CLASSES_WEIGHT: f32 = 128.0;

impl Take {
    /// Stands behind the name of a tensor.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Mean => ":mean",
            Self::Classes => ":classes",
        }
    }
}

/// One tensor of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Its name.
    pub tensor: String,
    /// What becomes of it.
    pub take: Take,
}

impl Tap {
    /// A tensor as it is.
    pub fn whole(tensor: &str) -> Self {
        Self {
            tensor: tensor.into(),
            take: Take::Whole,
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

    /// Reads `TENSOR` with or without a suffix.
    fn parse(text: &str, known: impl Fn(&str) -> bool) -> Self {
        if known(text) {
            return Self::whole(text);
        }
        let taken = |take: Take| {
            let tensor = text.strip_suffix(take.suffix())?.into();
            Some(Self { tensor, take })
        };
        let taken = [Take::Mean, Take::Classes].into_iter().find_map(taken);
        taken.unwrap_or_else(|| Self::whole(text))
    }

    /// Shape of the features, from the tensor's, both without the batch axis. `None` where
    /// there are no positions to take a mean over, or more than a classifier's scores.
    pub fn shape<'a>(&self, tensor: &'a [usize]) -> Option<&'a [usize]> {
        match (self.take, tensor) {
            (Take::Whole, whole) => Some(whole),
            (Take::Mean, [_, _, ..]) => tensor.get(..1),
            (Take::Classes, [_]) => Some(tensor),
            (Take::Mean | Take::Classes, _) => None,
        }
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tensor)?;
        f.write_str(self.take.suffix())
    }
}

/// Writes the outputs' features one after the other.
pub(super) fn copy_out(outputs: &[TValue], taps: &[Tap], features: &mut [f32]) -> TractResult<()> {
    let mut rest = features;
    for (output, tap) in outputs.iter().zip(taps) {
        let output = output.cast_to::<f32>()?;
        let plain = output.try_as_plain_ram()?;
        let values = plain.as_slice::<f32>()?;
        let count = match tap.take {
            Take::Mean => output.shape().get(1).copied().unwrap_or(0),
            Take::Whole | Take::Classes => values.len(),
        };
        let (place, others) = rest
            .split_at_mut_checked(count)
            .context("the cut gave too many elements")?;
        match tap.take {
            Take::Whole => place.copy_from_slice(values),
            Take::Mean => means(values, place),
            Take::Classes => classes(values, place),
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

/// [`Take::Classes`] of the scores.
fn classes(scores: &[f32], features: &mut [f32]) {
    features.copy_from_slice(scores);
    fieldtune_core::predict::probabilities(features, scores.len().max(1), 1.0);
    for value in features {
        *value *= CLASSES_WEIGHT * value.sqrt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_asks_for_the_mean_unless_the_tensor_is_called_so() {
        let found = Tap::parse("relu:0:mean", |name| name == "relu:0");
        assert_eq!((found.tensor.as_str(), found.take), ("relu:0", Take::Mean));
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
    fn a_sure_classifier_weighs_more_than_an_unsure_one() {
        let tap = Tap::parse("scores:classes", |_| false);
        assert_eq!(tap.to_string(), "scores:classes");
        assert_eq!(tap.shape(&[4]), Some([4].as_slice()));
        assert_eq!(tap.shape(&[4, 7, 7]), None);
        let (mut sure, mut unsure) = ([0.0; 4], [0.0; 4]);
        classes(&[40.0, 0.0, 0.0, 0.0], &mut sure);
        classes(&[1.0; 4], &mut unsure);
        assert_eq!(sure[0], 128.0);
        assert!(sure[1..].iter().all(|value| *value < 1e-20));
        assert_eq!(unsure, [16.0; 4]);
    }

    #[test]
    fn tensors_stand_one_after_the_other() {
        let map = Tensor::from_shape(&[1, 2, 1, 3], &[1f32, 2., 6., 0., 0., 3.]);
        let vector = Tensor::from_shape(&[1, 2], &[7f32, 8.]);
        let outputs = [map, vector].map(|tensor| tensor.expect("sound").into_tvalue());
        let taps = ["map:mean", "vector"].map(|text| Tap::parse(text, |_| false));
        let mut features = [0.0; 4];
        copy_out(&outputs, &taps, &mut features).expect("fits");
        assert_eq!(features, [3.0, 1.0, 7.0, 8.0]);
        assert!(copy_out(&outputs, &taps, &mut [0.0; 5]).is_err());
        assert!(copy_out(&outputs, &taps, &mut [0.0; 3]).is_err());
    }
}
