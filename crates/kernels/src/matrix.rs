//! A borrowed matrix with strides. No arithmetic lives here.

/// A read-only view of a matrix inside a slice.
///
/// Element `(row, column)` is `data[row * row_stride + column * column_stride]`.
/// Strides are in elements. The constructors check that every element lies
/// inside the slice, so the kernels need not.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix `[rows, columns]` that starts at the slice's start.
    ///
    /// # Panics
    /// When the slice holds fewer than `rows * columns` elements.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "matrix larger than its slice");
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// A part of a wider row-major matrix: row `i` starts at `i * row_stride`.
    ///
    /// # Panics
    /// When an element lies outside the slice.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let end = rows.saturating_sub(1) * row_stride + columns;
        assert!(data.len() >= end, "matrix larger than its slice");
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same elements seen as `[columns, rows]`.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Distance in elements between two rows.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Distance in elements between two columns.
    pub fn column_stride(&self) -> usize {
        self.column_stride
    }

    /// The slice from element `(row, column)` on.
    pub(crate) fn from(&self, row: usize, column: usize) -> &'a [f32] {
        &self.data[row * self.row_stride + column * self.column_stride..]
    }
}
