//! Random numbers: one small generator whose values never change between
//! versions or machines, since head files depend on them.

use fieldtune_kernels::{ln, sqrt};
use serde::{Deserialize, Serialize};

/// PCG-XSH-RR with 64 bits of state and 32 bits of output (O'Neill, 2014).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Self { state: 0 };
        random.bits();
        random.state = random.state.wrapping_add(seed);
        random.bits();
        random
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let old = self.state;
        self.state = old
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let xored = (((old >> 18) ^ old) >> 27) as u32;
        xored.rotate_right((old >> 59) as u32)
    }

    /// A number in [0, 1) with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 16_777_216.0
    }

    /// A whole number below `bound`, each equally likely (Lemire's method).
    /// 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let unfair = bound.wrapping_neg() % bound.max(1);
        loop {
            let product = u64::from(self.bits()) * u64::from(bound);
            if product as u32 >= unfair {
                return (product >> 32) as u32;
            }
        }
    }

    /// A number from the standard normal distribution (Marsaglia's polar method).
    pub fn normal(&mut self) -> f32 {
        loop {
            let (u, v) = (self.uniform() * 2.0 - 1.0, self.uniform() * 2.0 - 1.0);
            let square = u * u + v * v;
            if square > 0.0 && square < 1.0 {
                return u * sqrt(-2.0 * ln(square) / square);
            }
        }
    }

    /// Puts the elements of `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_never_changes() {
        let mut random = Random::new(42);
        let first: [u32; 4] = core::array::from_fn(|_| random.bits());
        assert_eq!(
            first,
            [3270867926, 1795671209, 1924641435, 1143034755],
            "head files made with a seed depend on these values"
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "so many draws take minutes")]
    fn normal_has_the_right_moments() {
        let mut random = Random::new(7);
        let (mut mean, mut square) = (0.0f64, 0.0f64);
        for _ in 0..100_000 {
            let x = f64::from(random.normal());
            mean += x;
            square += x * x;
        }
        assert!((mean / 1e5).abs() < 0.01, "{mean}");
        assert!((square / 1e5 - 1.0).abs() < 0.02, "{square}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "so many draws take minutes")]
    fn below_is_even_and_shuffle_keeps_all() {
        let mut random = Random::new(1);
        let mut counts = [0; 5];
        for _ in 0..50_000 {
            counts[random.below(5) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_600..10_400).contains(c)),
            "{counts:?}"
        );
        assert_eq!(random.below(0), 0);
        let mut items: [usize; 20] = core::array::from_fn(|i| i);
        random.shuffle(&mut items);
        assert!(items.iter().enumerate().any(|(i, v)| i != *v));
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, v)| i == *v));
    }
}
