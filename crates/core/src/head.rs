//! The head file: what training leaves behind. `SPEC.md` beside the crate says
//! it byte by byte. This file encodes and decodes; it opens nothing.

use crate::Error;
use crate::network::{Layer, MAX_LAYERS, Network};
use crate::sets::Sets;
use crate::transform::Transform;
use crate::unknown::Unknown;
use crc::{CRC_32_ISO_HDLC, Crc, Table};
use serde::{Deserialize, Serialize};

/// The format this program writes.
pub const FORMAT: u16 = 6;
/// The most that [`Backbone::views`] can be.
pub const ALL_VIEWS: u8 = 0b11111;
/// The first format with class means and tables for prediction sets.
const WITH_UNKNOWN: u16 = 3;
/// The oldest format this program reads. Format 5 knew the first three bits of
/// [`Backbone::views`] only. Format 4 had no dilated windows and no
/// [`Layer::Branch`], 3 no [`Layer::RootLength`]; 1 and 2 end before [`Head::unknown`] and
/// knew only the first bit of the views; format 1 knew only dense layers and ReLU.
pub const OLDEST_FORMAT: u16 = 1;
/// The most classes a head can have.
pub const MAX_CLASSES: usize = 256;
/// The longest class label, in bytes of UTF-8.
pub const MAX_LABEL_BYTES: usize = 200;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 20;

const MAGIC: [u8; 8] = *b"FTHEAD\r\n";
pub(crate) const CHECKSUM: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Numbers as they stand in the file: f32, little-endian, one after another.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Floats<'a>(&'a [u8]);

impl<'a> Floats<'a> {
    /// Reads `bytes` as numbers; a rest of fewer than four bytes is not seen.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.0
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The number at `index`; 0 where there is none.
    pub fn get(&self, index: usize) -> f32 {
        let bytes = self.0.get(4 * index..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    }

    /// Copies the numbers to `out`, as many as both hold.
    pub fn copy_to(&self, out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(self.iter()) {
            *out = value;
        }
    }

    pub(crate) fn sound(&self, len: usize) -> bool {
        self.0.len() == len * 4 && self.iter().all(f32::is_finite)
    }
}

impl core::fmt::Debug for Floats<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} numbers", self.len())
    }
}

/// Which features the head was trained on. Another backbone, cut or
/// preprocessing gives other features, so all must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backbone<'a> {
    /// The manifest's name, for messages.
    pub name: &'a str,
    /// SHA-256 of the ONNX file.
    pub sha256: [u8; 32],
    /// The tensor at which it is cut.
    pub cut: &'a str,
    /// F, elements a sample at the cut.
    pub features: u32,
    /// The preprocessing, in its canonical text.
    pub preprocessing: &'a str,
    /// Which views of a sample features are averaged over (logits, where the first layer
    /// reads a map), beside the sample as it is:
    /// bit 0 its mirror image, bit 1 its middle enlarged, bit 2 a wider crop.
    pub views: u8,
}

/// Cross-validated accuracy, 0 to 1, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossValidation {
    /// Share of held-out samples recognised.
    pub accuracy: f32,
    /// Lower end of the interval.
    pub low: f32,
    /// Upper end of the interval.
    pub high: f32,
    /// Held-out samples judged.
    pub n: u32,
}

/// How the head was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained<'a> {
    /// Version of the program.
    pub program: &'a str,
    /// The recipe, in words.
    pub recipe: &'a str,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Training samples of each class.
    pub samples: heapless::Vec<u32, MAX_CLASSES>,
    /// What cross-validation found; `None` when there were too few samples.
    pub cross_validation: Option<CrossValidation>,
}

/// A head, its parts borrowed from the file's bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Head<'a> {
    /// The class names, in the order of the outputs.
    pub labels: heapless::Vec<&'a str, MAX_CLASSES>,
    /// What made the features.
    pub backbone: Backbone<'a>,
    /// What happens to them first.
    pub transform: Transform<'a>,
    /// The layer table.
    pub layers: heapless::Vec<Layer, MAX_LAYERS>,
    /// Weights and biases, where [`Network::weights`] says.
    pub parameters: Floats<'a>,
    /// Logits are divided by this before the softmax.
    pub temperature: f32,
    /// A top probability below this means "none of these"; 0 never does. Heads that
    /// know their class means have 0 and judge by [`Self::unknown`].
    pub unknown_below: f32,
    /// Where it comes from.
    pub trained: Trained<'a>,
    /// What tells samples of no class; after all other fields in the file.
    #[serde(skip)]
    pub unknown: Unknown<'a>,
    /// What prediction sets are made from; the file's last field.
    #[serde(skip)]
    pub sets: Sets<'a>,
}

impl<'a> Head<'a> {
    /// Reads a head file, all of it: header, checksum, content.
    ///
    /// # Errors
    /// [`Error::NotAHead`], [`Error::Version`], [`Error::Length`],
    /// [`Error::Checksum`], [`Error::Content`], or those of [`Network::new`].
    pub fn decode(file: &'a [u8]) -> Result<Self, Error> {
        let (format, payload) = checked_payload(file)?;
        let mut head = Self::default();
        head.read(format, payload)?;
        head.check()?;
        Ok(head)
    }

