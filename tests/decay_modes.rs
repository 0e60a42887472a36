//! Layer-wise decay keeps its word: before the first update `|lambda w| / |dw|` is equal
//! over the layers to 1 % when coefficients are measured or followed online, and to a
//! factor of 3 by the closed form, for dense and convolutional nets of 3 to 8 weighted
//! layers, where one lambda for all layers spreads by a factor of 10 and more.

use fieldtune_core::Kernel;
use fieldtune_core::decay::{self, Decay, Mode, norm};
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::predict;
use fieldtune_core::random::Random;
use fieldtune_core::structural::{self, Inputs};
use fieldtune_core::train::{Options, Trainer};

const BATCH: usize = 64;
const CLASSES: usize = 10;
const LAST: f32 = 0.01;
const SEEDS: u64 = 3;

/// What the samples are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Data {
    /// Independent, standard normal.
    Normal,
    /// The same after a ReLU, of mean square 1: what the features of a backbone are like.
    Rectified,
}

impl Data {
    fn draw(self, random: &mut Random) -> f32 {
        match self {
            Self::Normal => random.normal(),
            Self::Rectified => random.normal().max(0.0) * 2.0f32.sqrt(),
        }
    }

    fn statistics(self) -> Inputs {
        let correlation = match self {
            Self::Normal => 0.0,
            Self::Rectified => 1.0 / std::f32::consts::PI,
        };
        Inputs {
            same_sample: correlation,
            same_position: correlation,
            neither: correlation,
            ..Inputs::STANDARD_NORMAL
        }
    }
}

struct Net {
    name: &'static str,
    network: Network,
    /// Whether one lambda for all layers spreads by a factor of 10 and more.
    uneven: bool,
}

fn mlp(name: &'static str, uneven: bool, widths: &[usize]) -> Net {
    let network = Network::mlp(widths[0], &widths[1..], CLASSES).expect("sound");
    Net {
        name,
        network,
        uneven,
    }
}

fn dense_nets() -> Vec<Net> {
    vec![
        mlp("3 dense layers", false, &[784, 512, 256]),
        mlp(
            "5 narrowing dense layers",
            false,
            &[784, 1024, 512, 256, 128],
        ),
        mlp("8 even dense layers", false, &[256; 8]),
        mlp("a bottleneck", true, &[784, 32, 512, 32]),
        mlp(
            "wide and narrow in turn",
            true,
            &[784, 64, 1024, 64, 1024, 64],
        ),
        mlp("4 uneven dense layers", true, &[1280, 128, 2048, 64]),
        mlp(
            "7 uneven dense layers",
            true,
            &[64, 400, 100, 400, 100, 400, 100],
        ),
    ]
}

fn full(inputs: u32, outputs: u32, size: u8, stride: u8) -> Layer {
    let window = Window::square(size, stride, size / 2);
    Layer::Convolution(Convolution::full(inputs, outputs, window))
}

fn depthwise(channels: u32, stride: u8) -> Layer {
    let window = Window::square(3, stride, 1);
    Layer::Convolution(Convolution::depthwise(channels, window))
}

fn dense(inputs: u32, outputs: u32) -> Layer {
    Layer::Dense { inputs, outputs }
}

fn table(name: &'static str, uneven: bool, parts: &[&[Layer]]) -> Net {
    let input = [Layer::Input(Shape::map(1, 28, 28))];
    let layers = [&input[..], &parts.concat()].concat();
    Net {
        name,
        network: Network::new(&layers).expect("sound"),
        uneven,
    }
}

/// Each layer with `activation` after it, if it is a convolution.
fn with(activation: &[Layer], layers: &[Layer]) -> Vec<Layer> {
    let mut all = Vec::new();
    for layer in layers {
        all.push(*layer);
        if let Layer::Convolution(convolution) = layer {
            let channels = convolution.outputs;
            all.extend(activation.iter().map(|layer| match layer {
                Layer::BatchNorm { .. } => Layer::BatchNorm { channels },
                other => *other,
            }));
        }
    }
    all
}

const POOL: Layer = Layer::MaxPool(Window::square(2, 2, 0));
const NORM: Layer = Layer::BatchNorm { channels: 0 };

