//! Layer tables that, together, hold every kind of layer with the sizes that are easy to
//! get wrong.

use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};

fn convolution(inputs: u32, outputs: u32, window: Window, groups: u32) -> Layer {
    Layer::Convolution(Convolution {
        inputs,
        outputs,
        window,
        groups,
    })
}

fn dense(inputs: u32, outputs: u32) -> Layer {
    Layer::Dense { inputs, outputs }
}

/// Name and network; each has 3 or 4 classes.
pub fn tables() -> Vec<(&'static str, Network)> {
    let square = Window::square;
    let uneven = Window {
        kernel: [2, 3],
        stride: [1, 2],
        padding: [0, 1, 1, 2],
        dilation: [1; 2],
    };
    let gaps = |window: Window, dilation| Window { dilation, ..window };
    let tables: [(&str, Vec<Layer>); 13] = [
        ("linear", vec![dense(9, 3)]),
        (
            "dense with every activation",
            vec![
                dense(7, 9),
                Layer::Relu,
                dense(9, 8),
                Layer::HardSwish,
                dense(8, 9),
                Layer::Silu,
                dense(9, 6),
                Layer::Relu6,
                dense(6, 4),
            ],
        ),
        (
            "LeNet",
            vec![
                Layer::Input(Shape::map(1, 12, 12)),
                convolution(1, 4, square(3, 1, 0), 1),
                Layer::MaxPool(square(2, 2, 0)),
                Layer::Relu,
                convolution(4, 6, square(3, 1, 0), 1),
                Layer::Relu,
                Layer::MaxPool(square(2, 1, 0)),
                Layer::Flatten,
                dense(24, 5),
                Layer::Relu,
                dense(5, 3),
            ],
        ),
        (
            "all convolutional",
            vec![
                Layer::Input(Shape::map(2, 9, 8)),
                convolution(2, 5, square(3, 2, 1), 1),
                Layer::Silu,
                convolution(5, 5, square(1, 2, 0), 1),
                Layer::HardSwish,
                convolution(5, 4, square(1, 1, 0), 1),
                Layer::GlobalAveragePool,
            ],
        ),
        (
            "uneven windows, strides and padding, groups",
            vec![
                Layer::Input(Shape::map(4, 7, 10)),
                convolution(4, 6, uneven, 2),
                Layer::Relu,
                Layer::MaxPool(uneven),
                convolution(6, 12, square(3, 1, 1), 6),
                Layer::Relu,
                convolution(12, 4, square(3, 2, 2), 4),
                Layer::GlobalAveragePool,
            ],
        ),
        (
            "depthwise separable with batch norm",
            vec![
                Layer::Input(Shape::map(3, 8, 8)),
                convolution(3, 5, square(1, 1, 0), 1),
                Layer::BatchNorm { channels: 5 },
                Layer::Relu6,
                convolution(5, 5, square(3, 2, 1), 5),
                Layer::BatchNorm { channels: 5 },
                Layer::Relu6,
                convolution(5, 5, square(5, 1, 2), 5),
                Layer::Flatten,
                dense(80, 3),
            ],
        ),
        (
            "residual blocks",
            vec![
                Layer::Input(Shape::map(3, 6, 6)),
                convolution(3, 4, square(3, 1, 1), 1),
                Layer::Relu,
                convolution(4, 4, square(3, 1, 1), 1), // 3
                Layer::BatchNorm { channels: 4 },
                Layer::Relu,
                convolution(4, 4, square(1, 1, 0), 1),
                Layer::Add { from: 3 },
                Layer::Relu6,
                convolution(4, 4, square(3, 1, 1), 4), // 9
                Layer::Add { from: 9 },
                Layer::GlobalAveragePool,
                Layer::RootLength,
                dense(4, 3),
            ],
        ),
        (
            "additions inside additions",
            vec![
                dense(6, 5),
                Layer::Relu,
                dense(5, 5), // 2
                Layer::Add { from: 2 },
                Layer::Silu, // 4
                dense(5, 5),
                Layer::Add { from: 4 },
                Layer::Add { from: 2 },
                dense(5, 4),
            ],
        ),
        (
            "addition to the input",
            vec![
                Layer::Input(Shape::map(2, 3, 3)),
                convolution(2, 2, square(3, 1, 1), 1),
                Layer::Add { from: 0 },
                Layer::Relu,
                dense(18, 3),
            ],
        ),
        (
            "addition of an input that a ReLU follows",
            vec![
                Layer::Input(Shape::map(2, 3, 3)),
                Layer::Relu,
                convolution(2, 2, square(3, 1, 1), 1),
                Layer::Add { from: 0 },
                dense(18, 3),
            ],
        ),
        (
            "windows with gaps",
            vec![
                Layer::Input(Shape::map(4, 11, 9)),
                convolution(4, 6, gaps(square(3, 1, 2), [2, 2]), 2),
                Layer::Relu,
                Layer::MaxPool(gaps(square(2, 1, 1), [3, 2])),
                convolution(6, 6, gaps(square(3, 2, 3), [2, 3]), 6),
                Layer::HardSwish,
                convolution(6, 5, gaps(uneven, [3, 2]), 1),
                Layer::GlobalAveragePool,
                dense(5, 3),
            ],
        ),
        (
            "shortcuts with a convolution of their own",
            vec![
                Layer::Input(Shape::map(3, 12, 11)),
                convolution(3, 4, square(3, 2, 1), 1), // 1
                Layer::BatchNorm { channels: 4 },
                Layer::Relu,
                convolution(4, 4, square(3, 1, 1), 1),
                Layer::BatchNorm { channels: 4 },
                Layer::Branch { from: 1 }, // 6
                convolution(3, 4, square(1, 2, 0), 1),
                Layer::BatchNorm { channels: 4 },
                Layer::Add { from: 6 },
                Layer::Relu,
                convolution(4, 6, square(3, 1, 1), 2), // 11
                Layer::Silu,
                Layer::Branch { from: 11 }, // 13
                convolution(4, 6, square(1, 1, 0), 1),
                Layer::Add { from: 13 },
                Layer::Add { from: 12 },
                Layer::GlobalAveragePool,
                dense(6, 3),
            ],
        ),
        (
            "branches inside branches",
            vec![
                dense(6, 5),
                Layer::Relu,
                dense(5, 4), // 2
                Layer::Silu,
                Layer::Branch { from: 2 }, // 4
                dense(5, 4),
                Layer::Branch { from: 5 }, // 6
                Layer::Relu,
                dense(5, 4),
                Layer::Add { from: 6 },
                Layer::Relu,
                Layer::Add { from: 4 },
                dense(4, 3),
            ],
        ),
    ];
    let build = |(name, layers): (&'static str, Vec<Layer>)| {
        (
            name,
            Network::new(&layers).unwrap_or_else(|e| panic!("{name}: {e}")),
        )
    };
    tables.into_iter().map(build).collect()
}
