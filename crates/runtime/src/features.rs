//! Samples to feature vectors: read, decode, preprocess, run the backbone, several samples
//! at a time, with the cache in front. How a network runs is in `backbone.rs`, what an
//! entry of the cache looks like in `cache.rs`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::backbone::{self, Backbone, Worker};
use crate::cache::{Cache, Key, KeyParts};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::preprocess::{self, View};
use crate::samples::{SampleSet, Skipped};
use crate::store;
use crate::tail::{Pretrained, Tail};
use crate::views::ViewSet;

/// Largest sample file that is read, in bytes.
pub const MAX_SAMPLE_BYTES: u64 = 128 << 20;

/// Largest ONNX file that is read, in bytes.
pub const MAX_BACKBONE_BYTES: u64 = 1 << 30;

/// Largest count of features that an f32 of the cache holds exactly.
const MAX_EXACT_COUNT: usize = 1 << 24;

/// One sample to compute the features of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its file; a name for messages when `bytes` is given.
    pub path: &'a Path,
    /// Passed through to [`FeatureMatrix::labels`]; any value where labels have no meaning.
    pub label: usize,
    /// The file's content when it is already in memory.
    pub bytes: Option<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// The samples of a set, in its order.
    pub fn of_set(samples: &'a SampleSet) -> Vec<Self> {
        let source = |sample: &'a crate::samples::Sample| Self {
            path: &sample.path,
            label: sample.label,
            bytes: None,
        };
        samples.samples.iter().map(source).collect()
    }

    /// The bytes.
    pub(crate) fn read(&self) -> Result<Cow<'a, [u8]>> {
        match self.bytes {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => store::read(self.path, MAX_SAMPLE_BYTES).map(Cow::Owned),
        }
    }
}

/// Where the bytes of an ONNX file are.
#[derive(Clone, Debug)]
enum Origin {
    Memory(&'static [u8]),
    File(PathBuf),
}

/// A backbone that is read and optimised only when a feature has to be computed. Its
/// identity is known without that.
#[derive(Debug)]
pub struct LazyBackbone {
    manifest: Manifest,
    origin: Origin,
    cut: String,
    sha256: [u8; 32],
    preprocessing: String,
    loaded: OnceLock<Backbone>,
    loading: Mutex<()>,
    tail: OnceLock<Pretrained>,
}

impl LazyBackbone {
    /// A backbone that is part of the program. That its bytes are those of the manifest is
    /// tested once, when the program is built, not at every start.
    ///
    /// # Errors
    /// `BadInput` when the manifest has no SHA-256.
    pub fn embedded(manifest: Manifest, bytes: &'static [u8], cut: &str) -> Result<Self> {
        let sha256 = manifest.stated_sha256().ok_or_else(|| {
            let (file, remedy) = (Path::new(&manifest.file), "build the program again");
            Error::at(ErrorKind::BadInput, file, "has no SHA-256", remedy)
        })?;
        Ok(Self::new(manifest, Origin::Memory(bytes), cut, sha256))
    }

    /// A backbone in a file. The file is read to learn its SHA-256, and again when the
    /// network is needed, so that it does not stay in memory.
    ///
    /// # Errors
    /// `BadInput`, naming the file: unreadable, or not that of the manifest.
    pub fn file(manifest: Manifest, path: &Path, cut: &str) -> Result<Self> {
        let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
        manifest.verify(&bytes, path)?;
        let sha256 = backbone::digest(&bytes, path)?;
        Ok(Self::new(manifest, Origin::File(path.into()), cut, sha256))
    }

    fn new(manifest: Manifest, origin: Origin, cut: &str, sha256: [u8; 32]) -> Self {
        Self {
            preprocessing: manifest.identity(),
            manifest,
            origin,
            cut: cut.into(),
            sha256,
            loaded: OnceLock::new(),
            loading: Mutex::new(()),
            tail: OnceLock::new(),
        }
    }

    /// What is said about the backbone.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the ONNX file, and of its side files if it has any.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The tensor where it is cut.
    pub fn cut(&self) -> &str {
        &self.cut
    }

    /// Canonical text of the preprocessing.
    pub fn preprocessing(&self) -> &str {
        &self.preprocessing
    }

