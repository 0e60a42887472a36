//! Promise: the same samples, flags and seed give the same head file, byte for byte,
//! whatever the number of threads, the cache and the place of the samples. With
//! `--reproducible` the head is trained in the order of sums that is defined for every
//! processor.
//!
//! Not here: that other processors do give the same bytes. That takes their compilers
//! and emulators: `targets/reproducible/check` and `.ci/check-boards`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fieldtune::cache::Cache;
use fieldtune::candidates::{Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::features::{Source, extract};
use fieldtune::head::Head;
use fieldtune::model::Model;
use fieldtune::recipe::{Shape, train};
use fieldtune::samples::SampleSet;
use fieldtune::views::ViewSet;
use fieldtune_core::Kernel;
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
    read(bytes).parameters
}

fn read(bytes: &[u8]) -> Head {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.head");
    fs::write(&path, bytes).expect("written");
    Head::load(&path).expect("a sound head")
}

/// The recipe in words and the weights of a linear head of `samples`, trained in this
/// process with `kernel` on the features that the command keeps in its cache.
fn linear_head_with(kernel: Kernel) -> (String, Vec<f32>) {
    let model = Model::embedded().expect("a sound program");
    let backbone = model.cut_at(&model.manifest().default_cut);
    let backbone = backbone.expect("the tensor of the manifest");
    let cache = Cache::open(&scratch().join("cache")).expect("a folder");
    let set = SampleSet::open(samples()).expect("samples");
    let sources = Source::of_set(&set);
    let matrices = extract(&backbone, &sources, ViewSet::ALL, &cache, 1, &|_, _| {});
    let matrices = matrices.expect("features");
    let views: Vec<&[f32]> = matrices.iter().map(|matrix| &matrix.values[..]).collect();
    let original = &matrices[0];
    let labels: Vec<u16> = original.labels.iter().map(|label| *label as u16).collect();
    let data = Data {
        views: &views,
        held: ViewSet::ALL,
        labels: &labels,
        groups: &[],
        features: original.features,
        classes: set.labels.len(),
    };
    let wishes = Wishes {
        shape: Some(Shape::Linear),
        ..Wishes::default()
    };
    // With six samples a class the first recipe is the only one.
    let recipe = &candidates(&wishes, &set.counts())[0];
    let rows: Vec<usize> = (0..labels.len()).collect();
    let trained = train(recipe, &data, &rows, 0, kernel).expect("trained");
    (recipe.to_string(), trained.parameters)
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
fn reproducible_heads_are_trained_in_the_defined_order() {
    let flags = "--head linear --reproducible";
    let one = head(&format!("{flags} --threads 1"));
    assert!(one == head(&format!("{flags} --threads 2")));
    let found = read(&one);
    let (recipe, defined) = linear_head_with(Kernel::lanes());
    assert_eq!(found.trained.recipe, recipe);
    assert!(found.parameters == defined, "not trained with `lanes`");
    // The test can tell: a faster kernel rounds elsewhere, and is used without the flag.
    if Kernel::best().name() != Kernel::lanes().name() {
        let (_, fast) = linear_head_with(Kernel::best());
        assert!(parameters(&head("--head linear")) == fast);
        assert!(fast != defined, "the kernels cannot be told apart");
    }
}
