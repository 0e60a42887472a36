//! MNIST and CIFAR-10 as bytes, and which of their training images a draw takes.
//! Decoding ends here; scaling to numbers around zero is the trainer's.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fieldtune_benches::shared;
use fieldtune_core::random::Random;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use fieldtune_benches::Failure;

/// Classes of either data set as it comes.
const CLASSES: usize = 10;
/// Digits from this one on are the new ones of [`Source::NewDigits`].
const NEW: u16 = 5;

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Handwritten digits, 28x28 grey; 60,000 to train, 10,000 to test.
    Mnist,
    /// The digits 5 to 9, for a network that was trained on the digits 0 to 4.
    NewDigits,
    /// Small photographs, 32x32 in colour; 20,000 to train here, 10,000 to test.
    Cifar10,
}

impl Source {
    /// `[channels, rows, columns]` of an image.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Mnist | Self::NewDigits => [1, 28, 28],
            Self::Cifar10 => [3, 32, 32],
        }
    }
}

impl Source {
    /// Whether the files are there.
    ///
    /// # Errors
    /// A line that says which is missing and how to get it.
    pub fn available(self) -> Result<(), String> {
        let names: &[&str] = match self {
            Self::Mnist | Self::NewDigits => &[
                "mnist/train-images-idx3-ubyte",
                "mnist/train-labels-idx1-ubyte",
                "mnist/t10k-images-idx3-ubyte",
                "mnist/t10k-labels-idx1-ubyte",
            ],
            Self::Cifar10 => &["cifar10/train-2000-per-class.tar", "cifar10/test.tar"],
        };
        let find = |name: &&str| {
            let packed = shared(&format!("data/{name}.gz"));
            packed.or_else(|missing| match self {
                Self::Mnist | Self::NewDigits => shared(&format!("data/{name}")),
                Self::Cifar10 => Err(missing),
            })
        };
        let origin = match self {
            Self::Mnist | Self::NewDigits => {
                "MNIST's four IDX files, packed or not, go to ../shared/data/mnist"
            }
            Self::Cifar10 => {
                "CIFAR-10 as JPEGs in a folder a class goes to ../shared/data/cifar10, as \
                 test.tar.gz and train-2000-per-class.tar.gz"
            }
        };
        match names.iter().find_map(|name| find(name).err()) {
            Some(missing) => Err(format!("{missing}. {origin}")),
            None => Ok(()),
        }
    }
}

/// Labelled images.
pub struct Images {
    /// `[count, channels, rows, columns]`.
    pub pixels: Vec<u8>,
    /// `[count]`.
    pub labels: Vec<u16>,
    /// `[channels, rows, columns]`.
    pub shape: [usize; 3],
    /// K; labels are below it.
    pub classes: usize,
}

impl Images {
    /// Those with labels in `wanted`, counted from its start.
    fn of_classes(&self, wanted: Range<u16>) -> Self {
        let rows = (0..self.labels.len()).filter(|row| wanted.contains(&self.labels[*row]));
        let rows: Vec<usize> = rows.collect();
        Self {
            pixels: rows
                .iter()
                .flat_map(|row| self.image(*row))
                .copied()
                .collect(),
            labels: rows
                .iter()
                .map(|row| self.labels[*row] - wanted.start)
                .collect(),
            shape: self.shape,
            classes: wanted.len(),
        }
    }

    /// Elements of one image.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Image `index`.
    pub fn image(&self, index: usize) -> &[u8] {
        let elements = self.elements();
        &self.pixels[index * elements..(index + 1) * elements]
    }
}

/// A data set's two parts.
pub struct DataSet {
    /// What draws are taken from.
    pub train: Images,
    /// What finished networks are tested on.
    pub test: Images,
    /// What networks are trained on beforehand, where they are.
    pub before: Option<Images>,
}

impl DataSet {
    /// Reads a data set; CIFAR-10 is decoded once and kept in `cache`.
    ///
    /// # Errors
    /// A line that says what is missing, or what cannot be read.
    pub fn open(source: Source, cache: &Path) -> Result<Self, Failure> {
        let part = |mnist: &str, cifar10: &str| match source {
            Source::Mnist | Source::NewDigits => mnist_part(mnist),
            Source::Cifar10 => cifar10_part(cifar10, cache),
        };
        let train = part("train", "train-2000-per-class")?;
        let test = part("t10k", "test")?;
        Ok(match source {
            Source::NewDigits => Self {
                train: train.of_classes(NEW..CLASSES as u16),
                test: test.of_classes(NEW..CLASSES as u16),
                before: Some(train.of_classes(0..NEW)),
            },
            Source::Mnist | Source::Cifar10 => Self {
                train,
                test,
                before: None,
            },
        })
    }

