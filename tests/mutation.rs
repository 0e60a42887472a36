//! Damages files at random, the same way for the same seed. Shared by the test of hostile
//! models, which takes seconds, and the bench that takes minutes.

/// A source of random numbers (SplitMix64: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Equal seeds damage equal files equally.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of `corpus`, damaged in one to four places; parts of another may be mixed in.
    pub fn damaged(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let Some(first) = corpus.get(self.below(corpus.len())) else {
            return Vec::new();
        };
        let mut bytes = first.clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes, corpus);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let length = 1 + self.below(16);
        let end = (at + length).min(bytes.len());
        match self.below(8) {
            0 => self.set(bytes, at, |byte, random| byte ^ (1 << (random % 8))),
            1 => self.set(bytes, at, |_, random| random as u8),
            // Small numbers are sizes, types and fields.
            2 => self.set(bytes, at, |_, random| (random % 32) as u8),
            // A number that does not end, or ends far away.
            3 => bytes
                .splice(at..end, varint(self.next() >> self.below(64)))
                .for_each(drop),
            4 => bytes.drain(at..end).for_each(drop),
            5 => {
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, copy).for_each(drop);
            }
            6 => {
                let other = corpus
                    .get(self.below(corpus.len()))
                    .cloned()
                    .unwrap_or_default();
                let from = self.below(other.len());
                let piece = other.get(from..(from + 8 * length).min(other.len()));
                bytes
                    .splice(at..end, piece.unwrap_or_default().to_vec())
                    .for_each(drop);
            }
            _ => self.rename(bytes),
        }
    }

    fn set(&mut self, bytes: &mut [u8], at: usize, change: impl Fn(u8, u64) -> u8) {
        let random = self.next();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = change(*byte, random);
        }
    }

    /// Puts one operator's name over another of the same length.
    fn rename(&mut self, bytes: &mut [u8]) {
        const NAMES: [&str; 36] = [
            "Abs", "Add", "And", "Div", "Exp", "Mul", "Pad", "Sub", "Sum", "Conv", "Gemm", "LSTM",
            "Mean", "Relu", "Size", "Tile", "TopK", "Clip", "Range", "Shape", "Slice", "Split",
            "Where", "Concat", "Einsum", "Expand", "Gather", "MatMul", "OneHot", "Resize",
            "Reshape", "Softmax", "Squeeze", "MaxPool", "Flatten", "Dropout",
        ];
        let (from, to) = (self.below(NAMES.len()), self.below(NAMES.len()));
        let (from, to) = (NAMES[from].as_bytes(), NAMES[to].as_bytes());
        if from.len() != to.len() {
            return;
        }
        let found = bytes.windows(from.len()).position(|window| window == from);
        if let Some(place) = found.and_then(|at| bytes.get_mut(at..at + from.len())) {
            place.copy_from_slice(to);
        }
    }
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
