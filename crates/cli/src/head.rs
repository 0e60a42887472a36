//! `fieldtune head`.

use std::path::Path;

use fieldtune::error::Result;
use fieldtune::head::Head;
use fieldtune::manifest::hexadecimal;
use serde_json::{Value, json};

use crate::print;

/// Says what is in a head file.
///
/// # Errors
/// `BadInput` when it cannot be read.
pub fn show(path: &Path, as_json: bool) -> Result<()> {
    let head = Head::load(path)?;
    if as_json {
        print::document(&document(&head))
    } else {
        print::text(&text(&head))
    }
}

fn layers(head: &Head) -> Vec<String> {
    let layers = head.network.layers().iter();
    layers.map(|layer| format!("{layer:?}")).collect()
}

fn document(head: &Head) -> Value {
    let cv = head
        .trained
        .cross_validation
        .map(|cv| json!({"accuracy": cv.accuracy, "low": cv.low, "high": cv.high, "n": cv.n}));
    json!({
        "labels": head.labels,
        "backbone": {
            "name": head.backbone.name,
            "sha256": hexadecimal(&head.backbone.sha256),
            "cut": head.backbone.cut,
            "features": head.backbone.features,
            "preprocessing": head.backbone.preprocessing,
            "views": head.views,
        },
        "layers": layers(head),
        "parameters": head.parameters.len(),
        "temperature": head.temperature,
        "unknown_below": head.unknown_below,
        "unknown_above": head.unknown.threshold,
        "false_alarms": head.unknown.false_alarms,
        "held_out": head.sets.counts,
        "trained": {
            "program": head.trained.program,
            "recipe": head.trained.recipe,
            "seed": head.trained.seed,
            "samples": head.trained.samples,
            "cv": cv,
        },
    })
}

fn text(head: &Head) -> String {
    let mut out = String::from("class: training samples\n");
    for (label, samples) in head.labels.iter().zip(&head.trained.samples) {
        out += &format!("  {label}: {samples}\n");
    }
    let backbone = &head.backbone;
    out += &format!(
        "backbone: {} ({})\n",
        backbone.name,
        hexadecimal(&backbone.sha256)
    );
    out += &format!(
        "  cut at {}, {} features\n",
        backbone.cut, backbone.features
    );
    out += &format!("  {}\n", backbone.preprocessing);
    out += &format!("layers: {}\n", layers(head).join(", "));
    out += &format!("recipe: {}\n", head.trained.recipe);
    out += &match head.trained.cross_validation {
        Some(cv) => format!(
            "cross-validated: {:.1} % ({:.1} to {:.1} %, {} samples)\n",
            100.0 * cv.accuracy,
            100.0 * cv.low,
            100.0 * cv.high,
            cv.n
        ),
        None => "not cross-validated: too few samples\n".into(),
    };
    out += &format!(
        "made by {}, seed {}\n",
        head.trained.program, head.trained.seed
    );
    out
}
