//! Dense: `y = x W^T + b`. x `[B, inputs]`, W `[outputs, inputs]`, b and its
//! gradient `[outputs]`, y and its gradient `[B, outputs]`.

use fieldtune_kernels::{Kernel, Matrix, multiply};

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct Dense {
    pub kernel: Kernel,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Dense {
    /// Packing space that the three products below need, in elements.
    pub fn scratch_elements(&self) -> usize {
        [self.inputs, self.rows, self.outputs]
            .map(|k| self.kernel.scratch_elements(k))
            .into_iter()
            .fold(0, usize::max)
    }

    /// `y = x W^T + b`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        for row in y.chunks_exact_mut(self.outputs).take(self.rows) {
            row.copy_from_slice(b);
        }
        let weights = Matrix::new(w, self.outputs, self.inputs).transposed();
        multiply(self.kernel, self.input(x), weights, y, true, scratch);
    }

    /// `dW += dy^T x` and `db += sum of dy over the batch`.
    pub fn backward_parameters(
        &self,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        db: &mut [f32],
        scratch: &mut [f32],
    ) {
        let out = Matrix::new(dy, self.rows, self.outputs).transposed();
        multiply(self.kernel, out, self.input(x), dw, true, scratch);
        for row in dy.chunks_exact(self.outputs).take(self.rows) {
            for (sum, value) in db.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }

    /// `dx = dy W`.
    pub fn backward_input(&self, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        let out = Matrix::new(dy, self.rows, self.outputs);
        let weights = Matrix::new(w, self.outputs, self.inputs);
        multiply(self.kernel, out, weights, dx, false, scratch);
    }

    fn input<'a>(&self, x: &'a [f32]) -> Matrix<'a> {
        Matrix::new(x, self.rows, self.inputs)
    }
}
