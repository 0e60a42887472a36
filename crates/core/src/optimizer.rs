//! How gradients move weights: SGD with momentum and AdamW, and the learning
//! rate's course over the steps.
//!
//! Decay is decoupled from the gradient's statistics in AdamW (Loshchilov and
//! Hutter, 2019) and part of the gradient in SGD, as in the papers on layer-wise
//! decay. State below 1e-30 is set to zero, since CPUs differ in how they treat
//! numbers below 1e-38.

use fieldtune_kernels::sqrt;
use serde::{Deserialize, Serialize};

/// The rule, with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// With `g = dw + lambda w`: `v = momentum v + g`, `w -= learning_rate v`.
    Sgd {
        /// 0 for plain gradient descent.
        momentum: f32,
        /// Looks one step ahead (Nesterov, as Sutskever et al., 2013, use it):
        /// `w -= learning_rate (g + momentum v)`.
        nesterov: bool,
    },
    /// Adam with bias correction; `w -= learning_rate (step + lambda w)`.
    AdamW {
        /// Memory of the gradient's mean.
        beta1: f32,
        /// Memory of the gradient's square.
        beta2: f32,
        /// Keeps the division finite.
        epsilon: f32,
    },
}

impl Optimizer {
    /// SGD with momentum 0.9.
    pub const SGD: Self = Self::Sgd {
        momentum: 0.9,
        nesterov: false,
    };
    /// Plain gradient descent.
    pub const PLAIN_SGD: Self = Self::Sgd {
        momentum: 0.0,
        nesterov: false,
    };
    /// SGD with Nesterov momentum 0.9.
    pub const NESTEROV: Self = Self::Sgd {
        momentum: 0.9,
        nesterov: true,
    };
    /// AdamW with the constants of its paper.
    pub const ADAMW: Self = Self::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };

    /// Arrays of state, each as long as the parameters.
    pub fn state_arrays(&self) -> usize {
        match self {
            Self::Sgd { momentum, .. } => usize::from(*momentum != 0.0),
            Self::AdamW { .. } => 2,
        }
    }

    /// Moves one tensor. `state` holds [`Self::state_arrays`] arrays of the
    /// tensor's length, `step` counts from 1.
    pub(crate) fn update(&self, move_: &Move, w: &mut [f32], dw: &[f32], state: [&mut [f32]; 2]) {
        let [first, second] = state;
        let Move {
            learning_rate,
            lambda,
            step,
        } = *move_;
        match *self {
            Self::Sgd { momentum, .. } if first.is_empty() => {
                debug_assert_eq!(momentum, 0.0);
                for (w, dw) in w.iter_mut().zip(dw) {
                    *w -= learning_rate * (dw + lambda * *w);
                }
            }
            Self::Sgd {
                momentum,
                nesterov: false,
            } => {
                for ((w, dw), v) in w.iter_mut().zip(dw).zip(first) {
                    *v = settle(momentum * *v + (dw + lambda * *w));
                    *w -= learning_rate * *v;
                }
            }
            Self::Sgd {
                momentum,
                nesterov: true,
            } => {
                for ((w, dw), v) in w.iter_mut().zip(dw).zip(first) {
                    let g = dw + lambda * *w;
                    *v = settle(momentum * *v + g);
                    *w -= learning_rate * (g + momentum * *v);
                }
            }
            Self::AdamW {
                beta1,
                beta2,
                epsilon,
            } => {
                let correct1 = 1.0 / (1.0 - power(beta1, step));
                let correct2 = 1.0 / (1.0 - power(beta2, step));
                for (((w, dw), m), v) in w.iter_mut().zip(dw).zip(first).zip(second) {
                    *m = settle(beta1 * *m + (1.0 - beta1) * dw);
                    *v = settle(beta2 * *v + (1.0 - beta2) * (dw * dw));
                    let adam = (*m * correct1) / (sqrt(*v * correct2) + epsilon);
                    *w -= learning_rate * (adam + lambda * *w);
                }
            }
        }
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub learning_rate: f32,
    pub lambda: f32,
    pub step: u32,
}

/// Zero instead of a number so small that CPUs disagree about it.
#[inline]
fn settle(value: f32) -> f32 {
    if value.abs() < 1e-30 { 0.0 } else { value }
}

/// `base^exponent` by squaring.
fn power(mut base: f32, mut exponent: u32) -> f32 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// The learning rate over the steps: a linear rise, then half a cosine to zero
/// (Loshchilov and Hutter, 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest value.
    pub learning_rate: f32,
    /// Steps of the rise.
    pub warm_up_steps: u32,
    /// Steps in all.
    pub steps: u32,
}

impl Schedule {
    /// The learning rate at `step`, counted from 0.
    pub fn at(&self, step: u32) -> f32 {
        if step < self.warm_up_steps {
            return self.learning_rate * (step + 1) as f32 / (self.warm_up_steps + 1) as f32;
        }
        let length = self.steps.saturating_sub(self.warm_up_steps).max(1);
        let done = ((step - self.warm_up_steps) as f32 / length as f32).min(1.0);
        self.learning_rate * 0.5 * (1.0 + libm::cosf(core::f32::consts::PI * done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVE: Move = Move {
        learning_rate: 0.1,
        lambda: 0.5,
        step: 1,
    };

    #[test]
    fn sgd_follows_its_formula() {
        let (mut w, mut v) = ([2.0f32], [1.0f32]);
        Optimizer::SGD.update(&MOVE, &mut w, &[3.0], [&mut v, &mut []]);
        assert!((v[0] - (0.9 + 4.0)).abs() < 1e-6 && (w[0] - (2.0 - 0.49)).abs() < 1e-6);
        let mut w = [2.0f32];
        Optimizer::PLAIN_SGD.update(&MOVE, &mut w, &[3.0], [&mut [], &mut []]);
        assert!((w[0] - 1.6).abs() < 1e-6);
        let (mut w, mut v) = ([2.0f32], [1.0f32]);
        Optimizer::NESTEROV.update(&MOVE, &mut w, &[3.0], [&mut v, &mut []]);
        let velocity = 0.9 + 4.0;
        assert!((w[0] - (2.0 - 0.1 * (4.0 + 0.9 * velocity))).abs() < 1e-6);
    }

    #[test]
    fn adamw_first_step_is_the_sign_and_the_decay() {
        let (mut w, mut m, mut v) = ([2.0f32, -2.0], [0.0; 2], [0.0; 2]);
        Optimizer::ADAMW.update(&MOVE, &mut w, &[3.0, -1e-3], [&mut m, &mut v]);
        assert!((w[0] - (2.0 - 0.1 * (1.0 + 1.0))).abs() < 1e-5, "{w:?}");
        assert!((w[1] - (-2.0 - 0.1 * (-1.0 - 1.0))).abs() < 1e-4, "{w:?}");
    }

    #[test]
    fn tiny_state_becomes_zero() {
        let (mut w, mut v) = ([0.0f32], [1e-30f32]);
        Optimizer::SGD.update(&MOVE, &mut w, &[0.0], [&mut v, &mut []]);
        assert_eq!(v, [0.0]);
    }

    #[test]
    fn schedule_rises_and_falls() {
        let schedule = Schedule {
            learning_rate: 1.0,
            warm_up_steps: 3,
            steps: 13,
        };
        assert_eq!([0, 1, 2].map(|s| schedule.at(s)), [0.25, 0.5, 0.75]);
        assert!((schedule.at(3) - 1.0).abs() < 1e-6);
        assert!((schedule.at(8) - 0.5).abs() < 1e-6);
        assert!(schedule.at(13) < 1e-6 && schedule.at(99) < 1e-6);
    }
}
