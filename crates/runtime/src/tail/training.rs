//! Where training of a pretrained tail starts: its layers as they are, and on top the
//! linear head that the default recipe trains on the features they give. So before the
//! first step it is as good as frozen features (Kumar et al., "Fine-tuning can distort
//! pretrained features and underperform out-of-distribution", 2022: linear probing, then
//! fine-tuning).

use fieldtune_core::Kernel;
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::transform::Transform;

use super::Tail;
use crate::data::Data;
use crate::error::Result;
use crate::extras::Extras;
use crate::recipe::{self, Normalise, Recipe, Shape, logits};

/// By how much slower than the classifier the pretrained layers learn.
pub(crate) const SLOW_RATE: f32 = 0.1;

/// Whether a head reads a map: then its views are judged one by one, since the mean of a
/// picture's map and its mirror image's is a map of neither.
pub(crate) fn reads_map(network: &Network) -> bool {
    !network.shape(0).is_flat()
}

/// The layers that are trained: those of the tail, square root and length, a classifier.
/// `None` where a size is too large.
pub(crate) fn layers(tail: &Tail, classes: usize) -> Option<Vec<Layer>> {
    let (body, _) = tail.body().ok()?;
    let mut layers = tail.layers().to_vec();
    layers.push(Layer::RootLength);
    layers.push(Layer::Dense {
        inputs: u32::try_from(body.classes()).ok()?,
        outputs: u32::try_from(classes).ok()?,
    });
    Some(layers)
}

/// Parameters of those layers before training on `samples`.
///
/// # Errors
/// As [`recipe::train`].
pub(crate) fn start(
    recipe: &Recipe,
    tail: &Tail,
    data: &Data<'_>,
    samples: &[usize],
    seed: u64,
    kernel: Kernel,
) -> Result<Vec<f32>> {
    let (body, parameters) = tail.body()?;
    let untouched = Transform::default();
    let views = data.held.intersection(recipe.views);
    let mut matrices = Vec::new();
    for view in views.views() {
        let maps = data.view_rows(samples, view);
        matrices.push(logits(&body, parameters, &untouched, &maps, kernel)?);
    }
    let matrices: Vec<&[f32]> = matrices.iter().map(Vec::as_slice).collect();
    let labels: Vec<u16> = samples.iter().map(|sample| data.labels[*sample]).collect();
    let features = Data {
        views: &matrices,
        held: views,
        labels: &labels,
        groups: &[],
        features: body.classes(),
        classes: data.classes,
    };
    let all: Vec<usize> = (0..samples.len()).collect();
    let linear = recipe::train(&linear(recipe), &features, &all, seed, kernel)?;
    Ok([parameters, &linear.parameters].concat())
}

/// The recipe of the linear head on top.
fn linear(recipe: &Recipe) -> Recipe {
    Recipe {
        shape: Shape::Linear,
        normalise: Normalise::RootLength,
        // What the user fixed holds for both.
        epochs: if recipe.least_steps == 0 {
            recipe.epochs
        } else {
            30
        },
        learning_rate: 0.003,
        adversarial: recipe.adversarial.and(Some(0.15)),
        extras: Extras::default(),
        ..recipe.clone()
    }
}
