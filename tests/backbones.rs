//! Promise: any ONNX image network loads, cut at any tensor that `inspect` lists, and
//! gives the features that ONNX Runtime gives; a damaged file is refused by name, and
//! features do not depend on the number of threads or on the cache.

use std::path::{Path, PathBuf};

use fieldtune::backbone::Backbone;
use fieldtune::cache::Cache;
use fieldtune::error::ErrorKind;
use fieldtune::features::{FeatureMatrix, LazyBackbone, Source, extract};
use fieldtune::inspect::{Inspection, inspect};
use fieldtune::manifest::{Flags, Input, Layout, Manifest};
use fieldtune::views::ViewSet;

static EMBEDDED: &[u8] = include_bytes!("../models/efficientnet-lite0/model_f16.onnx");
const GOLDEN: &str = include_str!("golden/backbone_features.json");

fn manifest() -> Manifest {
    let text = include_bytes!("../models/efficientnet-lite0/manifest.toml");
    Manifest::parse(text, Path::new("manifest.toml")).unwrap()
}

/// The input of `golden/make_backbone_golden.py`.
fn pattern(elements: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7919) % 256) as f32 - 127.0;
    (0..elements).map(|index| value(index) / 128.0).collect()
}

fn run(backbone: &Backbone, input: &[f32]) -> Vec<f32> {
    let mut features = vec![0.0; backbone.features()];
    backbone
        .worker()
        .unwrap()
        .run(input, &mut features)
        .unwrap();
    features
}

/// A file of the shared data; a visible line when it is absent.
fn shared(name: &str) -> Option<Vec<u8>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"));
    let bytes = std::fs::read(root.join(name)).ok();
    if bytes.is_none() {
        println!("SKIPPED: ../shared/models/{name} is absent");
    }
    bytes
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[test]
fn the_embedded_backbone_gives_the_features_of_onnx_runtime() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let backbone = Backbone::load(&manifest(), EMBEDDED, "features").unwrap();
    assert_eq!(backbone.shape(), [1280]);
    let features = run(&backbone, &pattern(3 * 224 * 224));
    let numbers = |name: &str| golden[name].as_array().unwrap().clone();
    for (index, value) in numbers("index").iter().zip(numbers("value")) {
        let index = index.as_u64().unwrap() as usize;
        let difference = f64::from(features[index]) - value.as_f64().unwrap();
        assert!(difference.abs() < 1e-3, "feature {index}: {difference}");
    }
    let sum: f64 = features.iter().map(|value| f64::from(*value)).sum();
    assert!(
        (sum - golden["sum"].as_f64().unwrap()).abs() < 1e-2,
        "{sum}"
    );
}

#[test]
fn the_identity_says_what_decides_the_features() {
    let manifest = manifest();
    let backbone = Backbone::load(&manifest, EMBEDDED, "feature_map").unwrap();
    let identity = backbone.identity();
    assert_eq!(backbone.shape(), [1280, 7, 7]);
    assert_eq!(identity.features, 1280 * 49);
    assert_eq!(
        (identity.name.as_str(), identity.cut.as_str()),
        ("efficientnet-lite0", "feature_map")
    );
    assert_eq!(
        identity.sha256,
        manifest.verify(EMBEDDED, Path::new("x")).unwrap()
    );
    assert_eq!(
        identity.preprocessing,
        manifest.preprocessing.identity(&manifest.input)
    );
}

#[test]
fn weights_of_half_precision_give_nearly_the_same_features() {
    let Some(full) = shared("efficientnet_lite0.onnx") else {
        return;
    };
    let input = pattern(3 * 224 * 224);
    for cut in ["features", "feature_map"] {
        let half = run(&Backbone::load(&manifest(), EMBEDDED, cut).unwrap(), &input);
        let full = run(&Backbone::load(&manifest(), &full, cut).unwrap(), &input);
        let difference: Vec<f32> = half.iter().zip(&full).map(|(a, b)| a - b).collect();
        let relative = norm(&difference) / norm(&full);
        assert!(relative > 0.0 && relative < 1e-2, "{cut}: {relative}");
    }
}

#[test]
fn the_embedded_backbones_cuts_are_listed_with_their_work() {
    let inspection = inspect(EMBEDDED, Path::new("m.onnx"), None).unwrap();
    assert_eq!(inspection.input.shape, [3, 224, 224]);
    assert_eq!(inspection.input.as_image().unwrap(), manifest().input);
    let cut = |name: &str| inspection.cuts.iter().find(|cut| cut.tensor == name);
    let features = cut("features").unwrap();
    assert_eq!(
        (features.shape.as_slice(), features.bytes_per_sample),
        ([1280].as_slice(), 5120)
    );
    assert_eq!(
        (features.macs_after, features.parameters_after),
        (1_280_000, 1_281_000)
    );
    // Only the classifier stands after it; before the pool there are weights to train.
    assert!(!features.trainable, "{}", features.reason);
    assert!(cut("block14.Add").unwrap().trainable);
    assert_eq!(cut("feature_map").unwrap().shape, [1280, 7, 7]);
    // The published size of this network: 4.65 million weights, 0.4 billion products.
    assert!(
        (4_500_000..4_800_000).contains(&inspection.parameters),
        "{}",
        inspection.parameters
    );
    assert!(
        (370_000_000..420_000_000).contains(&inspection.macs),
        "{}",
        inspection.macs
    );
    // Inside a residual block two tensors are needed.
    assert!(cut("block2.expand_conv.Conv").is_none());
    for cut in &inspection.cuts {
        assert_eq!(
            cut.macs_before + cut.macs_after,
            inspection.macs,
            "{}",
            cut.tensor
        );
    }
}

