//! Layers as a sequence of steps over a few buffers, and running it. Maps stand in blocks
//! of channels from the first step to the last; they are reordered where they come in
//! and go out.

use fieldtune_kernels::{BLOCK_CHANNELS as BLOCK, Convolver};

use super::layers::{Clamp, Kind, Layer, Layers, Map, Window};
use super::steps::{Dense, Packing, Single, elements};

/// Fewest channels for which an input is put in blocks before a convolution: below, most
/// of a block would be zeros.
const FEWEST_CHANNELS: usize = 8;

/// Where a step reads.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// So many elements of a buffer, in blocks.
    Slot(usize, usize),
    /// What came in from outside, in planes.
    Input(usize),
}

#[derive(Debug)]
enum Step {
    Enter {
        input: usize,
        map: Map,
    },
    Dense {
        layer: Box<Dense>,
        from: Source,
        other: Option<usize>,
    },
    Single {
        layer: Box<Single>,
        from: Source,
    },
    Add {
        terms: [usize; 2],
        clamp: Clamp,
    },
    Sum {
        from: usize,
        map: Map,
        clamp: Clamp,
    },
    Clamp {
        from: usize,
        clamp: Clamp,
    },
}

/// A sequence of steps, ready to run. Nothing in it changes: threads share it, each with
/// its own [`Memory`].
#[derive(Debug)]
pub(super) struct Program {
    convolver: Convolver,
    /// Each with the buffer that it fills, and how many elements of that.
    steps: Vec<(Step, usize, usize)>,
    /// Elements of every buffer.
    slots: Vec<usize>,
    frame: usize,
    band: usize,
    /// Buffer and size of every output.
    outputs: Vec<(usize, Map)>,
}

/// What a run writes to. Contents between runs do not matter.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    slots: Vec<Vec<f32>>,
    frame: Vec<f32>,
    band: Vec<f32>,
}

impl Program {
    /// Whether these layers can become a program: `None` when they hold what no step does.
    /// Copies no weights.
    pub(super) fn check(layers: &Layers) -> Option<()> {
        let mut builder = Builder::new(layers, Packing::Checked);
        for (index, layer) in layers.layers.iter().enumerate() {
            builder.add(layers, index, layer)?;
        }
        builder.finish(layers).map(|_| ())
    }

    /// The program of layers that were checked. The weights of each are given up when they
    /// are packed, so that no network is in memory twice.
    pub(super) fn new(mut layers: Layers) -> Option<Self> {
        let mut builder = Builder::new(&layers, Packing::Done);
        for (index, layer) in std::mem::take(&mut layers.layers).into_iter().enumerate() {
            builder.add(&layers, index, &layer)?;
        }
        builder.finish(&layers)
    }

    /// Buffers for one thread.
    pub(super) fn memory(&self) -> Memory {
        Memory {
            slots: self.slots.iter().map(|size| vec![0.0; *size]).collect(),
            frame: vec![0.0; self.frame],
            band: vec![0.0; self.band],
        }
    }

    /// One run: `inputs` and `outputs` in planes of one channel each.
    pub(super) fn run(&self, memory: &mut Memory, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) {
        for (step, to, size) in &self.steps {
            // Taken out, so that the step can read the others.
            let mut target = std::mem::take(&mut memory.slots[*to]);
            self.step(step, memory, inputs, &mut target[..*size]);
            memory.slots[*to] = target;
        }
        for ((slot, map), output) in self.outputs.iter().zip(outputs) {
            leave(&memory.slots[*slot], *map, output);
        }
    }

    fn step(&self, step: &Step, memory: &mut Memory, inputs: &[&[f32]], target: &mut [f32]) {
        let Memory { slots, frame, band } = memory;
        let read = |source: &Source| match source {
            Source::Slot(slot, size) => &slots[*slot][..*size],
            Source::Input(input) => inputs[*input],
        };
        match step {
            Step::Enter { input, map } => enter(inputs[*input], *map, target),
            Step::Dense { layer, from, other } => {
                let other = other.map(|slot| slots[slot].as_slice());
                layer.run(self.convolver, read(from), frame, other, target);
            }
            Step::Single { layer, from } => {
                layer.run(self.convolver, read(from), frame, band, target);
            }
            Step::Add { terms, clamp } => {
                let [first, second] = terms.map(|slot| slots[slot].as_slice());
                for ((target, a), b) in target.iter_mut().zip(first).zip(second) {
                    *target = clamped(a + b, *clamp);
                }
            }
            Step::Sum { from, map, clamp } => sum(&slots[*from], *map, *clamp, target),
            Step::Clamp { from, clamp } => {
                for (target, value) in target.iter_mut().zip(&slots[*from]) {
                    *target = clamped(*value, *clamp);
                }
            }
        }
    }
}

