//! One layer each, with its weights packed for the kernels: dense convolutions, depthwise
//! convolutions (with the 1x1 convolution before them), and the copies with zeros around.

use fieldtune_kernels::{BLOCK_CHANNELS as BLOCK, Convolver, Depthwise, Product};

use super::layers::{Clamp, Map, Weights, Window};

/// Memory for the rows a depthwise convolution works on at a time: about half of a small
/// board's second-level cache.
const BAND_BYTES: usize = 256 << 10;

/// Blocks of channels that go from the 1x1 convolution to the depthwise one at a time.
const TOGETHER: usize = 2;

/// Blocks of a map's channels.
pub(super) fn blocks(map: Map) -> usize {
    map.channels.div_ceil(BLOCK)
}

/// Elements of a map in blocks.
pub(super) fn elements(map: Map) -> usize {
    blocks(map) * map.pixels() * BLOCK
}

/// Planes of rows, with zeros around them where a window looks beyond the map.
#[derive(Clone, Debug)]
struct Frame {
    planes: usize,
    /// Elements of a pixel in a plane.
    lane: usize,
    /// The map inside.
    inner: [usize; 2],
    /// Zeros above and to the left, in pixels.
    before: [usize; 2],
    /// With the zeros, in pixels.
    outer: [usize; 2],
}

impl Frame {
    fn new(planes: usize, lane: usize, from: Map, to: Map, window: &Window) -> Self {
        let inner = [from.height, from.width];
        let outputs = [to.height, to.width];
        let outer = [0, 1].map(|axis| {
            let reach = window.reach(axis, outputs[axis]);
            reach.max(window.before[axis] + inner[axis])
        });
        Self {
            planes,
            lane,
            inner,
            before: window.before,
            outer,
        }
    }

    fn needs_copy(&self) -> bool {
        self.inner != self.outer
    }

    fn row_elements(&self) -> usize {
        self.outer[1] * self.lane
    }

    fn plane_elements(&self) -> usize {
        self.outer[0] * self.row_elements()
    }

    fn elements(&self) -> usize {
        self.planes * self.plane_elements()
    }

    /// Copies the planes of `source` into the frame.
    fn fill(&self, source: &[f32], target: &mut [f32]) {
        let (row, inner) = (self.row_elements(), self.inner[1] * self.lane);
        let left = self.before[1] * self.lane;
        let sources = source.chunks_exact(self.inner[0] * inner);
        for (source, target) in sources.zip(target.chunks_exact_mut(self.plane_elements())) {
            let (above, rest) = target.split_at_mut(self.before[0] * row);
            above.fill(0.0);
            let (middle, below) = rest.split_at_mut(self.inner[0] * row);
            below.fill(0.0);
            for (source, target) in source.chunks_exact(inner).zip(middle.chunks_exact_mut(row)) {
                target[..left].fill(0.0);
                target[left..left + inner].copy_from_slice(source);
                target[left + inner..].fill(0.0);
            }
        }
    }
}

/// A dense convolution.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    frame: Frame,
    stride: [usize; 2],
    segments: Vec<usize>,
    whole: usize,
    rest: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
    to: Map,
}

/// Rows and blocks of the output that are wanted, and where they go.
pub(super) struct Part<'a> {
    pub first_row: usize,
    pub rows: usize,
    pub first_block: usize,
    pub blocks: usize,
    pub residual: Option<&'a [f32]>,
    pub output: &'a mut [f32],
    pub block_stride: usize,
    pub row_stride: usize,
}

