//! The training steps that are timed and counted, and what each has to do.

use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_core::{Error, Kernel};
use serde_json::{Value, json};

/// Inputs of the dense heads.
pub const FEATURES: usize = 1280;
/// K.
pub const CLASSES: usize = 6;
/// Size of a perturbation; the references have the same.
const EPSILON: f32 = 0.15;
/// The decay's coefficient; the references have the same.
const LAMBDA: f32 = 0.01;

/// A head as the references call it too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// One dense layer.
    Linear,
    /// One of 128 between.
    Mlp,
    /// 1x1 convolution from 320 to 1280 channels at 7x7, ReLU6, pool, dense.
    Tail,
}

impl Head {
    /// As `--head` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp:128",
            Self::Tail => "tail",
        }
    }

    /// Its layers.
    ///
    /// # Errors
    /// None: the table is sound.
    pub fn network(self) -> Result<Network, Error> {
        match self {
            Self::Linear => Network::mlp(FEATURES, &[], CLASSES),
            Self::Mlp => Network::mlp(FEATURES, &[128], CLASSES),
            Self::Tail => Network::new(&[
                Layer::Input(Shape::map(320, 7, 7)),
                Layer::Convolution(Convolution::full(
                    320,
                    FEATURES as u32,
                    Window::square(1, 1, 0),
                )),
                Layer::Relu6,
                Layer::GlobalAveragePool,
                Layer::Dense {
                    inputs: FEATURES as u32,
                    outputs: CLASSES as u32,
                },
            ]),
        }
    }
}

/// A training step.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is trained.
    pub head: Head,
    /// B.
    pub batch: usize,
    /// AdamW, or else SGD with momentum.
    pub adamw: bool,
    /// With adversarial features at a layer drawn by chance.
    pub adversarial: bool,
}

impl Case {
    /// All that are compared; with `quick` those of batch 16 with AdamW.
    pub fn all(quick: bool) -> Vec<Self> {
        let mut cases = Vec::new();
        for head in [Head::Linear, Head::Mlp, Head::Tail] {
            for (adamw, batch) in [(true, 8), (true, 16), (true, 32), (true, 64), (false, 16)] {
                for adversarial in [false, true] {
                    cases.push(Self {
                        head,
                        batch,
                        adamw,
                        adversarial,
                    });
                }
            }
        }
        cases.retain(|case| !quick || (case.adamw && case.batch == 16));
        cases
    }

    /// The rule as `--optimizer` has it.
    pub fn rule(&self) -> &'static str {
        if self.adamw { "adamw" } else { "sgd" }
    }

    /// What a reference is asked.
    pub fn question(&self, peer: &str) -> Value {
        json!({
            "peer": peer, "head": self.head.name(), "batch": self.batch,
            "optimizer": self.rule(), "adversarial": self.adversarial,
        })
    }

    /// How it is trained.
    pub fn options(&self) -> Options {
        Options {
            optimizer: if self.adamw {
                Optimizer::ADAMW
            } else {
                Optimizer::SGD
            },
            decay: Decay {
                mode: Mode::Uniform,
                lambda: LAMBDA,
            },
            adversary: self.adversarial.then(|| Adversary::new(EPSILON)),
            ..Options::new(self.batch, Kernel::best())
        }
    }

    /// Gives `work` a trainer with a full batch of made-up numbers, and the batch's labels.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with_trainer<T>(
        &self,
        work: impl FnOnce(&mut Trainer<'_>, &[u16]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (network, options) = (self.head.network()?, self.options());
        let mut arena = vec![0.0; options.plan(&network)?.elements()];
        let mut trainer = Trainer::new(&network, options, &mut arena, 1)?;
        trainer.prepare_decay();
        let inputs = trainer.inputs_mut().iter_mut().enumerate();
        inputs.for_each(|(i, value)| *value = (i * 37 % 101) as f32 / 101.0);
        let labels: Vec<u16> = (0..self.batch).map(|i| (i % CLASSES) as u16).collect();
        work(&mut trainer, &labels)
    }

    /// What passes through the layers take: forward, the gradient of the weights, and that of
    /// the inputs above the lowest layer; with an adversary, averaged over the layers, two more
    /// forward passes from the layer on, one gradient of the inputs alone and one of all.
    ///
    /// # Errors
    /// None: the table is sound.
    pub fn demand(&self) -> Result<Demand, Error> {
        let network = self.head.network()?;
        let layers: Vec<usize> = network.weighted().collect();
        let products = |from: usize| -> f64 {
            let own = layers.iter().filter(|layer| **layer >= from);
            let products = own.map(|layer| network.layer_multiply_adds(*layer) as f64);
            products.sum()
        };
        let outputs = |from: usize| -> f64 {
            (from..network.layers().len())
                .map(|i| network.width(i + 1) as f64)
                .sum()
        };
        let own = |layer: usize| network.layer_multiply_adds(layer) as f64;
        let weights = |from: usize| -> f64 {
            let own = layers.iter().filter(|layer| **layer >= from);
            own.map(|layer| network.weights(*layer).len() as f64).sum()
        };
        let batch = self.batch as f64;
        let mut multiply_adds = 3.0 * products(0) - own(layers[0]);
        // Inputs are read twice; activations are written, read by the next layer and by
        // its gradient, and their own gradients written and read.
        let mut moved =
            batch * (2.0 * network.inputs() as f64 + 5.0 * outputs(0)) + 2.0 * weights(0);
        if self.adversarial {
            let share = 1.0 / layers.len() as f64;
            for layer in &layers {
                multiply_adds += share * (5.0 * products(*layer) - own(*layer));
                let inputs = 5.0 * network.width(*layer) as f64;
                moved +=
                    share * (batch * (inputs + 10.0 * outputs(*layer)) + 4.0 * weights(*layer));
            }
        }
        // Gradients are written and read; weights and the rule's state are read and written.
        let arrays = 2.0 * (2.0 + self.options().optimizer.state_arrays() as f64);
        moved += arrays * network.parameter_elements() as f64;
        Ok(Demand {
            flops: 2.0 * multiply_adds * batch,
            moved_bytes: 4.0 * moved,
            held_bytes: self.options().plan(&network)?.bytes() as usize,
        })
    }
}

/// What a step has to do when it is done by passes through the layers.
pub struct Demand {
    /// Two a multiply-add.
    pub flops: f64,
    /// Read and written.
    pub moved_bytes: f64,
    /// The memory that these bytes are in.
    pub held_bytes: usize,
}
