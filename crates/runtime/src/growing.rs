//! Growing a head: more samples or a new class, with what is left of the old samples. Any
//! training starts from all features, so nothing is forgotten: the old samples' come from
//! the cache, and their files need no longer exist. Training itself is `session.rs`'s, what
//! a head was trained on is remembered by `growing/record.rs`.

pub mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::features::{Digest32, FeatureMatrix, LazyBackbone, Source};
use crate::head::{Head, MAX_HEAD_BYTES};
use crate::preprocess::View;
use crate::samples::{MAX_CLASSES, Sample, SampleSet};
use crate::senses::Sense;
use crate::session::{Outcome, Progress, Session, head_identity};
use crate::signature;
use crate::store::{self, Lock, Store};
use crate::views::ViewSet;

use record::Record;

/// What happens where features are gone.
const REMEDY: &str = "give the old samples together with the new ones";

/// What became of the old samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// The head that grew.
    pub from: PathBuf,
    /// Old samples whose features came from the cache.
    pub kept: usize,
    /// Samples that the old head was not trained on.
    pub added: usize,
    /// Old samples that were given again; they count once.
    pub again: usize,
    /// Those among them that have another label now, which holds.
    pub relabelled: Vec<Relabelled>,
    /// Old classes without any sample left; the new head does not know them.
    pub dropped: Vec<String>,
}

/// An old sample that was given again with another label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relabelled {
    /// Its file.
    pub file: PathBuf,
    /// Its label until now.
    pub old: String,
    /// Its label from now on.
    pub new: String,
}

/// What [`Session::save`] wrote.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Size of the head file.
    pub head_bytes: u64,
    /// Why the head cannot grow later: its record could not be kept.
    pub record_failure: Option<Error>,
}

impl Session {
    /// Trains a head on what the head in `head_path` was trained on and on `set`, whose
    /// bytes `sources` give in the same order. Old classes come first, in their order. The
    /// old head is not touched.
    ///
    /// # Errors
    /// `Usage` without a cache; `Mismatch` when the old head belongs to another backbone,
    /// cut or preprocessing; `BadInput` when the record of its samples is absent or damaged,
    /// or features of old samples that are not in `set` are gone; else as
    /// [`Session::train`].
    pub fn grow(
        &self,
        head_path: &Path,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        let cache = self.cache();
        let Some(folder) = cache.folder() else {
            let what = "--from takes the old samples' features from the cache; leave --cache off \
                        out, or name a folder with --cache";
            return Err(Error::new(ErrorKind::Usage, what));
        };
        let bytes = store::read(head_path, MAX_HEAD_BYTES)?;
        let (head, digest) = (
            Head::read(&bytes, head_path)?,
            record::digest(signature::without(&bytes)),
        );
        let wishes = &self.settings().wishes;
        let convolutions = wishes.convolutions();
        if head.reads_map() && !wishes.tail && !convolutions {
            let what = "was trained with --head tail or --head convolution";
            let remedy = "give the same --head again";
            return Err(Error::at(ErrorKind::Usage, head_path, what, remedy));
        }
        let cut = self.settings().cut.as_deref();
        let sense = Sense::of_identity(&head.backbone.preprocessing);
        self.require_kind(&sense, set)?;
        let cut = cut.unwrap_or(&head.backbone.cut);
        let backbone = self.model().sensing(sense, cut)?;
        let cut_up = self.cut_up(backbone.sense(), set, sources, progress)?;
        let (set, sources) = (&cut_up.set, &cut_up.sources(sources)[..]);
        head.require(&head_identity(&backbone, &head), head_path)?;
        let old = Record::load(&Store::default(), folder, &digest, &head, head_path)?;
        let wanted = self.settings().views(&backbone);
        let views = kept_views(&backbone, cache, &old, wanted, &head);
        // The old samples' files may be gone, which costs the forecast nothing.
        let (all, _) = merged(&old, set, &[], head_path)?;
        self.require_memory(&backbone, &all.set, views)?;
        let start = Instant::now();
        let new = self.features(&backbone, set, sources, views, progress)?;
        let (all, grown) = merged(&old, set, &new[..1], head_path)?;
        all.set.require_trainable()?;
        let kept = kept(&backbone, cache, &old, &all, views, head_path, &head)?;
        let matrices: Vec<FeatureMatrix> = new
            .into_iter()
            .zip(kept)
            .map(|(new, kept)| all.matrix(kept, new, head.backbone.features, views.count()))
            .collect();
        let mut outcome =
            self.train_on(&backbone, &all.set, (&matrices, views), start, progress)?;
        outcome.grown = Some(grown);
        Ok(outcome)
    }

