//! Large products where allocation is allowed: evaluation and search. The
//! training step never comes here, since `matrixmultiply` allocates its packing
//! buffers on every call and sums differently on CPUs without fused
//! multiply-add.

use crate::Matrix;

/// `C = A B`, row-major `[a.rows, b.columns]` at the start of `c`.
///
/// # Panics
/// When the inner dimensions differ or `c` is too short.
pub fn sgemm(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32]) {
    let (m, n, k) = (a.rows(), b.columns(), a.columns());
    assert_eq!(k, b.rows(), "inner dimensions of a product differ");
    assert!(c.len() >= m * n, "product larger than its slice");
    if m == 0 || n == 0 || k == 0 {
        c[..m * n].fill(0.0);
        return;
    }
    let (a_start, b_start) = (a.from(0, 0).as_ptr(), b.from(0, 0).as_ptr());
    let [a_row, a_column, b_row, b_column] = [
        a.row_stride(),
        a.column_stride(),
        b.row_stride(),
        b.column_stride(),
    ]
    .map(|s| s as isize);
    // SAFETY: 1. `Matrix` has checked that A and B lie inside their slices with
    // these strides. 2. `c` holds m * n elements, row-major. 3. `c` is borrowed
    // mutably, so it overlaps neither. 4. Strides fit isize, since slices do.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a_start,
            a_row,
            a_column,
            b_start,
            b_row,
            b_column,
            0.0,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::{Kernel, Matrix, multiply, sgemm};

    #[test]
    fn agrees_with_the_definition() {
        let a: [f32; 30] = core::array::from_fn(|i| i as f32 - 12.0);
        let b: [f32; 35] = core::array::from_fn(|i| (i % 5) as f32);
        let (a, b) = (Matrix::new(&a, 6, 5), Matrix::new(&b, 7, 5).transposed());
        let (mut fast, mut defined) = ([0.0; 42], [0.0; 42]);
        sgemm(a, b, &mut fast);
        multiply(Kernel::lanes(), a, b, &mut defined, false, &mut [0.0; 256]);
        assert_eq!(fast, defined);
    }
}