    /// Whether the network has been read.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// The bytes of the ONNX file.
    ///
    /// # Errors
    /// `BadInput` when the file changed since [`LazyBackbone::file`].
    pub fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        let path = match &self.origin {
            Origin::Memory(bytes) => return Ok(Cow::Borrowed(bytes)),
            Origin::File(path) => path,
        };
        let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
        if backbone::digest(&bytes, path)? != self.sha256 {
            let what = "changed while it was in use";
            return Err(Error::at(ErrorKind::BadInput, path, what, "run again"));
        }
        Ok(Cow::Owned(bytes))
    }

    /// The network, read and optimised at the first call; other threads wait for it.
    ///
    /// # Errors
    /// As [`Backbone::load`]; `BadInput` when the file changed since [`LazyBackbone::file`].
    pub fn get(&self) -> Result<&Backbone> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backbone) = self.loaded.get() {
            return Ok(backbone);
        }
        let backbone = match &self.origin {
            Origin::Memory(bytes) => {
                Backbone::load_known(&self.manifest, bytes, self.sha256, &self.cut)?
            }
            Origin::File(path) => {
                let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
                let backbone = Backbone::load_beside(&self.manifest, &bytes, path, &self.cut)?;
                if backbone.identity().sha256 != self.sha256 {
                    let what = "changed while it was in use";
                    return Err(Error::at(ErrorKind::BadInput, path, what, "run again"));
                }
                backbone
            }
        };
        Ok(self.loaded.get_or_init(|| backbone))
    }

    /// The layers after the cut, to be trained; read at the first call.
    ///
    /// # Errors
    /// As [`Tail::import`]; `BadInput` when the file cannot be read.
    pub fn tail(&self) -> Result<Pretrained> {
        if let Some(tail) = self.tail.get() {
            return Ok(tail.clone());
        }
        let tail = match &self.origin {
            Origin::Memory(bytes) => Tail::import(&self.manifest, bytes, &self.cut)?,
            Origin::File(path) => {
                let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
                self.manifest.verify(&bytes, path)?;
                Tail::import_beside(&self.manifest, &bytes, path, &self.cut)?
            }
        };
        Ok(self.tail.get_or_init(|| Pretrained::new(tail)).clone())
    }

    /// Elements of a feature vector: from the network if it is loaded, else from the
    /// cache if it was noted there, else the network is loaded.
    ///
    /// # Errors
    /// As [`LazyBackbone::get`].
    pub fn features(&self, cache: &Cache) -> Result<usize> {
        // A sample with this digest does not occur, so the entry is the count's own.
        let digest = Sha256::digest(b"fieldtune: features of this backbone").into();
        let key = self.key(&digest, View::Original);
        let mut noted = [0.0];
        if !self.is_loaded() && cache.get(&key, &mut noted) {
            let count = noted[0] as usize;
            if count > 0 && count <= MAX_EXACT_COUNT {
                return Ok(count);
            }
        }
        let count = self.get()?.features();
        if count <= MAX_EXACT_COUNT && !cache.get(&key, &mut noted) {
            // A cache that cannot be written shows in the first sample's entry.
            let _ = cache.put(&key, &[count as f32]);
        }
        Ok(count)
    }

    /// The cache's key of one view of the sample with this digest.
    pub fn key(&self, sample: &[u8; 32], view: View) -> Key {
        Key::of(&KeyParts {
            sample,
            backbone: &self.sha256,
            cut: &self.cut,
            preprocessing: &self.preprocessing,
            view,
        })
    }
}

/// A SHA-256.
pub type Digest32 = [u8; 32];

/// Feature vectors of the samples that could be read, in the samples' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureMatrix {
    /// `[rows, features]`, row-major.
    pub values: Vec<f32>,
    /// Elements of one row.
    pub features: usize,
    /// Label of every row.
    pub labels: Vec<usize>,
    /// Index of every row's sample in the input.
    pub rows: Vec<usize>,
    /// SHA-256 of the bytes of every row's sample.
    pub digests: Vec<Digest32>,
    /// Runs of the backbone, over all views.
    pub computed: usize,
    /// Feature vectors that were in the cache, over all views.
    pub from_cache: usize,
    /// Samples without a row, and why.
    pub skipped: Vec<Skipped>,
    /// The first entry that could not be kept in the cache. The features are still good.
    pub cache_failure: Option<Error>,
}

