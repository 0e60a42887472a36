//! From features of labelled samples to a head: the search among recipes, the last training,
//! and what is said about the head. Where features come from is `session.rs`'s.

use std::time::Instant;

use super::rows::{groups, judged, values};
use super::{Outcome, Progress, Seconds, Session, Stage, identity};
use super::{all_skipped, require_classes};
use crate::backbone::Identity;
use crate::budget::peak_rss_bytes;
use crate::checkpoint::{self, Checkpoint, Checkpoints, Resumed};
use crate::curve::measure::Study;
use crate::curve::{self, Curve, NoCurve};
use crate::data::Data;
use crate::error::Result;
use crate::features::{FeatureMatrix, LazyBackbone};
use crate::growing::record::Record;
use crate::head::{Head, Provenance, Sets, Unknown};
use crate::recipe::{self, Recipe, Shape};
use crate::samples::SampleSet;
use crate::search::{Found, HeldOut, Search};
use crate::store::Store;
use crate::views::ViewSet;
use crate::{sets, unknowns};

/// The learning curve may take one part in so many of `--time`.
pub const CURVE_SHARE: u32 = 4;

/// Samples whose features are known, and what they are.
pub(super) struct Labelled<'a> {
    backbone: &'a LazyBackbone,
    set: &'a SampleSet,
    /// Of the first view.
    matrix: &'a FeatureMatrix,
    values: Vec<&'a [f32]>,
    held: ViewSet,
    labels: Vec<u16>,
    groups: Vec<usize>,
}

impl<'a> Labelled<'a> {
    /// The samples of `set` that could be read; a matrix for each of the views.
    ///
    /// # Errors
    /// `BadInput` when a class has none.
    pub fn new(
        backbone: &'a LazyBackbone,
        set: &'a SampleSet,
        (matrices, views): (&'a [FeatureMatrix], ViewSet),
    ) -> Result<Self> {
        let matrix = &matrices[0];
        require_classes(set, matrix)?;
        Ok(Self {
            backbone,
            set,
            matrix,
            values: values(matrices),
            held: views,
            labels: matrix.labels.iter().map(|label| *label as u16).collect(),
            groups: groups(set, matrix),
        })
    }

    fn data(&self) -> Data<'_> {
        Data {
            views: &self.values,
            held: self.held,
            labels: &self.labels,
            groups: &self.groups,
            features: self.matrix.features,
            classes: self.set.labels.len(),
        }
    }
}

/// What a search found, and what else the last training needs.
pub(super) struct Searched {
    pub found: Found,
    checkpoint: Option<Checkpoint>,
    resumed: Option<Resumed>,
    pub seconds: f64,
}

