//! Pictures of MNIST and CIFAR-10 as files in memory, the first of each class.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use image::{GrayImage, ImageFormat};

use crate::{Failure, shared};

/// A file's content and its label.
pub type Picture = (Vec<u8>, usize);

const CLASSES: usize = 10;
const MNIST_SIDE: u32 = 28;

/// The first `each` digits of every class of MNIST's test part, as PNG files.
///
/// # Errors
/// When the data is absent or damaged.
pub fn mnist(each: usize) -> Result<Vec<Picture>, Failure> {
    let unpack = |name: &str, header_bytes: usize| -> Result<Vec<u8>, Failure> {
        let file = std::fs::File::open(shared(&format!("data/mnist/{name}.gz"))?)?;
        let mut bytes = Vec::new();
        GzDecoder::new(file).read_to_end(&mut bytes)?;
        Ok(bytes.get(header_bytes..).ok_or("too short")?.to_vec())
    };
    let pixels = unpack("t10k-images-idx3-ubyte", 16)?;
    let labels = unpack("t10k-labels-idx1-ubyte", 8)?;
    let (mut taken, mut found) = ([0; CLASSES], Vec::new());
    let images = pixels.chunks_exact((MNIST_SIDE * MNIST_SIDE) as usize);
    for (image, label) in images.zip(labels) {
        let label = usize::from(label);
        let count = taken.get_mut(label).ok_or("a label above 9")?;
        if *count == each {
            continue;
        }
        *count += 1;
        let image = GrayImage::from_raw(MNIST_SIDE, MNIST_SIDE, image.to_vec());
        let mut png = std::io::Cursor::new(Vec::new());
        image
            .ok_or("not an image")?
            .write_to(&mut png, ImageFormat::Png)?;
        found.push((png.into_inner(), label));
    }
    Ok(found)
}

/// The first `each` photographs of every class of CIFAR-10's test part, as JPEG files.
///
/// # Errors
/// When the data is absent or damaged.
pub fn cifar10(each: usize) -> Result<Vec<Picture>, Failure> {
    let file = std::fs::File::open(shared("data/cifar10/test.tar.gz")?)?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let (mut names, mut taken): (Vec<String>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let name = path.parent().and_then(Path::file_name).ok_or("no class")?;
        let name = name.to_string_lossy().into_owned();
        let label = names.iter().position(|known| *known == name);
        let label = label.unwrap_or_else(|| {
            names.push(name);
            taken.push(0);
            names.len() - 1
        });
        if taken[label] < each {
            taken[label] += 1;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            found.push((bytes, label));
        }
    }
    Ok(found)
}