impl FeatureMatrix {
    /// The features of one row; empty when there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row.saturating_mul(self.features);
        self.values
            .get(start..start.saturating_add(self.features))
            .unwrap_or_default()
    }
}

/// What became of one sample.
enum Outcome {
    Read {
        digest: Digest32,
        /// How many of its views were in the cache.
        cached: usize,
        /// The first that could not be kept there.
        failure: Option<Error>,
    },
    Skipped(String),
}

/// Computes the features of `samples` on `threads` threads (at least one), a matrix for
/// each of `views`, all of the same rows. Values and order do not depend on the number of
/// threads. A sample is read and decoded once, and its bytes and pixels are dropped before
/// the thread takes the next one. `progress` gets samples done and samples in all, from any
/// thread.
///
/// # Errors
/// As [`Backbone::load`] when a feature has to be computed; `BadInput`, naming the sample,
/// when the network gives a value that is not finite; `Failed` when no thread can be
/// started. Unreadable samples are no error, see [`FeatureMatrix::skipped`].
pub fn extract(
    backbone: &LazyBackbone,
    samples: &[Source<'_>],
    views: ViewSet,
    cache: &Cache,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<FeatureMatrix>> {
    if samples.is_empty() {
        return Ok(vec![FeatureMatrix::default(); views.count()]);
    }
    let features = backbone.features(cache)?;
    let threads = threads.clamp(1, samples.len());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        let what = format_args!("{threads} threads cannot be started ({error}); lower --threads");
        Error::new(ErrorKind::Failed, what)
    })?;
    let extractor = Extractor {
        backbone,
        views: views.views().collect(),
        cache,
        benches: (0..threads).map(|_| Mutex::new(None)).collect(),
    };
    let done = AtomicUsize::new(0);
    let mut values = vec![vec![0.0; samples.len() * features]; views.count()];
    let mut columns: Vec<_> = values.iter_mut().map(|v| v.chunks_mut(features)).collect();
    // For each sample, a row in every view's matrix.
    let mut rows: Vec<Vec<&mut [f32]>> = samples
        .iter()
        .map(|_| columns.iter_mut().filter_map(Iterator::next).collect())
        .collect();
    let outcomes: Result<Vec<Outcome>> = pool.install(|| {
        // Samples take unequal times: hand them out one by one.
        let rows = rows.par_iter_mut().zip(samples).with_max_len(1);
        rows.map(|(rows, sample)| {
            let outcome = extractor.sample(sample, rows)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, samples.len());
            Ok(outcome)
        })
        .collect()
    });
    Ok(collect(values, features, samples, outcomes?))
}

/// A worker and the tensor it reads, used by one thread of the pool.
struct Bench {
    worker: Worker,
    input: Vec<f32>,
}

struct Extractor<'a> {
    backbone: &'a LazyBackbone,
    views: Vec<View>,
    cache: &'a Cache,
    /// One a thread, made when that thread first needs it.
    benches: Vec<Mutex<Option<Bench>>>,
}

impl Extractor<'_> {
    /// Fills the rows of one sample, one a view.
    fn sample(&self, sample: &Source<'_>, rows: &mut [&mut [f32]]) -> Result<Outcome> {
        let bytes = match sample.read() {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Outcome::Skipped(reason(sample, &error))),
        };
        let digest = Sha256::digest(&bytes).into();
        let mut missing = Vec::new();
        for (view, row) in self.views.iter().zip(rows) {
            let key = self.backbone.key(&digest, *view);
            let cached = self.cache.get(&key, row) && row.iter().all(|value| value.is_finite());
            if !cached {
                missing.push((*view, key, row));
            }
        }
        let cached = self.views.len() - missing.len();
        let mut failure = None;
        if !missing.is_empty() {
            let decoded = preprocess::decode(&bytes, sample.path);
            drop(bytes);
            let image = match decoded {
                Ok(image) => image,
                Err(error) => return Ok(Outcome::Skipped(reason(sample, &error))),
            };
            for (view, key, row) in missing {
                self.run(&image, view, row)?;
                if !row.iter().all(|value| value.is_finite()) {
                    let what = "the backbone gives features that are not finite numbers for it";
                    let remedy = "check the manifest's `mean` and `scale`, or cut elsewhere";
                    return Err(Error::at(ErrorKind::BadInput, sample.path, what, remedy));
                }
                failure = failure.or(self.cache.put(&key, row).err());
            }
        }
        Ok(Outcome::Read {
            digest,
            cached,
            failure,
        })
    }

    fn run(&self, image: &preprocess::Decoded, view: View, row: &mut [f32]) -> Result<()> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        let Some(bench) = self.benches.get(thread) else {
            return Err(Error::new(
                ErrorKind::Failed,
                "more threads than were asked for",
            ));
        };
        let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = match &mut *bench {
            Some(bench) => bench,
            none => none.insert(Bench::new(self.backbone)?),
        };
        let manifest = self.backbone.manifest();
        let preprocessing = &manifest.preprocessing;
        preprocessing.tensor(image, &manifest.input, view, &mut bench.input)?;
        bench.worker.run(&bench.input, row)
    }
}

