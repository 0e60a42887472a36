//! Softmax, cross-entropy and the Kullback-Leibler divergence between two
//! outputs. Sums run in order, so results are the same on every CPU.

use crate::Error;
use fieldtune_kernels::{exp, ln};
use libm::{expm1f, log1pf};

/// Turns one sample's logits `[K]` into probabilities, in place; returns
/// `ln(sum(exp(logits)))`.
pub fn softmax(logits: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in logits.iter_mut() {
        *value = exp(*value - largest);
        sum += *value;
    }
    for value in logits.iter_mut() {
        *value /= sum;
    }
    largest + ln(sum)
}

/// Sum over a batch of `-ln softmax(logits)[label]`, its gradient, and how many
/// samples are recognised.
///
/// `gradient` holds the logits `[B, K]` on entry and `scale * (softmax - one-hot)`
/// on return; with `scale = 1 / B` that is the gradient of the mean loss. `smoothing`
/// takes that part of each label and spreads it evenly over all classes, 0 for none.
///
/// # Errors
/// [`Error::Label`] for a label out of range, [`Error::Diverged`] when the loss is
/// not finite.
pub fn cross_entropy(
    gradient: &mut [f32],
    classes: usize,
    labels: &[u16],
    scale: f32,
    smoothing: f32,
) -> Result<Loss, Error> {
    let mut total = Loss::default();
    for (row, label) in gradient.chunks_exact_mut(classes).zip(labels) {
        let label = usize::from(*label);
        let own = *row.get(label).ok_or(Error::Label)?;
        let recognised = row.iter().all(|logit| *logit <= own);
        total.correct += usize::from(recognised);
        let even = smoothing / classes as f32;
        // The mean logit under the target, summed only where smoothing asks for it.
        let wanted = if smoothing == 0.0 {
            own
        } else {
            (1.0 - smoothing) * own + even * row.iter().sum::<f32>()
        };
        total.sum += softmax(row) - wanted;
        for (class, value) in row.iter_mut().enumerate() {
            let target = even + if class == label { 1.0 - smoothing } else { 0.0 };
            *value = scale * (*value - target);
        }
    }
    if total.sum.is_finite() {
        Ok(total)
    } else {
        Err(Error::Diverged)
    }
}

/// What [`cross_entropy`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of the loss over the samples, in nats.
    pub sum: f32,
    /// Samples whose own class has the largest logit.
    pub correct: usize,
}

/// `q - p` for one sample, where `p = probabilities` `[K]` and `q` is the softmax of
/// the logits after they moved by `change` `[K]`; written over `change`. Returns
/// `KL(p || q)`.
///
/// `q - p` is the gradient of that divergence by the moved logits. Both are small
/// differences of nearly equal numbers, so they are never formed by subtraction:
/// `q_k = p_k exp(change_k - a)` with `a = ln sum p exp(change)`, hence
/// `q_k - p_k = p_k expm1(change_k - a)` and `KL = a - sum p change`.
pub fn divergence(probabilities: &[f32], change: &mut [f32]) -> f32 {
    // Moving all logits alike moves nothing; centring keeps the numbers small.
    let mean = dot(probabilities, change);
    let mut sum = 0.0;
    for (p, value) in probabilities.iter().zip(change.iter_mut()) {
        // A larger change means the same and would overflow.
        *value = expm1f((*value - mean).min(80.0));
        sum += p * *value;
    }
    // expm1(c - a) with exp(a) = 1 + sum; the sum is of second order in a small change,
    // so nothing cancels.
    let normaliser = 1.0 / (1.0 + sum);
    for (p, value) in probabilities.iter().zip(change.iter_mut()) {
        *value = p * ((*value - sum) * normaliser);
    }
    log1pf(sum)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_matches_finite_differences() {
        let logits = [0.3f32, -1.2, 2.0, 0.1, 0.5, -0.4];
        let labels = [2u16, 0];
        for smoothing in [0.0, 0.2] {
            let loss = |logits: [f32; 6]| {
                let mut copy = logits;
                cross_entropy(&mut copy, 3, &labels, 1.0, smoothing).map(|loss| loss.sum)
            };
            let mut gradient = logits;
            let found = cross_entropy(&mut gradient, 3, &labels, 1.0, smoothing).expect("sound");
            assert_eq!(found.correct, 1);
            for i in 0..6 {
                let (mut up, mut down) = (logits, logits);
                up[i] += 1e-2;
                down[i] -= 1e-2;
                let slope = (loss(up).expect("finite") - loss(down).expect("finite")) / 2e-2;
                assert!(
                    (slope - gradient[i]).abs() < 1e-4,
                    "{i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn divergence_keeps_its_digits_for_tiny_changes() {
        let mut p = [0.2f32, 1.0, -0.5];
        softmax(&mut p);
        for size in [1.0f64, 1e-3, 1e-6] {
            let change = [0.4 * size, -0.3 * size, 0.9 * size].map(|v| v as f32);
            let wide = change.map(f64::from);
            let p64 = p.map(f64::from);
            let sum: f64 = (0..3).map(|k| p64[k] * libm::expm1(wide[k])).sum();
            let a = libm::log1p(sum);
            let mut found = change;
            let kl = divergence(&p, &mut found);
            for k in 0..3 {
                let expected = p64[k] * libm::expm1(wide[k] - a);
                let error = (f64::from(found[k]) / expected - 1.0).abs();
                assert!(error < 1e-5, "size {size} class {k}: {error}");
            }
            let expected: f64 = a - (0..3).map(|k| p64[k] * wide[k]).sum::<f64>();
            if size > 1e-4 {
                assert!(
                    (f64::from(kl) / expected - 1.0).abs() < 1e-3,
                    "{kl} {expected}"
                );
            }
        }
    }

    #[test]
    fn bad_labels_and_infinities_are_refused() {
        assert_eq!(
            cross_entropy(&mut [0.0, 0.0], 2, &[2], 1.0, 0.0),
            Err(Error::Label)
        );
        let bad = cross_entropy(&mut [f32::NAN, 0.0], 2, &[0], 1.0, 0.0);
        assert_eq!(bad, Err(Error::Diverged));
    }
}
