//! A head in use: the backbone is read once, for as many files as come.

use std::path::Path;

use super::rows::{mean, values};
use super::{Progress, Session, head_identity};
use crate::error::Result;
use crate::features::{FeatureMatrix, LazyBackbone, Source};
use crate::head::{Head, Prediction};
use crate::samples::SampleSet;

/// A head and its backbone, ready to label files.
pub struct Predictor<'a> {
    session: &'a Session,
    head: &'a Head,
    head_path: &'a Path,
    backbone: LazyBackbone,
}

impl Session {
    /// What labels files with `head`. Reads the backbone only when a file needs it.
    ///
    /// # Errors
    /// `Mismatch` when the head belongs to another backbone.
    pub fn predictor<'a>(&'a self, head: &'a Head, head_path: &'a Path) -> Result<Predictor<'a>> {
        let backbone = self.model.cut_at(&head.backbone.cut)?;
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
        self.backbone.get().map(|_| ())
    }

    /// How many files are labelled at once.
    pub fn threads(&self) -> usize {
        self.session.settings.threads.max(1)
    }

    /// Labels the given files. One result a file, in order: a prediction, or why it could
    /// not be read.
    ///
    /// # Errors
    /// `Mismatch` when the backbone gives other features than the head takes; as
    /// [`features::extract`](crate::features::extract).
    pub fn predict(
        &self,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Prediction, String>>> {
        let nothing = SampleSet::default();
        let matrices = self.features(&nothing, sources, progress)?;
        let matrix = &matrices[0];
        let mut results = vec![Err(String::new()); sources.len()];
        let views = values(&matrices);
        let predictions = self.head.predict_views(&views, self.session.kernel())?;
        for (row, prediction) in matrix.rows.iter().zip(predictions) {
            results[*row] = Ok(prediction);
        }
        let unread = results.iter_mut().filter(|result| result.is_err());
        for (result, skipped) in unread.zip(&matrix.skipped) {
            *result = Err(skipped.reason.clone());
        }
        Ok(results)
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