impl Bench {
    fn new(backbone: &LazyBackbone) -> Result<Self> {
        Ok(Self {
            worker: backbone.get()?.worker()?,
            input: vec![0.0; backbone.manifest().input.elements()],
        })
    }
}

/// The error's line without the path, which stands beside it.
fn reason(sample: &Source<'_>, error: &Error) -> String {
    let line = error.to_string();
    let path = Error::new(error.kind(), sample.path.display()).to_string();
    match line
        .strip_prefix(&path)
        .and_then(|rest| rest.strip_prefix(": "))
    {
        Some(rest) => rest.into(),
        None => line,
    }
}

/// Closes the gaps that skipped samples left, in every view's matrix.
fn collect(
    values: Vec<Vec<f32>>,
    features: usize,
    samples: &[Source<'_>],
    outcomes: Vec<Outcome>,
) -> Vec<FeatureMatrix> {
    let views = values.len();
    // What is said of samples is the same for each view.
    let mut common = FeatureMatrix {
        features,
        ..FeatureMatrix::default()
    };
    for (index, (sample, outcome)) in samples.iter().zip(outcomes).enumerate() {
        match outcome {
            Outcome::Read {
                digest,
                cached,
                failure,
            } => {
                common.from_cache += cached;
                common.computed += views - cached;
                common.cache_failure = common.cache_failure.or(failure);
                common.rows.push(index);
                common.digests.push(digest);
                common.labels.push(sample.label);
            }
            Outcome::Skipped(reason) => {
                let path = sample.path.into();
                common.skipped.push(Skipped { path, reason });
            }
        }
    }
    let closed = |mut values: Vec<f32>| {
        for (row, index) in common.rows.iter().enumerate() {
            if row != *index {
                let from = index * features..(index + 1) * features;
                values.copy_within(from, row * features);
            }
        }
        values.truncate(common.rows.len() * features);
        FeatureMatrix {
            values,
            ..common.clone()
        }
    };
    values.into_iter().map(closed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_of_skipped_samples_are_closed() {
        let names = ["a", "b", "c", "d"].map(Path::new);
        let source = |(label, path): (usize, &&'static Path)| Source {
            path,
            label,
            bytes: None,
        };
        let samples: Vec<Source<'_>> = names.iter().enumerate().map(source).collect();
        let read = |digest, cached| Outcome::Read {
            digest: [digest; 32],
            cached,
            failure: None,
        };
        let outcomes = vec![
            Outcome::Skipped("gone".into()),
            read(7, 2),
            Outcome::Skipped("torn".into()),
            read(9, 1),
        ];
        let values = vec![0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0];
        let other = values.iter().map(|value| 10.0 * value).collect();
        let matrices = collect(vec![values, other], 2, &samples, outcomes);
        assert_eq!(matrices[1].values, [10.0, 20.0, 30.0, 40.0]);
        let matrix = &matrices[0];
        assert_eq!(matrix.values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(matrix.rows, [1, 3]);
        assert_eq!(matrix.labels, [1, 3]);
        assert_eq!(matrix.digests, [[7; 32], [9; 32]]);
        assert_eq!((matrix.computed, matrix.from_cache), (1, 3));
        let skipped: Vec<&str> = matrix
            .skipped
            .iter()
            .map(|skip| skip.reason.as_str())
            .collect();
        assert_eq!(skipped, ["gone", "torn"]);
    }
}
