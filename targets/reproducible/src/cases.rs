//! What is trained: every kind of layer, decay mode and optimiser, and sums longer than
//! a product takes at a time. A new kind of layer gets a case here.

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Convolution, Layer, Shape, Window};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::Options;

/// The most classes of any case.
pub const MAX_CLASSES: usize = 7;

/// Class names, as many as the largest case needs.
pub const LABELS: [&str; MAX_CLASSES] =
    ["brick", "clay", "grass", "gravel", "loam", "sand", "slate"];

/// Where training starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From random weights.
    Random,
    /// From the class means; for a single dense layer.
    ClassMeans,
}

/// One head to train.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is about; one word, since it starts lines of the report.
    pub name: &'static str,
    /// The layer table.
    pub layers: &'static [Layer],
    /// Where training starts.
    pub start: Start,
    /// Of samples, weights, order and perturbations.
    pub seed: u64,
    /// See [`Transform::signed_root`](fieldtune_core::transform::Transform::signed_root).
    pub signed_root: bool,
    /// See [`Transform::length`](fieldtune_core::transform::Transform::length).
    pub length: f32,
    /// What the case changes of the engine's plainest options.
    pub options: fn(Options) -> Options,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// Rows of a batch.
    pub batch: usize,
    /// Passes over the samples.
    pub epochs: u32,
    /// Stop after this many passes without a smaller loss on held-out samples.
    pub patience: Option<u32>,
    /// Whether batch norms are folded into the weights before the head is written.
    pub fold: bool,
}

impl Case {
    /// The engine's options, with the kernel that `--reproducible` selects.
    pub fn options(&self) -> Options {
        (self.options)(Options::new(self.batch, Kernel::lanes()))
    }
}

/// What the cases are changes of.
const PLAIN: Case = Case {
    name: "",
    layers: &[],
    start: Start::Random,
    seed: 0,
    signed_root: false,
    length: 0.0,
    options: |plain| plain,
    learning_rate: 0.01,
    batch: 10,
    epochs: 12,
    patience: None,
    fold: false,
};

const fn decay(mode: Mode, lambda: f32) -> Decay {
    Decay { mode, lambda }
}

const fn dense(inputs: u32, outputs: u32) -> Layer {
    Layer::Dense { inputs, outputs }
}

const fn full(inputs: u32, outputs: u32, window: Window) -> Layer {
    Layer::Convolution(Convolution::full(inputs, outputs, window))
}

const fn depthwise(channels: u32, window: Window) -> Layer {
    Layer::Convolution(Convolution::depthwise(channels, window))
}

/// A small residual network: all kinds of convolution, activation and pool.
const RESIDUAL: &[Layer] = &[
    Layer::Input(Shape::map(3, 10, 10)),
    full(3, 8, Window::square(3, 2, 1)),
    Layer::BatchNorm { channels: 8 },
    Layer::Relu6,
    depthwise(8, Window::square(3, 1, 1)),
    Layer::BatchNorm { channels: 8 },
    Layer::HardSwish,
    full(8, 8, Window::square(1, 1, 0)),
    Layer::Add { from: 4 },
    Layer::Silu,
    Layer::MaxPool(Window::square(2, 1, 0)),
    Layer::Convolution(Convolution {
        inputs: 8,
        outputs: 6,
        window: Window::square(3, 1, 1),
        groups: 2,
    }),
    Layer::Relu,
    Layer::Dropout { permille: 200 },
    Layer::GlobalAveragePool,
    dense(6, 4),
];

/// A plain convolutional network, with a depthwise stride and a window of unequal sides.
const PLAIN_CONVOLUTIONS: &[Layer] = &[
    Layer::Input(Shape::map(2, 9, 7)),
    Layer::Convolution(Convolution::full(
        2,
        6,
        Window {
            kernel: [3, 2],
            stride: [1, 1],
            padding: [1, 0, 0, 1],
            dilation: [1; 2],
        },
    )),
    Layer::Silu,
    depthwise(6, Window::square(3, 2, 1)),
    Layer::BatchNorm { channels: 6 },
    Layer::Relu,
    Layer::Flatten,
    dense(96, 3),
];

