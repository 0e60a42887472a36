//! What holds for samples that are no pictures, of whatever kind: recordings and sensor files.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{fieldtune, run};

/// Trains on `folder/samples` and writes `folder/HEAD`.
pub fn train(folder: &Path, head: &str) -> Command {
    let mut command = fieldtune();
    command
        .args(["train", "--json"])
        .arg(folder.join("samples"));
    command.arg("-o").arg(folder.join(head));
    command
}

/// What a head says of a file.
pub fn predicted(head: &Path, file: &Path) -> Value {
    run(fieldtune().args(["predict", "--json"]).arg(head).arg(file)).json()
}

/// Asserts that `folder/samples`, cut into windows, give the same bytes on 1, 2 and 7 threads.
pub fn gives_one_head_whatever_the_threads(folder: &Path) {
    let heads: Vec<Vec<u8>> = ["1", "2", "7"]
        .into_iter()
        .map(|threads| {
            let flags = ["--threads", threads, "--cache", "off", "--window", "1s"];
            run(train(folder, "one.head").args(flags)).json();
            fs::read(folder.join("one.head")).expect("a head")
        })
        .collect();
    assert!(heads[0] == heads[1] && heads[0] == heads[2]);
}

/// Asserts that mirroring `file` and merging the head with a network are refused, and that
/// the head alone is exported, to a file beside it.
pub fn has_no_mirror_image_and_exports_alone(head: &Path, file: &Path) {
    let flip = run(fieldtune()
        .args(["predict", "--tta", "flip"])
        .arg(head)
        .arg(file));
    flip.refused(2, "no mirror image");
    let onnx = head.with_extension("onnx");
    let export = run(fieldtune().arg("export").arg(head).arg("-o").arg(&onnx));
    export.refused(2, "--head-only");
    let alone = run(fieldtune()
        .args(["export", "--head-only"])
        .arg(head)
        .arg("-o")
        .arg(&onnx));
    alone.succeeded();
    assert!(onnx.exists());
}
