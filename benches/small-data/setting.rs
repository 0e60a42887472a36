//! What decides the result of one training run, in a form that can be written down: the
//! key of the saved runs.

use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::optimizer::Optimizer;
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::data::Source;

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The images.
    pub source: Source,
    /// The layers, as [`crate::nets::parse`] reads them.
    pub network: String,
    /// N, the training samples that were drawn.
    pub samples: usize,
    /// Seed of the draw, the starting weights and the order of the batches.
    pub seed: u64,
    /// Which part of the N samples is held out and measured on; `None` trains on all of
    /// them and measures on the test images.
    pub held_out: Option<Fold>,
    /// What all methods of a study share.
    pub recipe: Recipe,
    /// What tells them apart.
    pub variant: Variant,
}

impl Setting {
    /// The line that stands for this run wherever runs are kept.
    pub fn key(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| format!("{self:?}"))
    }
}

/// The `index`-th of `of` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// From 0.
    pub index: usize,
    /// Parts that the samples are dealt into.
    pub of: usize,
}

impl Fold {
    /// Whether the sample that was drawn as number `position` is held out. Draws go
    /// through the classes in turn, so whole rounds are dealt: every part has as many of
    /// each class.
    pub fn holds_out(&self, position: usize) -> bool {
        (position / crate::data::CLASSES) % self.of == self.index
    }
}

/// How weights move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The update rule.
    pub rule: Rule,
    /// The highest learning rate.
    pub learning_rate: f32,
    /// Rows of a batch; smaller draws have smaller batches.
    pub batch: usize,
    /// Updates in all.
    pub steps: u32,
    /// The learning rate's course.
    pub course: Course,
}

/// The update rule, with the constants of [`Optimizer`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Plain gradient descent.
    Plain,
    /// Momentum 0.9.
    Momentum,
    /// AdamW.
    Adamw,
}

impl Rule {
    /// The engine's optimiser.
    pub fn optimizer(self) -> Optimizer {
        match self {
            Self::Plain => Optimizer::Sgd { momentum: 0.0 },
            Self::Momentum => Optimizer::SGD,
            Self::Adamw => Optimizer::ADAMW,
        }
    }
}

/// The learning rate's course over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    /// A tenth of the steps as warm-up, then half a cosine to zero.
    Cosine,
    /// The same all the time.
    Constant,
    /// Caffe's policy for LeNet, `(1 + 0.0001 step)^-0.75`.
    Inverse,
}

/// What a method does beside plain training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Where the L2 coefficients come from.
    pub decay: DecayMode,
    /// The last layer's coefficient, or every layer's.
    pub lambda: f32,
    /// Conventional augmentation.
    pub augmentation: Augmentation,
    /// Adversarial features.
    pub adversary: Option<Perturbation>,
}

impl Variant {
    /// Plain training.
    pub const PLAIN: Self = Self {
        decay: DecayMode::None,
        lambda: 0.0,
        augmentation: Augmentation::None,
        adversary: None,
    };

    /// The engine's decay.
    pub fn decay(&self) -> Decay {
        let mode = match self.decay {
            DecayMode::None => Mode::None,
            DecayMode::Uniform => Mode::Uniform,
            DecayMode::Structural => Mode::Structural,
            DecayMode::Measured => Mode::Measured,
            DecayMode::Online => Mode::Online,
        };
        Decay {
            mode,
            lambda: self.lambda,
        }
    }

    /// What its method's candidates differ in: lambda or epsilon.
    pub fn strength(&self) -> f32 {
        self.adversary.map_or(self.lambda, |a| a.epsilon)
    }

    /// What differs from plain training, in words.
    pub fn label(&self) -> String {
        let mut parts = Vec::new();
        if self.decay != DecayMode::None {
            parts.push(format!("lambda {}", self.lambda));
        }
        if self.augmentation != Augmentation::None {
            parts.push(format!("{:?}", self.augmentation).to_lowercase());
        }
        if let Some(adversary) = &self.adversary {
            parts.push(format!("epsilon {}", adversary.epsilon));
        }
        match parts.as_slice() {
            [] => "nothing".into(),
            parts => parts.join(" "),
        }
    }

    /// The engine's adversary.
    pub fn adversary(&self) -> Option<Adversary> {
        self.adversary.map(|p| Adversary {
            steps: p.power_steps,
            ..Adversary::new(p.epsilon)
        })
    }
}

/// [`Mode`], in a form that can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecayMode {
    /// No decay.
    None,
    /// One coefficient for all layers.
    Uniform,
    /// Closed form.
    Structural,
    /// From the first gradients.
    Measured,
    /// From the gradients during training.
    Online,
}

/// Adversarial features, as [`Adversary`] does them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perturbation {
    /// Length relative to the features.
    pub epsilon: f32,
    /// Steps of power iteration.
    pub power_steps: u32,
}
