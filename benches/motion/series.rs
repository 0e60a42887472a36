//! A set of sensor files with a training and a test part, and heads trained on some of them as
//! the command trains them.

use std::path::Path;

use fieldtune::cache::Cache;
use fieldtune::candidates::{List, Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::error::Error;
use fieldtune::features::{FeatureMatrix, Source, extract};
use fieldtune::model::Model;
use fieldtune::recipe::{Recipe, Shape, Trained, train};
use fieldtune::samples::SampleSet;
use fieldtune::search::best;
use fieldtune::senses::{Kind, Sense};
use fieldtune::series::fit::{Wanted, fit};
use fieldtune::series::{Made, VIEWS};
use fieldtune_benches::Failure;
use fieldtune_benches::splits::{self, Split};
use fieldtune_benches::trained::searched;
use fieldtune_core::Kernel;
use fieldtune_core::random::Random;

/// One data set: first the files of its training part, then those of its test part.
pub struct Set {
    /// Its name.
    pub name: &'static str,
    files: SampleSet,
    /// Files of the training part.
    trained: usize,
    model: Model,
}

impl Set {
    /// Lists the files below `folder`.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(name: &'static str, folder: &Path) -> Result<Self, Failure> {
        let mut files = SampleSet::open(&folder.join("train"))?;
        let test = SampleSet::open(&folder.join("test"))?;
        if files.labels != test.labels {
            return Err(format!("{name}: the parts have different classes").into());
        }
        let trained = files.samples.len();
        files.samples.extend(test.samples);
        Ok(Self {
            name,
            files,
            trained,
            model: Model::embedded()?,
        })
    }

    /// `draws` draws of each of those sizes that the set has files for.
    pub fn draws(&self, sizes: &[usize], draws: u64, within: bool) -> Vec<Split> {
        let mut classes = vec![Vec::new(); self.files.labels.len()];
        for (place, sample) in self.files.samples[..self.trained].iter().enumerate() {
            classes[sample.label].push(place);
        }
        let least = classes.iter().map(Vec::len).min().unwrap_or(0);
        // Something has to be left for `within`.
        let fits = |size: &&usize| **size + usize::from(within) <= least;
        let sizes: Vec<usize> = sizes.iter().filter(fits).copied().collect();
        splits::each(&sizes, draws, |size, seed| {
            let mut random = Random::new(0x5e17e5 + seed);
            let (mut train, mut rest) = (Vec::new(), Vec::new());
            for class in &classes {
                let mut class = class.clone();
                random.shuffle(&mut class);
                train.extend(&class[..size]);
                rest.extend(&class[size..]);
            }
            let test = if within {
                rest
            } else {
                (self.trained..self.files.samples.len()).collect()
            };
            (train, test)
        })
    }

    fn sources(&self, places: &[usize]) -> Vec<Source<'_>> {
        let all = Source::of_set(&self.files);
        places.iter().map(|place| all[*place]).collect()
    }

    /// Features of the files at `places`, with settings fitted to those at `fitted`, and the
    /// number of their channels.
    fn features(
        &self,
        fitted: &[usize],
        places: &[usize],
        cut: &str,
    ) -> Result<(Vec<FeatureMatrix>, usize), Failure> {
        let cut = if cut.is_empty() {
            self.model.usual_cut(Kind::Series)
        } else {
            cut
        };
        let made = Made::of_cut(cut)?;
        let series = fit(&self.sources(fitted), Wanted::default(), made)?;
        let channels = series.channels.len();
        let backbone = self.model.sensing(Sense::Series(Box::new(series)), cut)?;
        let sources = self.sources(places);
        let views = VIEWS;
        let found = extract(&backbone, &sources, views, &Cache::off(), 2, &|_, _| {})?;
        if found[0].rows.len() != places.len() {
            return Err(format!("{}: files cannot be read", self.name).into());
        }
        Ok((found, channels))
    }

    /// Trains as `fieldtune train` does: the recipe, and the accuracy on the test files. With
    /// widths, as with `--head convolution`, for which `cut` is `values`.
    ///
    /// # Errors
    /// When a file cannot be read or training fails.
    pub fn trained(
        &self,
        draw: &Split,
        cut: &str,
        widths: &[usize],
    ) -> Result<(String, f64), Failure> {
        let places = [&draw.train[..], &draw.test].concat();
        let (matrices, channels) = self.features(&draw.train, &places, cut)?;
        let matrix = &matrices[0];
        let labels: Vec<u16> = matrix.labels.iter().map(|label| *label as u16).collect();
        let (count, width) = (draw.train.len(), matrix.features);
        let data = |from: usize, to: usize, work: &mut dyn FnMut(&Data<'_>)| {
            let part = |matrix: &'_ FeatureMatrix| matrix.values[from * width..to * width].to_vec();
            let values: Vec<Vec<f32>> = matrices.iter().map(part).collect();
            let views: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            work(&Data {
                views: &views,
                held: VIEWS,
                labels: &labels[from..to],
                groups: &[],
                features: width,
                classes: self.files.labels.len(),
            });
        };
        let convolutions = || Shape::Convolutions {
            channels,
            widths: widths.to_vec(),
        };
        let wishes = Wishes {
            shape: (!widths.is_empty()).then(convolutions),
            held: Some(VIEWS),
            list: List::Series,
            ..Wishes::default()
        };
        let mut trained = None;
        data(0, count, &mut |data| {
            trained = Some(match widths {
                [] => searched(data, &wishes, draw.seed).map(|(found, head)| (found.recipe, head)),
                // Nothing to choose among, and cross-validation would take most of the time.
                _ => alone(data, &wishes, draw.seed),
            });
        });
        let (recipe, head) = trained.ok_or("nothing was trained")??;
        let mut judged = None;
        let all: Vec<usize> = (0..draw.test.len()).collect();
        data(count, places.len(), &mut |data| {
            judged = Some(head.judge(data, &all, Kernel::best()))
        });
        let logits = judged.ok_or("nothing was judged")??;
        let rows = logits.chunks(self.files.labels.len()).zip(&labels[count..]);
        let right = rows
            .filter(|(row, label)| best(row) == usize::from(**label))
            .count();
        Ok((recipe.to_string(), right as f64 / draw.test.len() as f64))
    }

    /// Statistics of all files, `[files, F]`, scaled as the training part says, and F.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn statistics(&self) -> Result<(usize, Vec<f32>), Failure> {
        let trained: Vec<usize> = (0..self.trained).collect();
        let all: Vec<usize> = (0..self.files.samples.len()).collect();
        let (mut matrices, _) = self.features(&trained, &all, "statistics")?;
        let matrix = matrices.swap_remove(0);
        Ok((matrix.features, matrix.values))
    }

    /// A line a file: its label's number and its path.
    pub fn rows(&self) -> String {
        let line = |sample: &fieldtune::samples::Sample| {
            format!("{} {}\n", sample.label, sample.path.display())
        };
        self.files.samples.iter().map(line).collect()
    }
}

/// The first recipe, trained on all of `data`.
fn alone(data: &Data<'_>, wishes: &Wishes, seed: u64) -> Result<(Recipe, Trained), Error> {
    let recipe = candidates(wishes, &data.counts(0..data.len())).swap_remove(0);
    let all: Vec<usize> = (0..data.len()).collect();
    let head = train(&recipe, data, &all, seed, Kernel::best())?;
    Ok((recipe, head))
}
