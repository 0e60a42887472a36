//! What a device is asked to train: everything that decides a head beside the samples.

use crate::adversary::Adversary;
use crate::decay::{Decay, Mode};
use crate::head::{Backbone, MAX_CLASSES, label_is_sound, take_into};
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::optimizer::Optimizer;
use crate::train::Options;
use crate::transform::Transform;
use crate::{Error, Kernel};
use serde::{Deserialize, Serialize};

/// One training on a device, its parts borrowed from the message's bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job<'a> {
    /// The class names, in the order of the outputs.
    pub labels: heapless::Vec<&'a str, MAX_CLASSES>,
    /// What makes the features. Windows of a sensor are known by its preprocessing, see
    /// [`Window`](crate::sensor::Window).
    pub backbone: Backbone<'a>,
    /// What happens to them first.
    pub transform: Transform<'a>,
    /// The layer table.
    pub layers: heapless::Vec<Layer, MAX_LAYERS>,
    /// How to train them.
    pub training: Training<'a>,
}

/// How a job is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training<'a> {
    /// Whether each feature is brought to mean 0 and deviation 1 over the training samples,
    /// after the other steps of the transform.
    pub standardise: bool,
    /// Where a linear head starts: at the class means times this; 0 for random weights.
    pub imprint_gain: f32,
    /// The recipe in words, for the head file.
    pub recipe: &'a str,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Passes over all samples.
    pub epochs: u32,
    /// B, samples a batch.
    pub batch: u16,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// The update rule.
    pub optimizer: Optimizer,
    /// The L2 coefficients.
    pub decay: Decay,
    /// Adversarial features.
    pub adversary: Option<Adversary>,
    /// Logits are divided by this before the softmax.
    pub temperature: f32,
}

impl Default for Training<'_> {
    /// Trains nothing and is refused: a place to read into.
    fn default() -> Self {
        Self {
            standardise: false,
            imprint_gain: 0.0,
            recipe: "",
            seed: 0,
            epochs: 0,
            batch: 0,
            learning_rate: 0.0,
            optimizer: Optimizer::PLAIN_SGD,
            decay: Decay {
                mode: Mode::None,
                lambda: 0.0,
            },
            adversary: None,
            temperature: 1.0,
        }
    }
}

impl<'a> Job<'a> {
    /// Reads and checks a job.
    ///
    /// # Errors
    /// [`Error::Content`] when it contradicts itself, or those of [`Network::new`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut job = Self {
            labels: heapless::Vec::new(),
            backbone: Backbone::default(),
            transform: Transform::default(),
            layers: heapless::Vec::new(),
            training: Training::default(),
        };
        // Field by field, as a head is read, and for the same reason.
        let rest = &mut &*bytes;
        take_into(&mut job.labels, rest)?;
        take_into(&mut job.backbone, rest)?;
        take_into(&mut job.transform, rest)?;
        take_into(&mut job.layers, rest)?;
        take_into(&mut job.training, rest)?;
        job.check()?;
        if rest.is_empty() {
            Ok(job)
        } else {
            Err(Error::Content)
        }
    }

    /// Writes the job into `buffer` and returns the part used.
    ///
    /// # Errors
    /// [`Error::Content`] when it contradicts itself, [`Error::NoRoom`] (in bytes) when the
    /// buffer is too short.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Error> {
        self.check()?;
        let have = buffer.len();
        match postcard::to_slice(self, buffer) {
            Ok(used) => Ok(used),
            Err(_) => Err(Error::NoRoom {
                need: have + 1,
                have,
            }),
        }
    }

    /// The checked layer table.
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub fn network(&self) -> Result<Network, Error> {
        Network::new(&self.layers)
    }

    /// How to train, with the kernel whose numbers are the same on every processor.
    pub fn options(&self) -> Options {
        let training = &self.training;
        Options {
            optimizer: training.optimizer,
            decay: training.decay,
            adversary: training.adversary,
            ..Options::new(usize::from(training.batch), Kernel::lanes())
        }
    }

    fn check(&self) -> Result<(), Error> {
        let (network, training) = (self.network()?, &self.training);
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let counts = |value: f32| value.is_finite() && value >= 0.0;
        let linear = matches!(self.layers[..], [Layer::Dense { .. }]);
        let adversary = training.adversary.is_none_or(|adversary| {
            counts(adversary.epsilon)
                && positive(adversary.xi)
                && counts(adversary.weight)
                && counts(adversary.ramp)
                && (1..=100).contains(&adversary.steps)
        });
        let sound = (2..=MAX_CLASSES).contains(&self.labels.len())
            && self.labels.len() == network.classes()
            && self.labels.iter().all(|label| label_is_sound(label))
            && self.backbone.features as usize == network.inputs()
            && counts(self.transform.length)
            // Numbers for each feature come with whole heads only.
            && self.transform.shift.is_empty()
            && self.transform.scale.is_empty()
            && counts(training.imprint_gain)
            && (linear || training.imprint_gain == 0.0)
            && training.epochs > 0
            && training.batch > 0
            && positive(training.learning_rate)
            && positive(training.temperature)
            && counts(training.decay.lambda)
            && adversary;
        if sound { Ok(()) } else { Err(Error::Content) }
    }
}
