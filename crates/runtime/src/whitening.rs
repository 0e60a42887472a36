//! Whitening by the scatter within classes, shrunk towards a sphere: directions in which
//! samples of one class differ count less. With class means it is linear discriminant
//! analysis. It is linear, so a head's first layer takes it over, and neither the head
//! file nor prediction knows of it.
//!
//! With the scatter S = (1 - s) C^T C + a I, where the rows of C are samples less their
//! class's mean, `x' = W^T x` with `W W^T = a S^-1`. There are far more features F than
//! rows n, so nothing of size F x F is made: with the Cholesky factor L of
//! `C C^T + a I` (n x n) and `J = L + sqrt(a) I`,
//!
//! `W^T = I - C^T J^-T L^-1 C`.
//!
//! That `W W^T = I - C^T (L L^T)^-1 C`, which is `a S^-1` by Woodbury's identity, follows
//! by multiplying out with `C C^T = L L^T - a I` (Andrews, "A square root formulation of
//! the Kalman covariance equations", AIAA Journal 6, 1968, is the same step).

use fieldtune_core::Kernel;
use fieldtune_kernels::{Matrix, multiply};

use crate::data::{Data, Rows};

/// Most rows that the scatter is taken from: time grows with their cube.
const MOST_ROWS: usize = 512;

/// `x' = x - C^T M C x`.
pub(crate) struct Whitening {
    kernel: Kernel,
    features: usize,
    /// C, `[n, F]`.
    centred: Vec<f32>,
    /// M = J^-T L^-1, `[n, n]`.
    middle: Vec<f32>,
}

impl Whitening {
    /// From transformed rows, which may be in coordinates of fewer than F numbers: the
    /// sphere has F. `None` when no class has two rows that differ.
    pub fn fit(rows: &Rows, data: &Data<'_>, shrinkage: f32, kernel: Kernel) -> Option<Self> {
        let features = rows.features;
        let mut centred = centred(rows, data.classes);
        let n = centred.len() / features;
        let freedom = n.saturating_sub(data.classes).max(1) as f32;
        // f64, so that the order of a million terms does not show.
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let trace: f64 = centred.iter().map(square).sum();
        let variance = (trace / (f64::from(freedom) * data.features as f64)) as f32;
        if n == 0 || variance <= f32::MIN_POSITIVE {
            return None;
        }
        // Divided by the variance, so that `a` is the shrinkage whatever the features.
        let scale = ((1.0 - shrinkage) / (freedom * variance)).sqrt();
        centred.iter_mut().for_each(|value| *value *= scale);
        let mut gram = vec![0.0; n * n];
        let c = Matrix::new(&centred, n, features);
        product(kernel, c, c.transposed(), &mut gram, false);
        let middle = middle(gram, n, f64::from(shrinkage));
        Some(Self {
            kernel,
            features,
            centred,
            middle,
        })
    }

    /// The most memory that fitting and applying take for so many rows of F features, in
    /// bytes.
    pub fn peak_bytes(rows: usize, features: usize) -> u64 {
        let n = rows.min(MOST_ROWS) as u64;
        // Two matrices of f64 and one of f32 at once; beside them the centred rows.
        20 * n * n + 4 * n * features as u64
    }

    fn rows(&self) -> usize {
        self.centred.len() / self.features
    }

    /// Whitens `rows` `[m, F]` in place.
    pub fn apply(&self, rows: &mut [f32]) {
        self.subtract(rows, true);
    }

    /// Turns weights `[H, F]` for whitened rows into weights for rows as they are.
    pub fn fold(&self, weights: &mut [f32]) {
        self.subtract(weights, false);
    }

    /// `X -= X C^T M^T C` or `X -= X C^T M C`, a block of rows at a time.
    fn subtract(&self, values: &mut [f32], transposed: bool) {
        const BLOCK: usize = 64;
        let n = self.rows();
        let c = Matrix::new(&self.centred, n, self.features);
        let middle = Matrix::new(&self.middle, n, n);
        let middle = if transposed {
            middle.transposed()
        } else {
            middle
        };
        let (mut along, mut mixed) = (vec![0.0; BLOCK * n], vec![0.0; BLOCK * n]);
        for block in values.chunks_mut(BLOCK * self.features) {
            let m = block.len() / self.features;
            let x = Matrix::new(block, m, self.features);
            product(self.kernel, x, c.transposed(), &mut along, false);
            let x_along = Matrix::new(&along, m, n);
            product(self.kernel, x_along, middle, &mut mixed, false);
            mixed.iter_mut().for_each(|value| *value = -*value);
            product(self.kernel, Matrix::new(&mixed, m, n), c, block, true);
        }
    }
}