/// Everything that is compared.
pub const CASES: &[Case] = &[
    // What `fieldtune train` does by default, in small.
    Case {
        name: "linear-sgd-structural-adversarial",
        layers: &[dense(300, 7)],
        start: Start::ClassMeans,
        seed: 1,
        signed_root: true,
        length: 17.320_508,
        options: |plain| Options {
            decay: decay(Mode::Structural, 0.01),
            adversary: Some(Adversary::new(0.1)),
            ..plain
        },
        learning_rate: 0.02,
        batch: 16,
        epochs: 8,
        ..PLAIN
    },
    Case {
        name: "mlp-adamw-measured",
        layers: &[
            dense(61, 32),
            Layer::Relu,
            dense(32, 17),
            Layer::Relu,
            dense(17, 5),
        ],
        seed: 2,
        length: 4.0,
        options: |plain| Options {
            optimizer: Optimizer::ADAMW,
            decay: decay(Mode::Measured, 0.02),
            ..plain
        },
        learning_rate: 0.003,
        ..PLAIN
    },
    Case {
        name: "mlp-sgd-online-adversarial",
        layers: &[
            dense(40, 24),
            Layer::Relu,
            dense(24, 24),
            Layer::Relu,
            dense(24, 3),
        ],
        seed: 3,
        options: |plain| Options {
            decay: decay(Mode::Online, 0.005),
            adversary: Some(Adversary {
                steps: 2,
                ..Adversary::new(0.2)
            }),
            ..plain
        },
        batch: 9,
        ..PLAIN
    },
    Case {
        name: "mlp-plain-sgd-uniform",
        layers: &[dense(12, 8), Layer::Relu, dense(8, 2)],
        seed: 4,
        options: |plain| Options {
            optimizer: Optimizer::PLAIN_SGD,
            decay: decay(Mode::Uniform, 0.01),
            adversary: Some(Adversary::new(0.05)),
            ..plain
        },
        learning_rate: 0.1,
        batch: 42,
        epochs: 40,
        ..PLAIN
    },
    // Everything else that an option can switch on.
    Case {
        name: "mlp-nesterov-clipped-averaged-smoothed-stopped",
        layers: &[dense(24, 20), Layer::Relu, dense(20, 4)],
        seed: 9,
        options: |plain| Options {
            optimizer: Optimizer::NESTEROV,
            decay: decay(Mode::Structural, 0.01),
            anchored: true,
            adversary: Some(Adversary {
                per_sample: true,
                ramp: 0.5,
                ..Adversary::new(0.1)
            }),
            clip_norm: Some(1.0),
            average: Some(0.95),
            label_smoothing: 0.1,
            keep_best: true,
            ..plain
        },
        learning_rate: 0.02,
        epochs: 30,
        patience: Some(4),
        ..PLAIN
    },
    // So long, and decayed so much, that units die and their momentum and weights fall
    // towards 1e-38, below which some vector units of 32-bit Arm round to zero.
    Case {
        name: "mlp-momentum-fades",
        layers: &[dense(8, 16), Layer::Relu, dense(16, 3)],
        seed: 5,
        options: |plain| Options {
            decay: decay(Mode::Uniform, 0.1),
            ..plain
        },
        learning_rate: 0.5,
        batch: 14,
        epochs: 600,
        ..PLAIN
    },
    Case {
        name: "mlp-weights-fade",
        layers: &[dense(8, 16), Layer::Relu, dense(16, 3)],
        seed: 5,
        options: |plain| Options {
            optimizer: Optimizer::PLAIN_SGD,
            decay: decay(Mode::Uniform, 0.1),
            adversary: Some(Adversary::new(0.1)),
            ..plain
        },
        learning_rate: 1.0,
        batch: 14,
        epochs: 900,
        ..PLAIN
    },
    Case {
        name: "residual-sgd-structural-adversarial",
        layers: RESIDUAL,
        seed: 6,
        options: |plain| Options {
            decay: decay(Mode::Structural, 0.005),
            adversary: Some(Adversary::new(0.1)),
            ..plain
        },
        learning_rate: 0.05,
        batch: 8,
        epochs: 15,
        ..PLAIN
    },
    Case {
        name: "residual-adamw-measured-anchored-recomputed-folded",
        layers: RESIDUAL,
        seed: 7,
        options: |plain| Options {
            optimizer: Optimizer::ADAMW,
            decay: decay(Mode::Measured, 0.02),
            anchored: true,
            recompute: true,
            ..plain
        },
        learning_rate: 0.02,
        batch: 8,
        epochs: 15,
        fold: true,
        ..PLAIN
    },
    Case {
        name: "convolutions-sgd-online-recomputed-folded",
        layers: PLAIN_CONVOLUTIONS,
        seed: 8,
        options: |plain| Options {
            decay: decay(Mode::Online, 0.01),
            adversary: Some(Adversary::new(0.1)),
            recompute: true,
            ..plain
        },
        learning_rate: 0.02,
        fold: true,
        ..PLAIN
    },
];
