//! Networks of random sizes, each built around one kind of layer.

use fieldtune_benches::Failure;
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::random::Random;

const CLASSES: u32 = 5;

/// Draws the sizes of one network.
type Build = fn(&mut Random) -> Vec<Layer>;

/// `shapes` networks of each kind, with their names.
pub fn all(shapes: u64) -> Result<Vec<(String, Vec<Layer>)>, Failure> {
    let kinds: [(&str, Build); 7] = [
        ("dense", dense),
        ("convolution", convolution),
        ("pointwise", pointwise),
        ("depthwise", depthwise),
        ("grouped", grouped),
        ("batch norm, max pool, activations", activations),
        ("residual", residual),
    ];
    let mut found = Vec::new();
    for (kind, build) in kinds {
        for seed in 0..shapes {
            let layers = finished(build(&mut Random::new(seed)))?;
            let network = Network::new(&layers)?;
            let shape = network.shape(0);
            let size = format!("{}x{}x{}", shape.channels, shape.rows, shape.columns);
            let cost = network.multiply_adds() as f64 / 1e6;
            found.push((format!("{kind} on {size}, {cost:.2} M"), layers));
        }
    }
    Ok(found)
}

/// Adds a classifier on what the layers leave.
fn finished(mut layers: Vec<Layer>) -> Result<Vec<Layer>, Failure> {
    if !matches!(layers.last(), Some(Layer::Dense { .. })) {
        layers.push(Layer::GlobalAveragePool);
    }
    let width = Network::new(&layers)?.classes() as u32;
    layers.push(Layer::Dense {
        inputs: width,
        outputs: CLASSES,
    });
    Ok(layers)
}

fn between(random: &mut Random, low: u32, high: u32) -> u32 {
    low + random.below(high - low + 1)
}

fn map(random: &mut Random, channels: u32) -> Layer {
    let size = |random: &mut Random| between(random, 7, 28);
    Layer::Input(Shape::map(channels, size(random), size(random)))
}

/// A window that fits any map of [`map`].
fn window(random: &mut Random) -> Window {
    let kernel = [0, 1].map(|_| between(random, 1, 5) as u8);
    let padding = |random: &mut Random, axis: usize| random.below(u32::from(kernel[axis])) as u8;
    Window {
        kernel,
        stride: [0, 1].map(|_| between(random, 1, 2) as u8),
        padding: [0, 1, 0, 1].map(|axis| padding(random, axis)),
        dilation: [1; 2],
    }
}

fn dense(random: &mut Random) -> Vec<Layer> {
    let [inputs, outputs] = [0, 1].map(|_| between(random, 10, 1500));
    vec![Layer::Dense { inputs, outputs }]
}

fn convolution(random: &mut Random) -> Vec<Layer> {
    let [inputs, outputs] = [0, 1].map(|_| between(random, 1, 48));
    let window = window(random);
    let sizes = Convolution::full(inputs, outputs, window);
    vec![map(random, inputs), Layer::Convolution(sizes)]
}

fn pointwise(random: &mut Random) -> Vec<Layer> {
    let [inputs, outputs] = [0, 1].map(|_| between(random, 16, 320));
    let sizes = Convolution::full(inputs, outputs, Window::square(1, 1, 0));
    vec![map(random, inputs), Layer::Convolution(sizes)]
}

fn depthwise(random: &mut Random) -> Vec<Layer> {
    let channels = between(random, 16, 200);
    let size = 3 + 2 * random.below(2) as u8;
    let window = Window::square(size, 1 + random.below(2) as u8, size / 2);
    let sizes = Convolution::depthwise(channels, window);
    vec![map(random, channels), Layer::Convolution(sizes)]
}

fn grouped(random: &mut Random) -> Vec<Layer> {
    let groups = between(random, 2, 8);
    let [inputs, outputs] = [0, 1].map(|_| groups * between(random, 1, 12));
    let sizes = Convolution {
        inputs,
        outputs,
        window: window(random),
        groups,
    };
    vec![map(random, inputs), Layer::Convolution(sizes)]
}

fn activations(random: &mut Random) -> Vec<Layer> {
    let channels = between(random, 4, 64);
    let sizes = Convolution::full(channels, channels, Window::square(1, 1, 0));
    let norm = Layer::BatchNorm { channels };
    let conv = Layer::Convolution(sizes);
    vec![
        map(random, channels),
        conv,
        norm,
        Layer::HardSwish,
        Layer::MaxPool(Window::square(3, 2, 1)),
        conv,
        norm,
        Layer::Silu,
        conv,
        Layer::Relu6,
    ]
}

fn residual(random: &mut Random) -> Vec<Layer> {
    let channels = between(random, 4, 64);
    let sizes = Convolution::full(channels, channels, Window::square(3, 1, 1));
    let conv = Layer::Convolution(sizes);
    vec![
        map(random, channels),
        conv,
        Layer::Relu,
        conv,
        Layer::Relu,
        conv,
        Layer::Add { from: 3 },
        Layer::Relu,
    ]
}

/// The reference's name of a layer without sizes.
pub fn name(layer: &Layer) -> &'static str {
    match layer {
        Layer::GlobalAveragePool => "global average pool",
        Layer::Relu => "relu",
        Layer::Relu6 => "relu6",
        Layer::HardSwish => "hard-swish",
        Layer::Silu => "silu",
        _ => "input",
    }
}
