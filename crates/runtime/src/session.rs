//! The whole job, from samples to a head file and from a head file to predictions.
//! Every step is another module's; this one puts them in order. Nothing is printed. Which
//! row of features belongs to which sample is in `session/rows.rs`.

mod check;
mod predictor;
mod rows;
mod sensing;
mod tail_trial;
mod training;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fieldtune_core::Kernel;
use serde::Serialize;

use crate::backbone::Identity;
use crate::cache::Cache;
use crate::candidates::{TAIL_VIEWS, Wishes};
use crate::checkpoint::{Checkpoints, Resumed};
use crate::curve::{Curve, NoCurve};
use crate::error::{Error, ErrorKind, Result};
use crate::evaluation::{Evaluation, evaluate};
use crate::features::{self, FeatureMatrix, LazyBackbone, Source};
use crate::forecast::{self, Forecast};
use crate::growing::Grown;
use crate::growing::record::Record;
use crate::head::{Head, Prediction};
use crate::model::Model;
use crate::recipe::Shape;
use crate::samples::{SampleSet, Skipped};
use crate::search::Found;
use crate::senses::Sense;
use crate::series;
use crate::suspects::Suspect;
use crate::views::ViewSet;

pub use check::Checked;
pub use predictor::Predictor;
pub(crate) use rows::{all_skipped, require_classes};
use rows::{first_skipped, known_labels};
pub use training::CURVE_SHARE;

/// Which part of a job is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Samples pass the backbone.
    Features,
    /// Recipes are cross-validated.
    Search,
    /// Heads of parts of the samples are trained, to see what more would bring.
    Curve,
    /// Pictures are looked at.
    Pictures,
    /// Long recordings are cut into windows.
    Windows,
    /// A device trains.
    Device,
}

/// Told how far a job is. Called from several threads.
pub trait Progress: Sync {
    /// `done` of `all` steps of a stage are finished.
    fn at(&self, stage: Stage, done: usize, all: usize);
}

/// Progress nobody looks at.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _: Stage, _: usize, _: usize) {}
}

/// How a job is done.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the user has fixed about the head.
    pub wishes: Wishes,
    /// The tensor where the backbone is cut; `None` for the manifest's default.
    pub cut: Option<String>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Backbone runs and trainings at once, at least 1.
    pub threads: usize,
    /// The process must not need more; checked before work starts.
    pub memory_bytes: Option<u64>,
    /// The search starts no candidate after this time.
    pub time: Duration,
    /// The same bits on every kind of processor.
    pub reproducible: bool,
    /// An unreadable sample is an error.
    pub strict: bool,
    /// Share of samples of trained classes that may be called unknown, 0 to below 1;
    /// `None` for [`crate::unknowns::FALSE_ALARMS`].
    pub false_alarms: Option<f64>,
    /// Longer recordings are cut into windows of so many seconds; `None` for what the
    /// manifest says, or what is usual.
    pub window_seconds: Option<f32>,
    /// Seconds from one window of a series to the next, at most; `None` for a window's.
    pub step_seconds: Option<f32>,
    /// Where training keeps what it needs to go on after its process ended; `None` keeps
    /// nothing.
    pub checkpoints: Option<Checkpoints>,
}

impl Settings {
    /// The views of each sample whose features are computed; the recipe chosen uses some
    /// or all of them.
    pub fn views(&self, backbone: &LazyBackbone) -> ViewSet {
        let usual = match self.wishes.tail {
            true => TAIL_VIEWS,
            false => ViewSet::ALL,
        };
        backbone.views(self.wishes.views.unwrap_or(usual))
    }
}

/// A backbone, a cache and settings: what every job needs.
pub struct Session {
    model: Model,
    cache: Cache,
    settings: Settings,
}

/// What training brought.
pub struct Outcome {
    /// The trained head.
    pub head: Head,
    /// What was tried on the way.
    pub found: Found,
    /// Samples trained on.
    pub samples: usize,
    /// Files left out, with the reason.
    pub skipped: Vec<Skipped>,
    /// Views of samples that passed the backbone, and those found in the cache.
    pub computed: usize,
    /// See `computed`.
    pub from_cache: usize,
    /// The first entry that could not be kept in the cache, if any.
    pub cache_failure: Option<Error>,
    /// What an interrupted run had done already, where this one went on from it.
    pub resumed: Option<Resumed>,
    /// Why the checkpoint could not be kept, if it could not.
    pub checkpoint_failure: Option<Error>,
    /// Cross-validated figures: what the head is expected to do on new samples.
    pub expected: Option<Evaluation>,
    /// What more samples would bring, or why that cannot be said.
    pub curve: std::result::Result<Curve, NoCurve>,
    /// What the head was trained on, for it to grow later.
    pub record: Record,
    /// What became of the old samples, where a head grew.
    pub grown: Option<Grown>,
    /// Why training the backbone's own layers was not tried, where it might have been.
    pub tail_left: Option<String>,
    /// Which sample each row of the cross-validation was, for the report.
    pub held_out: Vec<Judged>,
    /// Samples to look at, as far as features and held-out outputs tell.
    pub suspects: Vec<Suspect>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Size of the training arena in bytes.
    pub arena_bytes: u64,
    /// Peak memory of the process so far in bytes, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// A held-out sample and what a head that had not seen it said.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its file.
    pub path: PathBuf,
    /// Index of its label.
    pub truth: usize,
    /// What was said.
    pub prediction: Prediction,
}

