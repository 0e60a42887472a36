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
    /// How the layers below the last were trained beforehand, on [`DataSet::before`];
    /// `None` starts from nothing.
    ///
    /// [`DataSet::before`]: crate::data::DataSet::before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<Recipe>,
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
    pub fn holds_out(&self, position: usize, classes: usize) -> bool {
        (position / classes) % self.of == self.index
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
    /// Nesterov momentum 0.9.
    Nesterov,
    /// AdamW.
    Adamw,
}

impl Rule {
    /// The engine's optimiser.
    pub fn optimizer(self) -> Optimizer {
        match self {
            Self::Plain => Optimizer::PLAIN_SGD,
            Self::Momentum => Optimizer::SGD,
            Self::Nesterov => Optimizer::NESTEROV,
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
    /// Half a cosine to zero from the first step on.
    Cold,
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
    /// What is not as in the study's recipe.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub changes: Changes,
}

/// Changes to a recipe; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// The update rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The highest learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// The learning rate's course.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
    /// The part of each label that is spread over all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f32>,
    /// Whether decay pulls towards the weights at the start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anchored: bool,
    /// Longest gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Memory of the running average of the weights that training ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f32>,
    /// Stops after so many epochs without a smaller loss on a fifth of the training
    /// samples, which is not trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
}

impl Changes {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The recipe with its changes.
    pub fn apply(&self, recipe: &Recipe) -> Recipe {
        Recipe {
            rule: self.rule.unwrap_or(recipe.rule),
            learning_rate: self.learning_rate.unwrap_or(recipe.learning_rate),
            course: self.course.unwrap_or(recipe.course),
            ..*recipe
        }
    }
}

impl Variant {
    /// Plain training.
    pub const PLAIN: Self = Self {
        decay: DecayMode::None,
        lambda: 0.0,
        augmentation: Augmentation::None,
        adversary: None,
        changes: Changes {
            rule: None,
            learning_rate: None,
            course: None,
            anchored: false,
            label_smoothing: None,
            clip_norm: None,
            average: None,
            patience: None,
        },
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

    /// What its method's candidates differ in: lambda, epsilon or the learning rate.
    pub fn strength(&self) -> f32 {
        let lambda = self.changes.learning_rate.unwrap_or(self.lambda);
        self.adversary.map_or(lambda, |a| a.epsilon)
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
        if let Some(rate) = self.changes.learning_rate {
            parts.push(format!("rate {rate}"));
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
            per_sample: p.per_sample,
            ramp: p.ramp,
            weight: p.weight.unwrap_or(1.0),
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
    /// Whether every sample draws its own layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_sample: bool,
    /// The share of training over which epsilon rises.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ramp: f32,
    /// Weight of the adversarial loss, where it is not 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
}

impl Perturbation {
    /// As published: one step, one layer a batch.
    pub const fn new(epsilon: f32) -> Self {
        Self {
            epsilon,
            power_steps: 1,
            per_sample: false,
            ramp: 0.0,
            weight: None,
        }
    }
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}