fn product(kernel: Kernel, a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], accumulate: bool) {
    let mut scratch = vec![0.0; kernel.scratch_elements(a.columns())];
    multiply(kernel, a, b, c, accumulate, &mut scratch);
}

/// Rows less their class's mean `[n, F]`: all, or evenly spread ones.
fn centred(rows: &Rows, classes: usize) -> Vec<f32> {
    let count = rows.labels.len();
    let n = count.min(MOST_ROWS);
    let width = rows.features;
    let taken: Vec<usize> = (0..n).map(|index| index * count / n.max(1)).collect();
    let row = |index: usize| &rows.values[index * width..(index + 1) * width];
    let mut means = vec![0.0; classes * width];
    let mut counts = vec![0u32; classes];
    for index in &taken {
        let class = usize::from(rows.labels[*index]);
        counts[class] += 1;
        let share = 1.0 / counts[class] as f32;
        let mean = &mut means[class * width..(class + 1) * width];
        for (mean, value) in mean.iter_mut().zip(row(*index)) {
            *mean += share * (value - *mean);
        }
    }
    let mut centred = Vec::with_capacity(n * width);
    for index in &taken {
        let class = usize::from(rows.labels[*index]);
        let mean = &means[class * width..(class + 1) * width];
        centred.extend(
            row(*index)
                .iter()
                .zip(mean)
                .map(|(value, mean)| value - mean),
        );
    }
    centred
}

/// `J^-T L^-1` `[n, n]` of the Gram matrix `C C^T` `[n, n]`.
fn middle(gram: Vec<f32>, n: usize, a: f64) -> Vec<f32> {
    let mut factor: Vec<f64> = gram.iter().map(|value| f64::from(*value)).collect();
    drop(gram);
    (0..n).for_each(|i| factor[i * n + i] += a);
    cholesky(&mut factor, n);
    let inverse = inverse_of_lower(&factor, n);
    (0..n).for_each(|i| factor[i * n + i] += a.sqrt());
    let shifted = inverse_of_lower(&factor, n);
    drop(factor);
    let mut middle = vec![0.0; n * n];
    let left = Matrix::new(&shifted, n, n).transposed();
    // Both are triangular; the plain product is quick enough.
    let right = Matrix::new(&inverse, n, n);
    product(Kernel::lanes(), left, right, &mut middle, false);
    middle
}

/// The lower Cholesky factor in place of a positive definite matrix `[n, n]`, zeros above.
fn cholesky(matrix: &mut [f64], n: usize) {
    let mut column = vec![0.0; n];
    for k in 0..n {
        // Shrinkage keeps pivots positive; rounding cannot take all of it away.
        let pivot = matrix[k * n + k].max(f64::MIN_POSITIVE).sqrt();
        matrix[k * n + k] = pivot;
        for i in k + 1..n {
            matrix[i * n + k] /= pivot;
            column[i] = matrix[i * n + k];
            matrix[k * n + i] = 0.0;
        }
        for i in k + 1..n {
            let factor = column[i];
            let row = &mut matrix[i * n + k + 1..=i * n + i];
            for (value, other) in row.iter_mut().zip(&column[k + 1..=i]) {
                *value -= factor * other;
            }
        }
    }
}

