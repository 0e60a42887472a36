//! Rows of features in coordinates of the space that they span. There are far more features
//! F than rows n, and training a linear layer by plain gradients from class means never
//! leaves that space: gradients, decay, whitening and perturbations are combinations of
//! rows. So it is trained on n numbers a row instead of F, and its weights are brought back
//! to features at the end. Lengths and angles are the same, so it is the same training, but
//! for rounding.
//!
//! With the Cholesky factor of the rows' products, `X X^T = L L^T`, the coordinates are the
//! rows of L, and the axes the rows of `Q = L^-1 X`, which are orthonormal. Rows that depend
//! on others (the mirror image of a symmetric picture) give no axis.

use fieldtune_core::Kernel;
use fieldtune_kernels::{Matrix, multiply};

use crate::data::Rows;

/// Most rows that this is done for: time grows with their cube, memory with their square.
const MOST_ROWS: usize = 1024;
/// Features a row from which on it pays.
const PAYS_FROM: usize = 2;
/// A row whose square outside the others' space is a smaller share of its whole is taken to
/// be in it: products of f32 say no more.
const DEPENDENT: f64 = 1e-5;

/// The axes, and where the rows lie on them.
pub(crate) struct Basis {
    kernel: Kernel,
    /// L without the columns of dependent rows, `[n, r]`.
    coordinates: Vec<f32>,
    /// The rows that gave an axis each, `[r]`.
    axes: Vec<usize>,
}

impl Basis {
    /// Of transformed rows; `None` where it does not pay.
    pub fn of(rows: &Rows, kernel: Kernel) -> Option<Self> {
        let (n, features) = (rows.labels.len(), rows.features);
        if !pays(n, features) {
            return None;
        }
        let mut products = vec![0.0; n * n];
        let x = Matrix::new(&rows.values, n, features);
        product(kernel, x, x.transposed(), &mut products, false);
        let mut factor: Vec<f64> = products.iter().map(|value| f64::from(*value)).collect();
        drop(products);
        let axes = cholesky(&mut factor, n);
        if axes.is_empty() {
            return None;
        }
        let row = |index: usize| &factor[index * n..(index + 1) * n];
        let coordinates = (0..n).flat_map(|index| axes.iter().map(move |axis| row(index)[*axis]));
        Some(Self {
            kernel,
            coordinates: coordinates.map(|value| value as f32).collect(),
            axes,
        })
    }

    /// The most memory that making and keeping it takes for so many rows of F features, in
    /// bytes.
    pub fn peak_bytes(rows: usize, features: usize) -> u64 {
        let n = if pays(rows, features) { rows as u64 } else { 0 };
        // Products in f32, the factor in f64, then the factor and the coordinates.
        12 * n * n
    }

    /// r, the numbers a row has.
    pub fn width(&self) -> usize {
        self.axes.len()
    }

    /// The rows in coordinates.
    pub fn rows(&self, labels: &[u16]) -> Rows {
        Rows {
            values: self.coordinates.clone(),
            labels: labels.to_vec(),
            features: self.width(),
        }
    }

    /// Weights `[K, r]` of coordinates as weights `[K, F]` of features. `rows` are those that
    /// the basis is of.
    pub fn lifted(&self, weights: &[f32], rows: &Rows) -> Vec<f32> {
        let (r, features) = (self.width(), rows.features);
        let mut shares: Vec<f32> = Vec::with_capacity(weights.len());
        for weights in weights.chunks_exact(r) {
            let mut left: Vec<f64> = weights.iter().map(|value| f64::from(*value)).collect();
            // From L^T z = w, the last first.
            for axis in (0..r).rev() {
                let row = &self.coordinates[self.axes[axis] * r..][..=axis];
                let share = left[axis] / f64::from(row[axis]);
                for (left, value) in left.iter_mut().zip(row) {
                    *left -= share * f64::from(*value);
                }
                left[axis] = share;
            }
            shares.extend(left.into_iter().map(|share| share as f32));
        }
        let chosen = self
            .axes
            .iter()
            .flat_map(|row| &rows.values[row * features..][..features]);
        let chosen: Vec<f32> = chosen.copied().collect();
        let classes = shares.len() / r;
        let mut lifted = vec![0.0; classes * features];
        let shares = Matrix::new(&shares, classes, r);
        let chosen = Matrix::new(&chosen, r, features);
        product(self.kernel, shares, chosen, &mut lifted, false);
        lifted
    }
}

/// Whether so many rows are few enough.
pub(crate) fn pays(rows: usize, features: usize) -> bool {
    (2..=MOST_ROWS).contains(&rows) && PAYS_FROM * rows <= features
}

fn product(kernel: Kernel, a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], accumulate: bool) {
    let mut scratch = vec![0.0; kernel.scratch_elements(a.columns())];
    multiply(kernel, a, b, c, accumulate, &mut scratch);
}

