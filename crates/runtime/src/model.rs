//! Where a backbone's bytes and manifest come from: compiled into the program, or a
//! file the user names. Nothing is parsed here; that is `backbone.rs`.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::features::{LazyBackbone, STATISTICS, network_part};
use crate::manifest::{Flags, Input, Manifest};
use crate::senses::{Kind, Sense};
use crate::series::Made;

const EMBEDDED_MANIFEST: &str = include_str!("../../../models/efficientnet-lite0/manifest.toml");
/// The features of series, where no others are asked for.
const USUAL_OF_SERIES: &str = "statistics,kernels";
static EMBEDDED_MODEL: &[u8] = include_bytes!("../../../models/efficientnet-lite0/model_f16.onnx");

/// An ONNX file with what must be known to use it.
#[derive(Clone, Debug)]
pub struct Model {
    manifest: Manifest,
    /// `None` for the one compiled into the program.
    file: Option<PathBuf>,
}

impl Model {
    /// The backbone that is part of the program.
    ///
    /// # Errors
    /// `BadInput` if the program itself is damaged.
    pub fn embedded() -> Result<Self> {
        let path = Path::new("embedded backbone");
        let manifest = Manifest::parse(EMBEDDED_MANIFEST.as_bytes(), path)?;
        Ok(Self {
            manifest,
            file: None,
        })
    }

    /// The bytes of [`Model::embedded`].
    pub fn embedded_bytes() -> &'static [u8] {
        EMBEDDED_MODEL
    }

    /// Another backbone: an ONNX file with a manifest beside it, or with an input
    /// described by flags.
    ///
    /// # Errors
    /// `BadInput` when the manifest cannot be read; `Usage` when there is neither a
    /// manifest nor an input.
    pub fn open(path: &Path, input: Option<Input>, flags: Flags) -> Result<Self> {
        if !path.is_file() {
            let remedy = "give the path of an ONNX file";
            return Err(Error::at(
                ErrorKind::BadInput,
                path,
                "is not a file",
                remedy,
            ));
        }
        let manifest = match (input, Manifest::beside(path)?) {
            (Some(input), _) => Manifest::from_flags(path, input, flags)?,
            (None, Some(manifest)) => manifest,
            (None, None) => {
                let expected = expected(path);
                let what = format_args!("has no manifest {} beside it", expected.display());
                let remedy = "write one, or describe the input with --input TENSOR:CxHxW";
                return Err(Error::at(ErrorKind::Usage, path, what, remedy));
            }
        };
        Ok(Self {
            manifest,
            file: Some(path.to_path_buf()),
        })
    }

    /// What the ONNX file does not say itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What makes features of samples of any kind, not yet loaded. Of sound, `cut` may be
    /// [`STATISTICS`] with or without tensors behind it.
    ///
    /// # Errors
    /// As [`Model::cut_at`].
    pub fn sensing(&self, sense: Sense, cut: &str) -> Result<LazyBackbone> {
        if let Sense::Series(series) = &sense {
            if let Some(path) = &self.file {
                let what = "no network takes series of a sensor yet";
                return Err(Error::at(
                    ErrorKind::Usage,
                    path,
                    what,
                    "leave --backbone out",
                ));
            }
            if series.features(Made::of_cut(cut)?) == 0 {
                let what = format_args!("the head has nothing for --cut {cut}; leave --cut out");
                return Err(Error::new(ErrorKind::Mismatch, what));
            }
        }
        let alone = sense.kind() == Kind::Series
            || sense.kind() == Kind::Sound && network_part(cut).is_none();
        if alone {
            return Ok(LazyBackbone::statistics_alone(
                self.manifest.clone(),
                sense,
                cut,
            ));
        }
        Ok(self.cut_at(cut)?.sensing(sense))
    }

    /// The cut for samples of a kind, where none is asked for: what was found to be best, see
    /// `benches/README.md`. Empty where the manifest names none.
    pub fn usual_cut(&self, kind: Kind) -> &str {
        match (kind, &self.file) {
            // The built-in network knows pictures.
            (Kind::Sound, None) => STATISTICS,
            (Kind::Series, _) => USUAL_OF_SERIES,
            _ => &self.manifest.default_cut,
        }
    }

    /// The backbone cut at a tensor, not yet loaded.
    ///
    /// # Errors
    /// `BadInput` when the file cannot be read or is not the manifest's.
    pub fn cut_at(&self, cut: &str) -> Result<LazyBackbone> {
        match &self.file {
            None => LazyBackbone::embedded(self.manifest.clone(), EMBEDDED_MODEL, cut),
            Some(path) => LazyBackbone::file(self.manifest.clone(), path, cut),
        }
    }
}

fn expected(path: &Path) -> PathBuf {
    path.with_extension("toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;

    #[test]
    fn the_embedded_backbone_is_the_one_its_manifest_describes() {
        let model = Model::embedded().expect("sound");
        let backbone = model
            .cut_at(&model.manifest().default_cut)
            .expect("matches its manifest");
        assert_eq!(backbone.cut(), model.manifest().default_cut);
        assert_eq!(backbone.features(&Cache::off()), Ok(4104));
        let bytes = Model::embedded_bytes();
        let stated = model.manifest().stated_sha256();
        let found = model.manifest().verify(bytes, Path::new("embedded"));
        assert_eq!(found.ok(), stated);
    }
}
