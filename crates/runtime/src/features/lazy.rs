//! A backbone that is not read before it is needed, and what else makes features of a
//! sample: how it is sensed, and statistics that need no network at all.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::MAX_BACKBONE_BYTES;
use crate::backbone::{self, Backbone};
use crate::cache::{Cache, Key, KeyParts};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::preprocess::{Resize, View};
use crate::senses::{Kind, Sense};
use crate::series::{self, Made};
use crate::sound::{self, Feed, statistics};
use crate::store;
use crate::tail::{Pretrained, Tail};
use crate::views::ViewSet;

/// The part of a cut that stands for the statistics of a recording; it comes first.
pub const STATISTICS: &str = "statistics";

/// Largest count of features that an f32 of the cache holds exactly.
const MAX_EXACT_COUNT: usize = 1 << 24;

/// Where the bytes of an ONNX file are.
#[derive(Clone, Debug)]
enum Origin {
    /// Statistics alone.
    Nothing,
    Memory(&'static [u8]),
    File(PathBuf),
}

/// What makes features: a backbone that is read and optimised only when a feature has to be
/// computed, or statistics, or both. Its identity is known without that.
#[derive(Debug)]
pub struct LazyBackbone {
    manifest: Manifest,
    origin: Origin,
    sense: Sense,
    cut: String,
    /// Statistics that stand before the network's features.
    statistics: usize,
    sha256: [u8; 32],
    preprocessing: String,
    loaded: OnceLock<Backbone>,
    loading: Mutex<()>,
    tail: OnceLock<Pretrained>,
}

impl LazyBackbone {
    /// A backbone that is part of the program. That its bytes are those of the manifest is
    /// tested once, when the program is built, not at every start.
    ///
    /// # Errors
    /// `BadInput` when the manifest has no SHA-256.
    pub fn embedded(manifest: Manifest, bytes: &'static [u8], cut: &str) -> Result<Self> {
        let sha256 = manifest.stated_sha256().ok_or_else(|| {
            let (file, remedy) = (Path::new(&manifest.file), "build the program again");
            Error::at(ErrorKind::BadInput, file, "has no SHA-256", remedy)
        })?;
        Ok(Self::new(
            manifest,
            Sense::Picture,
            Origin::Memory(bytes),
            cut,
            sha256,
        ))
    }

    /// A backbone in a file. The file is read to learn its SHA-256, and again when the
    /// network is needed, so that it does not stay in memory.
    ///
    /// # Errors
    /// `BadInput`, naming the file: unreadable, or not that of the manifest.
    pub fn file(manifest: Manifest, path: &Path, cut: &str) -> Result<Self> {
        let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
        manifest.verify(&bytes, path)?;
        let sha256 = backbone::digest(&bytes, path)?;
        Ok(Self::new(
            manifest,
            Sense::Picture,
            Origin::File(path.into()),
            cut,
            sha256,
        ))
    }

    /// The same for samples of another kind, which decides anew what `cut` means: of sound,
    /// `statistics` may stand before the tensors.
    #[must_use]
    pub fn sensing(self, sense: Sense) -> Self {
        let Self {
            mut manifest,
            origin,
            cut,
            sha256,
            ..
        } = self;
        if sense
            .sound()
            .is_some_and(|sound| sound.feed == Feed::Picture)
        {
            // A spectrogram has no middle: its ends are as good.
            (manifest.preprocessing.resize, manifest.preprocessing.crop) = (Resize::Stretch, None);
        }
        Self::new(manifest, sense, origin, &cut, sha256)
    }

    /// Numbers that describe recordings or series, without a network.
    pub fn statistics_alone(manifest: Manifest, sense: Sense, cut: &str) -> Self {
        Self::new(manifest, sense, Origin::Nothing, cut, [0; 32])
    }

    fn new(manifest: Manifest, sense: Sense, origin: Origin, cut: &str, sha256: [u8; 32]) -> Self {
        let network = !matches!(origin, Origin::Nothing);
        let statistics = match &sense {
            Sense::Sound(sound) if has_statistics(cut) => statistics::count(sound.spectrum.bands),
            Sense::Series(series) => Made::of_cut(cut).map_or(0, |made| series.features(made)),
            Sense::Picture | Sense::Sound(_) => 0,
        };
        Self {
            preprocessing: sense.identity(network.then_some(&manifest)),
            statistics,
            manifest,
            sense,
            origin,
            cut: cut.into(),
            sha256,
            loaded: OnceLock::new(),
            loading: Mutex::new(()),
            tail: OnceLock::new(),
        }
    }

    /// How samples are sensed.
    pub fn sense(&self) -> &Sense {
        &self.sense
    }

    /// Whether there is a network at all.
    pub fn has_network(&self) -> bool {
        !matches!(self.origin, Origin::Nothing)
    }

    /// How many statistics stand before the network's features; of series, all features.
    pub fn statistics(&self) -> usize {
        self.statistics
    }

    /// Those of the wanted views that a sample has.
    pub fn views(&self, wanted: ViewSet) -> ViewSet {
        let Manifest {
            preprocessing,
            input,
            ..
        } = &self.manifest;
        match &self.sense {
            // A network's values are of a window that does not move.
            Sense::Sound(sound) if sound.feed == Feed::Values => ViewSet::ORIGINAL,
            Sense::Sound(_) => wanted.intersection(sound::VIEWS),
            Sense::Series(_) => wanted.intersection(series::VIEWS),
            Sense::Picture if preprocessing.has_far_view(input) => wanted,
            Sense::Picture => wanted.without(View::Far),
        }
    }

