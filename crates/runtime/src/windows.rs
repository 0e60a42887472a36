//! Long files as several samples: each part is a sample of its own, and all of one file are
//! one group, so that none vouches for another. Where the parts lie is said in
//! `sound/windows.rs` and `series.rs`.

use rayon::prelude::*;
use serde::Serialize;

use crate::features::Source;
use crate::samples::SampleSet;

/// A part of a recording or series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Part {
    /// Where it begins, in milliseconds.
    pub start_ms: u32,
    /// Where it ends.
    pub end_ms: u32,
}

/// Which samples a set became, and what they are parts of.
#[derive(Debug, Default)]
pub struct CutUp {
    /// The set with a sample for every window.
    pub set: SampleSet,
    /// For each sample of it, its file's place in the set that was given.
    pub recordings: Vec<usize>,
}

impl CutUp {
    /// The samples' sources; bytes that were given stay given.
    pub fn sources<'a>(&'a self, given: &[Source<'a>]) -> Vec<Source<'a>> {
        let samples = self.set.samples.iter().zip(&self.recordings);
        samples
            .map(|(sample, recording)| Source {
                path: &sample.path,
                label: sample.label,
                bytes: given.get(*recording).and_then(|source| source.bytes),
                part: sample.part,
            })
            .collect()
    }
}

/// Cuts the files of a set, several at a time on the threads of the pool that this runs in.
/// `worker` makes what a thread works with, `parts` gives the parts of a file; none for one
/// that is a sample as it is or cannot be read: it stays whole, and is skipped, with the
/// reason, where its features are computed. `progress` gets files done.
pub fn cut_up<W>(
    set: &SampleSet,
    sources: &[Source<'_>],
    worker: impl Fn() -> W + Sync + Send,
    parts: impl Fn(&mut W, &Source<'_>) -> Vec<Part> + Sync + Send,
    progress: &(dyn Fn(usize) + Sync),
) -> CutUp {
    let done = std::sync::atomic::AtomicUsize::new(0);
    let parts: Vec<Vec<Part>> = sources
        .par_iter()
        .with_max_len(1)
        .map_init(worker, |worker, source| {
            let parts = parts(worker, source);
            progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
            parts
        })
        .collect();
    let mut cut = CutUp {
        set: SampleSet {
            samples: Vec::with_capacity(set.samples.len()),
            ..set.clone()
        },
        recordings: Vec::new(),
    };
    for (index, (sample, parts)) in set.samples.iter().zip(parts).enumerate() {
        if parts.is_empty() {
            cut.set.samples.push(sample.clone());
            cut.recordings.push(index);
        }
        for part in parts {
            let mut window = sample.clone();
            window.part = Some(part);
            let own = || sample.path.display().to_string();
            window.group = Some(window.group.unwrap_or_else(own));
            cut.set.samples.push(window);
            cut.recordings.push(index);
        }
    }
    cut
}
