//! A head in use: the backbone is read once, for as many files as come.

use std::collections::HashSet;
use std::path::Path;

use super::rows::{mean, values};
use super::{Progress, Session, head_identity};
use crate::error::{Error, ErrorKind, Result};
use crate::features::{FeatureMatrix, LazyBackbone, Source};
use crate::head::{Head, Prediction, Window};
use crate::preprocess::View;
use crate::samples::{Sample, SampleSet, Skipped};
use crate::senses::{Kind, Sense};
use crate::suggest::{self, Suggested};
use crate::windows::CutUp;

/// A head and its backbone, ready to label files.
pub struct Predictor<'a> {
    session: &'a Session,
    head: &'a Head,
    head_path: &'a Path,
    backbone: LazyBackbone,
}

/// What a head says of some files.
pub(super) struct Said {
    /// A prediction each, or why there is none.
    pub predictions: Vec<std::result::Result<Prediction, String>>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// Samples that passed the backbone.
struct Passed {
    cut_up: CutUp,
    /// See [`Predictor::features`].
    matrices: Vec<FeatureMatrix>,
}

impl Session {
    /// What labels files with `head`. Reads the backbone only when a file needs it.
    ///
    /// # Errors
    /// `Mismatch` when the head belongs to another backbone.
    pub fn predictor<'a>(&'a self, head: &'a Head, head_path: &'a Path) -> Result<Predictor<'a>> {
        let sense = Sense::of_identity(&head.backbone.preprocessing);
        if sense.kind() != Kind::Picture && head.views.contains(View::Mirrored) {
            let name = sense.kind().name();
            let what = format_args!("a {name} has no mirror image; leave --tta out");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let backbone = self.model.sensing(sense, &head.backbone.cut)?;
        // What can be told without loading the backbone is told first.
        head.require(&head_identity(&backbone, head), head_path)?;
        Ok(Predictor {
            session: self,
            head,
            head_path,
            backbone,
        })
    }
}