impl Dense {
    /// From a map in blocks, or from planes of one channel each when `planar`. `None` when
    /// the weights cannot be read.
    pub(super) fn new(
        (window, weights): (&Window, &Weights),
        (bias, clamp): (&[f32], Clamp),
        (from, planar): (Map, bool),
        to: Map,
        packing: Packing,
    ) -> Option<Self> {
        let (planes, lane) = match planar {
            true => (from.channels, 1),
            false => (blocks(from), BLOCK),
        };
        let frame = Frame::new(planes, lane, from, to, window);
        let (row, plane) = (frame.row_elements(), frame.plane_elements());
        let [height, width] = window.kernel;
        let mut segments = Vec::new();
        // Input channel, row and column of every term of a sum.
        let mut terms = Vec::new();
        let (whole, rest);
        if planar {
            (whole, rest) = (0, width);
            for (channel, y) in pairs(from.channels, height) {
                segments.push(channel * plane + y * window.dilation[0] * row);
                terms.extend((0..width).map(|x| [channel, y, x]));
            }
        } else {
            let full = from.channels / BLOCK;
            rest = from.channels % BLOCK;
            whole = full * height * width;
            let taps: Vec<[usize; 2]> = pairs(height, width).map(|(y, x)| [y, x]).collect();
            let mut block = |block: usize, channels: usize| {
                for [y, x] in &taps {
                    let place = y * window.dilation[0] * row + x * window.dilation[1] * BLOCK;
                    segments.push(block * plane + place);
                    let first = block * BLOCK;
                    terms.extend((first..first + channels).map(|channel| [channel, *y, *x]));
                }
            };
            (0..full).for_each(|index| block(index, BLOCK));
            if rest > 0 {
                block(full, rest);
            }
        }
        Some(Self {
            stride: [window.stride[0] * row, window.stride[1] * lane],
            frame,
            segments,
            whole,
            rest,
            weights: packed(weights, &terms, to.channels, packing)?,
            bias: padded(bias, blocks(to) * BLOCK),
            clamp,
            to,
        })
    }

    /// Elements that [`Dense::frame`] needs, 0 when it copies nothing.
    pub(super) fn frame_elements(&self) -> usize {
        match self.frame.needs_copy() {
            true => self.frame.elements(),
            false => 0,
        }
    }

    /// The source with zeros around it, in `memory`; or as it is.
    fn frame<'a>(&self, source: &'a [f32], memory: &'a mut [f32]) -> &'a [f32] {
        if !self.frame.needs_copy() {
            return source;
        }
        let memory = &mut memory[..self.frame.elements()];
        self.frame.fill(source, memory);
        memory
    }

    /// The whole map.
    pub(super) fn run(
        &self,
        convolver: Convolver,
        source: &[f32],
        memory: &mut [f32],
        residual: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let row_stride = self.to.width * BLOCK;
        let part = Part {
            first_row: 0,
            rows: self.to.height,
            first_block: 0,
            blocks: blocks(self.to),
            residual,
            output,
            block_stride: self.to.height * row_stride,
            row_stride,
        };
        self.run_part(convolver, self.frame(source, memory), part);
    }

    /// Some rows and blocks, from a source that is framed.
    fn run_part(&self, convolver: Convolver, source: &[f32], part: Part<'_>) {
        let depth = self.weights.len() / blocks(self.to);
        let [row_stride, column_stride] = self.stride;
        let (mut rows, mut columns) = (part.rows, self.to.width);
        // Where rows follow each other on both sides, they are one long row.
        let joined = [column_stride * columns, BLOCK * columns];
        if joined == [row_stride, part.row_stride] {
            (rows, columns) = (1, rows * columns);
        }
        convolver.product(Product {
            rows,
            columns,
            input: source
                .get(part.first_row * row_stride..)
                .unwrap_or_default(),
            input_row_stride: row_stride,
            input_column_stride: column_stride,
            segments: &self.segments,
            whole: self.whole,
            rest: self.rest,
            weights: self
                .weights
                .get(part.first_block * depth..)
                .unwrap_or_default(),
            bias: self
                .bias
                .get(part.first_block * BLOCK..)
                .unwrap_or_default(),
            blocks: part.blocks,
            residual: part.residual,
            output: part.output,
            output_block_stride: part.block_stride,
            output_row_stride: part.row_stride,
            low: self.clamp.low,
            high: self.clamp.high,
        });
    }
}

/// A depthwise convolution, with the dense one before it if there is one.
#[derive(Clone, Debug)]
pub(super) struct Single {
    expansion: Option<Dense>,
    /// Of one block of the input.
    frame: Frame,
    window: Window,
    taps: Vec<usize>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
    to: Map,
    /// Output rows that are worked on at a time.
    band: usize,
}