    /// Writes the head, all of it or nothing, and before it the record that lets it grow.
    /// `lock` is the one of `path`.
    ///
    /// # Errors
    /// As [`Head::save`]. Without a record a head is still good, see
    /// [`Saved::record_failure`].
    pub fn save(&self, outcome: &Outcome, path: &Path, lock: &Lock) -> Result<Saved> {
        let digest = record::digest(&outcome.head.to_bytes()?);
        let folder = self.cache().folder();
        let store = Store::default();
        let kept = folder.map_or(Ok(()), |folder| {
            outcome.record.save(&store, folder, &digest)
        });
        let head_bytes = outcome.head.save_locked(path, lock)?;
        if let Some(checkpoints) = &self.settings().checkpoints {
            // One that stays is of a job that ended: another job does not use it.
            let _ = store.remove(&checkpoints.path);
        }
        Ok(Saved {
            head_bytes,
            record_failure: kept.err(),
        })
    }
}

/// Old and new samples as one set: first the old ones that were not given again.
struct All {
    set: SampleSet,
    /// Places in the record of the old samples in `set`, which are its first.
    kept: Vec<usize>,
    /// For each label of the new set, its place in `set.labels`.
    labels: Vec<usize>,
    /// Digests of the old samples in `set`.
    digests: Vec<Digest32>,
}

impl All {
    /// One view's features of the whole set.
    fn matrix(
        &self,
        kept: Vec<f32>,
        new: FeatureMatrix,
        features: usize,
        views: usize,
    ) -> FeatureMatrix {
        let old = self.kept.len();
        let labels = self.set.samples[..old].iter().map(|sample| sample.label);
        let new_labels = new.labels.iter().map(|label| self.labels[*label]);
        FeatureMatrix {
            values: [kept, new.values].concat(),
            features,
            labels: labels.chain(new_labels).collect(),
            rows: (0..old)
                .chain(new.rows.iter().map(|row| old + row))
                .collect(),
            digests: [&self.digests[..], &new.digests].concat(),
            from_cache: views * old + new.from_cache,
            ..new
        }
    }
}

/// Brings the record and the new samples together. Without `new`, the features of the new
/// samples, no old sample is known to be given again.
fn merged(
    old: &Record,
    set: &SampleSet,
    new: &[FeatureMatrix],
    head_path: &Path,
) -> Result<(All, Grown)> {
    let mut given: BTreeMap<&Digest32, usize> = BTreeMap::new();
    for matrix in new {
        for (digest, row) in matrix.digests.iter().zip(&matrix.rows) {
            given.entry(digest).or_insert(*row);
        }
    }
    let mut new_samples = set.samples.clone();
    let mut grown = Grown {
        from: head_path.into(),
        kept: 0,
        added: 0,
        again: 0,
        relabelled: Vec::new(),
        dropped: Vec::new(),
    };
    let mut kept = Vec::new();
    for (index, sample) in old.samples.iter().enumerate() {
        let Some(again) = given.get(&sample.digest) else {
            kept.push(index);
            continue;
        };
        let again = &mut new_samples[*again];
        grown.again += 1;
        let (before, now) = (&old.labels[sample.label], &set.labels[again.label]);
        if before != now {
            grown.relabelled.push(Relabelled {
                file: again.path.clone(),
                old: before.clone(),
                new: now.clone(),
            });
        }
        // A folder cannot say which samples belong together; a list once did.
        again.group = again.group.take().or_else(|| sample.group.clone());
    }
    let known: std::collections::BTreeSet<&Digest32> =
        old.samples.iter().map(|sample| &sample.digest).collect();
    let digests = new.iter().flat_map(|matrix| &matrix.digests);
    grown.added = digests.filter(|digest| !known.contains(digest)).count();
    grown.kept = kept.len();
    let labels = union(old, &kept, set, &mut grown)?;
    let all = joined(old, kept, set, new_samples, labels);
    Ok((all, grown))
}