impl Predictor<'_> {
    /// Reads the backbone now, so that a failure shows before the first file comes.
    ///
    /// # Errors
    /// As [`Backbone::load`](crate::backbone::Backbone::load).
    pub fn load(&self) -> Result<()> {
        match self.backbone.has_network() {
            true => self.backbone.get().map(|_| ()),
            false => Ok(()),
        }
    }

    /// How many files are labelled at once.
    pub fn threads(&self) -> usize {
        self.session.settings.threads.max(1)
    }

    /// Of what kind the head's samples are.
    pub fn kind(&self) -> Kind {
        self.sense().kind()
    }

    /// How they become numbers.
    pub fn sense(&self) -> &Sense {
        self.backbone.sense()
    }

    /// Labels the given files. One result a file, in order: a prediction, or why it could
    /// not be read. Of a long recording it is that of all its windows together.
    ///
    /// # Errors
    /// `Mismatch` when the backbone gives other features than the head takes; as
    /// [`features::extract`](crate::features::extract).
    pub fn predict(
        &self,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Prediction, String>>> {
        let sample = |source: &Source<'_>| Sample {
            path: source.path.into(),
            label: source.label,
            group: None,
            part: None,
        };
        let set = SampleSet {
            samples: sources.iter().map(sample).collect(),
            ..SampleSet::default()
        };
        Ok(self.said(&set, sources, progress)?.predictions)
    }

    /// What the head says of the samples of `set`, whose bytes `sources` give.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub(super) fn said(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Said> {
        let passed = self.passed(set, sources, progress)?;
        self.judged(&passed, sources)
    }

    /// Cuts the samples into windows and computes what the head judges.
    fn passed(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Passed> {
        let sense = self.backbone.sense();
        let cut_up = self.session.cut_up(sense, set, sources, progress)?;
        let matrices = self.features(set, &cut_up.sources(sources), progress)?;
        Ok(Passed { cut_up, matrices })
    }

    fn judged(&self, passed: &Passed, sources: &[Source<'_>]) -> Result<Said> {
        let Passed { cut_up, matrices } = passed;
        let parts = cut_up.sources(sources);
        let matrix = &matrices[0];
        let predictions = self
            .head
            .predict_views(&values(matrices), self.session.kernel())?;
        let mut windows: Vec<Vec<Window>> = vec![Vec::new(); sources.len()];
        for (row, prediction) in matrix.rows.iter().zip(predictions) {
            let part = parts[*row].part;
            windows[cut_up.recordings[*row]].push(Window { part, prediction });
        }
        // Why each recording, or its first window that was left out, was.
        let mut reasons = vec![None; sources.len()];
        let read: HashSet<usize> = matrix.rows.iter().copied().collect();
        let unread = (0..parts.len()).filter(|row| !read.contains(row));
        for (row, skipped) in unread.zip(&matrix.skipped) {
            reasons[cut_up.recordings[row]].get_or_insert(skipped.reason.clone());
        }
        let merged = windows.into_iter().zip(reasons);
        let predictions = merged.map(|(windows, reason)| {
            let merged = self.head.merged(windows);
            merged.ok_or_else(|| reason.unwrap_or_else(|| "is silent; remove it".into()))
        });
        Ok(Said {
            predictions: predictions.collect(),
            skipped: matrix.skipped.clone(),
        })
    }

    /// Up to `count` of the unlabelled samples of `set` that are most worth a label, see
    /// [`suggest`]. The features of a long file are the mean of its windows'.
    ///
    /// # Errors
    /// `Mismatch` when the samples are of another kind than the head's; as
    /// [`Predictor::predict`].
    pub fn suggest(
        &self,
        set: &SampleSet,
        count: usize,
        progress: &dyn Progress,
    ) -> Result<Suggested> {
        self.session.require_kind(self.backbone.sense(), set)?;
        let sources = Source::of_set(set);
        let passed = self.passed(set, &sources, progress)?;
        let said = self.judged(&passed, &sources)?;
        let matrix = &passed.matrices[0];
        let mut sums = vec![Vec::new(); sources.len()];
        let mut windows = vec![0u16; sources.len()];
        for (index, part) in matrix.rows.iter().enumerate() {
            let file = passed.cut_up.recordings[*part];
            windows[file] = windows[file].saturating_add(1);
            let (sum, row) = (&mut sums[file], matrix.row(index));
            sum.resize(row.len(), 0.0);
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, value): (&mut f32, _)| *sum += value);
        }
        let (mut judged, mut features) = (Vec::new(), Vec::new());
        for (file, prediction) in said.predictions.into_iter().enumerate() {
            if let Ok(prediction) = prediction {
                judged.push((sources[file].path.to_path_buf(), prediction));
                let share = 1.0 / f32::from(windows[file].max(1));
                features.extend(sums[file].iter().map(|sum| share * sum));
            }
        }
        let kernel = self.session.kernel();
        Ok(Suggested {
            samples: judged.len(),
            suggestions: suggest::suggestions(self.head, &judged, features, count, kernel),
            skipped: set.skipped.iter().cloned().chain(said.skipped).collect(),
        })
    }

    /// The features of the given files, as a head that judges vectors takes them. One result
    /// a file, in order: a vector, or why it could not be read.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn rows(
        &self,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Vec<f32>, String>>> {
        crate::device::require_pictures(self.backbone.sense(), self.head_path)?;
        let nothing = SampleSet::default();
        let matrices = self.features(&nothing, sources, progress)?;
        let matrix = &matrices[0];
        let mut results = vec![Err(String::new()); sources.len()];
        for (index, row) in matrix.rows.iter().enumerate() {
            results[*row] = Ok(matrix.row(index).to_vec());
        }
        let unread = results.iter_mut().filter(|result| result.is_err());
        for (result, skipped) in unread.zip(&matrix.skipped) {
            *result = Err(skipped.reason.clone());
        }
        Ok(results)
    }

    /// What the head judges: the mean of its views' features, or every view's map. Never
    /// empty.
    pub(super) fn features(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<FeatureMatrix>> {
        let (session, head) = (self.session, self.head);
        let matrices = session.features(&self.backbone, set, sources, head.views, progress)?;
        let matrices = match head.reads_map() {
            true => matrices,
            false => vec![mean(matrices)],
        };
        if let Some(matrix) = matrices.first().filter(|matrix| !matrix.rows.is_empty()) {
            let mut found = head_identity(&self.backbone, head);
            found.features = matrix.features;
            head.require(&found, self.head_path)?;
        }
        Ok(matrices)
    }
}
