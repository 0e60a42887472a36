//! The job of `fieldtune check`: everything that finds bad samples, on one set. What each
//! finder does is in `suspects/`.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::candidates::{self, Wishes};
use crate::data::Data;
use crate::error::{Error, ErrorKind, Result};
use crate::features::{FeatureMatrix, Source};
use crate::preprocess::decode;
use crate::recipe::Recipe;
use crate::samples::SampleSet;
use crate::search::{Found, HeldOut};
use crate::senses::Kind;
use crate::suspects::duplicates::{self, Pair, Thumbnail};
use crate::suspects::means::Directions;
use crate::suspects::pictures::{Look, faults};
use crate::suspects::{self, Rows, Suspect};

use super::rows::groups;
use super::{Progress, Session, Stage, all_skipped};

/// What a check brought.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Usable samples of each class.
    pub counts: Vec<usize>,
    /// What to look at, sorted by kind, the worst first.
    pub suspects: Vec<Suspect>,
    /// Share of held-out samples that a head called as they are labelled, 0 to 1, where
    /// one could be trained.
    pub agreement: Option<f64>,
}

/// What the bytes of one sample tell.
#[derive(Default)]
struct Seen {
    sha256: Option<[u8; 32]>,
    look: Option<Look>,
}

impl Session {
    /// Looks for what is wrong with the labelled samples of `set`, whose bytes `sources`
    /// give in the same order. Trains throw-away heads on parts of them with the default
    /// recipe. Writes nothing but the cache.
    ///
    /// # Errors
    /// `BadInput` when no sample can be read; those of the backbone.
    pub fn check(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Checked> {
        let backbone = self.backbone(set, sources)?;
        let cut_up = self.cut_up(backbone.sense(), set, sources, progress)?;
        let (set, sources) = (&cut_up.set, &cut_up.sources(sources)[..]);
        let views = self.settings.views(&backbone);
        let matrices = self.features(&backbone, set, sources, views, progress)?;
        let matrix = matrices.first().filter(|matrix| !matrix.rows.is_empty());
        let Some(matrix) = matrix else {
            return Err(nothing_readable(set, matrices.first()));
        };
        let seen = self.seen(backbone.sense().kind(), sources, matrix, progress)?;
        let values: Vec<&[f32]> = matrices.iter().map(|matrix| &matrix.values[..]).collect();
        let labels: Vec<u16> = matrix.labels.iter().map(|label| *label as u16).collect();
        let mut groups = groups(set, matrix);
        let mut data = Data {
            views: &values,
            held: views,
            labels: &labels,
            groups: &[],
            features: matrix.features,
            classes: set.labels.len(),
        };
        let pairs = self.pool()?.install(|| copies(&seen, &data));
        join(&mut groups, &pairs);
        data.groups = &groups;
        let wishes = self.heard_wishes(&backbone, self.settings.wishes.clone());
        let found = self.held_out(&wishes, &data, progress)?;
        let held_out = found.as_ref().and_then(Found::held_out);
        let rows = Rows {
            set,
            samples: &matrix.rows,
            data: &data,
        };
        let mut suspects = self.pool()?.install(|| of_samples(&rows, held_out));
        suspects.extend(suspects::copies(&rows, &pairs));
        suspects.extend(suspects::unreadable(&all_skipped(set, matrix)));
        let counts = suspects::class_sizes(&rows);
        suspects.extend(suspects::counts::suspects(set, &counts));
        suspects.extend(of_pictures(&rows, seen));
        suspects::sort(&mut suspects);
        Ok(Checked {
            labels: set.labels.clone(),
            counts,
            suspects,
            agreement: held_out.map(|held_out| held_out.accuracy),
        })
    }

    /// What a training job tells on the way, see [`suspects::of_features`].
    pub(super) fn suspects(
        &self,
        set: &SampleSet,
        matrix: &FeatureMatrix,
        data: &Data<'_>,
        found: &Found,
    ) -> Result<Vec<Suspect>> {
        let rows = Rows {
            set,
            samples: &matrix.rows,
            data,
        };
        let skipped = all_skipped(set, matrix);
        let find = || suspects::of_features(&rows, found.held_out(), &skipped);
        Ok(self.pool()?.install(find))
    }

    /// The recipes that are worth trying, the default first.
    pub(super) fn candidates(&self, wishes: &Wishes, data: &Data<'_>) -> Vec<Recipe> {
        candidates::candidates(wishes, &data.counts(0..data.len()))
    }

    /// As many threads as the settings say.
    pub(super) fn pool(&self) -> Result<rayon::ThreadPool> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.settings.threads.max(1));
        pool.build().map_err(|error| {
            let what = format_args!("threads cannot be started ({error}); lower --threads");
            Error::new(ErrorKind::Failed, what)
        })
    }

    /// Reads and decodes every sample with features once more, one a thread at a time.
    fn seen(
        &self,
        kind: Kind,
        sources: &[Source<'_>],
        matrix: &FeatureMatrix,
        progress: &dyn Progress,
    ) -> Result<Vec<Seen>> {
        let done = AtomicUsize::new(0);
        let all = matrix.rows.len();
        let look = |row: &usize| {
            let seen = sources.get(*row).map(|source| see(kind, source));
            let seen = seen.unwrap_or_default();
            progress.at(
                Stage::Pictures,
                done.fetch_add(1, Ordering::Relaxed) + 1,
                all,
            );
            seen
        };
        let rows = matrix.rows.par_iter().with_max_len(1);
        Ok(self.pool()?.install(|| rows.map(look).collect()))
    }

    /// Outputs for held-out samples with the default recipe; `None` where no head can be
    /// trained, since a class has no sample.
    fn held_out(
        &self,
        wishes: &Wishes,
        data: &Data<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Found>> {
        let present = |class: usize| data.labels.iter().any(|label| usize::from(*label) == class);
        if data.classes < 2 || !(0..data.classes).all(present) {
            return Ok(None);
        }
        let candidates = self.candidates(wishes, data);
        let first = candidates.get(..1).unwrap_or_default();
        self.search_among(first, data, progress, None).map(Some)
    }
}

fn nothing_readable(set: &SampleSet, matrix: Option<&FeatureMatrix>) -> Error {
    let skipped = matrix.map_or(&[][..], |matrix| &matrix.skipped);
    let first = skipped.first().or(set.skipped.first());
    let reason = first.map_or_else(String::new, |skipped| format!(" ({})", skipped.reason));
    let what = format_args!("no sample can be read{reason}");
    let remedy = "give readable pictures, recordings or sensor files, one sub-folder a class";
    Error::at(ErrorKind::BadInput, &set.source, what, remedy)
}

/// A sample that cannot be read any more has nothing to show; its features are older.
/// Of recordings and series only copies are told, and parts of one file are none.
fn see(kind: Kind, source: &Source<'_>) -> Seen {
    if source.part.is_some() {
        return Seen::default();
    }
    let Ok(bytes) = source.read() else {
        return Seen::default();
    };
    Seen {
        sha256: Some(Sha256::digest(&bytes).into()),
        look: (kind == Kind::Picture)
            .then(|| decode(&bytes, source.path).ok())
            .flatten()
            .map(|image| Look::of(&image)),
    }
}

/// Copies of all kinds, each pair once, as the strongest kind.
fn copies(seen: &[Seen], data: &Data<'_>) -> Vec<Pair> {
    let digests: Vec<Option<[u8; 32]>> = seen.iter().map(|seen| seen.sha256).collect();
    let mut pairs = duplicates::exact(&digests);
    let directions = Directions::of(data);
    // A file that equals an earlier one is known by that: its other likenesses are the
    // earlier one's.
    let repeated: Vec<usize> = pairs.iter().map(|pair| pair.second).collect();
    let thumbnails: Vec<Option<&Thumbnail>> = seen
        .iter()
        .enumerate()
        .map(|(row, seen)| {
            let look = seen.look.as_ref().filter(|_| !repeated.contains(&row));
            look.map(|look| &look.thumbnail)
        })
        .collect();
    let near = duplicates::near(&thumbnails, &directions, &pairs);
    pairs.extend(near);
    pairs
}

/// Puts copies into one group, so that none vouches for the other's label.
fn join(groups: &mut [usize], pairs: &[Pair]) {
    for pair in pairs {
        let (keep, change) = (groups[pair.first], groups[pair.second]);
        if keep != change {
            let changed = groups.iter_mut().filter(|group| **group == change);
            changed.for_each(|group| *group = keep);
        }
    }
}

fn of_samples(rows: &Rows<'_>, held_out: Option<&HeldOut>) -> Vec<Suspect> {
    suspects::judged(rows, &Directions::of(rows.data), held_out)
}

fn of_pictures(rows: &Rows<'_>, seen: Vec<Seen>) -> Vec<Suspect> {
    let looks: Vec<Option<Look>> = seen.into_iter().map(|seen| seen.look).collect();
    suspects::pictures(rows, &faults(&looks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspects::duplicates::Copies;

    #[test]
    fn copies_of_copies_are_one_group() {
        let pair = |first, second| Pair {
            first,
            second,
            copies: Copies::Near,
            likeness: 1.0,
        };
        let mut groups = vec![0, 1, 2, 3, 4];
        join(&mut groups, &[pair(0, 2), pair(2, 4)]);
        assert_eq!(groups, [0, 1, 0, 3, 0]);
    }
}