    /// Rows of `samples` training images, as many of each class, in an order that
    /// follows from `seed`. A smaller draw of the same seed is the start of a larger one.
    pub fn draw(&self, samples: usize, seed: u64) -> Vec<usize> {
        let mut random = Random::new(0x5a11_da7a + seed);
        let count = self.train.classes;
        let mut classes = vec![Vec::new(); count];
        for (row, label) in self.train.labels.iter().enumerate() {
            classes[usize::from(*label)].push(row);
        }
        classes.iter_mut().for_each(|rows| random.shuffle(rows));
        let rows = (0..samples).map(|i| classes[i % count][i / count]);
        rows.collect()
    }
}

fn mnist_part(name: &str) -> Result<Images, Failure> {
    let pixels = idx(&format!("data/mnist/{name}-images-idx3-ubyte"), 16)?;
    let labels = idx(&format!("data/mnist/{name}-labels-idx1-ubyte"), 8)?;
    images(Source::Mnist, pixels, &labels)
}

/// The bytes of an IDX file after its header; the file may be packed.
fn idx(path: &str, header_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match shared(path) {
        Ok(plain) => bytes = std::fs::read(plain)?,
        Err(_) => {
            let packed = std::fs::File::open(shared(&format!("{path}.gz"))?)?;
            GzDecoder::new(packed).read_to_end(&mut bytes)?;
        }
    }
    if bytes.len() <= header_bytes {
        return Err(format!("{path}: too short").into());
    }
    Ok(bytes.split_off(header_bytes))
}

fn images(source: Source, pixels: Vec<u8>, labels: &[u8]) -> Result<Images, Failure> {
    let shape = source.shape();
    let sound = labels.iter().all(|label| usize::from(*label) < CLASSES);
    if !sound || pixels.len() != labels.len() * shape.iter().product::<usize>() {
        return Err(format!("{source:?}: images and labels do not fit").into());
    }
    Ok(Images {
        pixels,
        labels: labels.iter().map(|label| u16::from(*label)).collect(),
        shape,
        classes: CLASSES,
    })
}

/// A part of CIFAR-10, from the cache or else from its archive of JPEGs. The cache has
/// the format of the data set's own binary files: a byte of label, then the channels.
fn cifar10_part(name: &str, cache: &Path) -> Result<Images, Failure> {
    let archive = shared(&format!("data/cifar10/{name}.tar.gz"))?;
    let cached: PathBuf = cache.join(format!("cifar10-{name}.bin"));
    let record = 1 + Source::Cifar10.shape().iter().product::<usize>();
    let bytes = match std::fs::read(&cached) {
        Ok(bytes) if !bytes.is_empty() && bytes.len() % record == 0 => bytes,
        _ => {
            let bytes = decode(&archive)?;
            let unfinished = cached.with_extension("part");
            std::fs::write(&unfinished, &bytes)?;
            std::fs::rename(&unfinished, &cached)?;
            bytes
        }
    };
    let labels: Vec<u8> = bytes.chunks_exact(record).map(|record| record[0]).collect();
    let pixels = bytes.chunks_exact(record).flat_map(|record| &record[1..]);
    images(Source::Cifar10, pixels.copied().collect(), &labels)
}

/// Every JPEG of an archive with a folder a class, in the archive's order.
fn decode(archive: &Path) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(archive)?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let (mut bytes, mut packed) = (Vec::new(), Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let folder = path.parent().and_then(Path::file_name);
        let class = folder.and_then(|name| NAMES.iter().position(|n| name == *n));
        packed.clear();
        entry.read_to_end(&mut packed)?;
        let image = image::load_from_memory_with_format(&packed, image::ImageFormat::Jpeg)?;
        let image = image.into_rgb8();
        if image.dimensions() != (32, 32) {
            return Err(format!("{}: not 32x32", path.display()).into());
        }
        let class = class.ok_or_else(|| format!("{}: unknown class", path.display()))?;
        bytes.push(class as u8);
        (0..3).for_each(|channel| bytes.extend(image.pixels().map(|pixel| pixel.0[channel])));
    }
    Ok(bytes)
}

/// CIFAR-10's classes, in its own order.
const NAMES: [&str; CLASSES] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
