//! Promise: the operators that replace tract's compute the same numbers, at every cut of
//! every network at hand, on one thread and on several.

use std::path::{Path, PathBuf};

use fieldtune::backbone::Backbone;
use fieldtune::inspect::inspect;
use fieldtune::manifest::{Flags, Manifest};
use fieldtune::model::Model;
use fieldtune_tests::not_tested;

/// Largest difference from tract, as a share of the tensor's largest value.
const TOLERANCE: f32 = 1e-4;

/// Numbers between -1 and 1 without a pattern.
fn noise(elements: usize) -> Vec<f32> {
    let mut state = 12_345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..elements).map(|_| next()).collect()
}

fn features(backbone: &Backbone, input: &[f32]) -> Vec<f32> {
    let mut features = vec![0.0; backbone.features()];
    let mut worker = backbone.worker().expect("a worker");
    // Twice: nothing of a run may be left for the next.
    for _ in 0..2 {
        worker.run(input, &mut features).expect("runs");
    }
    features
}

/// Compares at one cut, and says how much faster nothing is: only numbers count here.
fn compare(manifest: &Manifest, bytes: &[u8], cut: &str) {
    let own = Backbone::load(manifest, bytes, cut).expect("loads");
    let plain = Backbone::load_plain(manifest, bytes, cut).expect("loads");
    assert_eq!(own.shape(), plain.shape(), "{cut}");
    let input = noise(own.input_elements());
    let (found, expected) = (features(&own, &input), features(&plain, &input));
    let largest = expected
        .iter()
        .fold(0.0f32, |largest, it| largest.max(it.abs()));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= TOLERANCE * largest,
            "{cut} at {index}: {found}, tract says {expected}; largest {largest}"
        );
    }
}

#[test]
fn the_embedded_network_gives_what_tract_gives_at_every_cut() {
    let model = Model::embedded().expect("sound");
    let bytes = Model::embedded_bytes();
    let inspection = inspect(bytes, Path::new("embedded"), None).expect("sound");
    assert!(inspection.cuts.len() > 40, "{}", inspection.cuts.len());
    // Every third: a cut takes two loads.
    for cut in inspection.cuts.iter().rev().step_by(3) {
        compare(model.manifest(), bytes, &cut.tensor);
    }
}

#[test]
fn the_embedded_network_gives_the_same_bits_read_in_place() {
    let model = Model::embedded().expect("sound");
    let cuts = model.manifest().cuts.iter().map(String::as_str);
    let others = [
        "swish.Clip",
        "block0.project_conv.Conv",
        "block5.swish_1.Clip:mean",
        "pool",
        "logits",
        "logits,block13.Add:mean,pool",
        "features,feature_map",
    ];
    for cut in cuts.chain(others) {
        let parsed = Backbone::load(model.manifest(), Model::embedded_bytes(), cut);
        let parsed = parsed.expect("loads");
        let lazy = model.cut_at(cut).expect("sound");
        let in_place = lazy.get().expect("loads");
        assert_eq!(in_place.shape(), parsed.shape(), "{cut}");
        let pictures = [noise(parsed.input_elements()), vec![0.25; 3 * 224 * 224]];
        for picture in &pictures {
            let bits = |backbone| -> Vec<u32> {
                let features = features(backbone, picture);
                features.iter().map(|value| value.to_bits()).collect()
            };
            assert!(bits(in_place) == bits(&parsed), "{cut}");
        }
    }
}

#[test]
fn small_networks_give_what_tract_gives_at_every_cut() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    for name in [
        "ds_cnn_keywords",
        "ds_cnn_keywords_int8",
        "mobilenet_v1_025_person",
        "resnet8_cifar10",
        "resnet8_cifar10_int8",
    ] {
        let Ok(bytes) = std::fs::read(folder.join(format!("mlperf-tiny/{name}.onnx"))) else {
            not_tested(&format!("{name}; ../shared/models is absent"));
            continue;
        };
        let inspection = inspect(&bytes, Path::new(name), None).expect("sound");
        let input = inspection.input.as_image().expect("an image input");
        let manifest = Manifest::from_flags(Path::new("m.onnx"), input, Flags::default());
        for cut in &inspection.cuts {
            compare(manifest.as_ref().expect("sound"), &bytes, &cut.tensor);
        }
    }
}
