//! Activations: element by element, in place.

use fieldtune_kernels::exp;

/// `y = max(x, 0)`.
pub(crate) fn relu(values: &mut [f32]) {
    for value in values {
        *value = value.max(0.0);
    }
}

/// `dx = dy where y > 0, else 0`. The output tells where the input was positive.
pub(crate) fn relu_backward(y: &[f32], dy: &mut [f32]) {
    for (gradient, value) in dy.iter_mut().zip(y) {
        *gradient = if *value > 0.0 { *gradient } else { 0.0 };
    }
}

/// `y = min(max(x, 0), 6)`.
pub(crate) fn relu6(values: &mut [f32]) {
    for value in values {
        *value = value.clamp(0.0, 6.0);
    }
}

/// `dx = dy where 0 < y < 6, else 0`.
pub(crate) fn relu6_backward(y: &[f32], dy: &mut [f32]) {
    for (gradient, value) in dy.iter_mut().zip(y) {
        let inside = *value > 0.0 && *value < 6.0;
        *gradient = if inside { *gradient } else { 0.0 };
    }
}

/// `y = x min(max(x + 3, 0), 6) / 6`.
pub(crate) fn hard_swish(values: &mut [f32]) {
    for value in values {
        *value *= (*value + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0);
    }
}

/// `dx = dy (2 x + 3) / 6` between -3 and 3, 0 below, dy above.
pub(crate) fn hard_swish_backward(x: &[f32], dy: &mut [f32]) {
    for (gradient, x) in dy.iter_mut().zip(x) {
        let slope = if *x <= -3.0 {
            0.0
        } else if *x >= 3.0 {
            1.0
        } else {
            (2.0 * x + 3.0) * (1.0 / 6.0)
        };
        *gradient *= slope;
    }
}

/// `y = x s(x)`, s the logistic function.
pub(crate) fn silu(values: &mut [f32]) {
    for value in values {
        *value *= logistic(*value);
    }
}

/// `dx = dy s (1 + x (1 - s))`.
pub(crate) fn silu_backward(x: &[f32], dy: &mut [f32]) {
    for (gradient, x) in dy.iter_mut().zip(x) {
        let s = logistic(*x);
        *gradient *= s * (1.0 + x * (1.0 - s));
    }
}

/// `1 / (1 + exp(-x))`.
fn logistic(x: f32) -> f32 {
    // Below -80 the exponential nears infinity and x times 0 would not be a number.
    1.0 / (1.0 + exp(-x.max(-80.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_follow_their_formulas_far_out_too() {
        let x = [-500.0f32, -3.5, -1.0, 0.0, 2.0, 7.0, 500.0];
        type Activation = fn(&mut [f32]);
        let cases: [(Activation, [f32; 7]); 4] = [
            (relu, [0.0, 0.0, 0.0, 0.0, 2.0, 7.0, 500.0]),
            (relu6, [0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 6.0]),
            (
                hard_swish,
                [0.0, 0.0, -1.0 / 3.0, 0.0, 5.0 / 3.0, 7.0, 500.0],
            ),
            (
                silu,
                [
                    0.0,
                    -0.102_592_2,
                    -0.268_941_4,
                    0.0,
                    1.761_594_2,
                    6.993_622,
                    500.0,
                ],
            ),
        ];
        for (forward, expected) in cases {
            let mut y = x;
            forward(&mut y);
            for (found, expected) in y.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
