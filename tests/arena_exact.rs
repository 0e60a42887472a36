//! The plan's arena is exactly what training uses: not one element beyond it is touched,
//! and none of it is idle.

use fieldtune_core::adversary::{Adversary, Middle};
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Convolution, Layer, Network, Shape, Window};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Samples, Trainer, fit_stopping_early};
use fieldtune_core::{Error, Kernel};
use fieldtune_tests::layer_tables::tables;

const BATCH: usize = 5;
/// No computation makes this number.
const UNTOUCHED: u32 = 0x7fc0_1234;
const GUARD: usize = 64;

fn jobs(kernel: Kernel) -> Vec<Options> {
    let base = Options::new(BATCH, kernel);
    let adversary = Some(Adversary::new(0.2));
    let at = |layers, recompute| Options {
        adversary: adversary.map(|adversary| Adversary {
            layers,
            ..adversary
        }),
        recompute,
        ..base
    };
    let decay = Decay {
        mode: Mode::Online,
        lambda: 0.01,
    };
    vec![
        Options {
            optimizer: Optimizer::PLAIN_SGD,
            ..base
        },
        Options { adversary, ..base },
        Options {
            adversary,
            recompute: true,
            ..base
        },
        Options {
            optimizer: Optimizer::ADAMW,
            decay,
            anchored: true,
            average: Some(0.9),
            ..base
        },
        at(Middle::Lowest, false),
        at(Middle::Lowest, true),
        at(Middle::AboveLowest, false),
        at(Middle::AboveLowest, true),
        Options {
            optimizer: Optimizer::NESTEROV,
            adversary: Some(Adversary {
                per_sample: true,
                // All samples of a batch seldom come to one layer by chance.
                layers: Middle::Lowest,
                steps: 2,
                ..Adversary::new(0.2)
            }),
            label_smoothing: 0.1,
            clip_norm: Some(1.0),
            ..base
        },
    ]
}

/// The tables of the tests, and one whose lowest trained layer is below all weights.
fn networks() -> Vec<(&'static str, Network)> {
    let layers = [
        Layer::Input(Shape::map(6, 4, 4)),
        Layer::BatchNorm { channels: 6 },
        Layer::GlobalAveragePool,
        Layer::Dense {
            inputs: 6,
            outputs: 3,
        },
    ];
    let network = Network::new(&layers).expect("sound");
    let even = Network::mlp(64, &[32], 16).expect("sound");
    let pointwise = [
        Layer::Input(Shape::map(16, 4, 4)),
        Layer::Convolution(Convolution::full(16, 32, Window::square(1, 1, 0))),
        Layer::Relu6,
        Layer::GlobalAveragePool,
        Layer::Dense {
            inputs: 32,
            outputs: 16,
        },
    ];
    let pointwise = Network::new(&pointwise).expect("sound");
    let mut networks = tables();
    networks.push(("batch norm below the only weights", network));
    networks.push(("widths of whole tiles", even));
    networks.push(("1x1 convolution of whole tiles", pointwise));
    networks
}