/// What is not a number passes.
fn clamped(value: f32, clamp: Clamp) -> f32 {
    let value = if value < clamp.low { clamp.low } else { value };
    if value > clamp.high {
        clamp.high
    } else {
        value
    }
}

/// From planes to blocks.
fn enter(source: &[f32], map: Map, target: &mut [f32]) {
    let pixels = map.pixels();
    let targets = target.chunks_exact_mut(pixels * BLOCK);
    for (target, source) in targets.zip(source.chunks(pixels * BLOCK)) {
        for (pixel, lanes) in target.chunks_exact_mut(BLOCK).enumerate() {
            for (lane, value) in lanes.iter_mut().enumerate() {
                *value = source.get(lane * pixels + pixel).copied().unwrap_or(0.0);
            }
        }
    }
}

/// From blocks to planes.
fn leave(source: &[f32], map: Map, target: &mut [f32]) {
    let pixels = map.pixels();
    let sources = source.chunks_exact(pixels * BLOCK);
    for (target, source) in target.chunks_mut(pixels * BLOCK).zip(sources) {
        for (lane, plane) in target.chunks_exact_mut(pixels).enumerate() {
            let lanes = source.iter().skip(lane).step_by(BLOCK);
            for (value, lane) in plane.iter_mut().zip(lanes) {
                *value = *lane;
            }
        }
    }
}

fn sum(source: &[f32], map: Map, clamp: Clamp, target: &mut [f32]) {
    let sources = source.chunks_exact(map.pixels() * BLOCK);
    for (target, source) in target.chunks_exact_mut(BLOCK).zip(sources) {
        let mut sums = [0.0; BLOCK];
        for pixel in source.chunks_exact(BLOCK) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += value;
            }
        }
        for (target, sum) in target.iter_mut().zip(sums) {
            *target = clamped(sum, clamp);
        }
    }
}

/// Gives every value a buffer for as long as it is needed.
struct Builder {
    packing: Packing,
    /// Buffer of every value that has one now.
    places: Vec<Option<usize>>,
    /// Layer after which a value is not read again.
    last: Vec<usize>,
    slots: Vec<usize>,
    free: Vec<usize>,
    steps: Vec<(Step, usize, usize)>,
    frame: usize,
    band: usize,
}

impl Builder {
    fn new(layers: &Layers, packing: Packing) -> Self {
        let mut last = vec![0; layers.maps.len()];
        for (index, layer) in layers.layers.iter().enumerate() {
            last[layer.input] = index;
            if let Some(other) = layer.other {
                last[other] = index;
            }
        }
        for output in &layers.outputs {
            last[*output] = usize::MAX;
        }
        Self {
            packing,
            places: vec![None; layers.maps.len()],
            last,
            slots: Vec::new(),
            free: Vec::new(),
            steps: Vec::new(),
            frame: 0,
            band: 0,
        }
    }

    /// Appends a layer. Of `layers` its own list of them is not looked at.
    fn add(&mut self, layers: &Layers, index: usize, layer: &Layer) -> Option<()> {
        let step = self.step(layers, layer)?;
        let map = layers.maps[layer.output];
        let to = self.place(layer.output, map);
        self.steps.push((step, to, elements(map)));
        for value in 0..self.places.len() {
            if self.last[value] <= index {
                self.free.extend(self.places[value].take());
            }
        }
        Some(())
    }

    fn finish(self, layers: &Layers) -> Option<Program> {
        let place = |value: &usize| Some((self.places[*value]?, layers.maps[*value]));
        Some(Program {
            convolver: Convolver::best(),
            outputs: layers.outputs.iter().map(place).collect::<Option<_>>()?,
            steps: self.steps,
            slots: self.slots,
            frame: self.frame,
            band: self.band,
        })
    }

