//! Dropout (Srivastava et al., 2014): sets elements to zero at random and makes the
//! others larger, so that the mean stays. The mask is not stored: it is drawn again
//! from the same seed wherever it is needed.

use crate::random::Random;

/// Drops elements of one batch, in place: forward on values, backward on gradients.
/// `rows` numbers the samples, each `width` long, so that any part of a batch meets the
/// same mask.
pub(crate) fn apply(
    values: &mut [f32],
    width: usize,
    rows: core::ops::Range<usize>,
    permille: u16,
    seed: u64,
) {
    // Of 65536 equally likely draws, as many as the chance says.
    let dropped = (u32::from(permille) << 16) / 1000;
    let factor = 1000.0 / (1000 - permille.min(999)) as f32;
    for (row, values) in rows.zip(values.chunks_exact_mut(width)) {
        let mut random = Random::new(seed.wrapping_add((row as u64) << 20));
        for pair in values.chunks_mut(2) {
            let bits = random.bits();
            for (value, half) in pair.iter_mut().zip([bits & 0xffff, bits >> 16]) {
                *value = if half < dropped { 0.0 } else { *value * factor };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_batch_meets_the_same_mask_and_the_mean_stays() {
        let mut all = [1.0f32; 4000];
        apply(&mut all, 1000, 0..4, 300, 7);
        let mut part = [1.0f32; 2000];
        apply(&mut part, 1000, 1..3, 300, 7);
        assert_eq!(all[1000..3000], part);
        let mean = all.iter().sum::<f32>() / 4000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_ne!(all[..1000], all[1000..2000]);
        let mut none = [1.0f32; 10];
        apply(&mut none, 10, 0..1, 0, 7);
        assert_eq!(none, [1.0; 10]);
    }
}
