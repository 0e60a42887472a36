//! What a device is asked to train: everything that decides a head beside the samples.

use crate::adversary::Adversary;
use crate::decay::Decay;
use crate::head::{Backbone, MAX_CLASSES, label_is_sound};
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::optimizer::Optimizer;
use crate::train::Options;
use crate::transform::Transform;
use crate::{Error, Kernel};
use serde::{Deserialize, Serialize};

/// One training on a device, its parts borrowed from the message's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job<'a> {
    /// The class names, in the order of the outputs.
    #[serde(borrow)]
    pub labels: heapless::Vec<&'a str, MAX_CLASSES>,
    /// What makes the features. Windows of a sensor are known by its preprocessing, see
    /// [`Window`](crate::sensor::Window).
    #[serde(borrow)]
    pub backbone: Backbone<'a>,
    /// What happens to them first.
    #[serde(borrow)]
    pub transform: Transform<'a>,
    /// The layer table.
    pub layers: heapless::Vec<Layer, MAX_LAYERS>,
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

impl<'a> Job<'a> {
    /// Reads and checks a job.
    ///
    /// # Errors
    /// [`Error::Content`] when it contradicts itself, or those of [`Network::new`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let job: Self = postcard::from_bytes(bytes).map_err(|_| Error::Content)?;
        job.check()?;
        Ok(job)
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
        Options {
            optimizer: self.optimizer,
            decay: self.decay,
            adversary: self.adversary,
            ..Options::new(usize::from(self.batch), Kernel::lanes())
        }
    }

    fn check(&self) -> Result<(), Error> {
        let network = self.network()?;
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let counts = |value: f32| value.is_finite() && value >= 0.0;
        let linear = matches!(self.layers[..], [Layer::Dense { .. }]);
        let adversary = self.adversary.is_none_or(|adversary| {
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
            && counts(self.imprint_gain)
            && (linear || self.imprint_gain == 0.0)
            && self.epochs > 0
            && self.batch > 0
            && positive(self.learning_rate)
            && positive(self.temperature)
            && counts(self.decay.lambda)
            && adversary;
        if sound { Ok(()) } else { Err(Error::Content) }
    }
}