/// The mean over all positions, then a dense layer.
fn average(channels: u32) -> [Layer; 2] {
    [Layer::GlobalAveragePool, dense(channels, CLASSES as u32)]
}

const RELU: [Layer; 1] = [Layer::Relu];

fn convolutional_nets() -> Vec<Net> {
    let mut nets = Vec::from(nets_with_pools());
    nets.extend(nets_without_pools());
    nets.extend(eight_layer_nets());
    nets.extend(separable_nets());
    nets.extend([
        residual("residual", &[], Layer::Relu),
        residual("residual, batch norm", &[NORM], Layer::Relu),
        residual("residual, SiLU", &[], Layer::Silu),
        inverted("inverted residual", &[]),
        inverted("inverted residual, batch norm", &[NORM]),
    ]);
    nets
}

fn nets_with_pools() -> [Net; 3] {
    let valid = |inputs, outputs| {
        Layer::Convolution(Convolution::full(inputs, outputs, Window::square(5, 1, 0)))
    };
    let lenet = [valid(1, 20), POOL, valid(20, 50), POOL];
    let top = [dense(800, 500), Layer::Relu, dense(500, CLASSES as u32)];
    let pools = [
        full(1, 32, 3, 1),
        full(32, 32, 3, 1),
        POOL,
        full(32, 64, 3, 1),
        full(64, 64, 3, 1),
        POOL,
        full(64, 128, 3, 1),
    ];
    [
        table("LeNet without ReLU below", true, &[&lenet, &top]),
        table("LeNet", true, &[&with(&RELU, &lenet), &top]),
        table(
            "pools and average",
            true,
            &[&with(&RELU, &pools), &average(128)],
        ),
    ]
}

fn nets_without_pools() -> [Net; 3] {
    let grouped = |inputs, outputs, groups| {
        Layer::Convolution(Convolution {
            groups,
            ..Convolution::full(inputs, outputs, Window::square(3, 2, 1))
        })
    };
    let three = [full(1, 8, 5, 2), full(8, 64, 3, 2)];
    let groups = [
        full(1, 32, 3, 1),
        grouped(32, 64, 4),
        grouped(64, 64, 8),
        full(64, 64, 1, 1),
    ];
    let all_convolutional = [
        full(1, 32, 3, 1),
        full(32, 32, 3, 2),
        full(32, 64, 3, 1),
        full(64, 64, 3, 2),
        full(64, 64, 3, 1),
        full(64, 64, 1, 1),
        full(64, CLASSES as u32, 1, 1),
    ];
    let mean = [Layer::GlobalAveragePool];
    [
        table("3 layers", false, &[&with(&RELU, &three), &average(64)]),
        table("groups", true, &[&with(&RELU, &groups), &average(64)]),
        table(
            "all convolutional",
            true,
            &[&with(&RELU, &all_convolutional), &mean],
        ),
    ]
}

fn eight_layer_nets() -> [Net; 4] {
    let eight = [
        full(1, 16, 3, 1),
        full(16, 32, 3, 2),
        full(32, 32, 3, 1),
        full(32, 64, 3, 2),
        full(64, 64, 3, 1),
        full(64, 64, 3, 2),
        full(64, 64, 3, 1),
    ];
    let flat = [Layer::Flatten, dense(1024, CLASSES as u32)];
    let net = |name, activation: &[Layer], top: &[Layer]| {
        table(name, false, &[&with(activation, &eight), top])
    };
    [
        net("8 layers, average", &RELU, &average(64)),
        net("8 layers, flattened", &RELU, &flat),
        net("8 layers, SiLU", &[Layer::Silu], &average(64)),
        net("8 layers, batch norm", &[NORM, Layer::Relu], &average(64)),
    ]
}

fn separable_nets() -> [Net; 3] {
    let separable = [
        full(1, 64, 3, 2),
        depthwise(64, 1),
        full(64, 128, 1, 1),
        depthwise(128, 2),
        full(128, 256, 1, 1),
    ];
    let net = |name, activation: &[Layer]| {
        table(name, true, &[&with(activation, &separable), &average(256)])
    };
    [
        net("separable, ReLU6", &[Layer::Relu6]),
        net("separable, hard-swish", &[Layer::HardSwish]),
        net("separable, batch norm", &[NORM, Layer::Relu6]),
    ]
}

