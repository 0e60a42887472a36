//! The plan's arena is exactly what training uses: not one element beyond it is touched,
//! and none of it is idle.

use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_core::{Error, Kernel};
use fieldtune_tests::layer_tables::tables;

const BATCH: usize = 5;
/// No computation makes this number.
const UNTOUCHED: u32 = 0x7fc0_1234;
const GUARD: usize = 64;

fn jobs() -> Vec<Options> {
    let base = Options::new(BATCH, Kernel::lanes());
    let adversary = Some(Adversary::new(0.2));
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
    ]
}

/// Elements of the arena, within the plan, that some steps never wrote.
fn idle(network: &Network, options: Options) -> usize {
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
    let mut random = Random::new(3);
    let labels: Vec<u16> = (0..BATCH).map(|i| (i % network.classes()) as u16).collect();
    // Enough steps that the adversary comes to every layer.
    for _ in 0..60 {
        for value in trainer.inputs_mut() {
            *value = random.normal();
        }
        trainer.step(&labels, 0.001).expect("step");
    }
    let untouched = |v: &&f32| v.to_bits() == UNTOUCHED;
    let (used, guard) = arena.split_at(elements);
    assert_eq!(
        guard.iter().filter(untouched).count(),
        GUARD,
        "wrote beyond"
    );
    used.iter().filter(untouched).count()
}

#[test]
fn nothing_beyond_the_plan_is_touched_and_nothing_in_it_is_idle() {
    for (name, network) in tables() {
        for (job, options) in jobs().into_iter().enumerate() {
            let idle = idle(&network, options);
            assert_eq!(idle, 0, "{name}, job {job}");
        }
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
