//! ReLU: `y = max(x, 0)`, in place, so it costs no memory.

/// `y = max(x, 0)`.
pub(crate) fn forward(values: &mut [f32]) {
    for value in values {
        *value = value.max(0.0);
    }
}

/// `dx = dy where y > 0, else 0`. The output tells where the input was positive.
pub(crate) fn backward(y: &[f32], dy: &mut [f32]) {
    for (gradient, value) in dy.iter_mut().zip(y) {
        if *value <= 0.0 {
            *gradient = 0.0;
        }
    }
}