/// Three blocks of two convolutions each, an activation after each addition.
fn residual(name: &'static str, norm: &[Layer], activation: Layer) -> Net {
    let both = [norm, &[activation]].concat();
    let mut layers = with(&both, &[full(1, 32, 3, 2)]);
    for _ in 0..3 {
        // The input is one more layer.
        let from = layers.len() as u8 + 1;
        layers.extend(with(&both, &[full(32, 32, 3, 1)]));
        layers.extend(with(norm, &[full(32, 32, 3, 1)]));
        layers.extend([Layer::Add { from }, activation]);
    }
    layers.extend([Layer::GlobalAveragePool, dense(32, CLASSES as u32)]);
    let uneven = norm.is_empty() && activation == Layer::Relu;
    table(name, uneven, &[&layers])
}

/// Two blocks as in MobileNet v2: widen, depthwise, narrow without an activation, add.
fn inverted(name: &'static str, norm: &[Layer]) -> Net {
    let both = [norm, &[Layer::Relu6]].concat();
    let mut layers = with(norm, &[full(1, 24, 3, 2)]);
    for _ in 0..2 {
        let from = layers.len() as u8 + 1;
        layers.extend(with(&both, &[full(24, 96, 1, 1), depthwise(96, 1)]));
        layers.extend(with(norm, &[full(96, 24, 1, 1)]));
        layers.push(Layer::Add { from });
    }
    layers.extend([Layer::GlobalAveragePool, dense(24, CLASSES as u32)]);
    table(name, norm.is_empty(), &[&layers])
}

/// Sets the frozen statistics of each batch norm to those of `samples`.
fn freeze_statistics(network: &Network, parameters: &mut [f32], samples: &[f32]) {
    let rows = samples.len() / network.inputs();
    for (index, layer) in network.layers().iter().enumerate() {
        let Layer::BatchNorm { channels } = layer else {
            continue;
        };
        let below = [&network.layers()[..index], &[Layer::Flatten]].concat();
        let below = Network::new(&below).expect("sound");
        let workspace = predict::workspace_elements(&below, rows, Kernel::best());
        let mut values = vec![0.0; rows * below.classes()];
        let own = &parameters[..below.parameter_elements()];
        predict::logits(
            &below,
            own,
            Kernel::best(),
            samples,
            &mut vec![0.0; workspace],
            &mut values,
        )
        .expect("the layers below run");
        let positions = network.shape(index).positions();
        let constants = network.constants(index);
        for channel in 0..*channels as usize {
            let planes = values
                .chunks_exact(positions)
                .skip(channel)
                .step_by(*channels as usize);
            let all: Vec<f32> = planes.flatten().copied().collect();
            let count = all.len() as f32;
            let mean = all.iter().sum::<f32>() / count;
            let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
            parameters[constants.start + channel] = mean;
            parameters[constants.start + *channels as usize + channel] =
                1.0 / (variance + 1e-5).sqrt();
        }
    }
}

/// One draw of weights, inputs and labels.
struct Draw {
    parameters: Vec<f32>,
    /// The coefficients that the trainer took.
    lambdas: Vec<f32>,
    /// `|dw| / |w|` of every weighted layer.
    ratios: Vec<f32>,
}

fn draw(network: &Network, data: Data, mode: Mode, seed: u64) -> Draw {
    let options = Options {
        decay: Decay { mode, lambda: LAST },
        ..Options::new(BATCH, Kernel::best())
    };
    let mut arena = vec![0.0; options.plan(network).expect("plan").elements()];
    let mut trainer = Trainer::new(network, options, &mut arena, seed).expect("trainer");
    let mut random = Random::new(seed + 100);
    let samples: Vec<f32> = trainer
        .inputs_mut()
        .iter()
        .map(|_| data.draw(&mut random))
        .collect();
    let labels: Vec<u16> = (0..BATCH)
        .map(|_| random.below(CLASSES as u32) as u16)
        .collect();
    freeze_statistics(network, trainer.parameters_mut(), &samples);
    trainer.inputs_mut().copy_from_slice(&samples);
    trainer.prepare_decay();
    if mode == Mode::Online {
        // A step that moves nothing, so that the weights are still those at the start.
        trainer.step(&labels, 0.0).expect("step");
    } else {
        trainer.clear_gradients().expect("plan");
        trainer.clean_gradients(&labels).expect("pass");
    }
    if mode == Mode::Measured {
        trainer.measure_decay();
    }
    let ratio = |layer| {
        let range = network.weights(layer);
        norm(&trainer.gradients()[range.clone()]) / norm(&trainer.parameters()[range])
    };
    Draw {
        ratios: network.weighted().map(ratio).collect(),
        parameters: trainer.parameters().to_vec(),
        lambdas: trainer.lambdas().to_vec(),
    }
}