impl Single {
    /// `None` when the weights cannot be read.
    pub(super) fn new(
        (window, weights): (&Window, &Weights),
        (bias, clamp): (&[f32], Clamp),
        expansion: Option<Dense>,
        [from, to]: [Map; 2],
        packing: Packing,
    ) -> Option<Self> {
        let frame = Frame::new(1, BLOCK, from, to, window);
        let row = frame.row_elements();
        let [height, width] = window.kernel;
        let tap = |(y, x)| y * window.dilation[0] * row + x * window.dilation[1] * BLOCK;
        let terms: Vec<[usize; 3]> = pairs(height, width).map(|(y, x)| [0, y, x]).collect();
        let fits =
            |rows: &usize| window.reach(0, *rows) * row * TOGETHER * size_of::<f32>() <= BAND_BYTES;
        let band = (1..=to.height).take_while(fits).last().unwrap_or(1);
        Some(Self {
            expansion,
            taps: pairs(height, width).map(tap).collect(),
            weights: packed(weights, &terms, to.channels, packing)?,
            bias: padded(bias, blocks(to) * BLOCK),
            window: *window,
            clamp,
            to,
            band: to.height.div_ceil(to.height.div_ceil(band)),
            frame,
        })
    }

    /// Elements that the frame of the expansion needs.
    pub(super) fn frame_elements(&self) -> usize {
        self.expansion.as_ref().map_or(0, Dense::frame_elements)
    }

    /// Elements of the rows that are worked on at a time.
    pub(super) fn band_elements(&self) -> usize {
        match self.reads_in_place() {
            true => 0,
            false => TOGETHER * self.plane_elements(),
        }
    }

    fn plane_elements(&self) -> usize {
        self.window.reach(0, self.band) * self.frame.row_elements()
    }

    fn reads_in_place(&self) -> bool {
        self.expansion.is_none() && !self.frame.needs_copy()
    }

    /// The whole map.
    pub(super) fn run(
        &self,
        convolver: Convolver,
        source: &[f32],
        memory: &mut [f32],
        band: &mut [f32],
        output: &mut [f32],
    ) {
        if self.reads_in_place() {
            let plane = self.frame.plane_elements();
            for (block, source) in source.chunks_exact(plane).enumerate() {
                self.rows(convolver, block, 0..self.to.height, source, output);
            }
            return;
        }
        let source = match &self.expansion {
            Some(expansion) => expansion.frame(source, memory),
            None => source,
        };
        let band = &mut band[..self.band_elements()];
        self.clear_sides(band);
        for first in (0..self.to.height).step_by(self.band) {
            let rows = first..self.to.height.min(first + self.band);
            for block in (0..blocks(self.to)).step_by(TOGETHER) {
                let count = TOGETHER.min(blocks(self.to) - block);
                self.fill(convolver, source, block..block + count, &rows, band);
                for (index, plane) in band.chunks_exact(self.plane_elements()).enumerate() {
                    if index < count {
                        self.rows(convolver, block + index, rows.clone(), plane, output);
                    }
                }
            }
        }
    }

    /// Zeros to the left and right of all rows; nothing else writes there.
    fn clear_sides(&self, band: &mut [f32]) {
        let left = self.frame.before[1] * BLOCK;
        let inner = self.frame.inner[1] * BLOCK;
        for row in band.chunks_exact_mut(self.frame.row_elements()) {
            row[..left].fill(0.0);
            row[left + inner..].fill(0.0);
        }
    }

