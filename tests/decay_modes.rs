//! Layer-wise decay keeps its word: before the first update `|lambda w| / |dw|` is the
//! same in every layer when coefficients are measured or followed online, and closer to
//! it by the closed form than with one lambda for all layers.

use fieldtune_core::Kernel;
use fieldtune_core::decay::{Decay, Mode, norm};
use fieldtune_core::network::Network;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Options, Trainer};

const BATCH: usize = 64;
const CLASSES: usize = 10;

/// The largest over the smallest `|lambda w| / |dw|` of the layers, on He-initialised
/// weights and normal inputs.
fn spread(widths: &[usize], mode: Mode, seed: u64) -> f32 {
    let network = Network::mlp(widths[0], &widths[1..], CLASSES).expect("sound");
    let options = Options {
        decay: Decay { mode, lambda: 0.01 },
        ..Options::new(BATCH, Kernel::best())
    };
    let mut arena = vec![0.0; options.plan(&network).expect("plan").elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, seed).expect("trainer");
    let mut random = Random::new(seed + 100);
    trainer
        .inputs_mut()
        .iter_mut()
        .for_each(|value| *value = random.normal());
    let labels: Vec<u16> = (0..BATCH).map(|row| (row % CLASSES) as u16).collect();
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
    let ratio = |(position, layer): (usize, usize)| {
        let range = network.weights(layer);
        let weight = norm(&trainer.parameters()[range.clone()]);
        trainer.lambdas()[position] * weight / norm(&trainer.gradients()[range])
    };
    let ratios: Vec<f32> = network.weighted().enumerate().map(ratio).collect();
    let largest = ratios.iter().copied().fold(0.0, f32::max);
    largest / ratios.iter().copied().fold(f32::INFINITY, f32::min)
}

/// Nets of 3 to 8 layers, of even and of uneven widths.
const NETS: [&[usize]; 5] = [
    &[784, 512, 256],
    &[784, 1024, 512, 256, 128],
    &[256, 256, 256, 256, 256, 256, 256, 256],
    &[1280, 128, 512, 64],
    &[64, 400, 100, 400, 100],
];

#[test]
fn measured_and_online_are_equal_to_one_percent() {
    for widths in NETS {
        for seed in 0..3 {
            for mode in [Mode::Measured, Mode::Online] {
                let spread = spread(widths, mode, seed);
                assert!(spread < 1.01, "{widths:?} {mode:?}: {spread}");
            }
        }
    }
}

#[test]
fn the_closed_form_is_closer_than_one_lambda_on_uneven_nets() {
    for widths in [NETS[1], NETS[3], NETS[4]] {
        let (uniform, structural) = (
            spread(widths, Mode::Uniform, 0),
            spread(widths, Mode::Structural, 0),
        );
        assert!(
            uniform > 1.5 * structural,
            "{widths:?}: {uniform} {structural}"
        );
    }
}
