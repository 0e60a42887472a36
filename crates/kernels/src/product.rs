//! The loops around the kernels: which tile comes when, and what is packed.
//! No instruction set is named here.

use crate::{Matrix, lanes};

/// Rows of `B` packed at a time. 256 rows of a 16-wide panel are 16 KiB, half of
/// a small CPU's first-level cache.
const BLOCK: usize = 256;

/// One tile of a product: `C[rows, width] (+)= A[rows, k] * panel[k, width]`,
/// where `width` is the kernel's.
pub(crate) struct Tile<'a> {
    /// Rows of this tile, at most the kernel's.
    pub rows: usize,
    /// Length of the sum.
    pub k: usize,
    /// `A` from the tile's first element on.
    pub a: &'a [f32],
    /// Elements between two rows of `A`.
    pub a_row_stride: usize,
    /// Elements between two columns of `A`.
    pub a_column_stride: usize,
    /// `[k, width]`, row `p` at `p * panel_stride`.
    pub panel: &'a [f32],
    /// Elements between two rows of the panel.
    pub panel_stride: usize,
    /// `C` from the tile's first element on; columns stand together.
    pub c: &'a mut [f32],
    /// Elements between two rows of `C`.
    pub c_row_stride: usize,
    /// Add to what `C` holds; otherwise start from zero.
    pub accumulate: bool,
}

impl Tile<'_> {
    /// Asserts what every kernel relies on: all elements of a tile of the given
    /// width lie inside the three slices.
    #[inline(always)]
    pub(crate) fn check(&self, width: usize) {
        assert!(self.rows > 0 && self.k > 0);
        let (rows, k) = (self.rows - 1, self.k - 1);
        assert!(rows * self.a_row_stride + k * self.a_column_stride < self.a.len());
        assert!(k * self.panel_stride + width <= self.panel.len());
        assert!(rows * self.c_row_stride + width <= self.c.len());
    }
}

/// A way to compute one tile: an instruction set with its tile size.
///
/// A value exists only where the CPU that runs the program has the instructions.
#[derive(Clone, Copy)]
pub struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) run: fn(Tile<'_>),
}

/// The largest tile of any kernel, in elements: room on the stack for edges.
const LARGEST_TILE: usize = if cfg!(target_arch = "x86_64") {
    256
} else {
    64
};

impl Kernel {
    /// Plain Rust, the same bits on every CPU.
    pub fn lanes() -> Self {
        lanes::KERNEL
    }

    /// The fastest kernel for the CPU that runs the program.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(lanes::KERNEL)
    }

    /// Every kernel this CPU can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let simd = [crate::avx2::detect(), crate::avx512::detect()];
        #[cfg(target_arch = "aarch64")]
        let simd = [Some(crate::neon::KERNEL)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let simd: [Option<Self>; 0] = [];
        core::iter::once(lanes::KERNEL).chain(simd.into_iter().flatten())
    }

    /// The instruction set's name, such as `lanes` or `avx2+fma`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Columns of a tile.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Elements of packing space that [`multiply`] needs for sums of length `k`.
    pub fn scratch_elements(&self, k: usize) -> usize {
        k.min(BLOCK) * self.width
    }
}

impl core::fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// `C = A B`, or `C += A B` when `accumulate` is set. `C` is row-major
/// `[a.rows, b.columns]` at the start of `c`.
///
/// `scratch` holds packed panels: at least
/// [`Kernel::scratch_elements`]`(a.columns())` elements, contents unimportant.
/// No operand may be empty.
///
/// # Panics
/// When the inner dimensions differ or a slice is too short.
pub fn multiply(
    kernel: Kernel,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    accumulate: bool,
    scratch: &mut [f32],
) {
    multiply_strided(kernel, a, b, c, b.columns(), accumulate, scratch);
}

/// As [`multiply`], into a part of a wider matrix: row `i` of `C` starts at
/// `i * c_row_stride`.
///
/// # Panics
/// As [`multiply`], and when `c_row_stride` is smaller than a row.
pub fn multiply_strided(
    kernel: Kernel,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    c_row_stride: usize,
    accumulate: bool,
    scratch: &mut [f32],
) {
    let (m, n, k) = (a.rows(), b.columns(), a.columns());
    assert_eq!(k, b.rows(), "inner dimensions of a product differ");
    assert!(c_row_stride >= n, "rows of a product overlap");
    assert!(
        c.len() >= (m - 1) * c_row_stride + n,
        "product larger than its slice"
    );
    assert!(scratch.len() >= kernel.scratch_elements(k));
    // Where B's columns are far apart it is packed, k * n elements. C^T = B^T A^T packs k * m
    // instead, but reads and writes C across its rows once for each block of the sum.
    let across = 2 * k.div_ceil(BLOCK) * m * n;
    let swap = b.column_stride() != 1 && k * m + across < k * n;
    let job = if swap {
        let (a, b) = (b.transposed(), a.transposed());
        Job {
            kernel,
            a,
            b,
            row: 1,
            column: c_row_stride,
        }
    } else {
        Job {
            kernel,
            a,
            b,
            row: c_row_stride,
            column: 1,
        }
    };
    job.run(c, accumulate, scratch);
}