/// Old labels that still have a sample, in their order, then the new ones.
fn union(old: &Record, kept: &[usize], set: &SampleSet, grown: &mut Grown) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    for (class, label) in old.labels.iter().enumerate() {
        let used = kept.iter().any(|index| old.samples[*index].label == class);
        if used || set.labels.contains(label) {
            labels.push(label.clone());
        } else {
            grown.dropped.push(label.clone());
        }
    }
    let new = set
        .labels
        .iter()
        .filter(|label| !old.labels.contains(label));
    labels.extend(new.cloned());
    if labels.len() > MAX_CLASSES {
        let what = format_args!(
            "has {} classes together with those of the head",
            labels.len()
        );
        let remedy = format_args!("use at most {MAX_CLASSES}");
        return Err(Error::at(ErrorKind::BadInput, &set.source, what, remedy));
    }
    Ok(labels)
}

fn joined(
    old: &Record,
    kept: Vec<usize>,
    set: &SampleSet,
    new_samples: Vec<Sample>,
    labels: Vec<String>,
) -> All {
    // Every label looked for is in the list.
    let place = |label: &String| labels.iter().position(|one| one == label).unwrap_or(0);
    let places: Vec<usize> = set.labels.iter().map(place).collect();
    let old_samples = kept.iter().map(|index| {
        let sample = &old.samples[*index];
        Sample {
            path: sample.file.clone(),
            label: place(&old.labels[sample.label]),
            group: sample.group.clone(),
            // Its features are in the cache; its file is not read.
            part: None,
        }
    });
    let new_samples = new_samples.into_iter().map(|sample| Sample {
        label: places[sample.label],
        ..sample
    });
    let samples = old_samples.chain(new_samples).collect();
    All {
        digests: kept
            .iter()
            .map(|index| old.samples[*index].digest)
            .collect(),
        labels: places,
        set: SampleSet {
            source: set.source.clone(),
            samples,
            labels,
            skipped: set.skipped.clone(),
        },
        kept,
    }
}

/// The wanted views, less those that the head did without and that are not in the cache
/// for all old samples: it was trained with fewer.
fn kept_views(
    backbone: &LazyBackbone,
    cache: &Cache,
    old: &Record,
    wanted: ViewSet,
    head: &Head,
) -> ViewSet {
    let mut row = vec![0.0; head.backbone.features];
    let mut is_kept = |view: View| {
        let mut samples = old.samples.iter();
        samples.all(|sample| cache.get(&backbone.key(&sample.digest, view), &mut row))
    };
    let spare = wanted.views().filter(|view| !head.views.contains(*view));
    let gone = spare.filter(|view| !is_kept(*view));
    gone.fold(wanted, ViewSet::without)
}