/// Elements of the arena, within the plan, that training never wrote.
fn idle(network: &Network, options: Options, train: impl Fn(&mut Trainer<'_>)) -> usize {
    let elements = options.plan(network).expect("plan").elements();
    let mut arena = vec![f32::from_bits(UNTOUCHED); elements + GUARD];
    let short = Trainer::new(network, options, &mut arena[..elements - 1], 1);
    let have = elements - 1;
    assert_eq!(
        short.err(),
        Some(Error::NoRoom {
            need: elements,
            have
        })
    );
    let mut trainer = Trainer::new(network, options, &mut arena, 1).expect("room");
    train(&mut trainer);
    let untouched = |v: &&f32| v.to_bits() == UNTOUCHED;
    let (used, guard) = arena.split_at(elements);
    assert_eq!(
        guard.iter().filter(untouched).count(),
        GUARD,
        "wrote beyond"
    );
    used.iter().filter(untouched).count()
}

fn steps(trainer: &mut Trainer<'_>, network: &Network) {
    let mut random = Random::new(3);
    let labels: Vec<u16> = (0..BATCH).map(|i| (i % network.classes()) as u16).collect();
    // Enough steps that the adversary comes to every layer.
    for _ in 0..60 {
        for value in trainer.inputs_mut() {
            *value = random.normal();
        }
        trainer.step(&labels, 0.001).expect("step");
    }
}

#[test]
fn nothing_beyond_the_plan_is_touched_and_nothing_in_it_is_idle() {
    for (name, network) in networks() {
        for kernel in Kernel::available() {
            for (job, options) in jobs(kernel).into_iter().enumerate() {
                let idle = idle(&network, options, |trainer| steps(trainer, &network));
                assert_eq!(idle, 0, "{name}, job {job}, {kernel:?}");
            }
        }
    }
}

/// A few samples of normal numbers.
struct Normal(u16);

impl Samples for Normal {
    fn len(&self) -> usize {
        2 * BATCH
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        let mut random = Random::new(index as u64);
        features.iter_mut().for_each(|v| *v = random.normal());
        index as u16 % self.0
    }
}

#[test]
fn stopping_early_uses_its_copy_and_no_more() {
    let options = Options {
        keep_best: true,
        average: Some(0.9),
        ..Options::new(BATCH, Kernel::lanes())
    };
    for (name, network) in networks() {
        let samples = Normal(network.classes() as u16);
        let idle = idle(&network, options, |trainer| {
            let (mut order, mut labels) = (vec![0; samples.len()], vec![0; BATCH]);
            let (order, labels) = (&mut order, &mut labels);
            fit_stopping_early(trainer, &samples, &samples, 2, 4, 0.001, order, labels)
                .expect("training");
        });
        assert_eq!(idle, 0, "{name}");
    }
}

#[test]
fn parts_are_what_they_are_called() {
    let network = Network::mlp(100, &[20], 3).expect("sound");
    let options = Options {
        adversary: Some(Adversary::new(0.1)),
        keep_best: true,
        anchored: true,
        ..Options::new(BATCH, Kernel::lanes())
    };
    let plan = options.plan(&network).expect("plan");
    let parameters = network.parameter_elements();
    let tensors = 100 + 20 + 3;
    // Above the features the ReLU works in place; norms and probabilities come along.
    let expected = [
        ("parameters", parameters),
        ("gradients", parameters),
        ("optimizer_state", parameters),
        ("parameter_copies", 2 * parameters),
        ("activations", BATCH * tensors),
        ("adversarial", BATCH * (tensors + 1 + 3)),
        // The gradients by the features and by the logits take turns with the one between.
        ("deltas", BATCH * (100 + 20)),
    ];
    for (part, (name, elements)) in plan.parts().iter().zip(expected) {
        assert_eq!(*part, (name, 4 * elements as u64));
    }
}

#[test]
fn the_largest_tensors_are_named() {
    let network = Network::mlp(1280, &[128], 6).expect("sound");
    let options = Options {
        adversary: Some(Adversary::new(0.1)),
        ..Options::new(16, Kernel::lanes())
    };
    let plan = options.plan(&network).expect("plan");
    let largest = plan.largest_tensors(&network);
    let names: Vec<String> = largest.iter().map(ToString::to_string).collect();
    assert_eq!(names[0], "weights of layer 0");
    assert_eq!(largest[0].bytes, 4 * 1280 * 128);
    assert!(largest.is_sorted_by_key(|tensor| u64::MAX - tensor.bytes));
    assert!(
        names.contains(&"perturbed input of layer 0".to_string()),
        "{names:?}"
    );
    let deep = vec![
        Layer::Dense {
            inputs: 4,
            outputs: 4
        };
        40
    ];
    let deep = Network::new(&deep).expect("sound");
    let plan = options.plan(&deep).expect("plan");
    assert_eq!(plan.largest_tensors(&deep).len(), 5);
}
