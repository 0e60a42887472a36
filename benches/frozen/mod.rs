//! Frozen features of the optional data sets, extracted once and cached.

pub mod pictures;
mod sound;

use std::path::Path;

use fieldtune::cache::Cache;
use fieldtune::data::Data;
use fieldtune::features::{LazyBackbone, Source, extract};
use fieldtune::model::Model;
use fieldtune::preprocess::View;
use fieldtune::recipe::Trained;
use fieldtune::samples::SampleSet;
use fieldtune::search::best;
use fieldtune::senses::Sense;
use fieldtune::sound::Sound;
use fieldtune::views::ViewSet;
use fieldtune_core::Kernel;

use crate::splits::{self, Split};
use crate::{Failure, shared, work_folder};

/// Samples of each class that are used of sets with more.
const EACH: usize = 120;
/// Recordings of each digit and speaker.
const EACH_SPEAKER: usize = 20;
/// Test samples of each class where the set has no test part of its own.
const TESTED: usize = 60;

/// One data set's features: every view of every sample.
pub struct Features {
    /// A matrix `[rows, width]` for each of [`View::ALL`].
    pub views: Vec<Vec<f32>>,
    /// Label of every row.
    pub labels: Vec<u16>,
    /// Group of every row (the speaker); empty where each is its own.
    pub groups: Vec<usize>,
    /// F.
    pub width: usize,
    /// K.
    pub classes: usize,
}

/// Some rows of a set, copied together.
pub struct Chosen {
    values: Vec<Vec<f32>>,
    held: ViewSet,
    /// Label of every row; may be changed.
    pub labels: Vec<u16>,
    groups: Vec<usize>,
    features: usize,
    /// K; may be changed with them.
    pub classes: usize,
}

impl Chosen {
    /// Hands them over as the runtime wants them.
    pub fn with<T>(&self, work: impl FnOnce(&Data<'_>) -> T) -> T {
        let views: Vec<&[f32]> = self.values.iter().map(Vec::as_slice).collect();
        work(&Data {
            views: &views,
            held: self.held,
            labels: &self.labels,
            groups: &self.groups,
            features: self.features,
            classes: self.classes,
        })
    }
}

impl Features {
    /// Every view of some rows.
    pub fn chosen(&self, rows: &[usize]) -> Chosen {
        let groups = rows.iter().filter_map(|row| self.groups.get(*row).copied());
        Chosen {
            values: self
                .views
                .iter()
                .map(|view| self.part(view, rows))
                .collect(),
            labels: rows.iter().map(|row| self.labels[*row]).collect(),
            groups: groups.collect(),
            held: if self.views.len() == ViewSet::ALL.count() {
                ViewSet::ALL
            } else {
                // Recordings have no mirror image.
                ViewSet::ZOOMED
            },
            features: self.width,
            classes: self.classes,
        }
    }

    fn part(&self, view: &[f32], rows: &[usize]) -> Vec<f32> {
        let row = |row: &usize| &view[row * self.width..(row + 1) * self.width];
        rows.iter().flat_map(row).copied().collect()
    }

    /// One view of some rows, `[rows, F]`.
    pub fn view(&self, view: View, rows: &[usize]) -> Vec<f32> {
        let index = View::ALL.iter().position(|known| *known == view);
        self.part(&self.views[index.unwrap_or(0)], rows)
    }

    /// What a prediction is made from: the mean of some views, `[rows, F]`.
    pub fn mean(&self, rows: &[usize], views: ViewSet) -> Vec<f32> {
        let all: Vec<usize> = (0..rows.len()).collect();
        self.chosen(rows).with(|data| data.mean_rows(&all, views))
    }