/// A manifest for a network that has none.
fn guessed(inspection: &Inspection) -> Manifest {
    let image = inspection.input.as_image();
    // 49 x 10 x 1 of the keyword network is as good as an image here.
    let input: Input = image.expect("an image input");
    Manifest::from_flags(Path::new("m.onnx"), input, Flags::default()).unwrap()
}

#[test]
fn small_networks_load_at_every_cut_that_is_listed() {
    let networks = [
        "ds_cnn_keywords",
        "ds_cnn_keywords_int8",
        "mobilenet_v1_025_person",
        "resnet8_cifar10",
        "resnet8_cifar10_int8",
    ];
    for name in networks {
        let Some(bytes) = shared(&format!("mlperf-tiny/{name}.onnx")) else {
            return;
        };
        let inspection = inspect(&bytes, Path::new(name), None).unwrap();
        let manifest = guessed(&inspection);
        assert_eq!(manifest.input.layout, Layout::Nhwc, "{name}");
        assert!(
            inspection.cuts.len() > 5,
            "{name}: {}",
            inspection.cuts.len()
        );
        for cut in &inspection.cuts {
            let backbone = Backbone::load(&manifest, &bytes, &cut.tensor).unwrap();
            assert_eq!(backbone.shape(), cut.shape, "{name} {}", cut.tensor);
            let features = run(&backbone, &pattern(backbone.input_elements()));
            assert!(
                features.iter().all(|value| value.is_finite()),
                "{name} {}",
                cut.tensor
            );
        }
    }
}

#[test]
fn an_output_in_channels_last_order_is_that_of_onnx_runtime() {
    let Some(bytes) = shared("mlperf-tiny/resnet8_cifar10.onnx") else {
        return;
    };
    let manifest = guessed(&inspect(&bytes, Path::new("resnet8"), None).unwrap());
    let backbone = Backbone::load(&manifest, &bytes, "Identity").unwrap();
    // onnxruntime 1.32.0 on the same input.
    let expected = [
        1.261_987_7e-1,
        5.287_313e-4,
        4.420_977_6e-3,
        1.011_722_2e-1,
        7.280_12e-1,
        1.160_632e-3,
        1.979_002_5e-2,
        9.651_82e-3,
        8.558_964e-3,
        5.058_361e-4,
    ];
    let difference = largest_difference(&run(&backbone, &pattern(3072)), &expected);
    assert!(difference < 1e-3, "{difference}");
}

#[test]
fn damaged_files_are_refused_by_name_without_a_panic() {
    let mut cases: Vec<Vec<u8>> = vec![Vec::new(), b"not a network".to_vec()];
    cases.extend([10, 1000, 100_000, 5_000_000].map(|length| EMBEDDED[..length].to_vec()));
    // The graph's structure stands at the end of this file.
    let end = EMBEDDED.len();
    for distance in [200, 2_000, 5_000, 10_000] {
        let mut bytes = EMBEDDED.to_vec();
        bytes[end - distance..end - distance + 40].fill(0xff);
        cases.push(bytes);
    }
    let mut refused = 0;
    for (case, bytes) in cases.iter().enumerate() {
        let Err(error) = Backbone::load(&manifest(), bytes, "features") else {
            continue;
        };
        refused += 1;
        let line = error.to_string();
        assert!(
            line.starts_with("model_f16.onnx: ") && !line.contains('\n'),
            "{case}: {line}"
        );
        assert!(
            matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Usage),
            "{case}: {line}"
        );
        assert!(
            inspect(bytes, Path::new("x.onnx"), None).is_err() || case >= 6,
            "{case}"
        );
    }
    assert!(refused >= 6, "{refused} of {} refused", cases.len());
}

#[test]
fn an_unknown_cut_names_its_neighbours_and_the_remedy() {
    let error = Backbone::load(&manifest(), EMBEDDED, "featuers").unwrap_err();
    let line = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        line.contains("\"features\"") && line.contains("fieldtune inspect"),
        "{line}"
    );
}

#[test]
fn an_input_that_contradicts_the_manifest_is_refused() {
    let mut manifest = manifest();
    manifest.input.height = 192;
    let error = Backbone::load(&manifest, EMBEDDED, "features").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    let line = error.to_string();
    assert!(line.contains("224") && line.contains("192"), "{line}");
}