/// The largest over the smallest `|lambda w| / |dw|` of the layers.
fn spread(lambdas: &[f32], ratios: &[f32]) -> f32 {
    let quotients = lambdas
        .iter()
        .zip(ratios)
        .map(|(lambda, ratio)| lambda / ratio);
    let largest = quotients.clone().fold(0.0, f32::max);
    largest / quotients.fold(f32::INFINITY, f32::min)
}

/// The coefficients by the closed form, the inputs' statistics being known.
fn structural(network: &Network, start: &Draw, inputs: &Inputs) -> Vec<f32> {
    let mut lambdas = vec![0.0; network.depth()];
    structural::coefficients(
        network,
        &start.parameters,
        BATCH,
        inputs,
        LAST,
        &mut lambdas,
    );
    lambdas
}

#[test]
fn measured_and_online_are_equal_to_one_percent() {
    for net in dense_nets().into_iter().chain(convolutional_nets()) {
        for mode in [Mode::Measured, Mode::Online] {
            let start = draw(&net.network, Data::Rectified, mode, 0);
            let spread = spread(&start.lambdas, &start.ratios);
            assert!(spread < 1.01, "{} {mode:?}: {spread}", net.name);
        }
    }
}

/// Checks the closed form on all draws of a net.
fn check_structural(net: &Net) {
    for data in [Data::Normal, Data::Rectified] {
        for seed in 0..SEEDS {
            let start = draw(&net.network, data, Mode::Structural, seed);
            let what = format!("{} {data:?} {seed}", net.name);
            let known = structural(&net.network, &start, &data.statistics());
            let known = spread(&known, &start.ratios);
            assert!(known < 3.0, "{what}: {known} with known inputs");
            if net.network != inverted("", &[NORM]).network {
                // There all that samples have in common is taken away, so that what is
                // left to the top layer depends on little-known properties of the inputs.
                let usual = spread(&start.lambdas, &start.ratios);
                assert!(usual < 3.0, "{what}: {usual} with usual inputs");
            }
            let uniform = spread(&vec![1.0; start.ratios.len()], &start.ratios);
            if net.uneven && data == Data::Normal {
                assert!(uniform > 10.0, "{what}: one lambda spreads by {uniform}");
            }
        }
    }
}

#[test]
fn the_closed_form_is_within_a_factor_of_three_on_dense_nets() {
    dense_nets().iter().for_each(check_structural);
}

#[test]
fn the_closed_form_is_within_a_factor_of_three_on_convolutional_nets() {
    convolutional_nets().iter().for_each(check_structural);
}

/// Why the trainer does not take the published form: it grows wrong towards the input.
#[test]
fn the_published_form_is_further_off_on_deep_nets() {
    let widths = [256; 8];
    let network = Network::mlp(widths[0], &widths[1..], CLASSES).expect("sound");
    let all = [&widths[..], &[CLASSES]].concat();
    let mut worst = [0.0f32; 2];
    for seed in 0..SEEDS {
        let start = draw(&network, Data::Rectified, Mode::Structural, seed);
        let mut published = vec![0.0; network.depth()];
        decay::structural(&all, LAST, &mut published);
        for (worst, lambdas) in worst.iter_mut().zip([&published, &start.lambdas]) {
            *worst = worst.max(spread(lambdas, &start.ratios));
        }
    }
    let [published, new] = worst;
    assert!(published > 1.2 * new, "{published} {new}");
}
