//! Features with their labels, and the rows that a trainer reads of them: the views that
//! a recipe uses, transformed. How heads are trained on them is in `recipe.rs`.

use fieldtune_core::head::Floats;
use fieldtune_core::train::Samples;
use fieldtune_core::transform::Transform;

use crate::preprocess::View;
use crate::recipe::Normalise;
use crate::views::ViewSet;

/// Features with their labels, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// One matrix a view of the samples, each `[N, F]`, row-major, in the order of
    /// [`ViewSet::views`] of `held`.
    pub views: &'a [&'a [f32]],
    /// Which views those are.
    pub held: ViewSet,
    /// `[N]`, each below `classes`.
    pub labels: &'a [u16],
    /// Group of each sample `[N]`, or empty when every one is its own. Samples of one
    /// group are never split.
    pub groups: &'a [usize],
    /// F.
    pub features: usize,
    /// K.
    pub classes: usize,
}

/// A [`Normalise`] with the numbers it took from the training samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitted {
    /// See [`Transform::signed_root`].
    pub signed_root: bool,
    /// See [`Transform::length`].
    pub length: f32,
    /// Little-endian f32, `[F]` or empty.
    pub shift: Vec<u8>,
    /// Little-endian f32, `[F]` or empty.
    pub scale: Vec<u8>,
}

impl Fitted {
    /// As the core applies it and the head file stores it.
    pub fn transform(&self) -> Transform<'_> {
        Transform {
            signed_root: self.signed_root,
            length: self.length,
            shift: Floats::new(&self.shift),
            scale: Floats::new(&self.scale),
        }
    }

    pub(crate) fn new(
        normalise: Normalise,
        data: &Data<'_>,
        samples: &[usize],
        views: ViewSet,
    ) -> Self {
        match normalise {
            Normalise::Standard => {
                let (mean, scale) = moments(data, samples, views);
                let bytes = |values: Vec<f64>| {
                    values
                        .into_iter()
                        .flat_map(|v| (v as f32).to_le_bytes())
                        .collect()
                };
                Self {
                    shift: bytes(mean),
                    scale: bytes(scale),
                    ..Self::default()
                }
            }
            other => Self::by_length(other, data.features),
        }
    }

    /// For what takes no numbers from the samples; the default for what does.
    pub(crate) fn by_length(normalise: Normalise, features: usize) -> Self {
        let length = (features as f32).sqrt();
        match normalise {
            Normalise::Untouched | Normalise::Standard => Self::default(),
            Normalise::Length => Self {
                length,
                ..Self::default()
            },
            Normalise::RootLength => Self {
                length,
                signed_root: true,
                ..Self::default()
            },
        }
    }
}

/// Mean and inverse deviation of every feature over some samples; features that never
/// change get 0.
fn moments(data: &Data<'_>, samples: &[usize], views: ViewSet) -> (Vec<f64>, Vec<f64>) {
    let (mut sum, mut square) = (vec![0.0; data.features], vec![0.0; data.features]);
    let mut rows = 0;
    for (row, _) in data.rows(samples, views) {
        rows += 1;
        for ((sum, square), value) in sum.iter_mut().zip(&mut square).zip(row) {
            *sum += f64::from(*value);
            *square += f64::from(*value) * f64::from(*value);
        }
    }
    let n = f64::from(rows.max(1));
    sum.iter_mut().for_each(|sum| *sum /= n);
    let inverse = square.iter().zip(&sum).map(|(square, mean)| {
        let deviation = (square / n - mean * mean).max(0.0).sqrt();
        if deviation > 1e-6 {
            1.0 / deviation
        } else {
            0.0
        }
    });
    let inverse = inverse.collect();
    (sum, inverse)
}

impl<'a> Data<'a> {
    /// N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The group of a sample.
    pub fn group(&self, sample: usize) -> usize {
        self.groups.get(sample).copied().unwrap_or(sample)
    }

    /// How many of these samples each class has, `[K]`.
    pub fn counts(&self, samples: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for sample in samples {
            counts[usize::from(self.labels[sample])] += 1;
        }
        counts
    }

    /// The matrices of the views that are both held and wanted.
    fn matrices(&self, wanted: ViewSet) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let held = self.held.views().zip(self.views);
        held.filter(move |(view, _)| wanted.contains(*view))
            .map(|(_, matrix)| *matrix)
    }

    /// The features of one view of one sample `[F]`.
    fn row(&self, view: &'a [f32], index: usize) -> &'a [f32] {
        &view[index * self.features..(index + 1) * self.features]
    }

    /// Every wanted view of the given samples, one after another.
    fn rows(
        &self,
        samples: &'a [usize],
        wanted: ViewSet,
    ) -> impl Iterator<Item = (&'a [f32], u16)> {
        let data = *self;
        self.matrices(wanted).flat_map(move |view| {
            samples
                .iter()
                .map(move |sample| (data.row(view, *sample), data.labels[*sample]))
        })
    }

    /// One view of the given samples `[n, F]`; empty when it is not held.
    pub(crate) fn view_rows(&self, samples: &[usize], view: View) -> Vec<f32> {
        let held = self.held.views().zip(self.views);
        let matrix = held
            .filter(|(held, _)| *held == view)
            .map(|(_, m)| *m)
            .next();
        let rows = matrix.into_iter().flat_map(|matrix| {
            let rows = samples.iter().map(|sample| self.row(matrix, *sample));
            rows.flatten().copied()
        });
        rows.collect()
    }

    /// The features that samples are judged by, the mean of their wanted views `[n, F]`.
    pub fn mean_rows(&self, samples: &[usize], wanted: ViewSet) -> Vec<f32> {
        let mut mean = vec![0.0; samples.len() * self.features];
        let share = 1.0 / self.matrices(wanted).count().max(1) as f32;
        for (sample, mean) in samples.iter().zip(mean.chunks_exact_mut(self.features)) {
            for view in self.matrices(wanted) {
                for (sum, value) in mean.iter_mut().zip(self.row(view, *sample)) {
                    *sum += share * value;
                }
            }
        }
        mean
    }
}

#[cfg(test)]
impl<'a> Data<'a> {
    /// Labels and groups without features, for what looks at nothing else.
    pub(crate) fn of_labels(labels: &'a [u16], groups: &'a [usize], classes: usize) -> Self {
        Self {
            views: &[],
            held: ViewSet::ORIGINAL,
            labels,
            groups,
            features: 1,
            classes,
        }
    }
}

/// Transformed rows, as the trainer reads them.
pub(crate) struct Rows {
    /// `[rows, F]`.
    pub values: Vec<f32>,
    /// `[rows]`.
    pub labels: Vec<u16>,
    /// F.
    pub features: usize,
}

impl Rows {
    /// Every wanted view of the given samples.
    pub fn new(data: &Data<'_>, samples: &[usize], views: ViewSet, fitted: &Fitted) -> Self {
        let transform = fitted.transform();
        let count = samples.len() * data.matrices(views).count();
        let mut rows = Self {
            values: Vec::with_capacity(count * data.features),
            labels: Vec::with_capacity(count),
            features: data.features,
        };
        for (row, label) in data.rows(samples, views) {
            let start = rows.values.len();
            rows.values.extend_from_slice(row);
            transform.apply(&mut rows.values[start..]);
            rows.labels.push(label);
        }
        rows
    }
}

impl Samples for Rows {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        let start = index * self.features;
        features.copy_from_slice(&self.values[start..start + self.features]);
        self.labels[index]
    }
}