    /// Reads field by field, in the file's order: a head read as one takes four times its
    /// room on the stack, which microcontrollers do not have.
    fn read(&mut self, format: u16, payload: &'a [u8]) -> Result<(), Error> {
        let rest = &mut &*payload;
        take_into(&mut self.labels, rest)?;
        take_into(&mut self.backbone, rest)?;
        take_into(&mut self.transform, rest)?;
        take_into(&mut self.layers, rest)?;
        take_into(&mut self.parameters, rest)?;
        take_into(&mut self.temperature, rest)?;
        take_into(&mut self.unknown_below, rest)?;
        take_into(&mut self.trained, rest)?;
        if format >= WITH_UNKNOWN {
            take_into(&mut self.unknown, rest)?;
            take_into(&mut self.sets, rest)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Content)
        }
    }

    /// Writes the head file into `buffer` and returns the part used.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when the buffer is shorter than [`Self::file_bytes`] (counted
    /// in bytes here); [`Error::Content`] when the head contradicts itself.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Error> {
        self.check()?;
        let need = self.file_bytes()?;
        let have = buffer.len();
        let file = buffer.get_mut(..need).ok_or(Error::NoRoom { need, have })?;
        let (header, payload) = file.split_at_mut(HEADER_BYTES);
        postcard::to_slice(&self.fields(), payload).map_err(|_| Error::Content)?;
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let sum = checksum(&header[8..16], payload);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        Ok(file)
    }

    /// Size of the file that [`Self::encode`] writes.
    ///
    /// # Errors
    /// [`Error::Content`] when it cannot be encoded at all.
    pub fn file_bytes(&self) -> Result<usize, Error> {
        let size = postcard::ser_flavors::Size::default();
        let payload =
            postcard::serialize_with_flavor(&self.fields(), size).map_err(|_| Error::Content)?;
        Ok(HEADER_BYTES + payload)
    }

    /// The checked layer table.
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub fn network(&self) -> Result<Network, Error> {
        Network::new(&self.layers)
    }

    /// Everything in the file's order; postcard writes a tuple as its parts.
    fn fields(&self) -> (&Self, &Unknown<'a>, &Sets<'a>) {
        (self, &self.unknown, &self.sets)
    }

    fn check(&self) -> Result<(), Error> {
        let network = self.network()?;
        let features = self.backbone.features as usize;
        let fits = |floats: &Floats<'_>| floats.is_empty() || floats.sound(features);
        let sound = network.classes() == self.labels.len()
            && self.labels.len() >= 2
            && self.labels.len() == self.trained.samples.len()
            && self.labels.iter().all(|label| label_is_sound(label))
            && network.inputs() == features
            && self.parameters.sound(network.parameter_elements())
            && fits(&self.transform.shift)
            && fits(&self.transform.scale)
            && self.transform.length.is_finite()
            && self.transform.length >= 0.0
            && self.backbone.views <= ALL_VIEWS
            && self.temperature.is_finite()
            && self.temperature > 0.0
            && (0.0..=1.0).contains(&self.unknown_below)
            && self.unknown.is_sound(self.labels.len(), features)
            && self.sets.is_sound(self.labels.len());
        if sound { Ok(()) } else { Err(Error::Content) }
    }
}

/// Reads the value that `bytes` begin with, and leaves what follows it there. One place for
/// each kind of value: inlined, all would be on the stack at once.
#[inline(never)]
pub(crate) fn take_into<'a, T: Deserialize<'a>>(
    place: &mut T,
    bytes: &mut &'a [u8],
) -> Result<(), Error> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Error::Content)?;
    (*place, *bytes) = (value, rest);
    Ok(())
}

/// Whether a class label can stand in a head file: 1 to [`MAX_LABEL_BYTES`] bytes,
/// no control characters (a newline in a label would break every list of labels).
pub fn label_is_sound(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len()) && !label.chars().any(char::is_control)
}

fn checked_payload(file: &[u8]) -> Result<(u16, &[u8]), Error> {
    let start = file.len().min(MAGIC.len());
    if file.is_empty() || file[..start] != MAGIC[..start] {
        return Err(Error::NotAHead);
    }
    let (header, payload) = file.split_at_checked(HEADER_BYTES).ok_or(Error::Length)?;
    let found = u16::from_le_bytes([header[8], header[9]]);
    let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let sum = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    // A damaged version field should read as damage, so the checksum, which covers
    // it, is looked at first where the length allows.
    let whole = payload.len() as u64 == u64::from(length);
    if whole && sum != checksum(&header[8..16], payload) {
        return Err(Error::Checksum);
    }
    if !(OLDEST_FORMAT..=FORMAT).contains(&found) {
        return Err(Error::Version { found });
    }
    if whole {
        Ok((found, payload))
    } else {
        Err(Error::Length)
    }
}

fn checksum(fields: &[u8], payload: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(fields);
    digest.update(payload);
    digest.finalize()
}
