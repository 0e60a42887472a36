//! What `predict` says in JSON, and what a backbone is given of a picture, for tests that
//! compute the same in another way.

use std::fs;
use std::path::Path;

use fieldtune::manifest::Manifest;
use fieldtune::preprocess::{View, decode};
use serde_json::Value;

/// The probabilities of one line of `predict --json`, in the order of `labels`, an array.
pub fn probabilities(said: &Value, labels: &Value) -> Vec<f64> {
    let labels = labels.as_array().expect("an array").iter();
    let of = |label: &Value| {
        let label = label.as_str().expect("a text");
        let probability = said["probabilities"][label].as_f64();
        probability.expect("a probability for each label")
    };
    labels.map(of).collect()
}

/// The input tensor of a view of a picture.
pub fn tensor(manifest: &Manifest, path: &Path, view: &str) -> Vec<f32> {
    let image = decode(&fs::read(path).expect("read"), path).expect("a picture");
    let view = View::ALL.into_iter().find(|it| it.name() == view);
    let view = view.expect("a view of this name");
    let mut tensor = vec![0.0; manifest.input.elements()];
    let settings = &manifest.preprocessing;
    settings
        .tensor(&image, &manifest.input, view, &mut tensor)
        .expect("fits");
    tensor
}
