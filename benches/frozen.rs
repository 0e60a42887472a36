//! Frozen features of the optional data sets, extracted once and cached.

use std::path::Path;

use fieldtune::cache::Cache;
use fieldtune::features::{Source, extract};
use fieldtune::model::Model;
use fieldtune::preprocess::View;
use fieldtune::samples::SampleSet;

use crate::{Failure, work_folder};

/// One data set's features: two views of every sample.
pub struct Features {
    /// Upright and mirrored, each `[rows, width]`.
    pub views: [Vec<f32>; 2],
    /// Label of every row.
    pub labels: Vec<u16>,
    /// F.
    pub width: usize,
    /// K.
    pub classes: usize,
}

impl Features {
    /// The values of some rows, one matrix a view, and their labels.
    pub fn chosen(&self, rows: &[usize]) -> ([Vec<f32>; 2], Vec<u16>) {
        let row = |row: usize| row * self.width..(row + 1) * self.width;
        let of = |view: &Vec<f32>| -> Vec<f32> {
            rows.iter()
                .flat_map(|r| view[row(*r)].iter().copied())
                .collect()
        };
        let views = [of(&self.views[0]), of(&self.views[1])];
        (views, rows.iter().map(|row| self.labels[*row]).collect())
    }

    /// What a prediction is made from: the mean of both views, `[rows, F]`.
    pub fn mean(&self, rows: &[usize]) -> Vec<f32> {
        let (views, _) = self.chosen(rows);
        let pairs = views[0].iter().zip(&views[1]);
        pairs.map(|(a, b)| 0.5 * (a + b)).collect()
    }
}

/// Features of the samples of some folders, one after another, and how many are in the
/// first.
///
/// # Errors
/// When a sample cannot be read.
pub fn features(folders: &[&Path]) -> Result<(Features, usize), Failure> {
    let model = Model::embedded()?;
    let backbone = model.cut_at(&model.manifest().default_cut)?;
    let cache = Cache::open(&work_folder("field").join("cache"))?;
    let mut all = Features {
        views: [Vec::new(), Vec::new()],
        labels: Vec::new(),
        width: 0,
        classes: 0,
    };
    let mut first = None;
    for folder in folders {
        let set = SampleSet::open(folder)?;
        all.classes = set.labels.len();
        for (view, values) in [View::Original, View::Mirrored]
            .into_iter()
            .zip(&mut all.views)
        {
            let matrix = extract(
                &backbone,
                &Source::of_set(&set),
                view,
                &cache,
                2,
                &|_, _| {},
            )?;
            values.extend_from_slice(&matrix.values);
            all.width = matrix.features;
            if view == View::Original {
                all.labels
                    .extend(matrix.labels.iter().map(|label| *label as u16));
            }
        }
        first.get_or_insert(all.labels.len());
    }
    Ok((all, first.unwrap_or(0)))
}

/// Features of pictures in memory, each with its label.
///
/// # Errors
/// When the backbone or the cache cannot be used.
pub fn of_pictures(pictures: &[(Vec<u8>, usize)]) -> Result<Features, Failure> {
    let model = Model::embedded()?;
    let backbone = model.cut_at(&model.manifest().default_cut)?;
    let cache = Cache::open(&work_folder("field").join("cache"))?;
    let sources: Vec<Source<'_>> = pictures
        .iter()
        .map(|(bytes, label)| Source {
            path: Path::new("picture in memory"),
            label: *label,
            bytes: Some(bytes),
        })
        .collect();
    let view = |view| extract(&backbone, &sources, view, &cache, 2, &|_, _| {});
    let (upright, mirrored) = (view(View::Original)?, view(View::Mirrored)?);
    let labels: Vec<u16> = upright.labels.iter().map(|label| *label as u16).collect();
    Ok(Features {
        classes: labels.iter().max().map_or(0, |most| usize::from(*most) + 1),
        width: upright.features,
        views: [upright.values, mirrored.values],
        labels,
    })
}
