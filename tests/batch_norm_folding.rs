//! Folding a batch norm into the layer below changes no output: not of the engine, and
//! not against the reference in float64 of the unfolded table.

use fieldtune_core::network::{Layer, Network};
use fieldtune_core::random::Random;
use fieldtune_core::{Error, Kernel, fold, predict};
use fieldtune_tests::layer_tables::tables;
use fieldtune_tests::reference;

const ROWS: usize = 3;

fn batch_norms(network: &Network) -> usize {
    let is_norm = |layer: &&Layer| matches!(layer, Layer::BatchNorm { .. });
    network.layers().iter().filter(is_norm).count()
}

fn logits(network: &Network, parameters: &[f32], features: &[f32]) -> Vec<f32> {
    let kernel = Kernel::best();
    let need = predict::workspace_elements(network, ROWS, kernel);
    let (mut workspace, mut out) = (vec![0.0; need], vec![0.0; ROWS * network.classes()]);
    predict::logits(
        network,
        parameters,
        kernel,
        features,
        &mut workspace,
        &mut out,
    )
    .expect("room");
    out
}

#[test]
fn outputs_stay_and_batch_norms_go() {
    let mut folded_norms = 0;
    for (name, network) in tables() {
        let mut random = Random::new(8);
        let mut parameters: Vec<f32> = (0..network.parameter_elements())
            .map(|_| 0.5 * random.normal())
            .collect();
        let features: Vec<f32> = (0..ROWS * network.inputs())
            .map(|_| random.normal())
            .collect();
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
        let samples = wide(&features);
        let samples = samples.chunks(network.inputs());
        let expected: Vec<f64> = samples
            .flat_map(|sample| reference::logits(&network, &wide(&parameters), sample))
            .collect();
        let folded = fold::batch_norms(&network, &mut parameters).expect("room");
        folded_norms += batch_norms(&network) - batch_norms(&folded);
        let found = logits(&folded, &parameters, &features);
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error < 1e-5 * expected.abs().max(1.0),
                "{name}: {found} {expected}"
            );
        }
    }
    assert_eq!(folded_norms, 6, "the tables hold six that can be folded");
}

#[test]
fn a_tensor_that_is_read_again_is_not_folded_away() {
    let dense = Layer::Dense {
        inputs: 3,
        outputs: 3,
    };
    let norm = Layer::BatchNorm { channels: 3 };
    let network = Network::new(&[dense, norm, Layer::Add { from: 1 }, dense]).expect("sound");
    let mut parameters = vec![0.5; network.parameter_elements()];
    let folded = fold::batch_norms(&network, &mut parameters).expect("room");
    assert_eq!(folded, network);
    let short = fold::batch_norms(&network, &mut parameters[1..]);
    assert!(matches!(short, Err(Error::NoRoom { .. })), "{short:?}");
}