impl Session {
    /// Trains on features, a matrix for each of the views. Features took from `start` until now.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub(crate) fn train_on(
        &self,
        backbone: &LazyBackbone,
        set: &SampleSet,
        matrices: (&[FeatureMatrix], ViewSet),
        start: Instant,
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        let samples = Labelled::new(backbone, set, matrices)?;
        let features = start.elapsed().as_secs_f64();
        let searched = self.search(&samples, progress)?;
        self.finish(&samples, searched, features, progress)
    }

    /// Chooses a recipe.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub(super) fn search(
        &self,
        samples: &Labelled<'_>,
        progress: &dyn Progress,
    ) -> Result<Searched> {
        let start = Instant::now();
        let data = samples.data();
        let wishes = self.with_layers(samples.backbone)?.wishes;
        let candidates = self.candidates(&wishes, &data);
        let checkpoint = self.checkpoint(&data, &candidates)?;
        // Before the search adds to it.
        let resumed = checkpoint.as_ref().and_then(Checkpoint::resumed);
        let found = self.search_among(&candidates, &data, progress, checkpoint.as_ref())?;
        Ok(Searched {
            found,
            resumed,
            checkpoint,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Cross-validates the candidates, on as many threads as the settings say.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub(super) fn search_among(
        &self,
        candidates: &[Recipe],
        data: &Data<'_>,
        progress: &dyn Progress,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Found> {
        let search = Search {
            data: *data,
            seed: self.settings.seed,
            kernel: self.kernel(),
            time: self.settings.time,
        };
        let tell = |done, all| progress.at(Stage::Search, done, all);
        let pool = self.pool()?;
        pool.install(|| search.run_from(candidates, &tell, checkpoint))
    }

    /// Trains what was found on all samples, and measures what can be said about the head.
    /// Features took so many seconds.
    ///
    /// # Errors
    /// As [`Session::train`].
    pub(super) fn finish(
        &self,
        samples: &Labelled<'_>,
        searched: Searched,
        features: f64,
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let (set, matrix, data) = (samples.set, samples.matrix, samples.data());
        let found = searched.found;
        let rows: Vec<usize> = (0..data.len()).collect();
        let trained = recipe::train_from(
            &found.recipe,
            &data,
            &rows,
            self.settings.seed,
            self.kernel(),
            searched.checkpoint.as_ref(),
        )?;
        let unknowns = match &found.recipe.shape {
            // Distances between maps say little, and trained layers move the features.
            Shape::Tail(_) | Shape::Convolutions { .. } => unknowns::Fit::nothing(data.len()),
            _ => unknowns::fit(
                found.recipe.normalise,
                trained.views,
                &data,
                &trained.fitted,
                self.settings.seed,
                self.settings.false_alarms.unwrap_or(unknowns::FALSE_ALARMS),
            ),
        };
        let train = start.elapsed().as_secs_f64();
        let arena_bytes = trained.arena_bytes;
        progress.at(Stage::Curve, 0, 1);
        let curve = self.curve(&data, &found, &set.labels)?;
        let curve_seconds = start.elapsed().as_secs_f64() - train;
        let backbone = identity(samples.backbone, data.features);
        let head = Head {
            unknown: unknowns.unknown,
            ..self.head(set, &data, backbone, &found, trained)
        };
        Ok(Outcome {
            expected: found
                .held_out()
                .map(|held_out| held_out.evaluation(&set.labels)),
            curve,
            record: Record::of(set, matrix),
            grown: None,
            tail_left: None,
            held_out: judged(set, matrix, &found, &head, &unknowns.scores),
            suspects: self.suspects(set, matrix, &data, &found)?,
            head,
            samples: data.len(),
            skipped: all_skipped(set, matrix),
            computed: matrix.computed,
            from_cache: matrix.from_cache,
            cache_failure: matrix.cache_failure.clone(),
            resumed: searched.resumed,
            checkpoint_failure: searched.checkpoint.as_ref().and_then(Checkpoint::failure),
            found,
            seconds: Seconds {
                features,
                search: searched.seconds,
                train,
                curve: curve_seconds,
            },
            arena_bytes,
            peak_rss_bytes: peak_rss_bytes(),
        })
    }

    /// The checkpoint of this job, if one is wanted.
    fn checkpoint(&self, data: &Data<'_>, candidates: &[Recipe]) -> Result<Option<Checkpoint>> {
        let open = |settings: &Checkpoints| {
            let job = checkpoint::job(data, candidates, self.settings.seed, self.kernel());
            Checkpoint::open(settings, Store::default(), job)
        };
        self.settings.checkpoints.as_ref().map(open).transpose()
    }

    /// The learning curve of the recipe found, in a part of the time for the search.
    fn curve(
        &self,
        data: &Data<'_>,
        found: &Found,
        labels: &[String],
    ) -> Result<std::result::Result<Curve, NoCurve>> {
        let study = Study {
            data: *data,
            recipe: &found.recipe,
            seed: self.settings.seed,
            kernel: self.kernel(),
            time: self.settings.time / CURVE_SHARE,
        };
        let held_out = found.held_out();
        let pool = self.pool()?;
        pool.install(|| curve::curve(&study, held_out, labels))
    }

    fn head(
        &self,
        set: &SampleSet,
        data: &Data<'_>,
        backbone: Identity,
        found: &Found,
        trained: recipe::Trained,
    ) -> Head {
        let held_out = found.held_out();
        let mut samples = vec![0u32; data.classes];
        data.labels
            .iter()
            .for_each(|label| samples[usize::from(*label)] += 1);
        Head {
            labels: set.labels.clone(),
            backbone,
            views: trained.views,
            fitted: trained.fitted,
            network: trained.network,
            parameters: trained.parameters,
            temperature: held_out.map_or(1.0, |held_out| held_out.temperature),
            unknown_below: 0.0,
            unknown: Unknown::default(),
            sets: held_out.map_or_else(Sets::default, |held_out| {
                sets::tables(held_out, data.classes)
            }),
            trained: Provenance {
                program: concat!("fieldtune ", env!("CARGO_PKG_VERSION")).into(),
                recipe: found.recipe.to_string(),
                seed: self.settings.seed,
                samples,
                cross_validation: held_out.map(HeldOut::cross_validation),
            },
        }
    }
}
