//! Convolutions along time over a sensor's own values, as a layer table.

use fieldtune_core::network::{Convolution, Layer, Shape, Window};

/// Points that a convolution along time sees; an odd number, so that it has a middle.
const REACH: u8 = 9;

/// The layers of `recipe::Shape::Convolutions` over `features` values; `None` where those are
/// not whole channels, or a size is too large. A window shorter than two points is not halved.
pub(super) fn layers(
    channels: usize,
    widths: &[usize],
    features: usize,
    classes: usize,
) -> Option<Vec<Layer>> {
    let narrow = |size: usize| u32::try_from(size).ok();
    let points = features.checked_div(channels)?;
    if points * channels != features {
        return None;
    }
    let mut shape = Shape::map(narrow(channels)?, 1, narrow(points)?);
    let mut layers = vec![Layer::Input(shape)];
    for (index, width) in widths.iter().enumerate() {
        if index > 0 && shape.columns > 1 {
            let halved = Window {
                kernel: [1, 2],
                stride: [1, 2],
                ..Window::square(1, 1, 0)
            };
            layers.push(Layer::MaxPool(halved));
            shape.columns /= 2;
        }
        let along_time = Window {
            kernel: [1, REACH],
            padding: [0, REACH / 2, 0, REACH / 2],
            ..Window::square(1, 1, 0)
        };
        let outputs = narrow(*width)?;
        layers.push(Layer::Convolution(Convolution::full(
            shape.channels,
            outputs,
            along_time,
        )));
        layers.push(Layer::Relu);
        shape.channels = outputs;
    }
    layers.push(Layer::GlobalAveragePool);
    layers.push(Layer::Dense {
        inputs: shape.channels,
        outputs: narrow(classes)?,
    });
    Some(layers)
}