    /// Accuracy of a head on some rows.
    ///
    /// # Errors
    /// As [`Trained::logits`].
    pub fn share_right(&self, head: &Trained, rows: &[usize]) -> Result<f64, Failure> {
        let logits = head.logits(&self.mean(rows, head.views), Kernel::best())?;
        let hits = logits.chunks(self.classes).zip(rows);
        let right = hits
            .filter(|(row, test)| best(row) == usize::from(self.labels[**test]))
            .count();
        Ok(right as f64 / rows.len() as f64)
    }
}

/// A set with the way in which it is divided.
pub struct Set {
    /// Its name in tables.
    pub name: &'static str,
    /// Its features.
    pub features: Features,
    /// The first rows are for training where the set says so.
    trained: Option<usize>,
}

impl Set {
    /// How many of the first rows are for training, where the set says so.
    pub fn trained(&self) -> Option<usize> {
        self.trained
    }

    /// Splits for these numbers of samples a class. Speakers are never on both sides.
    pub fn splits(&self, sizes: &[usize], seeds: u64) -> Vec<Split> {
        match self.trained {
            _ if !self.features.groups.is_empty() => {
                splits::new_groups(&self.features, sizes, seeds)
            }
            Some(trained) => splits::from_part(&self.features, trained, sizes, seeds),
            None => splits::drawn(&self.features, sizes, TESTED, seeds),
        }
    }
}

/// Six kinds of defects of rolled steel.
///
/// # Errors
/// When a sample cannot be read.
pub fn neu() -> Result<Set, Failure> {
    let mut set = SampleSet::open(&shared("data/neu-surface-defects")?)?;
    let mut counts = vec![0; set.labels.len()];
    set.samples.retain(|sample| {
        counts[sample.label] += 1;
        counts[sample.label] <= EACH
    });
    let features = of_sources(&Source::of_set(&set))?;
    Ok(Set {
        name: "neu",
        features,
        trained: None,
    })
}

/// Photographs of ants and bees.
///
/// # Errors
/// When a sample cannot be read.
pub fn hymenoptera() -> Result<Set, Failure> {
    let folder = shared("data/hymenoptera")?;
    let train = SampleSet::open(&folder.join("train"))?;
    let test = SampleSet::open(&folder.join("val"))?;
    let mut sources = Source::of_set(&train);
    sources.extend(Source::of_set(&test));
    Ok(Set {
        name: "hymenoptera",
        features: of_sources(&sources)?,
        trained: Some(train.samples.len()),
    })
}

/// Digits of MNIST.
///
/// # Errors
/// When the data cannot be read.
pub fn mnist() -> Result<Set, Failure> {
    Ok(Set {
        name: "mnist",
        features: of_pictures(&pictures::mnist(EACH)?)?,
        trained: None,
    })
}

/// Photographs of CIFAR-10.
///
/// # Errors
/// When the data cannot be read.
pub fn cifar10() -> Result<Set, Failure> {
    Ok(Set {
        name: "cifar10",
        features: of_pictures(&pictures::cifar10(EACH)?)?,
        trained: None,
    })
}

/// Spoken digits as pictures of their spectra; groups are speakers.
///
/// # Errors
/// When the data cannot be read.
pub fn spoken_digits() -> Result<Set, Failure> {
    let (pictures, speakers) = sound::spoken_digits(EACH_SPEAKER)?;
    let mut features = of_pictures(&pictures)?;
    features.groups = speakers;
    Ok(Set {
        name: "spoken-digits",
        features,
        trained: None,
    })
}

/// Spoken digits as the program hears them, at this cut; groups are speakers.
///
/// # Errors
/// When the data, the backbone or the cache cannot be used.
pub fn heard_digits(name: &'static str, cut: &str) -> Result<Set, Failure> {
    let (paths, speakers) = sound::recordings(EACH_SPEAKER)?;
    let sources: Vec<Source<'_>> = paths
        .iter()
        .map(|(path, label)| Source {
            path,
            label: *label,
            bytes: None,
            part: None,
        })
        .collect();
    let sense = Sense::Sound(Sound::usual(sound::RATE_HZ as u32));
    let backbone = Model::embedded()?.sensing(sense, cut)?;
    let mut features = of_backbone(&backbone, &sources, ViewSet::ZOOMED)?;
    features.groups = speakers;
    Ok(Set {
        name,
        features,
        trained: None,
    })
}

/// Features of pictures in memory, each with its label.
///
/// # Errors
/// When the backbone or the cache cannot be used.
pub fn of_pictures(pictures: &[(Vec<u8>, usize)]) -> Result<Features, Failure> {
    of_sources(&sources(pictures))
}

/// Maps of some views at a cut before the pool.
#[derive(Clone)]
pub struct Maps {
    /// A matrix `[rows, width]` a view.
    pub views: Vec<Vec<f32>>,
    /// Label of every row.
    pub labels: Vec<u16>,
    /// Group of every row; empty where each is its own.
    pub groups: Vec<usize>,
    /// Elements of a map.
    pub width: usize,
    /// K.
    pub classes: usize,
}

/// Maps of up to `each` samples a class of a set at a cut of the embedded backbone.
///
/// # Errors
/// When the data, the backbone or the cache cannot be used, or there is no such set.
pub fn maps(set: &str, cut: &str, views: ViewSet, each: usize) -> Result<Maps, Failure> {
    let (pictures, groups) = match set {
        "neu" => {
            let mut set = SampleSet::open(&shared("data/neu-surface-defects")?)?;
            let mut counts = vec![0; set.labels.len()];
            set.samples.retain(|sample| {
                counts[sample.label] += 1;
                counts[sample.label] <= each
            });
            let read = |sample: &fieldtune::samples::Sample| {
                Ok::<_, Failure>((std::fs::read(&sample.path)?, sample.label))
            };
            let pictures: Result<Vec<_>, _> = set.samples.iter().map(read).collect();
            (pictures?, Vec::new())
        }
        "cifar10" => (pictures::cifar10(each)?, Vec::new()),
        "spoken-digits" => sound::spoken_digits(each.div_ceil(6))?,
        _ => return Err(format!("there is no set {set}").into()),
    };
    let features = of_sources_at(&sources(&pictures), Some(cut), views)?;
    Ok(Maps {
        views: features.views,
        labels: features.labels,
        groups,
        width: features.width,
        classes: features.classes,
    })
}

fn sources(pictures: &[(Vec<u8>, usize)]) -> Vec<Source<'_>> {
    let pictures = pictures.iter();
    pictures
        .map(|(bytes, label)| Source {
            path: Path::new("picture in memory"),
            label: *label,
            bytes: Some(bytes),
            part: None,
        })
        .collect()
}

