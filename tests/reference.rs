//! A second implementation of the layers, in float64, one sample at a time, by the
//! formulas as they stand in the documentation and with no thought of speed. The
//! engine is held to it.

use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};

/// The logits of one sample. `parameters` are laid out as the engine lays them out.
/// Dropout does nothing.
pub fn logits(network: &Network, parameters: &[f64], input: &[f64]) -> Vec<f64> {
    let mut tensors = vec![input.to_vec()];
    for (index, layer) in network.layers().iter().enumerate() {
        let x = &tensors[index];
        let [w, b, c] = [
            network.weights(index),
            network.biases(index),
            network.constants(index),
        ]
        .map(|range| &parameters[range]);
        let shape = network.shape(index);
        let y = match *layer {
            Layer::Dense { inputs, .. } => {
                let rows = w.chunks(inputs as usize).zip(b);
                rows.map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
                    .collect()
            }
            Layer::Convolution(sizes) => convolution(&sizes, shape, x, w, b),
            Layer::BatchNorm { channels } => {
                let channels = channels as usize;
                let of = |position: usize| position / shape.positions();
                let normalised = x
                    .iter()
                    .enumerate()
                    .map(|(i, x)| w[of(i)] * (x - c[of(i)]) * c[channels + of(i)] + b[of(i)]);
                normalised.collect()
            }
            Layer::GlobalAveragePool => {
                let planes = x.chunks(shape.positions());
                planes
                    .map(|p| p.iter().sum::<f64>() / p.len() as f64)
                    .collect()
            }
            Layer::MaxPool(window) => max_pool(&window, shape, x),
            Layer::Add { from } => {
                let other = &tensors[usize::from(from)];
                x.iter().zip(other).map(|(a, b)| a + b).collect()
            }
            Layer::Branch { from } => tensors[usize::from(from)].clone(),
            Layer::RootLength => {
                let sum: f64 = x.iter().map(|x| x.abs()).sum();
                let factor = (x.len() as f64 / sum).sqrt();
                let root = |x: &f64| factor * x.signum() * x.abs().sqrt();
                x.iter().map(root).collect()
            }
            other => x.iter().map(|x| activation(other, *x)).collect(),
        };
        tensors.push(y);
    }
    tensors.pop().unwrap_or_default()
}

/// Mean cross-entropy of a batch `[B, F]`.
pub fn loss(network: &Network, parameters: &[f64], inputs: &[f64], labels: &[u16]) -> f64 {
    let samples = inputs.chunks(network.inputs()).zip(labels);
    let losses = samples.map(|(sample, label)| {
        let logits = logits(network, parameters, sample);
        let sum: f64 = logits.iter().map(|v| v.exp()).sum();
        sum.ln() - logits[usize::from(*label)]
    });
    losses.sum::<f64>() / labels.len() as f64
}

fn activation(layer: Layer, x: f64) -> f64 {
    match layer {
        Layer::Relu => x.max(0.0),
        Layer::Relu6 => x.clamp(0.0, 6.0),
        Layer::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Layer::Silu => x / (1.0 + (-x).exp()),
        _ => x,
    }
}

/// Calls with every output position and the input positions its window covers, those in
/// the padding left out: `(output, tap, input)`.
fn each(window: &Window, shape: Shape, mut run: impl FnMut(usize, usize, usize)) {
    let [rows, columns] = window.output(shape).expect("the table was checked");
    let [height, width] = window.kernel.map(usize::from);
    let sizes = [shape.rows, shape.columns];
    let at = |axis: usize, out: u32, tap: usize| {
        let (stride, gap) = (window.stride[axis], window.dilation[axis]);
        let [stride, gap, padding] = [stride, gap, window.padding[axis]].map(usize::from);
        let place = (out as usize * stride + tap * gap).checked_sub(padding)?;
        (place < sizes[axis] as usize).then_some(place)
    };
    for row in 0..rows {
        for column in 0..columns {
            for (down, right) in (0..height).flat_map(|d| (0..width).map(move |r| (d, r))) {
                if let (Some(y), Some(x)) = (at(0, row, down), at(1, column, right)) {
                    let output = (row * columns + column) as usize;
                    run(output, down * width + right, y * shape.columns as usize + x);
                }
            }
        }
    }
}

fn convolution(sizes: &Convolution, shape: Shape, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let [rows, columns] = sizes.window.output(shape).expect("the table was checked");
    let positions = (rows * columns) as usize;
    let inputs = (sizes.inputs / sizes.groups) as usize;
    let outputs = (sizes.outputs / sizes.groups) as usize;
    let mut y = Vec::new();
    for (channel, bias) in b.iter().enumerate() {
        let mut plane = vec![*bias; positions];
        for input in 0..inputs {
            let source = (channel / outputs * inputs + input) * shape.positions();
            let kernel = &w[(channel * inputs + input) * sizes.window.positions()..];
            each(&sizes.window, shape, |output, tap, position| {
                plane[output] += kernel[tap] * x[source + position];
            });
        }
        y.extend(plane);
    }
    y
}

fn max_pool(window: &Window, shape: Shape, x: &[f64]) -> Vec<f64> {
    let [rows, columns] = window.output(shape).expect("the table was checked");
    let mut y = Vec::new();
    for x in x.chunks(shape.positions()) {
        let mut plane = vec![f64::NEG_INFINITY; (rows * columns) as usize];
        each(window, shape, |output, _, position| {
            plane[output] = plane[output].max(x[position]);
        });
        y.extend(plane);
    }
    y
}
