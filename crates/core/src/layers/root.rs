//! Square root and length: `y = sqrt(n / S) sign(x) sqrt(|x|)` over the n elements of a
//! sample, where S is the sum of |x|. All y together have the length sqrt(n).

use fieldtune_kernels::sqrt;

/// The slope of the square root is infinite at 0. Elements below this share of the mean of
/// |x| have the slope there instead: they are noise, or channels that are off.
const LEAST_SHARE: f32 = 0.01;

/// Changes samples of `width` elements in place. A sample of zeros stays.
pub(crate) fn forward(values: &mut [f32], width: usize) {
    for sample in values.chunks_exact_mut(width) {
        let sum = sum(sample);
        if sum > 0.0 {
            let factor = sqrt(width as f32 / sum);
            for value in sample {
                *value = (factor * sqrt(value.abs())).copysign(*value);
            }
        }
    }
}

/// With `t = sum of dy y`: `dx = sqrt(n / S) / (2 sqrt(|x|)) dy - sign(x) t / (2 S)`.
pub(crate) fn backward(x: &[f32], dy: &mut [f32], width: usize) {
    let samples = x.chunks_exact(width).zip(dy.chunks_exact_mut(width));
    for (x, dy) in samples {
        let sum = sum(x);
        if sum <= 0.0 {
            dy.fill(0.0);
            continue;
        }
        let factor = sqrt(width as f32 / sum);
        let y = |x: f32| (factor * sqrt(x.abs())).copysign(x);
        let total: f32 = dy.iter().zip(x).map(|(dy, x)| dy * y(*x)).sum();
        let along = 0.5 * total / sum;
        let least = LEAST_SHARE * sum / width as f32;
        for (dy, x) in dy.iter_mut().zip(x) {
            let slope = 0.5 * factor / sqrt(x.abs().max(least));
            let towards = if *x == 0.0 { 0.0 } else { x.signum() };
            *dy = slope * *dy - towards * along;
        }
    }
}

fn sum(sample: &[f32]) -> f32 {
    sample.iter().map(|value| value.abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_gets_its_length_and_zeros_stay() {
        let mut values = [4.0, -1.0, 0.0, 0.0, 0.0, 0.0];
        forward(&mut values, 3);
        let factor = sqrt(3.0 / 5.0);
        assert_eq!(values, [2.0 * factor, -factor, 0.0, 0.0, 0.0, 0.0]);
        let mut gradient = [1.0; 6];
        backward(&[4.0, -1.0, 0.0, 0.0, 0.0, 0.0], &mut gradient, 3);
        assert!(gradient.iter().all(|value| value.is_finite()));
        assert_eq!(gradient[3..], [0.0; 3]);
    }

    #[test]
    fn lengths_have_no_gradient() {
        // y does not change when x is scaled, so dx is at right angles to x.
        let x = [0.5, -2.0, 1.5, 0.8];
        let mut gradient = [0.3, 1.0, -0.7, 0.2];
        backward(&x, &mut gradient, 4);
        let along: f32 = x.iter().zip(gradient).map(|(x, dx)| x * dx).sum();
        assert!(along.abs() < 1e-6, "{along}");
    }
}