/// Wall time of the parts of a training job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Samples through the backbone.
    pub features: f64,
    /// Cross-validation.
    pub search: f64,
    /// The final training.
    pub train: f64,
    /// The learning curve.
    pub curve: f64,
}

impl Seconds {
    /// All parts together.
    pub fn total(&self) -> f64 {
        self.features + self.search + self.train + self.curve
    }
}

impl std::ops::Add for Seconds {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            features: self.features + other.features,
            search: self.search + other.search,
            train: self.train + other.train,
            curve: self.curve + other.curve,
        }
    }
}

/// What an evaluation brought.
pub struct Evaluated {
    /// The figures.
    pub evaluation: Evaluation,
    /// Every sample and what the head said.
    pub judged: Vec<Judged>,
    /// Files left out, with the reason.
    pub skipped: Vec<Skipped>,
}

impl Session {
    /// A session on one backbone.
    pub fn new(model: Model, cache: Cache, settings: Settings) -> Self {
        Self {
            model,
            cache,
            settings,
        }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How jobs are done.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The kernel of the matrix products.
    pub fn kernel(&self) -> Kernel {
        if self.settings.reproducible {
            Kernel::lanes()
        } else {
            Kernel::best()
        }
    }

    /// What makes features of the samples of `set` for training, cut where the user or the
    /// manifest says.
    pub(crate) fn backbone(&self, set: &SampleSet, sources: &[Source<'_>]) -> Result<LazyBackbone> {
        let manifest = self.model.manifest();
        let wishes = &self.settings.wishes;
        let usual = if wishes.tail {
            &manifest.tail_cut
        } else if wishes.convolutions() {
            series::VALUES
        } else {
            self.model.usual_cut(set.kind())
        };
        let cut = self.settings.cut.as_deref().unwrap_or(usual);
        if cut.is_empty() {
            let remedy = match self.settings.wishes.tail {
                true => {
                    "choose one with --cut; `fieldtune inspect` says after which the layers can be trained"
                }
                false => "choose one with --cut; `fieldtune inspect` lists them",
            };
            let path = Path::new(&manifest.file);
            return Err(Error::at(
                ErrorKind::Usage,
                path,
                "no cut tensor is named",
                remedy,
            ));
        }
        let sense = self.sense(set, sources, cut)?;
        self.model.sensing(sense, cut)
    }

    /// The settings with the layers of the wished head where they depend on the backbone: its
    /// tail, or convolutions over its channels.
    fn with_layers(&self, backbone: &LazyBackbone) -> Result<Settings> {
        let mut settings = self.settings.clone();
        settings.wishes = self.heard_wishes(backbone, settings.wishes);
        if settings.wishes.tail {
            settings.wishes.shape = Some(Shape::Tail(backbone.tail()?));
        }
        let wished = &mut settings.wishes.shape;
        if let (Some(Shape::Convolutions { channels, .. }), Sense::Series(series)) =
            (wished, backbone.sense())
        {
            *channels = series.channels.len();
        }
        Ok(settings)
    }

    /// What training on `set` would take. Loads and measures the backbone; trains
    /// nothing.
    ///
    /// # Errors
    /// When samples or backbone cannot be used, or flags contradict each other; `OverBudget`
    /// when it is more than `--memory`.
    pub fn forecast(&self, set: &SampleSet) -> Result<Forecast> {
        set.require_trainable()?;
        let sources = Source::of_set(set);
        let backbone = self.backbone(set, &sources)?;
        let cut_up = self.cut_up(backbone.sense(), set, &sources, &Silent)?;
        let settings = self.with_layers(&backbone)?;
        let alone = forecast::forecast(&settings, self.kernel(), &backbone, &cut_up.set)?;
        Ok(self.with_trial(&cut_up.set, alone))
    }

    /// Trains a head on the labelled samples of `set`, whose bytes `sources` give in the
    /// same order. Writes nothing but the cache.
    ///
    /// # Errors
    /// `OverBudget` before any work when the memory limit would not hold; `BadInput`
    /// when too few samples can be read; `Failed` when training diverges.
    pub fn train(
        &self,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        set.require_trainable()?;
        let backbone = self.backbone(set, sources)?;
        let cut_up = self.cut_up(backbone.sense(), set, sources, progress)?;
        let (set, sources) = (&cut_up.set, &cut_up.sources(sources)[..]);
        let views = self.settings.views(&backbone);
        self.require_memory(&backbone, set, views)?;
        let start = Instant::now();
        let matrices = self.features(&backbone, set, sources, views, progress)?;
        let outcome = self.train_on(&backbone, set, (&matrices, views), start, progress)?;
        // Their memory is free for the trial.
        drop((matrices, backbone));
        Ok(self.try_tail(set, sources, outcome, start, progress))
    }

    /// Whether training on `set` keeps within `--memory`.
    ///
    /// # Errors
    /// `OverBudget` when not.
    pub(crate) fn require_memory(
        &self,
        backbone: &LazyBackbone,
        set: &SampleSet,
        views: ViewSet,
    ) -> Result<()> {
        if self.settings.memory_bytes.is_none() {
            return Ok(());
        }
        let mut settings = self.with_layers(backbone)?;
        settings.wishes.views = Some(views);
        forecast::forecast(&settings, self.kernel(), backbone, set).map(|_| ())
    }

    /// Measures a head on labelled samples.
    ///
    /// # Errors
    /// `Mismatch` when the head belongs to another backbone or the samples have classes
    /// that it does not know; `BadInput` when no sample can be read.
    pub fn evaluate(
        &self,
        head: &Head,
        head_path: &Path,
        set: &SampleSet,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Evaluated> {
        let known = known_labels(head, head_path, set)?;
        let said = self
            .predictor(head, head_path)?
            .said(set, sources, progress)?;
        let found = said.predictions.into_iter().zip(&set.samples);
        let judged: Vec<Judged> = found
            .filter_map(|(prediction, sample)| {
                Some(Judged {
                    path: sample.path.clone(),
                    truth: known[sample.label],
                    prediction: prediction.ok()?,
                })
            })
            .collect();
        if judged.is_empty() {
            let reason = said.skipped.first();
            let reason = reason.map_or("", |skipped| skipped.reason.as_str());
            let what = format_args!("no sample can be read ({reason})");
            return Err(Error::at(
                ErrorKind::BadInput,
                &set.source,
                what,
                "give readable samples",
            ));
        }
        let truth: Vec<usize> = judged.iter().map(|judged| judged.truth).collect();
        let probabilities: Vec<f32> = judged
            .iter()
            .flat_map(|judged| judged.prediction.probabilities.clone())
            .collect();
        Ok(Evaluated {
            evaluation: evaluate(&head.labels, &truth, &probabilities),
            judged,
            skipped: set.skipped.iter().cloned().chain(said.skipped).collect(),
        })
    }

    /// Labels the given files; see [`Predictor::predict`].
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn predict(
        &self,
        head: &Head,
        head_path: &Path,
        sources: &[Source<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Prediction, String>>> {
        self.predictor(head, head_path)?.predict(sources, progress)
    }

    /// Features of all samples, a matrix a view, all of the same rows.
    pub(crate) fn features(
        &self,
        backbone: &LazyBackbone,
        set: &SampleSet,
        sources: &[Source<'_>],
        views: ViewSet,
        progress: &dyn Progress,
    ) -> Result<Vec<FeatureMatrix>> {
        let tell = |done, all| progress.at(Stage::Features, done, all);
        let threads = self.settings.threads.max(1);
        let matrices = features::extract(backbone, sources, views, &self.cache, threads, &tell)?;
        let skipped = matrices
            .first()
            .and_then(|matrix| first_skipped(set, matrix));
        if let Some(skipped) = skipped.filter(|_| self.settings.strict) {
            let remedy = "or run without --strict";
            return Err(Error::at(
                ErrorKind::BadInput,
                &skipped.path,
                &skipped.reason,
                remedy,
            ));
        }
        Ok(matrices)
    }
}

fn identity_without_features(backbone: &LazyBackbone) -> Identity {
    Identity {
        name: backbone.name().into(),
        sha256: *backbone.sha256(),
        cut: backbone.cut().into(),
        features: 0,
        preprocessing: backbone.preprocessing().into(),
    }
}

/// The backbone at hand, as far as it is known without loading it.
pub(crate) fn head_identity(backbone: &LazyBackbone, head: &Head) -> Identity {
    Identity {
        features: head.backbone.features,
        ..identity_without_features(backbone)
    }
}

/// The backbone at hand, which gives so many features.
pub(crate) fn identity(backbone: &LazyBackbone, features: usize) -> Identity {
    Identity {
        features,
        ..identity_without_features(backbone)
    }
}