/// The inverse of a lower triangular matrix `[n, n]`.
fn inverse_of_lower(lower: &[f64], n: usize) -> Vec<f32> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (above, own) = inverse.split_at_mut(i * n);
        let own = &mut own[..n];
        own[i] = 1.0;
        for (k, row) in above.chunks_exact(n).enumerate() {
            let factor = lower[i * n + k];
            for (value, other) in own[..=k].iter_mut().zip(row) {
                *value -= factor * other;
            }
        }
        let pivot = lower[i * n + i];
        own[..=i].iter_mut().for_each(|value| *value /= pivot);
    }
    inverse.into_iter().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;

    use super::*;
    use crate::views::ViewSet;

    const FEATURES: usize = 12;
    const CLASSES: usize = 3;

    /// Rows of classes that differ by their mean and scatter most in the first features.
    fn rows(count: usize) -> Rows {
        let mut random = Random::new(3);
        let labels: Vec<u16> = (0..count).map(|i| (i % CLASSES) as u16).collect();
        let mut values = Vec::new();
        for label in &labels {
            for feature in 0..FEATURES {
                let width = 4.0 / (1.0 + feature as f32);
                values.push(f32::from(*label) + width * random.normal());
            }
        }
        Rows {
            values,
            labels,
            features: FEATURES,
        }
    }

    fn data() -> Data<'static> {
        Data {
            views: &[],
            held: ViewSet::ORIGINAL,
            labels: &[],
            groups: &[],
            features: FEATURES,
            classes: CLASSES,
        }
    }

    /// Scatter within classes over all rows, `[F, F]`, divided by the freedom.
    fn scatter(rows: &Rows) -> Vec<f64> {
        let centred = centred(rows, CLASSES);
        let freedom = (rows.labels.len() - CLASSES) as f64;
        let mut sum = vec![0.0; FEATURES * FEATURES];
        for row in centred.chunks_exact(FEATURES) {
            for i in 0..FEATURES {
                for j in 0..FEATURES {
                    sum[i * FEATURES + j] += f64::from(row[i]) * f64::from(row[j]) / freedom;
                }
            }
        }
        sum
    }

    #[test]
    fn the_shrunk_scatter_becomes_a_sphere() {
        for (count, shrinkage) in [(60, 0.3f32), (7, 0.5)] {
            let rows = rows(count);
            let whitening = Whitening::fit(&rows, &data(), shrinkage, Kernel::best()).unwrap();
            // W^T is what happens to the unit vectors, W^T S W = a I.
            let mut transposed = vec![0.0; FEATURES * FEATURES];
            (0..FEATURES).for_each(|i| transposed[i * FEATURES + i] = 1.0);
            whitening.apply(&mut transposed);
            // Row i is (W^T e_i)^T, so the matrix of rows is W.
            let scatter = scatter(&rows);
            let variance: f64 = (0..FEATURES)
                .map(|i| scatter[i * FEATURES + i])
                .sum::<f64>()
                / FEATURES as f64;
            let s = f64::from(shrinkage);
            for i in 0..FEATURES {
                for j in 0..FEATURES {
                    let mut found = 0.0;
                    for k in 0..FEATURES {
                        for l in 0..FEATURES {
                            let ball = if k == l { s * variance } else { 0.0 };
                            let shrunk = (1.0 - s) * scatter[k * FEATURES + l] + ball;
                            let left = f64::from(transposed[k * FEATURES + i]);
                            found += left * shrunk * f64::from(transposed[l * FEATURES + j]);
                        }
                    }
                    let expected = if i == j { s * variance } else { 0.0 };
                    let off = (found - expected).abs() / (s * variance);
                    assert!(
                        off < 1e-4,
                        "{count} rows, ({i}, {j}): {found}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn folded_weights_see_rows_as_the_whitened_ones() {
        let rows = rows(9);
        let whitening = Whitening::fit(&rows, &data(), 0.4, Kernel::lanes()).unwrap();
        let mut random = Random::new(8);
        let weights: Vec<f32> = (0..2 * FEATURES).map(|_| random.normal()).collect();
        let mut folded = weights.clone();
        whitening.fold(&mut folded);
        let mut whitened = rows.values.clone();
        whitening.apply(&mut whitened);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for (row, white) in rows
            .values
            .chunks_exact(FEATURES)
            .zip(whitened.chunks_exact(FEATURES))
        {
            for (weights, folded) in weights
                .chunks_exact(FEATURES)
                .zip(folded.chunks_exact(FEATURES))
            {
                let (one, other) = (dot(weights, white), dot(folded, row));
                assert!((one - other).abs() < 1e-3, "{one} {other}");
            }
        }
    }

    #[test]
    fn without_scatter_there_is_nothing_to_whiten() {
        let single = Rows {
            values: vec![1.0; 3 * FEATURES],
            labels: vec![0, 1, 2],
            features: FEATURES,
        };
        assert!(Whitening::fit(&single, &data(), 0.5, Kernel::lanes()).is_none());
    }
}
