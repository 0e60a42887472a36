//! What is asked for, the checks that every kernel relies on, and the loops that cut it
//! into tiles. No instruction set is named here.

use super::BLOCK_CHANNELS as BLOCK;

/// `output[pixel, channel] = clamp(bias[channel] + sum over k of
/// input[pixel, k] * weights[k, channel] + residual[pixel, channel])`.
///
/// The values a pixel needs stand in *segments*: runs of consecutive elements at the same
/// distances from the pixel's own place, wherever the pixel is. A 1x1 convolution has one
/// segment of 16 for each block of input channels; a 3x3 convolution nine times as many.
/// Places of pixels are `row * row_stride + column * column_stride`, in elements.
pub struct Product<'a> {
    /// Rows of output pixels.
    pub rows: usize,
    /// Output pixels of a row.
    pub columns: usize,
    /// What is read, from the first pixel's place on.
    pub input: &'a [f32],
    /// Elements between the places of two rows of pixels in `input`.
    pub input_row_stride: usize,
    /// Elements between the places of two pixels of a row in `input`.
    pub input_column_stride: usize,
    /// Distances of the segments from a pixel's place; those of 16 elements first.
    pub segments: &'a [usize],
    /// How many of the segments have 16 elements.
    pub whole: usize,
    /// Elements of each of the other segments.
    pub rest: usize,
    /// `[blocks, k, 16]`, `k` in the order of the segments.
    pub weights: &'a [f32],
    /// `[blocks, 16]`.
    pub bias: &'a [f32],
    /// Blocks of output channels.
    pub blocks: usize,
    /// Added before clamping; placed as `output` is.
    pub residual: Option<&'a [f32]>,
    /// `[blocks, rows, columns, 16]` with the strides below; pixels of a row stand together.
    pub output: &'a mut [f32],
    /// Elements between two blocks of `output`.
    pub output_block_stride: usize,
    /// Elements between two rows of `output`.
    pub output_row_stride: usize,
    /// Smallest value of the result; negative infinity for none.
    pub low: f32,
    /// Largest value of the result; infinity for none.
    pub high: f32,
}

/// `output[pixel, channel] = clamp(bias[channel] + sum over taps of
/// input[pixel + tap, channel] * weights[tap, channel])`, for one block of channels.
pub struct Depthwise<'a> {
    /// Rows of output pixels.
    pub rows: usize,
    /// Output pixels of a row.
    pub columns: usize,
    /// What is read, from the first pixel's place on; padding stands in it.
    pub input: &'a [f32],
    /// Elements between the places of two rows of pixels in `input`.
    pub input_row_stride: usize,
    /// Elements between the places of two pixels of a row in `input`.
    pub input_column_stride: usize,
    /// Distances of the taps from a pixel's place.
    pub taps: &'a [usize],
    /// `[taps, 16]`.
    pub weights: &'a [f32],
    /// `[16]`.
    pub bias: &'a [f32],
    /// `[rows, columns, 16]`; pixels of a row stand together.
    pub output: &'a mut [f32],
    /// Elements between two rows of `output`.
    pub output_row_stride: usize,
    /// Smallest value of the result; negative infinity for none.
    pub low: f32,
    /// Largest value of the result; infinity for none.
    pub high: f32,
}

/// Elements up to the end of a nest of `(count, stride)`, with `tail` elements at its
/// last place. Saturates, so that no overflow makes a slice look long enough.
fn end(nest: &[(usize, usize)], tail: usize) -> usize {
    nest.iter().fold(tail, |end, (count, stride)| {
        end.saturating_add((count - 1).saturating_mul(*stride))
    })
}

