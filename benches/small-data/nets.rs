//! Networks as text, so that a study's network is part of its settings.
//!
//! `dense 784-512-10` has ReLU between its layers. Any other text is a list of layers,
//! `1x28x28 | conv 8@5 | relu | pool 2 | dense 10`:
//!
//! | words | layer |
//! |---|---|
//! | `CxHxW` | shape of the input, always first |
//! | `conv N@K`, `conv N@K/S`, each with ` pad P` | N kernels of K by K, stride S |
//! | `pool K`, `pool K/S` | maximum over K by K, stride K or S |
//! | `relu`, `mean` (global average), `drop P` (in percent) | |
//! | `dense N` | N outputs |
//! | `add I` | adds the input of layer I, counted from the shape, which is 0 |
//!
//! The shapes between layers follow from one another.

use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};

use fieldtune_benches::Failure;

/// The network that a line of text describes.
///
/// # Errors
/// A line that says what cannot be read.
pub fn parse(text: &str) -> Result<Network, Failure> {
    match text.strip_prefix("dense ") {
        Some(sizes) => perceptron(sizes),
        None => layers(text),
    }
    .map_err(|error| format!("network {text}: {error}").into())
}

fn perceptron(sizes: &str) -> Result<Network, Failure> {
    let sizes: Result<Vec<usize>, _> = sizes.split('-').map(str::parse).collect();
    match sizes?.as_slice() {
        [inputs, hidden @ .., classes] => network(Network::mlp(*inputs, hidden, *classes)),
        _ => Err("no layers".into()),
    }
}

fn layers(text: &str) -> Result<Network, Failure> {
    let mut words = text.split('|').map(str::trim);
    let shape = words.next().ok_or("no shape")?;
    let sizes: Result<Vec<u32>, _> = shape.split('x').map(str::parse).collect();
    let [channels, rows, columns] = sizes?[..] else {
        return Err("the shape needs three sizes".into());
    };
    let mut shape = Shape::map(channels, rows, columns);
    let mut layers = vec![Layer::Input(shape)];
    for word in words {
        let (layer, output) = layer(word, shape)?;
        layers.push(layer);
        shape = output;
    }
    network(Network::new(&layers))
}

/// The layer that `word` means and the shape it makes of `shape`.
fn layer(word: &str, shape: Shape) -> Result<(Layer, Shape), Failure> {
    let (kind, sizes) = word.split_once(' ').unwrap_or((word, ""));
    let slid = |window: Window, channels| match window.output(shape) {
        Some([rows, columns]) => Ok(Shape::map(channels, rows, columns)),
        None => Err(format!("{word} does not fit")),
    };
    Ok(match kind {
        "relu" => (Layer::Relu, shape),
        "mean" => (Layer::GlobalAveragePool, Shape::flat(shape.channels)),
        "drop" => {
            let permille = 10 * sizes.parse::<u16>()?.min(100);
            (Layer::Dropout { permille }, shape)
        }
        "dense" => {
            let (inputs, outputs) = (shape.elements() as u32, sizes.parse()?);
            (Layer::Dense { inputs, outputs }, Shape::flat(outputs))
        }
        "add" => {
            let from = sizes.parse()?;
            (Layer::Add { from }, shape)
        }
        "pool" => {
            let (kernel, stride) = sizes.split_once('/').unwrap_or((sizes, sizes));
            let window = Window::square(kernel.parse()?, stride.parse()?, 0);
            (Layer::MaxPool(window), slid(window, shape.channels)?)
        }
        "conv" => {
            let (sizes, padding) = sizes.split_once(" pad ").unwrap_or((sizes, "0"));
            let (sizes, stride) = sizes.split_once('/').unwrap_or((sizes, "1"));
            let (outputs, kernel) = sizes.split_once('@').ok_or("a kernel needs N@K")?;
            let window = Window::square(kernel.parse()?, stride.parse()?, padding.parse()?);
            let outputs = outputs.parse()?;
            let convolution = Convolution::full(shape.channels, outputs, window);
            (Layer::Convolution(convolution), slid(window, outputs)?)
        }
        _ => return Err(format!("no layer is called {kind}").into()),
    })
}

fn network(result: Result<Network, fieldtune_core::Error>) -> Result<Network, Failure> {
    result.map_err(|error| format!("{error:?}").into())
}
