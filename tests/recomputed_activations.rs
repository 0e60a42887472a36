//! Activations that are computed again instead of kept cost time, never accuracy: every
//! bit of every step is the same, and the arena is smaller.

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::network::Network;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};
use fieldtune_tests::layer_tables::tables;

const BATCH: usize = 4;

/// The parameters' bits after some steps, and the arena's elements.
fn train(network: &Network, adversary: Option<Adversary>, recompute: bool) -> (Vec<u32>, usize) {
    let options = Options {
        adversary,
        recompute,
        ..Options::new(BATCH, Kernel::best())
    };
    let elements = options.plan(network).expect("plan").elements();
    let mut arena = vec![f32::NAN; elements];
    let mut trainer = Trainer::new(network, options, &mut arena, 11).expect("trainer");
    let mut random = Random::new(5);
    let labels: Vec<u16> = (0..BATCH).map(|i| (i % network.classes()) as u16).collect();
    for _ in 0..12 {
        for value in trainer.inputs_mut() {
            *value = random.normal();
        }
        trainer.step(&labels, 0.01).expect("step");
    }
    let bits = trainer.parameters().iter().map(|v| v.to_bits()).collect();
    (bits, elements)
}

#[test]
fn the_same_bits_in_less_memory() {
    let mut smaller = 0;
    for (name, network) in tables() {
        for adversary in [None, Some(Adversary::new(0.2))] {
            let (kept, room) = train(&network, adversary, false);
            let (again, less) = train(&network, adversary, true);
            assert_eq!(kept, again, "{name}, adversary {adversary:?}");
            let start = if adversary.is_some() { BATCH } else { 0 };
            assert!(
                less <= room + start * network.largest_width(0),
                "{name}: {less} {room}"
            );
            smaller += usize::from(less < room);
        }
    }
    assert!(smaller >= 6, "only {smaller} plans became smaller");
}

#[test]
fn the_plan_states_what_is_computed_twice() {
    for (name, network) in tables() {
        let plan = |recompute| {
            let options = Options {
                recompute,
                ..Options::new(BATCH, Kernel::best())
            };
            options.plan(&network).expect("plan")
        };
        assert_eq!(plan(false).recomputed_multiply_adds(&network), 0);
        let again = plan(true).recomputed_multiply_adds(&network);
        assert!(again < network.multiply_adds(), "{name}: {again}");
        let saved = plan(true).elements() < plan(false).elements();
        assert!(
            !saved || again > 0 || name == "linear",
            "{name}: saved for nothing"
        );
    }
}
