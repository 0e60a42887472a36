//! A head in memory that owns its parts: loaded from a file, saved to one, matched
//! with a backbone, and used. The file's bytes are `fieldtune_core::head`'s matter.

use std::path::Path;

use fieldtune_core::Kernel;
use fieldtune_core::head::{self as file, CrossValidation, Floats};
use fieldtune_core::network::Network;
use fieldtune_core::predict::probabilities;

use crate::backbone::Identity;
use crate::data::Fitted;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::hexadecimal;
use crate::recipe::{logits, mean_logits};
use crate::search::best;
use crate::signature;
use crate::sound::windows::Part;
use crate::store::{self, Lock, Store};
use crate::tail::training::reads_map;
use crate::versions::Versions;
use crate::views::ViewSet;

/// Largest head file read, in bytes.
pub const MAX_HEAD_BYTES: u64 = 1 << 30;

/// A trained head.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Class names, in the order of the outputs.
    pub labels: Vec<String>,
    /// What made the features it was trained on.
    pub backbone: Identity,
    /// The views of a sample that features are averaged over.
    pub views: ViewSet,
    /// What happens to features first.
    pub fitted: Fitted,
    /// The layer table.
    pub network: Network,
    /// Weights and biases, where the network says.
    pub parameters: Vec<f32>,
    /// Logits are divided by this before the softmax.
    pub temperature: f32,
    /// A top probability below this means "none of these"; 0 never does. For heads of
    /// older formats: others judge by `unknown`.
    pub unknown_below: f32,
    /// What tells samples of no class; empty in older heads.
    pub unknown: Unknown,
    /// What prediction sets are made from; empty in older heads.
    pub sets: Sets,
    /// How it was made.
    pub trained: Provenance,
}

/// Where the classes lie. See [`file::Head::unknown`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unknown {
    /// Little-endian f32, `[K, F]`, or empty.
    pub means: Vec<u8>,
    /// Little-endian f32, `[R, F]`.
    pub directions: Vec<u8>,
    /// A score above this means none of the classes.
    pub threshold: f32,
    /// Share of samples of the classes that the threshold was chosen to lose.
    pub false_alarms: f32,
}

impl Unknown {
    /// As the core judges by it and the head file stores it.
    pub fn as_file(&self) -> fieldtune_core::unknown::Unknown<'_> {
        fieldtune_core::unknown::Unknown {
            means: Floats::new(&self.means),
            directions: Floats::new(&self.directions),
            threshold: self.threshold,
            false_alarms: self.false_alarms,
        }
    }
}

/// What held-out samples gave their own label. See [`file::Head::sets`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sets {
    /// Samples behind each table, `K + 1`, or empty.
    pub counts: Vec<u32>,
    /// The tables, little-endian f32.
    pub tables: Vec<u8>,
}

impl Sets {
    /// As the core reads it and the head file stores it; `None` with too many classes.
    pub fn as_file(&self) -> Option<fieldtune_core::sets::Sets<'_>> {
        Some(fieldtune_core::sets::Sets {
            counts: heapless::Vec::from_slice(&self.counts).ok()?,
            tables: Floats::new(&self.tables),
        })
    }

    /// The labels among which the right one is in this share of new samples, 0 to 1,
    /// rising. All labels where there are too few held-out samples to promise it.
    pub fn labels(&self, probabilities: &[f32], coverage: f64) -> Vec<usize> {
        let all = 0..probabilities.len();
        let Some(sets) = self.as_file() else {
            return all.collect();
        };
        let within = |label: &usize| probabilities[*label] >= sets.least(*label, coverage);
        let found: Vec<usize> = all.filter(within).collect();
        if found.is_empty() {
            return vec![best(probabilities)];
        }
        found
    }
}

/// How a head was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// Program and version.
    pub program: String,
    /// The recipe, in words.
    pub recipe: String,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Training samples of each class.
    pub samples: Vec<u32>,
    /// Cross-validated accuracy; `None` when no sample could be held out.
    pub cross_validation: Option<CrossValidation>,
}

/// What a head says about one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Index of the likeliest class.
    pub label: usize,
    /// Calibrated probability of every class `[K]`.
    pub probabilities: Vec<f32>,
    /// Whether the head doubts that it is any of its classes.
    pub unknown: bool,
    /// How far it is from all classes, where the head knows them: above the head's
    /// threshold it is unknown.
    pub unknown_score: Option<f32>,
    /// What was said of each window of a long recording, in order; empty for a sample that
    /// was judged at once.
    pub windows: Vec<Window>,
}

/// A part of a recording and what a head says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Where it is; `None` for all of the recording.
    pub part: Option<Part>,
    /// What is said of it alone.
    pub prediction: Prediction,
}

impl Head {
    /// Reads and checks a head file.
    ///
    /// # Errors
    /// `BadInput` when the file cannot be read, is damaged, or is no head file.
    pub fn load(path: &Path) -> Result<Self> {
        Self::read(&store::read(path, MAX_HEAD_BYTES)?, path)
    }

