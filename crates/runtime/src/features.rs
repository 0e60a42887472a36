//! Samples to feature vectors: read, decode, preprocess, run the backbone, several samples
//! at a time, with the cache in front. How a network runs is in `backbone.rs`, when it is read
//! in `features/lazy.rs`, what an entry of the cache looks like in `cache.rs`.

mod extractor;
mod lazy;

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::samples::{SampleSet, Skipped};
use crate::store;
use crate::views::ViewSet;
use crate::windows::Part;
use rayon::prelude::*;

use extractor::{Extractor, Outcome};
pub use lazy::{LazyBackbone, STATISTICS, has_statistics, network_part};

/// Largest sample file that is read, in bytes.
pub const MAX_SAMPLE_BYTES: u64 = 128 << 20;

/// Largest ONNX file that is read, in bytes.
pub const MAX_BACKBONE_BYTES: u64 = 1 << 30;

/// One sample to compute the features of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its file; a name for messages when `bytes` is given.
    pub path: &'a Path,
    /// Passed through to [`FeatureMatrix::labels`]; any value where labels have no meaning.
    pub label: usize,
    /// The file's content when it is already in memory.
    pub bytes: Option<&'a [u8]>,
    /// The part of it that is the sample; `None` for all.
    pub part: Option<Part>,
}

impl<'a> Source<'a> {
    /// The samples of a set, in its order.
    pub fn of_set(samples: &'a SampleSet) -> Vec<Self> {
        let source = |sample: &'a crate::samples::Sample| Self {
            path: &sample.path,
            label: sample.label,
            bytes: None,
            part: sample.part,
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

/// Of so many threads, how many have something to do: where there are more than samples,
/// each view has its own.
pub(crate) fn working(threads: usize, samples: usize, views: ViewSet) -> usize {
    threads.clamp(1, (samples * views.count()).max(1))
}

/// Computes the features of `samples` on `threads` threads (at least one), a matrix for
/// each of `views`, all of the same rows. Values and order do not depend on the number of
/// threads. A sample is read and decoded once, and its bytes and pixels are dropped before
/// the thread takes the next one; where there are more threads than samples, its views are
/// shared among them. `progress` gets samples done and samples in all, from any
/// thread.
///
/// # Errors
/// As [`LazyBackbone::get`] when a feature has to be computed; `BadInput`, naming the sample,
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
    let threads = working(threads, samples.len(), views);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        let what = format_args!("{threads} threads cannot be started ({error}); lower --threads");
        Error::new(ErrorKind::Failed, what)
    })?;
    let extractor = Extractor::new(backbone, views, cache, threads, samples.len());
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
            part: None,
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