    /// Its name for messages.
    pub fn name(&self) -> &str {
        match self.has_network() {
            true => &self.manifest.name,
            false if self.sense.kind() == Kind::Series => "none (series)",
            false => "none (statistics)",
        }
    }

    /// The tensors where the network is cut.
    fn network_cut(&self) -> &str {
        match self.statistics {
            0 => &self.cut,
            _ => network_part(&self.cut).unwrap_or_default(),
        }
    }

    /// What is said about the backbone.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the ONNX file, and of its side files if it has any.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The tensor where it is cut.
    pub fn cut(&self) -> &str {
        &self.cut
    }

    /// Canonical text of the preprocessing.
    pub fn preprocessing(&self) -> &str {
        &self.preprocessing
    }

    /// Whether the network has been read.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// The bytes of the ONNX file.
    ///
    /// # Errors
    /// `BadInput` when the file changed since [`LazyBackbone::file`].
    pub fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        let path = match &self.origin {
            Origin::Nothing => return Err(no_network()),
            Origin::Memory(bytes) => return Ok(Cow::Borrowed(bytes)),
            Origin::File(path) => path,
        };
        let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
        if backbone::digest(&bytes, path)? != self.sha256 {
            let what = "changed while it was in use";
            return Err(Error::at(ErrorKind::BadInput, path, what, "run again"));
        }
        Ok(Cow::Owned(bytes))
    }

    /// The network, read and optimised at the first call; other threads wait for it.
    ///
    /// # Errors
    /// As [`Backbone::load`]; `BadInput` when the file changed since [`LazyBackbone::file`].
    pub fn get(&self) -> Result<&Backbone> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backbone) = self.loaded.get() {
            return Ok(backbone);
        }
        let backbone = match &self.origin {
            Origin::Nothing => return Err(no_network()),
            Origin::Memory(bytes) => {
                Backbone::load_known(&self.manifest, bytes, self.sha256, self.network_cut())?
            }
            Origin::File(path) => {
                let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
                let backbone =
                    Backbone::load_beside(&self.manifest, &bytes, path, self.network_cut())?;
                if backbone.identity().sha256 != self.sha256 {
                    let what = "changed while it was in use";
                    return Err(Error::at(ErrorKind::BadInput, path, what, "run again"));
                }
                backbone
            }
        };
        Ok(self.loaded.get_or_init(|| backbone))
    }

    /// The layers after the cut, to be trained; read at the first call.
    ///
    /// # Errors
    /// As [`Tail::import`]; `BadInput` when the file cannot be read.
    pub fn tail(&self) -> Result<Pretrained> {
        if let Some(tail) = self.tail.get() {
            return Ok(tail.clone());
        }
        if self.statistics > 0 {
            let what = "--head tail trains the layers after a cut, but the cut has statistics, \
                        which no layer follows; name a tensor with --cut";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let tail = match &self.origin {
            Origin::Nothing => return Err(no_network()),
            Origin::Memory(bytes) => Tail::import(&self.manifest, bytes, &self.cut)?,
            Origin::File(path) => {
                let bytes = store::read(path, MAX_BACKBONE_BYTES)?;
                self.manifest.verify(&bytes, path)?;
                Tail::import_beside(&self.manifest, &bytes, path, &self.cut)?
            }
        };
        Ok(self.tail.get_or_init(|| Pretrained::new(tail)).clone())
    }

    /// Elements of a feature vector: from the network if it is loaded, else from the
    /// cache if it was noted there, else the network is loaded.
    ///
    /// # Errors
    /// As [`LazyBackbone::get`].
    pub fn features(&self, cache: &Cache) -> Result<usize> {
        if !self.has_network() {
            return Ok(self.statistics);
        }
        // A sample with this digest does not occur, so the entry is the count's own.
        let digest = Sha256::digest(b"fieldtune: features of this backbone").into();
        let key = self.key(&digest, View::Original);
        let mut noted = [0.0];
        if !self.is_loaded() && cache.get(&key, &mut noted) {
            let count = noted[0] as usize;
            if count > 0 && count <= MAX_EXACT_COUNT {
                return Ok(count);
            }
        }
        let count = self.statistics + self.get()?.features();
        if count <= MAX_EXACT_COUNT && !cache.get(&key, &mut noted) {
            // A cache that cannot be written shows in the first sample's entry.
            let _ = cache.put(&key, &[count as f32]);
        }
        Ok(count)
    }

    /// The cache's key of one view of the sample with this digest.
    pub fn key(&self, sample: &[u8; 32], view: View) -> Key {
        Key::of(&KeyParts {
            sample,
            backbone: &self.sha256,
            cut: &self.cut,
            preprocessing: &self.preprocessing,
            view,
        })
    }
}

/// Whether a cut begins with [`STATISTICS`].
pub fn has_statistics(cut: &str) -> bool {
    cut.split(',')
        .next()
        .is_some_and(|part| part.trim() == STATISTICS)
}

/// What a cut says of the network; `None` when there is none but statistics.
pub fn network_part(cut: &str) -> Option<&str> {
    match has_statistics(cut) {
        true => cut.split_once(',').map(|(_, rest)| rest.trim()),
        false => Some(cut),
    }
}

fn no_network() -> Error {
    let what = "statistics of recordings or sensors pass no network; name a tensor with --cut";
    Error::new(ErrorKind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_stand_before_the_tensors_of_a_cut() {
        assert_eq!(network_part("statistics"), None);
        assert_eq!(network_part("statistics, a,b:mean"), Some("a,b:mean"));
        assert_eq!(network_part("a,statistics"), Some("a,statistics"));
        assert!(has_statistics("statistics,a") && !has_statistics("statistics2"));
    }
}