    fn step(&mut self, layers: &Layers, layer: &Layer) -> Option<Step> {
        let [from, to] = [layer.input, layer.output].map(|value| layers.maps[value]);
        let clamp = layer.clamp;
        let other = match layer.other {
            Some(other) => Some(self.slot(layers, other)?),
            None => None,
        };
        Some(match &layer.kind {
            Kind::Dense(window, weights) => {
                let (source, planar) = self.source(layers, layer.input, window)?;
                let weights = (window, weights);
                let shift = (layer.bias.as_slice(), clamp);
                let dense = Dense::new(weights, shift, (from, planar), to, self.packing)?;
                self.frame = self.frame.max(dense.frame_elements());
                Step::Dense {
                    layer: Box::new(dense),
                    from: source,
                    other,
                }
            }
            Kind::Depthwise(window, weights, expansion) => {
                let (single, source) = match expansion {
                    Some(first) => {
                        let Kind::Dense(first_window, first_weights) = &first.kind else {
                            return None;
                        };
                        let between = layers.maps[first.output];
                        let (source, planar) = self.source(layers, first.input, first_window)?;
                        let first = Dense::new(
                            (first_window, first_weights),
                            (&first.bias, first.clamp),
                            (from, planar),
                            between,
                            self.packing,
                        )?;
                        let shift = (layer.bias.as_slice(), clamp);
                        let (weights, maps) = ((window, weights), [between, to]);
                        let single = Single::new(weights, shift, Some(first), maps, self.packing)?;
                        (single, source)
                    }
                    None => {
                        let shift = (layer.bias.as_slice(), clamp);
                        let weights = (window, weights);
                        let single = Single::new(weights, shift, None, [from, to], self.packing)?;
                        (
                            single,
                            Source::Slot(self.slot(layers, layer.input)?, elements(from)),
                        )
                    }
                };
                self.frame = self.frame.max(single.frame_elements());
                self.band = self.band.max(single.band_elements());
                Step::Single {
                    layer: Box::new(single),
                    from: source,
                }
            }
            Kind::Add => Step::Add {
                terms: [self.slot(layers, layer.input)?, other?],
                clamp,
            },
            Kind::Sum => Step::Sum {
                from: self.slot(layers, layer.input)?,
                map: from,
                clamp,
            },
            Kind::Clamp => Step::Clamp {
                from: self.slot(layers, layer.input)?,
                clamp,
            },
        })
    }

    /// Where a dense convolution reads `value`, and whether in planes.
    fn source(&mut self, layers: &Layers, value: usize, window: &Window) -> Option<(Source, bool)> {
        let few = layers.maps[value].channels < FEWEST_CHANNELS;
        let wide = window.kernel != [1; 2] && window.dilation[1] == 1;
        let input = layers.inputs.iter().position(|input| *input == value);
        match input.filter(|_| few && wide) {
            Some(input) => Some((Source::Input(input), true)),
            None => {
                let size = elements(layers.maps[value]);
                Some((Source::Slot(self.slot(layers, value)?, size), false))
            }
        }
    }

    /// The buffer of a value; one that comes from outside is put in blocks first.
    fn slot(&mut self, layers: &Layers, value: usize) -> Option<usize> {
        if let Some(slot) = self.places[value] {
            return Some(slot);
        }
        let input = layers.inputs.iter().position(|input| *input == value)?;
        let map = layers.maps[value];
        let to = self.place(value, map);
        self.steps
            .push((Step::Enter { input, map }, to, elements(map)));
        Some(to)
    }

    /// A free buffer for a value: the smallest that is large enough, else the largest.
    fn place(&mut self, value: usize, map: Map) -> usize {
        let size = elements(map);
        let fits = |slot: &usize| match self.slots[*slot] {
            held if held >= size => (0, held),
            held => (1, usize::MAX - held),
        };
        let found = (0..self.free.len()).min_by_key(|index| fits(&self.free[*index]));
        let slot = match found {
            Some(index) => self.free.swap_remove(index),
            None => {
                self.slots.push(0);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = self.slots[slot].max(size);
        self.places[value] = Some(slot);
        slot
    }
}