/// One product after the choice of orientation. `row` and `column` are the
/// strides of `C`.
struct Job<'a> {
    kernel: Kernel,
    a: Matrix<'a>,
    b: Matrix<'a>,
    row: usize,
    column: usize,
}

impl Job<'_> {
    fn run(&self, c: &mut [f32], accumulate: bool, scratch: &mut [f32]) {
        let (n, k, width) = (self.b.columns(), self.a.columns(), self.kernel.width);
        for first in (0..k).step_by(BLOCK) {
            let length = BLOCK.min(k - first);
            for column in (0..n).step_by(width) {
                let used = width.min(n - column);
                let (panel, panel_stride) = if self.b.column_stride() == 1 && used == width {
                    (self.b.from(first, column), self.b.row_stride())
                } else {
                    self.pack(first, length, column, used, scratch);
                    (&*scratch, width)
                };
                let panel = Panel {
                    panel,
                    panel_stride,
                    first,
                    length,
                    column,
                    used,
                };
                self.column_of_tiles(&panel, c, accumulate || first > 0);
            }
        }
    }

    /// Copies a block of columns of B to scratch, zeros to the right.
    fn pack(&self, first: usize, length: usize, column: usize, used: usize, scratch: &mut [f32]) {
        let width = self.kernel.width;
        let panel = &mut scratch[..length * width];
        if used < width {
            panel.fill(0.0);
        }
        if self.b.column_stride() == 1 {
            for (p, row) in panel.chunks_exact_mut(width).enumerate() {
                row[..used].copy_from_slice(&self.b.from(first + p, column)[..used]);
            }
            return;
        }
        for j in 0..used {
            let source = self.b.from(first, column + j).iter();
            let source = source.step_by(self.b.row_stride());
            for (row, value) in panel.chunks_exact_mut(width).zip(source) {
                row[j] = *value;
            }
        }
    }

    fn column_of_tiles(&self, panel: &Panel<'_>, c: &mut [f32], accumulate: bool) {
        let m = self.a.rows();
        for row in (0..m).step_by(self.kernel.rows) {
            let start = row * self.row + panel.column * self.column;
            let tile = Tile {
                rows: self.kernel.rows.min(m - row),
                k: panel.length,
                a: self.a.from(row, panel.first),
                a_row_stride: self.a.row_stride(),
                a_column_stride: self.a.column_stride(),
                panel: panel.panel,
                panel_stride: panel.panel_stride,
                c: &mut c[start..],
                c_row_stride: self.row,
                accumulate,
            };
            if self.column == 1 && panel.used == self.kernel.width {
                (self.kernel.run)(tile);
            } else {
                self.edge(tile, panel.used);
            }
        }
    }

    /// Runs a tile on the stack: C is narrower than the kernel, or transposed.
    fn edge(&self, tile: Tile<'_>, used: usize) {
        let width = self.kernel.width;
        let mut whole = [0.0; LARGEST_TILE];
        let sums = &mut whole[..tile.rows * width];
        if tile.accumulate {
            for (i, line) in sums.chunks_exact_mut(width).enumerate() {
                for (j, value) in line[..used].iter_mut().enumerate() {
                    *value = tile.c[i * self.row + j * self.column];
                }
            }
        }
        let c = tile.c;
        (self.kernel.run)(Tile {
            c: sums,
            c_row_stride: width,
            ..tile
        });
        for (i, line) in sums.chunks_exact(width).enumerate() {
            for (j, value) in line[..used].iter().enumerate() {
                c[i * self.row + j * self.column] = *value;
            }
        }
    }
}