    /// Reads and checks the bytes of the head file in `path`. Whose signature they bear is
    /// [`Trust`](crate::signature::Trust)'s question.
    ///
    /// # Errors
    /// `BadInput`, naming `path`, when they are damaged or no head.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        if signature::signed(bytes) == Err(signature::Fault::Wrong) {
            let what = "is damaged: head and signature do not fit together";
            return Err(Error::at(
                ErrorKind::BadInput,
                path,
                what,
                "copy the file again",
            ));
        }
        Self::from_bytes(signature::without(bytes)).map_err(|error| {
            let remedy = match error {
                fieldtune_core::Error::NotAHead => "give a file made by `fieldtune train`",
                fieldtune_core::Error::Version { .. } => {
                    "train it again, or use the program's version that made it"
                }
                _ => "copy the file again or train it again",
            };
            Error::at(ErrorKind::BadInput, path, error, remedy)
        })
    }

    /// Whether these are the bytes of a head that this version of the program cannot read.
    pub(crate) fn is_of_other_version(bytes: &[u8]) -> bool {
        let error = Self::from_bytes(signature::without(bytes)).err();
        matches!(error, Some(fieldtune_core::Error::Version { .. }))
    }

    fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, fieldtune_core::Error> {
        let head = file::Head::decode(bytes)?;
        let network = head.network()?;
        let bytes_of = |floats: &Floats<'_>| floats.iter().flat_map(f32::to_le_bytes).collect();
        Ok(Self {
            labels: head.labels.iter().map(ToString::to_string).collect(),
            backbone: Identity {
                name: head.backbone.name.into(),
                sha256: head.backbone.sha256,
                cut: head.backbone.cut.into(),
                features: head.backbone.features as usize,
                preprocessing: head.backbone.preprocessing.into(),
            },
            views: ViewSet::from_number(head.backbone.views)
                .ok_or(fieldtune_core::Error::Content)?,
            fitted: Fitted {
                signed_root: head.transform.signed_root,
                length: head.transform.length,
                shift: bytes_of(&head.transform.shift),
                scale: bytes_of(&head.transform.scale),
            },
            network,
            parameters: head.parameters.iter().collect(),
            temperature: head.temperature,
            unknown_below: head.unknown_below,
            unknown: Unknown {
                means: bytes_of(&head.unknown.means),
                directions: bytes_of(&head.unknown.directions),
                threshold: head.unknown.threshold,
                false_alarms: head.unknown.false_alarms,
            },
            sets: Sets {
                counts: head.sets.counts.to_vec(),
                tables: bytes_of(&head.sets.tables),
            },
            trained: Provenance {
                program: head.trained.program.into(),
                recipe: head.trained.recipe.into(),
                seed: head.trained.seed,
                samples: head.trained.samples.to_vec(),
                cross_validation: head.trained.cross_validation,
            },
        })
    }

    /// The head as a file's bytes.
    ///
    /// # Errors
    /// `Usage` when it has more classes or longer names than the format holds.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let parameters: Vec<u8> = self
            .parameters
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let head = self
            .borrowed(&parameters)
            .ok_or_else(|| unwritable(&"too many classes"))?;
        let size = head.file_bytes().map_err(|error| unwritable(&error))?;
        let mut buffer = vec![0; size];
        head.encode(&mut buffer)
            .map_err(|error| unwritable(&error))?;
        Ok(buffer)
    }

    fn borrowed<'a>(&'a self, parameters: &'a [u8]) -> Option<file::Head<'a>> {
        let mut labels = heapless::Vec::new();
        for label in &self.labels {
            labels.push(label.as_str()).ok()?;
        }
        Some(file::Head {
            labels,
            backbone: file::Backbone {
                name: &self.backbone.name,
                sha256: self.backbone.sha256,
                cut: &self.backbone.cut,
                features: u32::try_from(self.backbone.features).ok()?,
                preprocessing: &self.backbone.preprocessing,
                views: self.views.number(),
            },
            transform: self.fitted.transform(),
            layers: heapless::Vec::from_slice(self.network.layers()).ok()?,
            parameters: Floats::new(parameters),
            temperature: self.temperature,
            unknown_below: self.unknown_below,
            trained: file::Trained {
                program: &self.trained.program,
                recipe: &self.trained.recipe,
                seed: self.trained.seed,
                samples: heapless::Vec::from_slice(&self.trained.samples).ok()?,
                cross_validation: self.trained.cross_validation,
            },
            unknown: self.unknown.as_file(),
            sets: self.sets.as_file()?,
        })
    }

    /// Writes the head file, all of it or nothing, then reads it back and compares. The head
    /// that it replaces is kept, see [`Versions`].
    ///
    /// # Errors
    /// `Failed` when the file cannot be written or does not read back, or another process is
    /// writing it.
    pub fn save(&self, path: &Path) -> Result<u64> {
        let lock = Lock::take(path)?;
        self.save_locked(path, &lock)
    }

    /// As [`Head::save`], for who holds the lock of `path` already.
    ///
    /// # Errors
    /// As [`Head::save`].
    pub fn save_locked(&self, path: &Path, _lock: &Lock) -> Result<u64> {
        let bytes = self.to_bytes()?;
        Versions::of(&Store::default(), path).replace(&bytes)?;
        if Self::load(path)? != *self {
            let what = "does not read back as it was written";
            return Err(Error::at(ErrorKind::Failed, path, what, "check the disk"));
        }
        Ok(bytes.len() as u64)
    }

    /// Whether features of `identity` are those this head was trained on.
    ///
    /// # Errors
    /// `Mismatch`, naming the head file, the difference and the remedy.
    pub fn require(&self, identity: &Identity, path: &Path) -> Result<()> {
        let short = |hash: &[u8; 32]| hexadecimal(&hash[..4]);
        let own = &self.backbone;
        let what = if own.sha256 != identity.sha256 {
            format!(
                "was trained on backbone {} ({}), not on {} ({})",
                own.name,
                short(&own.sha256),
                identity.name,
                short(&identity.sha256)
            )
        } else if own.preprocessing != identity.preprocessing {
            format!(
                "was trained with preprocessing \"{}\", not \"{}\"",
                own.preprocessing, identity.preprocessing
            )
        } else if own.cut != identity.cut || own.features != identity.features {
            format!(
                "was trained on {} features at {}, not on {} at {}",
                own.features, own.cut, identity.features, identity.cut
            )
        } else {
            return Ok(());
        };
        let remedy = "give the same model with --backbone, or train the head again";
        Err(Error::at(ErrorKind::Mismatch, path, what, remedy))
    }

    /// Whether it judges each view's map and not the mean of the views' features.
    pub fn reads_map(&self) -> bool {
        reads_map(&self.network)
    }

    /// Predictions for raw features `[n, F]`.
    ///
    /// # Errors
    /// `Failed` when the features do not fit the head.
    pub fn predict(&self, features: &[f32], kernel: Kernel) -> Result<Vec<Prediction>> {
        self.predict_views(&[features], kernel)
    }

    /// Predictions for raw features of several views, each `[n, F]`, by the mean of their
    /// logits.
    ///
    /// # Errors
    /// `Failed` when the features do not fit the head.
    pub fn predict_views(&self, views: &[&[f32]], kernel: Kernel) -> Result<Vec<Prediction>> {
        let classes = self.labels.len();
        let transform = self.fitted.transform();
        let judge = |features: &&[f32]| {
            let (network, parameters) = (&self.network, &self.parameters);
            logits(network, parameters, &transform, features, kernel)
        };
        let mut values = mean_logits(views.iter().map(judge))?;
        let features = views.first().copied().unwrap_or_default();
        probabilities(&mut values, classes, self.temperature);
        let rows = features.chunks_exact(self.backbone.features);
        let predictions = values.chunks_exact(classes).zip(rows);
        Ok(predictions
            .map(|(row, features)| self.judged(row, self.unknown_score(features)))
            .collect())
    }

    /// How far raw features `[F]` are from all classes; `None` when the head does not
    /// know where they lie.
    pub fn unknown_score(&self, features: &[f32]) -> Option<f32> {
        let unknown = self.unknown.as_file();
        unknown.is_known().then(|| {
            let mut values = features.to_vec();
            self.fitted.transform().apply(&mut values);
            unknown.score(&values)
        })
    }

    /// The prediction from calibrated probabilities `[K]` and the score.
    pub fn judged(&self, probabilities: &[f32], unknown_score: Option<f32>) -> Prediction {
        let label = best(probabilities);
        let doubted = probabilities[label] < self.unknown_below;
        Prediction {
            label,
            probabilities: probabilities.to_vec(),
            unknown: unknown_score.map_or(doubted, |score| score > self.unknown.threshold),
            unknown_score,
            windows: Vec::new(),
        }
    }

    /// What windows of one recording say together: the mean of their probabilities, and of
    /// their unknown scores. `None` of no window.
    pub fn merged(&self, windows: Vec<Window>) -> Option<Prediction> {
        if windows.iter().all(|window| window.part.is_none()) {
            return windows.into_iter().next().map(|window| window.prediction);
        }
        let share = 1.0 / windows.len() as f32;
        let mut probabilities = vec![0.0; self.labels.len()];
        for window in &windows {
            let pairs = probabilities
                .iter_mut()
                .zip(&window.prediction.probabilities);
            pairs.for_each(|(sum, value)| *sum += share * value);
        }
        let scores: Option<f32> = windows.iter().map(|w| w.prediction.unknown_score).sum();
        Some(Prediction {
            windows,
            ..self.judged(&probabilities, scores.map(|sum| share * sum))
        })
    }
}

fn unwritable(error: &dyn std::fmt::Display) -> Error {
    let remedy = "use fewer classes, or shorter class names without control characters";
    Error::new(
        ErrorKind::Usage,
        format_args!("the head cannot be written: {error}; {remedy}"),
    )
}