#[test]
fn slices_of_the_wrong_length_are_refused_and_the_worker_goes_on() {
    let backbone = Backbone::load(&manifest(), EMBEDDED, "features").unwrap();
    let mut worker = backbone.worker().unwrap();
    let input = pattern(backbone.input_elements());
    let mut features = vec![0.0; 1280];
    assert!(worker.run(&input[1..], &mut features).is_err());
    assert!(worker.run(&input, &mut features[1..]).is_err());
    worker.run(&input, &mut features).unwrap();
    assert_eq!(features, run(&backbone, &input));
}

/// Six small pictures and two files that are none.
fn pictures() -> Vec<(PathBuf, Vec<u8>)> {
    let picture = |number: u32| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::from_fn(60, 50, |x, y| {
            image::Rgb([(x * number) as u8, (y * 5) as u8, (40 * number) as u8])
        });
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        (PathBuf::from(format!("{number}.png")), bytes.into_inner())
    };
    let mut pictures: Vec<(PathBuf, Vec<u8>)> = (0..6).map(picture).collect();
    pictures.insert(2, ("torn.png".into(), pictures[1].1[..60].to_vec()));
    pictures.push(("text.png".into(), b"hello".to_vec()));
    pictures
}

fn lazy() -> LazyBackbone {
    LazyBackbone::embedded(manifest(), EMBEDDED, "features").unwrap()
}

fn features(backbone: &LazyBackbone, cache: &Cache, threads: usize) -> FeatureMatrix {
    matrices(backbone, ViewSet::ORIGINAL, cache, threads).remove(0)
}

fn matrices(
    backbone: &LazyBackbone,
    views: ViewSet,
    cache: &Cache,
    threads: usize,
) -> Vec<FeatureMatrix> {
    let pictures = pictures();
    let source = |(label, (path, bytes)): (usize, &'_ (PathBuf, Vec<u8>))| {
        (path.clone(), label, bytes.clone())
    };
    let owned: Vec<(PathBuf, usize, Vec<u8>)> = pictures.iter().enumerate().map(source).collect();
    let sources: Vec<Source<'_>> = owned
        .iter()
        .map(|(path, label, bytes)| Source {
            path,
            label: *label,
            bytes: Some(bytes),
            part: None,
        })
        .collect();
    extract(backbone, &sources, views, cache, threads, &|_, _| {}).unwrap()
}

#[test]
fn features_are_the_same_for_every_number_of_threads() {
    let backbone = lazy();
    let one = features(&backbone, &Cache::off(), 1);
    assert_eq!(one.rows, [0, 1, 3, 4, 5, 6]);
    assert_eq!(one.labels, one.rows);
    assert_eq!((one.computed, one.from_cache), (6, 0));
    let skipped: Vec<&Path> = one
        .skipped
        .iter()
        .map(|skipped| skipped.path.as_path())
        .collect();
    assert_eq!(skipped, [Path::new("torn.png"), Path::new("text.png")]);
    assert_ne!(one.row(0), one.row(1));
    for threads in [2, 3, 8] {
        assert_eq!(
            features(&backbone, &Cache::off(), threads),
            one,
            "{threads} threads"
        );
    }
}

#[test]
fn so_they_are_where_the_views_of_a_sample_are_shared_among_threads() {
    let backbone = lazy();
    let one = matrices(&backbone, ViewSet::ALL, &Cache::off(), 1);
    assert_eq!(one.len(), ViewSet::ALL.count());
    assert_ne!(one[0].values, one[1].values);
    // More than there are pictures, and more than there are views of all of them.
    for threads in [9, 64] {
        let shared = matrices(&backbone, ViewSet::ALL, &Cache::off(), threads);
        assert_eq!(shared, one, "{threads} threads");
    }
}

#[test]
fn what_is_in_the_cache_is_not_computed_and_the_backbone_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let first = features(&lazy(), &cache, 2);
    assert_eq!((first.computed, first.from_cache), (6, 0));
    let again = lazy();
    let second = features(&again, &cache, 2);
    assert_eq!((second.computed, second.from_cache), (0, 6));
    assert_eq!(second.values, first.values);
    assert!(!again.is_loaded());
}

#[test]
fn files_that_cannot_be_read_are_skipped_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.png");
    std::fs::write(&good, &pictures()[0].1).unwrap();
    let missing = folder.path().join("missing.png");
    let sources = [(&missing, 0), (&good, 1)].map(|(path, label)| Source {
        path,
        label,
        bytes: None,
        part: None,
    });
    let done = std::sync::Mutex::new(Vec::new());
    let progress = |now: usize, all: usize| done.lock().unwrap().push((now, all));
    let matrix = extract(
        &lazy(),
        &sources,
        ViewSet::ORIGINAL,
        &Cache::off(),
        1,
        &progress,
    )
    .unwrap()
    .remove(0);
    assert_eq!(
        (matrix.rows.as_slice(), matrix.labels.as_slice()),
        ([1].as_slice(), [1].as_slice())
    );
    assert_eq!(matrix.skipped[0].path, missing);
    assert!(
        matrix.skipped[0].reason.starts_with("does not exist"),
        "{}",
        matrix.skipped[0].reason
    );
    assert_eq!(done.into_inner().unwrap(), [(1, 2), (2, 2)]);
}
