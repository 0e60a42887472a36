//! Small heads made without training, for promises about files.

use fieldtune::backbone::Identity;
use fieldtune::data::Fitted;
use fieldtune::head::{Head, Provenance, Sets, Unknown};
use fieldtune::views::ViewSet;
use fieldtune_core::network::{Layer, Network};

/// A sound head of two classes and four features that differs for every `number`.
pub fn small_head(number: u8) -> Head {
    let layers = [Layer::Dense {
        inputs: 4,
        outputs: 2,
    }];
    Head {
        labels: vec!["ants".into(), "bees".into()],
        backbone: Identity {
            name: "test".into(),
            sha256: [7; 32],
            cut: "features".into(),
            features: 4,
            preprocessing: "rgb".into(),
        },
        views: ViewSet::ORIGINAL,
        fitted: Fitted {
            signed_root: false,
            length: 0.0,
            shift: Vec::new(),
            scale: Vec::new(),
        },
        network: Network::new(&layers).expect("a sound network"),
        parameters: (0..10)
            .map(|index| f32::from(number) + index as f32)
            .collect(),
        temperature: 1.0,
        unknown_below: 0.0,
        unknown: Unknown::default(),
        sets: Sets::default(),
        trained: Provenance {
            program: "fieldtune test".into(),
            recipe: format!("number {number}"),
            seed: u64::from(number),
            samples: vec![3, 4],
            cross_validation: None,
        },
    }
}

/// The bytes of [`small_head`].
pub fn small_head_bytes(number: u8) -> Vec<u8> {
    small_head(number).to_bytes().expect("a sound head")
}