/// Features of the old samples that were not given again, one matrix a view.
fn kept(
    backbone: &LazyBackbone,
    cache: &Cache,
    old: &Record,
    all: &All,
    views: ViewSet,
    head_path: &Path,
    head: &Head,
) -> Result<Vec<Vec<f32>>> {
    let width = head.backbone.features;
    let mut matrices = vec![vec![0.0; all.kept.len() * width]; views.count()];
    let mut missing = Vec::new();
    for (place, index) in all.kept.iter().enumerate() {
        let sample = &old.samples[*index];
        let row = place * width..(place + 1) * width;
        let mut found = views.views().zip(&mut matrices).map(|(view, matrix)| {
            let row = &mut matrix[row.clone()];
            cache.get(&backbone.key(&sample.digest, view), row)
                && row.iter().all(|value| value.is_finite())
        });
        if !found.all(|found| found) {
            missing.push(&sample.file);
        }
    }
    let Some(first) = missing.first() else {
        return Ok(matrices);
    };
    let what = format_args!(
        "the features of {} of its {} samples are no longer in the cache, such as those of {}",
        missing.len(),
        old.samples.len(),
        first.display()
    );
    Err(Error::at(ErrorKind::BadInput, head_path, what, REMEDY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::growing::record::Recorded;

    fn sample(name: &str, label: usize, group: Option<&str>) -> Sample {
        Sample {
            path: name.into(),
            label,
            group: group.map(Into::into),
            part: None,
        }
    }

    /// Old: a1 and a2 of "ant", b3 of "bee", all of group "day".
    fn old() -> Record {
        let recorded = |(number, label): (u8, usize)| Recorded {
            digest: [number; 32],
            label,
            group: Some("day".into()),
            file: format!("old{number}").into(),
        };
        Record {
            labels: vec!["ant".into(), "bee".into()],
            samples: [(1, 0), (2, 0), (3, 1)].map(recorded).to_vec(),
        }
    }

    fn new(samples: Vec<Sample>, digests: &[u8]) -> (SampleSet, FeatureMatrix) {
        let set = SampleSet {
            source: "new".into(),
            labels: vec!["aphid".into(), "ant".into()],
            samples,
            skipped: Vec::new(),
        };
        let matrix = FeatureMatrix {
            values: digests.iter().map(|digest| f32::from(*digest)).collect(),
            features: 1,
            labels: set.samples.iter().map(|sample| sample.label).collect(),
            rows: (0..digests.len()).collect(),
            digests: digests.iter().map(|digest| [*digest; 32]).collect(),
            ..FeatureMatrix::default()
        };
        (set, matrix)
    }

    #[test]
    fn old_samples_come_first_and_keep_their_groups() {
        let samples = vec![
            sample("x", 0, None),
            sample("y", 1, None),
            sample("z", 0, None),
        ];
        // y is a2 under another name, z is b3 with another label.
        let (set, matrix) = new(samples, &[9, 2, 3]);
        let (all, grown) =
            merged(&old(), &set, std::slice::from_ref(&matrix), Path::new("h")).unwrap();
        assert_eq!((grown.kept, grown.added, grown.again), (1, 1, 2));
        assert_eq!(grown.dropped, ["bee"]);
        assert_eq!(grown.relabelled.len(), 1);
        assert_eq!(all.set.labels, ["ant", "aphid"]);
        let samples: Vec<_> = all
            .set
            .samples
            .iter()
            .map(|one| (one.label, &one.group))
            .collect();
        let day = Some("day".to_string());
        assert_eq!(samples, [(0, &day), (1, &None), (0, &day), (1, &day)]);
        let joined = all.matrix(vec![1.0], matrix, 1, 1);
        assert_eq!(joined.values, [1.0, 9.0, 2.0, 3.0]);
        assert_eq!(
            (joined.labels, joined.rows),
            (vec![0, 1, 0, 1], vec![0, 1, 2, 3])
        );
        assert_eq!(joined.digests, [[1; 32], [9; 32], [2; 32], [3; 32]]);
    }

    #[test]
    fn skipped_files_leave_no_row_and_too_many_classes_are_refused() {
        let samples = vec![sample("torn", 0, None), sample("y", 1, Some("own"))];
        let (set, mut matrix) = new(samples, &[2]);
        (matrix.rows, matrix.labels) = (vec![1], vec![1]);
        let (all, grown) =
            merged(&old(), &set, std::slice::from_ref(&matrix), Path::new("h")).unwrap();
        assert_eq!((grown.kept, grown.added, grown.again), (2, 0, 1));
        let joined = all.matrix(vec![1.0, 3.0], matrix, 1, 1);
        assert_eq!((joined.rows, joined.labels), (vec![0, 1, 3], vec![0, 1, 0]));
        assert_eq!(all.set.samples[3].group.as_deref(), Some("own"));
        let (mut set, matrix) = new(Vec::new(), &[]);
        set.labels = (0..MAX_CLASSES).map(|class| class.to_string()).collect();
        assert!(merged(&old(), &set, &[matrix], Path::new("h")).is_err());
    }
}