    /// The input rows that some output rows look at, for some blocks.
    fn fill(
        &self,
        convolver: Convolver,
        source: &[f32],
        range: std::ops::Range<usize>,
        rows: &std::ops::Range<usize>,
        band: &mut [f32],
    ) {
        let (row, above) = (self.frame.row_elements(), self.frame.before[0]);
        let [height, width] = self.frame.inner;
        // In rows of the frame, which begins with the zeros above.
        let start = rows.start * self.window.stride[0];
        let end = start + self.window.reach(0, rows.len());
        let first = start.max(above).min(end);
        let last = end.min(above + height).max(first);
        let plane = self.plane_elements();
        let planes = band.chunks_exact_mut(plane).take(range.len());
        for (index, plane) in planes.enumerate() {
            plane[..(first - start) * row].fill(0.0);
            plane[(last - start) * row..(end - start) * row].fill(0.0);
            if self.expansion.is_none() && last > first {
                let left = self.frame.before[1] * BLOCK;
                let place = (range.start + index) * height + first - above;
                let source = source[place * width * BLOCK..].chunks_exact(width * BLOCK);
                let targets = &mut plane[(first - start) * row..(last - start) * row];
                for (source, target) in source.zip(targets.chunks_exact_mut(row)) {
                    target[left..left + width * BLOCK].copy_from_slice(source);
                }
            }
        }
        let (Some(expansion), true) = (&self.expansion, last > first) else {
            return;
        };
        expansion.run_part(
            convolver,
            source,
            Part {
                first_row: first - above,
                rows: last - first,
                first_block: range.start,
                blocks: range.len(),
                residual: None,
                output: &mut band[(first - start) * row + self.frame.before[1] * BLOCK..],
                block_stride: plane,
                row_stride: row,
            },
        );
    }

    /// Some output rows of one block, from the rows they look at.
    fn rows(
        &self,
        convolver: Convolver,
        block: usize,
        rows: std::ops::Range<usize>,
        source: &[f32],
        output: &mut [f32],
    ) {
        let row_stride = self.to.width * BLOCK;
        let target = (block * self.to.height + rows.start) * row_stride;
        convolver.depthwise(Depthwise {
            rows: rows.len(),
            columns: self.to.width,
            input: source,
            input_row_stride: self.window.stride[0] * self.frame.row_elements(),
            input_column_stride: self.window.stride[1] * BLOCK,
            taps: &self.taps,
            weights: &self.weights[block * self.taps.len() * BLOCK..],
            bias: &self.bias[block * BLOCK..],
            output: &mut output[target..],
            output_row_stride: row_stride,
            low: self.clamp.low,
            high: self.clamp.high,
        });
    }
}

fn pairs(outer: usize, inner: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..outer).flat_map(move |y| (0..inner).map(move |x| (y, x)))
}

/// Whether weights are copied, or only looked at.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Packing {
    /// Nothing is copied; what fails now would fail then.
    Checked,
    Done,
}

/// `[blocks, terms, 16]`, scaled; nothing where they are only checked. Each term is an input
/// channel, a row and a column.
fn packed(
    weights: &Weights,
    terms: &[[usize; 3]],
    channels: usize,
    packing: Packing,
) -> Option<Vec<f32>> {
    let [out, rest @ ..] = weights.strides;
    let places: Vec<usize> = terms
        .iter()
        .map(|term| {
            term.iter()
                .zip(rest)
                .map(|(index, stride)| index * stride)
                .sum()
        })
        .collect();
    // Of one output channel.
    let span = places.iter().max()? + 1;
    if packing == Packing::Checked {
        let end = (channels - 1) * out + span;
        let whole = end <= weights.values.count()? && weights.scale.len() >= channels;
        return whole.then(Vec::new);
    }
    let mut buffer = Vec::new();
    let joined = places.iter().copied().eq(0..places.len());
    let mut packed = vec![0.0; channels.div_ceil(BLOCK) * terms.len() * BLOCK];
    let blocks = packed.chunks_exact_mut(terms.len() * BLOCK);
    for (block, target) in blocks.enumerate() {
        let first = block * BLOCK;
        for lane in 0..BLOCK.min(channels - first) {
            let channel = first + lane;
            let values = weights.values.part(channel * out, span, &mut buffer)?;
            let scale = weights.scale[channel];
            let lanes = target.iter_mut().skip(lane).step_by(BLOCK);
            if joined {
                lanes
                    .zip(values)
                    .for_each(|(target, value)| *target = value * scale);
                continue;
            }
            for (target, place) in lanes.zip(&places) {
                *target = values.get(*place)? * scale;
            }
        }
    }
    Some(packed)
}

fn padded(values: &[f32], length: usize) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(length, 0.0);
    padded
}
