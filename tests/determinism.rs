//! Promise: the same samples, flags and seed give the same head file, byte for byte,
//! whatever the number of threads, the cache and the place of the samples.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fieldtune::head::Head;
use fieldtune_tests::{demo_samples, fieldtune, run, scratch};

/// Six photographs of each class: enough to search on, quick to train on.
fn samples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| copy_samples(&scratch().join("samples")))
}

fn copy_samples(to: &Path) -> PathBuf {
    for class in ["brick", "grass", "gravel"] {
        fs::create_dir_all(to.join(class)).expect("a folder");
        let entries = fs::read_dir(demo_samples().join(class)).expect("the demo's samples");
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        files.sort();
        for file in &files[..6] {
            let name = file.file_name().expect("a file has a name");
            fs::copy(file, to.join(class).join(name)).expect("copied");
        }
    }
    to.to_path_buf()
}

/// The bytes of a head of `samples` trained with `flags`, a text cut at spaces. `--time`
/// is long, so that a slow machine searches as far as a fast one.
fn head_of(samples: &Path, flags: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let head = folder.path().join("a.head");
    let mut command = fieldtune();
    command.arg("train").arg(samples).arg("-o").arg(&head);
    command
        .args(["--time", "10h"])
        .args(flags.split_whitespace());
    run(&mut command).succeeded();
    fs::read(head).expect("a head file")
}

fn head(flags: &str) -> Vec<u8> {
    head_of(samples(), flags)
}

fn parameters(bytes: &[u8]) -> Vec<f32> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.head");
    fs::write(&path, bytes).expect("written");
    Head::load(&path).expect("a sound head").parameters
}

#[test]
fn threads_do_not_change_the_head() {
    let one = head("--threads 1");
    assert!(one == head("--threads 2"), "2 threads differ from 1");
    assert!(one == head("--threads 3"), "3 threads differ from 1");
}

#[test]
fn the_cache_does_not_change_the_head() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = |threads: u8| {
        let cache = folder.path().display();
        format!("--head linear --cache {cache} --threads {threads}")
    };
    let without = head("--head linear --cache off --threads 1");
    assert!(without == head(&flags(3)), "cold cache");
    assert!(without == head(&flags(1)), "warm cache");
    assert!(without == head(&flags(2)), "warm cache, 2 threads");
}

#[test]
fn the_place_of_the_samples_does_not_change_the_head() {
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = copy_samples(&folder.path().join("a/longer path"));
    assert!(head("--head linear") == head_of(&elsewhere, "--head linear"));
}

#[test]
fn another_seed_gives_other_weights() {
    // All that draws random numbers: weights, batches, adversarial layers.
    let flags = "--head mlp:16 --decay-mode online --optimizer adamw --adversarial 0.1 --epochs 5";
    let first = head(&format!("{flags} --seed 1 --threads 1"));
    assert!(first == head(&format!("{flags} --seed 1 --threads 3")));
    let second = head(&format!("{flags} --seed 2 --threads 3"));
    assert_ne!(parameters(&first), parameters(&second));
}

#[test]
fn the_reproducible_kernel_trains_too() {
    let flags = "--head linear --reproducible";
    let one = head(&format!("{flags} --threads 1"));
    assert!(one == head(&format!("{flags} --threads 2")));
    assert!(parameters(&one).iter().all(|value| value.is_finite()));
}