fn of_sources(sources: &[Source<'_>]) -> Result<Features, Failure> {
    of_sources_at(sources, None, ViewSet::ALL)
}

fn of_sources_at(
    sources: &[Source<'_>],
    cut: Option<&str>,
    views: ViewSet,
) -> Result<Features, Failure> {
    let model = Model::embedded()?;
    let backbone = model.cut_at(cut.unwrap_or(&model.manifest().default_cut))?;
    of_backbone(&backbone, sources, views)
}

fn of_backbone(
    backbone: &LazyBackbone,
    sources: &[Source<'_>],
    views: ViewSet,
) -> Result<Features, Failure> {
    let cache = Cache::open(&work_folder("field").join("cache"))?;
    let matrices = extract(backbone, sources, views, &cache, 2, &|_, _| {})?;
    let first = matrices.first().ok_or("no features")?;
    if let Some(skipped) = first.skipped.first() {
        let path = skipped.path.display();
        return Err(format!("{path}: {}", skipped.reason).into());
    }
    let labels: Vec<u16> = first.labels.iter().map(|label| *label as u16).collect();
    let width = first.features;
    Ok(Features {
        views: matrices.into_iter().map(|matrix| matrix.values).collect(),
        classes: labels.iter().max().map_or(0, |most| usize::from(*most) + 1),
        labels,
        groups: Vec::new(),
        width,
    })
}
