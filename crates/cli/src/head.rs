//! `fieldtune head`.

use std::path::Path;

use fieldtune::error::{Result, escaped};
use fieldtune::head::{Head, MAX_HEAD_BYTES};
use fieldtune::manifest::hexadecimal;
use fieldtune::signature::{self, SecretKey, Signed, Trust};
use fieldtune::store::{self, Lock, Store};
use fieldtune::versions::{Opened, Version, Versions};
use serde_json::{Value, json};

use crate::args::{KeygenArgs, RollbackArgs, SignArgs, VerifyArgs};
use crate::print;

/// Says what is in a head file.
///
/// # Errors
/// `BadInput` when it cannot be read.
pub fn show(path: &Path, as_json: bool) -> Result<()> {
    let opened = opened(path, None)?;
    let signed = signature::signed(&opened.bytes).ok();
    if as_json {
        let mut document = document(&opened.head);
        document["signature"] = json!(signed.as_ref().map(signature_json));
        return print::document(&document);
    }
    let signed = match &signed {
        Some(signed) => format!(
            "signed as {} with key {}, signature {}; `head verify` says whether to trust it",
            signed.name,
            signed.key_name(),
            signed.counter
        ),
        None => "not signed".into(),
    };
    print::text(&(text(&opened.head) + &print::line(&signed)))
}

/// The newest sound head of `path` that is signed with the key in `trust`, if given. Notes
/// when that is not the newest.
///
/// # Errors
/// As [`Versions::open`].
pub fn open(path: &Path, trust: Option<&Path>) -> Result<Head> {
    opened(path, trust).map(|opened| opened.head)
}

fn opened(path: &Path, trust: Option<&Path>) -> Result<Opened> {
    let trust = trust.map(Trust::load).transpose()?;
    let opened = Versions::of(&Store::default(), path).open(trust.as_ref())?;
    if let Some(note) = &opened.returned {
        print::note(note);
    }
    Ok(opened)
}

fn signature_json(signed: &Signed) -> Value {
    json!({
        "name": signed.name,
        "counter": signed.counter,
        "key": hexadecimal(&signed.key),
    })
}

/// Makes a key pair.
///
/// # Errors
/// `Failed` when the files are there already or cannot be written.
pub fn keygen(args: &KeygenArgs) -> Result<()> {
    let (secret, public) = signature::generate(&args.name)?;
    if args.json {
        return print::document(&json!({"secret": secret, "public": public}));
    }
    let secret = print::line(&format!("secret key, keep it: {}", secret.display()));
    let public = print::line(&format!("public key, for boards: {}", public.display()));
    print::text(&(secret + &public))
}

/// Signs a head.
///
/// # Errors
/// `BadInput` when head or key cannot be read, `Failed` when the head cannot be written.
pub fn sign(args: &SignArgs) -> Result<()> {
    let key = SecretKey::load(&args.key)?;
    let signed = signature::sign(&args.head, &key, args.counter)?;
    if args.json {
        return print::document(&signature_json(&signed));
    }
    let head = args.head.display();
    print::text(&print::line(&format!(
        "{head}: signature {} of key {}",
        signed.counter,
        signed.key_name()
    )))
}

/// Says whether a head is signed with a key, and not older than one seen before.
///
/// # Errors
/// `Signature` when it is not.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let trust = Trust::load(&args.trust)?;
    let bytes = store::read(&args.head, MAX_HEAD_BYTES)?;
    let signed = trust.check(&bytes, &args.head)?;
    Head::read(&bytes, &args.head)?;
    if args.json {
        return print::document(&signature_json(&signed));
    }
    let head = args.head.display();
    print::text(&print::line(&format!(
        "{head}: signed with this key, signature {}",
        signed.counter
    )))
}

/// Puts an earlier head in place, or lists those there are.
///
/// # Errors
/// `BadInput` when there is none, `Failed` when it cannot be written.
pub fn roll_back(args: &RollbackArgs) -> Result<()> {
    let store = Store::default();
    let versions = Versions::of(&store, &args.head);
    if args.list {
        return list(&versions.list()?, args.json);
    }
    let _lock = Lock::take(&args.head)?;
    let number = versions.roll_back(args.to)?;
    if args.json {
        return print::document(&json!({"head": args.head, "version": number}));
    }
    let head = args.head.display();
    print::text(&print::line(&format!("{head} is version {number} again")))
}

fn list(versions: &[Version], as_json: bool) -> Result<()> {
    if as_json {
        let versions: Vec<Value> = versions.iter().map(listed).collect();
        return print::document(&json!({"versions": versions}));
    }
    let mut out = String::new();
    for version in versions {
        let what = match &version.head {
            Ok(head) => format!(
                "{} classes, {} samples, {}",
                head.labels.len(),
                head.trained.samples.iter().sum::<u32>(),
                head.trained.recipe
            ),
            Err(_) => "damaged".into(),
        };
        out += &print::line(&format!("{}: {what}", version.number));
    }
    if versions.is_empty() {
        out += "no earlier head is kept\n";
    }
    print::text(&out)
}

fn listed(version: &Version) -> Value {
    let mut object = version
        .head
        .as_ref()
        .map_or_else(|error| json!({"damaged": error.to_string()}), document);
    object["version"] = json!(version.number);
    object["file"] = json!(version.path);
    object
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

/// The start of a long text: thousands of thresholds tell people nothing.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 600;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ... ({} bytes)", &text[..end], text.len()),
        None => text.to_string(),
    }
}

fn text(head: &Head) -> String {
    let mut out = String::from("class: training samples\n");
    for (label, samples) in head.labels.iter().zip(&head.trained.samples) {
        out += &format!("  {}: {samples}\n", escaped(label));
    }
    let backbone = &head.backbone;
    out += &format!(
        "backbone: {} ({})\n",
        escaped(&backbone.name),
        hexadecimal(&backbone.sha256)
    );
    out += &format!(
        "  cut at {}, {} features\n",
        escaped(&backbone.cut),
        backbone.features
    );
    out += &format!("  {}\n", escaped(&shortened(&backbone.preprocessing)));
    out += &format!("layers: {}\n", layers(head).join(", "));
    out += &format!("recipe: {}\n", escaped(&head.trained.recipe));
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
        escaped(&head.trained.program),
        head.trained.seed
    );
    out
}
