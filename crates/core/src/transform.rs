//! What happens to a feature vector between the backbone and the first layer.
//! With few samples this matters more than the classifier.

use crate::decay::norm;
use crate::head::Floats;
use fieldtune_kernels::sqrt;
use serde::{Deserialize, Serialize};

/// The steps, in the order in which they are done. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transform<'a> {
    /// `sign(x) sqrt(|x|)` of every element.
    pub signed_root: bool,
    /// Bring the vector to this Euclidean length; 0 leaves it as it is.
    pub length: f32,
    /// Subtract these, `[F]`; empty for none.
    #[serde(borrow)]
    pub shift: Floats<'a>,
    /// Then multiply by these, `[F]`; empty for none.
    #[serde(borrow)]
    pub scale: Floats<'a>,
}

impl Transform<'_> {
    /// Transforms one feature vector `[F]` in place.
    pub fn apply(&self, features: &mut [f32]) {
        if self.signed_root {
            for value in features.iter_mut() {
                *value = sqrt(value.abs()).copysign(*value);
            }
        }
        if self.length > 0.0 {
            let now = norm(features);
            if now > 0.0 {
                let factor = self.length / now;
                features.iter_mut().for_each(|value| *value *= factor);
            }
        }
        for (value, shift) in features.iter_mut().zip(self.shift.iter()) {
            *value -= shift;
        }
        for (value, scale) in features.iter_mut().zip(self.scale.iter()) {
            *value *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_order() {
        let mut x = [-9.0, 16.0];
        Transform {
            signed_root: true,
            length: 10.0,
            ..Transform::default()
        }
        .apply(&mut x);
        assert_eq!(x, [-6.0, 8.0]);
        let shift = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat_array();
        let scale = [0.5f32.to_le_bytes(), 3.0f32.to_le_bytes()].concat_array();
        let (shift, scale) = (Floats::new(&shift), Floats::new(&scale));
        Transform {
            shift,
            scale,
            ..Transform::default()
        }
        .apply(&mut x);
        assert_eq!(x, [-3.5, 18.0]);
        let mut zeros = [0.0; 3];
        Transform {
            length: 1.0,
            ..Transform::default()
        }
        .apply(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }

    trait Concat {
        fn concat_array(self) -> [u8; 8];
    }

    impl Concat for [[u8; 4]; 2] {
        fn concat_array(self) -> [u8; 8] {
            core::array::from_fn(|i| self[i / 4][i % 4])
        }
    }
}
