//! Small pictures of MNIST and CIFAR-10 as folders of files, one a class, for the backbone.

use std::io::Read;
use std::path::{Path, PathBuf};

use fieldtune_benches::{Failure, shared, work_folder};
use flate2::read::GzDecoder;

/// Pictures of each class, the first of the test set.
pub const PER_CLASS: usize = 100;

/// The folder of CIFAR-10's pictures, unpacked at the first call.
///
/// # Errors
/// When the data is absent or damaged.
pub fn cifar10() -> Result<PathBuf, Failure> {
    once("cifar10", |folder| {
        let packed = std::fs::File::open(shared("data/cifar10/test.tar.gz")?)?;
        let mut archive = tar::Archive::new(GzDecoder::new(packed));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            let class = path.parent().and_then(Path::file_name);
            let (Some(number), Some(class)) = (number, class) else {
                continue;
            };
            let number: usize = number;
            if number < PER_CLASS {
                std::fs::create_dir_all(folder.join(class))?;
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                std::fs::write(folder.join(class).join(format!("{number:04}.jpg")), bytes)?;
            }
        }
        Ok(())
    })
}

/// The folder of MNIST's digits as png files, written at the first call.
///
/// # Errors
/// When the data is absent or damaged.
pub fn mnist() -> Result<PathBuf, Failure> {
    const SIDE: usize = 28;
    once("mnist", |folder| {
        let images = unpacked("data/mnist/t10k-images-idx3-ubyte.gz")?;
        let labels = unpacked("data/mnist/t10k-labels-idx1-ubyte.gz")?;
        let images = images.get(16..).ok_or("no images")?;
        let mut written = [0; 10];
        let labels = labels.get(8..).ok_or("no labels")?;
        for (pixels, label) in images.chunks_exact(SIDE * SIDE).zip(labels) {
            let count = written
                .get_mut(usize::from(*label))
                .ok_or("a label over 9")?;
            if *count == PER_CLASS {
                continue;
            }
            let class = folder.join(label.to_string());
            std::fs::create_dir_all(&class)?;
            let side = SIDE as u32;
            let picture = image::GrayImage::from_raw(side, side, pixels.to_vec());
            picture
                .ok_or("an image is cut short")?
                .save(class.join(format!("{count:04}.png")))?;
            *count += 1;
        }
        Ok(())
    })
}

fn once(name: &str, fill: impl Fn(&Path) -> Result<(), Failure>) -> Result<PathBuf, Failure> {
    let folder = work_folder("unknowns").join(name);
    let done = work_folder("unknowns").join(format!("{name}-done"));
    if !done.exists() {
        fill(&folder)?;
        std::fs::write(done, "")?;
    }
    Ok(folder)
}

fn unpacked(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(shared(path)?)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}