impl Product<'_> {
    /// Length of the sums.
    pub fn depth(&self) -> usize {
        depth(self.segments, self.whole, self.rest)
    }

    /// Asserts what every kernel relies on: all that is read and written lies inside the
    /// slices.
    pub(super) fn check(&self) {
        assert!(self.rows > 0 && self.columns > 0 && self.blocks > 0);
        assert!(self.whole <= self.segments.len());
        let (whole, rest) = self.segments.split_at(self.whole);
        let ends = whole.iter().map(|start| start.saturating_add(BLOCK));
        let ends = ends.chain(rest.iter().map(|start| start.saturating_add(self.rest)));
        let pixels = [
            (self.rows, self.input_row_stride),
            (self.columns, self.input_column_stride),
        ];
        assert!(end(&pixels, ends.max().unwrap_or(0)) <= self.input.len());
        let block = self.depth().saturating_mul(BLOCK);
        assert!(self.blocks.saturating_mul(block) <= self.weights.len());
        assert!(self.blocks.saturating_mul(BLOCK) <= self.bias.len());
        let written = [
            (self.blocks, self.output_block_stride),
            (self.rows, self.output_row_stride),
            (self.columns, BLOCK),
        ];
        let written = end(&written, BLOCK);
        assert!(written <= self.output.len());
        assert!(self.residual.is_none_or(|it| written <= it.len()));
    }

    /// Cuts the work into tiles of at most `pixels` pixels by `together` blocks. Blocks
    /// come outermost, so that their weights stay in the cache.
    #[inline(always)]
    pub(super) fn for_each_tile(
        self,
        pixels: usize,
        together: usize,
        mut run: impl FnMut(ProductTile<'_>),
    ) {
        let block_weights = self.depth() * BLOCK;
        for block in (0..self.blocks).step_by(together) {
            let blocks = together.min(self.blocks - block);
            for row in 0..self.rows {
                for (column, count) in even_parts(self.columns, pixels) {
                    let place = row * self.input_row_stride + column * self.input_column_stride;
                    let target = block * self.output_block_stride
                        + row * self.output_row_stride
                        + column * BLOCK;
                    run(ProductTile {
                        pixels: count,
                        blocks,
                        input: &self.input[place..],
                        pixel_stride: self.input_column_stride,
                        segments: self.segments,
                        whole: self.whole,
                        rest: self.rest,
                        weights: &self.weights[block * block_weights..],
                        weights_stride: block_weights,
                        bias: &self.bias[block * BLOCK..],
                        residual: self.residual.map(|it| &it[target..]),
                        output: &mut self.output[target..],
                        output_stride: self.output_block_stride,
                        low: self.low,
                        high: self.high,
                    });
                }
            }
        }
    }
}

/// Length of the sums over these segments.
fn depth(segments: &[usize], whole: usize, rest: usize) -> usize {
    let others = (segments.len() - whole).saturating_mul(rest);
    whole.saturating_mul(BLOCK).saturating_add(others)
}

/// A part of a [`Product`]: pixels of one row by one or more blocks. Every slice begins
/// at the tile's first element.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only AVX-512 takes several blocks together")
)]
pub(super) struct ProductTile<'a> {
    pub pixels: usize,
    pub blocks: usize,
    pub input: &'a [f32],
    pub pixel_stride: usize,
    pub segments: &'a [usize],
    pub whole: usize,
    pub rest: usize,
    pub weights: &'a [f32],
    /// Elements between the weights of two blocks.
    pub weights_stride: usize,
    pub bias: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub output: &'a mut [f32],
    /// Elements between two blocks of `output` and of `residual`.
    pub output_stride: usize,
    pub low: f32,
    pub high: f32,
}

impl Depthwise<'_> {
    /// Asserts what every kernel relies on: all that is read and written lies inside the
    /// slices.
    pub(super) fn check(&self) {
        assert!(self.rows > 0 && self.columns > 0);
        let furthest = self
            .taps
            .iter()
            .max()
            .map_or(0, |it| it.saturating_add(BLOCK));
        let pixels = [
            (self.rows, self.input_row_stride),
            (self.columns, self.input_column_stride),
        ];
        assert!(end(&pixels, furthest) <= self.input.len());
        assert!(self.taps.len().saturating_mul(BLOCK) <= self.weights.len());
        assert!(BLOCK <= self.bias.len());
        let written = [(self.rows, self.output_row_stride), (self.columns, BLOCK)];
        assert!(end(&written, BLOCK) <= self.output.len());
    }

    /// Cuts the work into tiles of at most `pixels` pixels of one row.
    #[inline(always)]
    pub(super) fn for_each_tile(self, pixels: usize, mut run: impl FnMut(DepthwiseTile<'_>)) {
        for row in 0..self.rows {
            for (column, count) in even_parts(self.columns, pixels) {
                let place = row * self.input_row_stride + column * self.input_column_stride;
                let target = row * self.output_row_stride + column * BLOCK;
                run(DepthwiseTile {
                    pixels: count,
                    input: &self.input[place..],
                    pixel_stride: self.input_column_stride,
                    taps: self.taps,
                    weights: self.weights,
                    bias: self.bias,
                    output: &mut self.output[target..],
                    low: self.low,
                    high: self.high,
                });
            }
        }
    }
}

/// A part of a [`Depthwise`]: pixels of one row. Slices begin at the first.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "tiles of one pixel need no count or stride")
)]
pub(super) struct DepthwiseTile<'a> {
    pub pixels: usize,
    pub input: &'a [f32],
    pub pixel_stride: usize,
    pub taps: &'a [usize],
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub output: &'a mut [f32],
    pub low: f32,
    pub high: f32,
}

/// `(start, length)` of as few parts of at most `largest` as cover `count`, nearly equal:
/// 49 by 14 is 13, 12, 12, 12, for a short last part would waste most of a tile.
fn even_parts(count: usize, largest: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(largest);
    let (length, longer) = (count / parts, count % parts);
    (0..parts).map(move |part| {
        let start = part * length + part.min(longer);
        (start, length + usize::from(part < longer))
    })
}
