//! Starting from class means: nearest class mean, written as a dense layer, and
//! so a good first head before any training (imprinting: Qi et al., 2018).

/// Fills `means` `[K, F]` with the mean of each class's rows of `features` `[N, F]`;
/// a class without rows stays zero. `counts` `[K]` is the caller's space.
pub fn class_means(features: &[f32], labels: &[u16], means: &mut [f32], counts: &mut [u32]) {
    means.fill(0.0);
    counts.fill(0);
    let width = means.len() / counts.len().max(1);
    for (row, label) in features.chunks_exact(width.max(1)).zip(labels) {
        let class = usize::from(*label);
        let (Some(count), Some(mean)) = (
            counts.get_mut(class),
            means.get_mut(class * width..(class + 1) * width),
        ) else {
            continue;
        };
        *count += 1;
        add_to_mean(mean, *count, row.iter().copied());
    }
}

/// Moves `mean` `[F]` to the mean of `count` rows, of which `row` is the last.
pub fn add_to_mean(mean: &mut [f32], count: u32, row: impl Iterator<Item = f32>) {
    // The running mean needs no second pass and cannot overflow.
    let share = 1.0 / count as f32;
    for (mean, value) in mean.iter_mut().zip(row) {
        *mean += share * (value - *mean);
    }
}

/// Writes the dense layer that ranks classes as nearest class mean does:
/// `-gain |x - m_k|^2 / 2` is, up to a term common to all classes,
/// `gain m_k x - gain |m_k|^2 / 2`. `means` and `weights` `[K, F]`, `biases` `[K]`.
pub fn imprint(means: &[f32], gain: f32, weights: &mut [f32], biases: &mut [f32]) {
    for (weight, mean) in weights.iter_mut().zip(means) {
        *weight = *mean;
    }
    scale_means(gain, weights, biases);
}

/// As [`imprint`], for means that stand where the weights will.
pub fn scale_means(gain: f32, weights: &mut [f32], biases: &mut [f32]) {
    let width = weights.len() / biases.len().max(1);
    let rows = weights.chunks_exact_mut(width.max(1));
    for (row, bias) in rows.zip(biases) {
        let mut square = 0.0;
        for weight in row {
            let value = *weight;
            *weight = gain * value;
            square += value * value;
        }
        *bias = -0.5 * gain * square;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_ranks_by_distance() {
        let features = [0.0, 0.0, 2.0, 0.0, 5.0, 5.0, 5.0, 7.0];
        let labels = [0, 0, 1, 1];
        let (mut means, mut counts) = ([9.0; 4], [9; 2]);
        class_means(&features, &labels, &mut means, &mut counts);
        assert_eq!((means, counts), ([1.0, 0.0, 5.0, 6.0], [2, 2]));
        let (mut weights, mut biases) = ([0.0; 4], [0.0; 2]);
        imprint(&means, 2.0, &mut weights, &mut biases);
        let square = |x: f32| x * x;
        for point in [[0.0f32, 0.0], [4.0, 4.0], [3.1, 3.0], [2.8, 2.9]] {
            let distance =
                |k: usize| square(point[0] - means[2 * k]) + square(point[1] - means[2 * k + 1]);
            let logit =
                |k: usize| weights[2 * k] * point[0] + weights[2 * k + 1] * point[1] + biases[k];
            let (by_logits, by_distance) = (logit(1) - logit(0), distance(0) - distance(1));
            assert!((by_logits - by_distance).abs() < 1e-4, "{point:?}");
        }
    }
}