/// A block of columns of `B`, packed or in place.
struct Panel<'a> {
    panel: &'a [f32],
    panel_stride: usize,
    first: usize,
    length: usize,
    column: usize,
    used: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers: every sum is exact, so all kernels must agree to the bit.
    fn whole_numbers<const N: usize>(salt: usize) -> [f32; N] {
        core::array::from_fn(|i| ((i * 7 + salt * 13) % 11) as f32 - 5.0)
    }

    fn naive(a: Matrix<'_>, b: Matrix<'_>, i: usize, j: usize) -> f32 {
        (0..a.columns())
            .map(|p| a.from(i, p)[0] * b.from(p, j)[0])
            .sum()
    }

    fn compare(kernel: Kernel, a: Matrix<'_>, b: Matrix<'_>) {
        let (m, n) = (a.rows(), b.columns());
        let mut scratch = [f32::NAN; BLOCK * 16];
        let mut c = [1.0; 1600];
        for accumulate in [false, true] {
            c.fill(1.0);
            multiply(kernel, a, b, &mut c, accumulate, &mut scratch);
            for i in 0..m {
                for j in 0..n {
                    let expected = naive(a, b, i, j) + f32::from(u8::from(accumulate));
                    assert_eq!(c[i * n + j], expected, "{kernel:?} {m}x{n} at {i},{j}");
                }
            }
            assert!(c[m * n..].iter().all(|v| *v == 1.0), "wrote past C");
        }
    }

    #[test]
    fn every_kernel_agrees_with_the_definition_on_all_small_shapes_and_layouts() {
        let (left, right) = (whole_numbers::<8000>(1), whole_numbers::<8000>(2));
        for kernel in Kernel::available() {
            let sizes = (1..=13).flat_map(|m| [1, 2, 7, 8, 9, 15, 16, 17, 33].map(|n| (m, n)));
            // Miri would take hours for all.
            let (step, depths) = match cfg!(miri) {
                true => (59, &[1, 5][..]),
                false => (1, &[1, 2, 5, 64][..]),
            };
            for (m, n) in sizes.step_by(step) {
                for k in depths.iter().copied() {
                    for (a_transposed, b_transposed) in
                        [(false, false), (true, false), (false, true), (true, true)]
                    {
                        let a = if a_transposed {
                            Matrix::new(&left, k, m).transposed()
                        } else {
                            Matrix::new(&left, m, k)
                        };
                        let b = if b_transposed {
                            Matrix::new(&right, n, k).transposed()
                        } else {
                            Matrix::new(&right, k, n)
                        };
                        compare(kernel, a, b);
                    }
                }
            }
        }
    }

    #[test]
    fn products_into_a_part_of_a_wider_matrix_leave_the_rest() {
        let (left, right) = (whole_numbers::<200>(5), whole_numbers::<700>(6));
        for kernel in Kernel::available() {
            for (m, n, transposed) in [(5, 19, false), (7, 16, false), (3, 20, true)] {
                let a = Matrix::new(&left, m, 9);
                let b = if transposed {
                    Matrix::new(&right, n, 9).transposed()
                } else {
                    Matrix::new(&right, 9, n)
                };
                let mut scratch = [0.0; BLOCK * 16];
                let mut c = [0.5; 400];
                multiply_strided(kernel, a, b, &mut c, 31, false, &mut scratch);
                for (index, value) in c.iter().enumerate() {
                    let (i, j) = (index / 31, index % 31);
                    let expected = if i < m && j < n {
                        naive(a, b, i, j)
                    } else {
                        0.5
                    };
                    assert_eq!(*value, expected, "{kernel:?} {i},{j}");
                }
            }
        }
    }

    #[test]
    fn sums_longer_than_a_block_continue_in_order() {
        let (left, right) = (whole_numbers::<8000>(3), whole_numbers::<8000>(4));
        for kernel in Kernel::available() {
            compare(
                kernel,
                Matrix::new(&left, 3, 2 * BLOCK + 5),
                Matrix::new(&right, 2 * BLOCK + 5, 9),
            );
        }
    }

    #[test]
    fn lanes_sums_in_order_multiply_then_add() {
        let (left, right): ([f32; 3000], [f32; 3000]) = (
            core::array::from_fn(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013),
            core::array::from_fn(|i| ((i * 53 % 97) as f32 - 48.0) * 0.017),
        );
        let (a, b) = (Matrix::new(&left, 5, 300), Matrix::new(&right, 300, 10));
        let mut c = [0.0; 50];
        multiply(Kernel::lanes(), a, b, &mut c, false, &mut [0.0; BLOCK * 16]);
        for (index, value) in c.iter().enumerate() {
            let expected = (0..300).fold(0.0f32, |sum, p| {
                sum + a.from(index / 10, p)[0] * b.from(p, index % 10)[0]
            });
            assert_eq!(value.to_bits(), expected.to_bits());
        }
    }
}