/// The lower Cholesky factor in place of a matrix `[n, n]` of products, zeros in the columns
/// of rows that depend on earlier ones. Returns the other rows.
fn cholesky(matrix: &mut [f64], n: usize) -> Vec<usize> {
    let squares: Vec<f64> = (0..n).map(|i| matrix[i * n + i]).collect();
    let mut axes = Vec::with_capacity(n);
    let mut column = vec![0.0; n];
    for k in 0..n {
        let left = matrix[k * n + k];
        if left <= DEPENDENT * squares[k] {
            (k..n).for_each(|i| matrix[i * n + k] = 0.0);
            continue;
        }
        axes.push(k);
        let pivot = left.sqrt();
        matrix[k * n + k] = pivot;
        for i in k + 1..n {
            matrix[i * n + k] /= pivot;
            column[i] = matrix[i * n + k];
        }
        for i in k + 1..n {
            let factor = column[i];
            let row = &mut matrix[i * n + k + 1..=i * n + i];
            for (value, other) in row.iter_mut().zip(&column[k + 1..=i]) {
                *value -= factor * other;
            }
        }
    }
    // What stands above is the old matrix.
    for i in 0..n {
        matrix[i * n + i + 1..(i + 1) * n].fill(0.0);
    }
    axes
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;
    use fieldtune_core::train::{Trainer, fit};

    use super::*;
    use crate::candidates::{Wishes, candidates};
    use crate::data::Data;
    use crate::recipe::{Recipe, Trained, prototype, train};
    use crate::views::ViewSet;

    const FEATURES: usize = 40;

    /// Rows of which some are there twice, and one is zero.
    fn rows() -> Rows {
        let mut random = Random::new(3);
        let mut values: Vec<f32> = (0..12 * FEATURES).map(|_| random.normal()).collect();
        let again = values[FEATURES..3 * FEATURES].to_vec();
        values.extend(again);
        values.extend([0.0; FEATURES]);
        Rows {
            labels: vec![0; values.len() / FEATURES],
            values,
            features: FEATURES,
        }
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn products_of_rows_stay_and_dependent_rows_add_nothing() {
        let rows = rows();
        let basis = Basis::of(&rows, Kernel::best()).expect("pays");
        assert_eq!(basis.width(), 12);
        let found = basis.rows(&rows.labels);
        for i in 0..rows.labels.len() {
            for j in 0..rows.labels.len() {
                let [wide, narrow] = [&rows, &found].map(|rows| {
                    let row = |index: usize| &rows.values[index * rows.features..][..rows.features];
                    dot(row(i), row(j))
                });
                assert!((wide - narrow).abs() < 1e-3, "{i} {j}: {wide} {narrow}");
            }
        }
    }

    #[test]
    fn lifted_weights_say_of_features_what_they_said_of_coordinates() {
        let rows = rows();
        let basis = Basis::of(&rows, Kernel::lanes()).expect("pays");
        let found = basis.rows(&rows.labels);
        let mut random = Random::new(5);
        let weights: Vec<f32> = (0..3 * basis.width()).map(|_| random.normal()).collect();
        let lifted = basis.lifted(&weights, &rows);
        for (wide, narrow) in rows
            .values
            .chunks_exact(FEATURES)
            .zip(found.values.chunks_exact(basis.width()))
        {
            for (above, below) in lifted
                .chunks_exact(FEATURES)
                .zip(weights.chunks_exact(basis.width()))
            {
                let (one, other) = (dot(wide, above), dot(narrow, below));
                assert!((one - other).abs() < 1e-3, "{one} {other}");
            }
        }
    }

    #[test]
    fn training_in_coordinates_is_training_on_features() {
        let (samples, classes, features) = (24, 3, 96);
        let mut random = Random::new(7);
        let labels: Vec<u16> = (0..samples).map(|i| (i % classes) as u16).collect();
        let values: Vec<f32> = (0..samples * features)
            .map(|i| random.normal() + f32::from(labels[i / features]))
            .collect();
        let data = Data {
            views: &[&values],
            held: ViewSet::ORIGINAL,
            labels: &labels,
            groups: &[],
            features,
            classes,
        };
        let wishes = Wishes {
            // Their directions are drawn, on as many numbers as a row has.
            adversarial: Some(None),
            ..Wishes::default()
        };
        let mut recipe = candidates(&wishes, &[1]).remove(0);
        recipe.whitening = None;
        let kernel = Kernel::best();
        let all: Vec<usize> = (0..samples).collect();
        let narrow = train(&recipe, &data, &all, 5, kernel).expect("trains");
        let rows = Rows::new(&data, &all, recipe.views, &narrow.fitted);
        assert!(Basis::of(&rows, kernel).is_some());
        let mut wide = vec![0.0; narrow.parameters.len()];
        train_wide(&recipe, &rows, &narrow, &mut wide, kernel);
        let apart = narrow
            .parameters
            .iter()
            .zip(&wide)
            .map(|(a, b)| (a - b).abs());
        let largest = wide
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let apart = apart.fold(0.0f32, f32::max);
        assert!(apart < 1e-3 * largest, "{apart} of {largest}");
    }

    /// The same training without coordinates.
    fn train_wide(recipe: &Recipe, rows: &Rows, like: &Trained, out: &mut [f32], kernel: Kernel) {
        let (network, count) = (&like.network, rows.labels.len());
        let options = recipe.options(count, kernel);
        let mut arena = vec![0.0; options.plan(network).expect("plan").elements()];
        let mut trainer = Trainer::new(network, options, &mut arena, 5).expect("trainer");
        let start = prototype(rows, network, rows.features);
        trainer.parameters_mut().copy_from_slice(&start);
        let (mut order, mut labels) = (vec![0; count], vec![0; options.batch]);
        let epochs = recipe.epochs_for(count);
        fit(
            &mut trainer,
            rows,
            epochs,
            recipe.learning_rate,
            &mut order,
            &mut labels,
        )
        .expect("trains");
        out.copy_from_slice(trainer.parameters());
    }

    #[test]
    fn many_rows_and_rows_of_zeros_are_left_as_they_are() {
        let zeros = Rows {
            values: vec![0.0; 4 * FEATURES],
            labels: vec![0; 4],
            features: FEATURES,
        };
        assert!(Basis::of(&zeros, Kernel::lanes()).is_none());
        let many = Rows {
            values: vec![1.0; 30 * FEATURES],
            labels: vec![0; 30],
            features: FEATURES,
        };
        assert!(Basis::of(&many, Kernel::lanes()).is_none());
    }
}
