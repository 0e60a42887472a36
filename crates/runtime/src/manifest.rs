//! What a backbone file needs said about it and does not say itself: which input it
//! takes, how images are scaled for it, where it may be cut. A TOML file beside the ONNX
//! file, or flags. Reading the network itself is in `backbone.rs` and `inspect.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::{Colour, Interpolation, Preprocessing, Resize};
use crate::sound::Sound;
use crate::store;

/// Largest manifest that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Name of the manifest that serves a whole folder with one backbone.
const FOLDER_MANIFEST: &str = "manifest.toml";

/// Order of the axes of the input, without the batch axis in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[channels, height, width]`.
    Nchw,
    /// `[height, width, channels]`.
    Nhwc,
}

/// The input of a backbone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the tensor in the ONNX file; empty: the file's only input.
    #[serde(default)]
    pub tensor: String,
    /// Order of the axes.
    pub layout: Layout,
    /// Channels: 3 for colour, 1 for grey.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

impl Input {
    /// Elements of one sample.
    pub fn elements(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Shape of one sample in the order of `layout`, without the batch axis.
    pub fn shape(&self) -> [usize; 3] {
        match self.layout {
            Layout::Nchw => [self.channels, self.height, self.width],
            Layout::Nhwc => [self.height, self.width, self.channels],
        }
    }
}

/// Everything that is said about a backbone file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name for people.
    pub name: String,
    /// Name of the ONNX file, in the folder of the manifest.
    pub file: String,
    /// SHA-256 of the ONNX file in hexadecimal; empty: not checked.
    #[serde(default)]
    pub sha256: String,
    /// Where the file comes from.
    #[serde(default)]
    pub source: String,
    /// Its licence, an SPDX expression.
    #[serde(default)]
    pub license: String,
    /// Tensors where the network can be cut; empty: whatever `inspect` finds.
    #[serde(default)]
    pub cuts: Vec<String>,
    /// The cut that is used when no other is asked for; empty: none is known.
    #[serde(default)]
    pub default_cut: String,
    /// Values of the network's other inputs, every element of one alike; open axes of
    /// theirs have one element.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_inputs: BTreeMap<String, f32>,
    /// The cut for training the layers after it (`--head tail`); may be absent.
    #[serde(default)]
    pub tail_cut: String,
    /// The input tensor.
    pub input: Input,
    /// How images become input tensors.
    pub preprocessing: Preprocessing,
    /// How recordings become input tensors; absent: as pictures of their spectra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<Sound>,
}

/// What flags may say about a backbone without a manifest; the rest is guessed as
/// [`Manifest::from_flags`] says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// How images are brought to the input's size.
    pub resize: Option<Resize>,
    /// Short side in pixels before the crop.
    pub resize_to: Option<u32>,
    /// Kernel of the resize.
    pub interpolation: Option<Interpolation>,
    /// Order of the channels.
    pub colour: Option<Colour>,
    /// Subtracted from grey levels of 0..=255.
    pub mean: Option<Vec<f32>>,
    /// Multiplied afterwards.
    pub scale: Option<Vec<f32>>,
    /// Where the network is cut.
    pub cut: Option<String>,
    /// Values of the other inputs.
    pub fixed_inputs: BTreeMap<String, f32>,
}

/// Most values of one sample at the input: 256 MiB of them.
const MAX_INPUT_ELEMENTS: usize = 1 << 26;

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// `BadInput`, naming the file and the key: unreadable, not TOML, a key missing,
    /// unknown or of the wrong type, values that contradict each other.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = store::read(path, MAX_MANIFEST_BYTES)?;
        Self::parse(&bytes, path)
    }

    /// Reads a manifest from memory; `path` is for messages.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |what: &dyn std::fmt::Display| {
            Error::at(ErrorKind::BadInput, path, what, "correct the manifest")
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(&"is not UTF-8 text"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let manifest: Self =
            toml::from_str(text).map_err(|error| wrong(&described(text, &error)))?;
        match manifest.problem() {
            Some(problem) => Err(wrong(&problem)),
            None => Ok(manifest),
        }
    }

    /// The manifest of an ONNX file: `NAME.toml` beside `NAME.onnx`, else `manifest.toml`
    /// in the same folder if it is about this file. `None` when there is none.
    ///
    /// # Errors
    /// As [`Manifest::open`]; `BadInput` when `NAME.toml` is about another file.
    pub fn beside(onnx: &Path) -> Result<Option<Self>> {
        let named = onnx.with_extension("toml");
        let file = onnx.file_name().unwrap_or_default();
        if is_file(&named) {
            let manifest = Self::open(&named)?;
            if file != manifest.file.as_str() {
                let what = format_args!("`file` is \"{}\", not {}", manifest.file, file.display());
                let remedy = "correct `file`, or name the manifest after its own file";
                return Err(Error::at(ErrorKind::BadInput, &named, what, remedy));
            }
            return Ok(Some(manifest));
        }
        let folder = onnx.with_file_name(FOLDER_MANIFEST);
        if !is_file(&folder) {
            return Ok(None);
        }
        Ok(Some(Self::open(&folder)?).filter(|manifest| file == manifest.file.as_str()))
    }

    /// A manifest for a file that has none. Guessed where flags are silent: RGB for 3
    /// channels and grey for 1, levels divided by 255 (mean 0), short side to the input's
    /// larger side, bilinear.
    ///
    /// # Errors
    /// `Usage` when the flags contradict each other.
    pub fn from_flags(onnx: &Path, input: Input, flags: Flags) -> Result<Self> {
        let larger_side = u32::try_from(input.height.max(input.width)).unwrap_or(u32::MAX);
        let colour = if input.channels == 1 {
            Colour::Grey
        } else {
            Colour::Rgb
        };
        let text = |name: Option<&std::ffi::OsStr>| name.unwrap_or_default().display().to_string();
        let manifest = Self {
            name: text(onnx.file_stem()),
            file: text(onnx.file_name()),
            sha256: String::new(),
            source: String::new(),
            license: String::new(),
            cuts: flags.cut.iter().cloned().collect(),
            default_cut: flags.cut.unwrap_or_default(),
            tail_cut: String::new(),
            preprocessing: Preprocessing {
                resize: flags.resize.unwrap_or(Resize::ShortSide),
                resize_to: flags.resize_to.unwrap_or(larger_side),
                crop: None,
                interpolation: flags.interpolation.unwrap_or(Interpolation::Bilinear),
                colour: flags.colour.unwrap_or(colour),
                mean: flags.mean.unwrap_or_else(|| vec![0.0]),
                scale: flags.scale.unwrap_or_else(|| vec![1.0 / 255.0]),
            },
            fixed_inputs: flags.fixed_inputs,
            sound: None,
            input,
        };
        match manifest.problem() {
            Some(problem) => Err(Error::at(
                ErrorKind::Usage,
                onnx,
                problem,
                "correct the flags or write a manifest beside the file",
            )),
            None => Ok(manifest),
        }
    }

    /// Canonical text of what becomes the network's inputs: equal texts, equal inputs.
    pub fn identity(&self) -> String {
        let mut text = self.preprocessing.identity(&self.input);
        for (name, value) in &self.fixed_inputs {
            // The bits, so that every value has one text.
            text += &format!(" {name:?}={:08x}", value.to_bits());
        }
        text
    }

    /// Where the ONNX file of the manifest at `manifest_path` is.
    pub fn file_beside(&self, manifest_path: &Path) -> PathBuf {
        manifest_path.with_file_name(&self.file)
    }

    /// The SHA-256 that the manifest states; `None` where it states none.
    pub fn stated_sha256(&self) -> Option<[u8; 32]> {
        from_hexadecimal(&self.sha256)
    }

    /// SHA-256 of the ONNX file's bytes, compared with the manifest's when it has one.
    ///
    /// # Errors
    /// `BadInput` when they differ: `path` is damaged or is another file.
    pub fn verify(&self, bytes: &[u8], path: &Path) -> Result<[u8; 32]> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let found = hexadecimal(&digest);
        if self.sha256.is_empty() || self.sha256.eq_ignore_ascii_case(&found) {
            return Ok(digest);
        }
        Err(Error::at(
            ErrorKind::BadInput,
            path,
            format_args!(
                "has SHA-256 {found}, but the manifest of {} says {}",
                self.name, self.sha256
            ),
            "the file is damaged or another one: copy it again or correct `sha256`",
        ))
    }

    /// What is wrong with the values, naming the key, or `None`.
    fn problem(&self) -> Option<String> {
        for (key, text) in [("name", &self.name), ("file", &self.file)] {
            if text.is_empty() {
                return Some(format!("`{key}` is empty"));
            }
        }
        // A manifest must not lead out of its folder.
        if Path::new(&self.file).file_name() != Some(self.file.as_ref()) {
            return Some("`file` must be a plain file name, without folders".into());
        }
        let digits = self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits || !matches!(self.sha256.len(), 0 | 64) {
            return Some("`sha256` must be 64 hexadecimal digits".into());
        }
        let sides = [("height", self.input.height), ("width", self.input.width)];
        for (key, side) in sides {
            if side == 0 {
                return Some(format!("`input.{key}` is 0, must be 1 or more"));
            }
        }
        let Input {
            channels,
            height,
            width,
            ..
        } = self.input;
        let all = height.checked_mul(width);
        let all = all.and_then(|all| all.checked_mul(channels));
        if all.is_none_or(|all| all > MAX_INPUT_ELEMENTS) {
            return Some(format!(
                "`input` has {channels} x {height} x {width} values, must be at most {MAX_INPUT_ELEMENTS}"
            ));
        }
        if let Some((name, _)) = self
            .fixed_inputs
            .iter()
            .find(|(_, value)| !value.is_finite())
        {
            return Some(format!(
                "`fixed_inputs` gives \"{name}\" a value that is not finite"
            ));
        }
        if !self.default_cut.is_empty()
            && !self.cuts.is_empty()
            && !self.cuts.contains(&self.default_cut)
        {
            return Some("`default_cut` is not one of `cuts`".into());
        }
        if !self.tail_cut.is_empty() && !self.cuts.contains(&self.tail_cut) {
            return Some("`tail_cut` is not one of `cuts`".into());
        }
        if let Some(problem) = self
            .sound
            .as_ref()
            .and_then(|s| s.problem(Some(&self.input)))
        {
            return Some(format!("[sound]: {problem}"));
        }
        self.preprocessing.problem(&self.input)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 that such digits say; `None` for other text.
pub(crate) fn from_hexadecimal(digits: &str) -> Option<[u8; 32]> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes?.try_into().ok()
}

/// A broken link counts: it is meant to be a manifest, and opening it says what is wrong.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|data| !data.is_dir())
}

/// "line 12 (`channels = "three"`): invalid type ...".
fn described(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().next().unwrap_or_default();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message.to_string();
    };
    let line_number = before.matches('\n').count();
    let line = text.lines().nth(line_number).unwrap_or_default().trim();
    let short: String = line.chars().take(60).collect();
    format!("line {} (`{short}`): {message}", line_number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "tiny"
file = "tiny.onnx"
cuts = ["features"]
default_cut = "features"
[input]
tensor = "image"
layout = "nhwc"
channels = 3
height = 8
width = 9
[preprocessing]
resize = "stretch"
interpolation = "bilinear"
colour = "bgr"
mean = [1.0, 2.0, 3.0]
scale = [0.5]
"#;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(text.as_bytes(), Path::new("dir/tiny.toml"))
    }

    #[test]
    fn a_whole_manifest_is_read_with_or_without_a_byte_order_mark() {
        let manifest = parse(WHOLE).unwrap();
        assert_eq!(manifest.input.shape(), [8, 9, 3]);
        assert_eq!(manifest.preprocessing.colour, Colour::Bgr);
        assert_eq!(parse(&format!("\u{feff}{WHOLE}")).unwrap(), manifest);
    }

    #[test]
    fn a_line_of_values_may_be_longer_than_a_picture_s_side() {
        let line = WHOLE.replace("width = 9", "width = 16000");
        let line = line.replace("height = 8", "height = 1");
        assert_eq!(parse(&line).unwrap().input.shape(), [1, 16000, 3]);
        let input = parse(&line).unwrap().input;
        let guessed = Manifest::from_flags(Path::new("wave.onnx"), input, Flags::default());
        assert_eq!(guessed.unwrap().preprocessing.resize_to, 16000);
        // 4,096 x 4,096 in 3 channels, the most that was allowed before, still is.
        let large = WHOLE.replace("width = 9", "width = 4096");
        let large = large.replace("height = 8", "height = 4096");
        assert!(parse(&large).is_ok());
        let larger = large.replace("width = 4096", "width = 6000");
        assert!(parse(&larger).is_err());
    }

    #[test]
    fn every_mistake_names_the_file_and_the_key() {
        let cases = [
            ("name = \"tiny\"", "", "missing field `name`"),
            ("width = 9", "widht = 9", "unknown field `widht`"),
            ("width = 9", "width = \"9\"", "line 11 (`width = \"9\"`)"),
            ("width = 9", "width = 0", "`input.width` is 0"),
            (
                "width = 9",
                "width = 9000000000000000000",
                "must be at most 67108864",
            ),
            (
                "\"stretch\"",
                "\"short-side\"",
                "`resize_to` makes the short side 0",
            ),
            ("[0.5]", "[0.5]\ncrop = 2.0", "`crop` is 2"),
            ("[0.5]", "[0.5, 0.5]", "`scale` needs 1 or 3 values"),
            ("[0.5]", "[nan]", "`scale` holds a value that is not finite"),
            ("channels = 3", "channels = 1", "`colour` has 3 channels"),
            (
                "tiny.onnx",
                "../tiny.onnx",
                "`file` must be a plain file name",
            ),
            (
                "= \"features\"",
                "= \"other\"",
                "`default_cut` is not one of",
            ),
            (
                "[input]",
                "tail_cut = \"other\"\n[input]",
                "`tail_cut` is not one of",
            ),
            ("layout = \"nhwc\"", "layout = \"hwc\"", "layout"),
            ("[input]", "sha256 = \"00\"\n[input]", "`sha256` must be 64"),
            ("[input]", "[input", "line 6"),
        ];
        for (from, to, wanted) in cases {
            let error = parse(&WHOLE.replacen(from, to, 1)).unwrap_err();
            let line = error.to_string();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(line.starts_with("dir/tiny.toml: "), "{line}");
            assert!(line.contains(wanted), "{line} lacks {wanted}");
        }
    }

    #[test]
    fn a_network_that_hears_says_how() {
        let sound = "
[sound]
window_seconds = 1.0
feed = \"values\"
coefficients = 9
[sound.spectrum]
sample_rate_hz = 8000
window_samples = 1000
step_samples = 1000
fft_samples = 1024
bands = 20
lowest_hz = 20.0
highest_hz = 4000.0
mel = \"slaney\"
floor = 1e-6
";
        let grey = WHOLE.replace("channels = 3", "channels = 1");
        let grey = grey.replace("\"bgr\"", "\"grey\"");
        let grey = grey.replace("mean = [1.0, 2.0, 3.0]", "mean = [0.0]") + sound;
        let heard = parse(&grey).unwrap().sound.expect("it hears");
        assert_eq!(heard.spectrum.frames(8000), 8);
        let short = parse(&grey.replace("coefficients = 9", "coefficients = 8"));
        let line = short.unwrap_err().to_string();
        assert!(
            line.contains("give 64 values, but the input takes 72"),
            "{line}"
        );
        let wrong = parse(&grey.replace("bands = 20", "bands = 0"));
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("[sound]: `bands` is 0")
        );
    }

    #[test]
    fn another_file_than_the_manifest_s_is_refused() {
        let mut manifest = parse(WHOLE).unwrap();
        let digest = manifest.verify(b"network", Path::new("tiny.onnx")).unwrap();
        manifest.sha256 = hexadecimal(&digest).to_uppercase();
        assert_eq!(
            manifest.verify(b"network", Path::new("tiny.onnx")),
            Ok(digest)
        );
        let error = manifest
            .verify(b"netw0rk", Path::new("tiny.onnx"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains("SHA-256"));
    }

    #[test]
    fn a_manifest_is_found_beside_its_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let onnx = folder.path().join("tiny.onnx");
        assert_eq!(Manifest::beside(&onnx), Ok(None));
        std::fs::write(folder.path().join("manifest.toml"), WHOLE).unwrap();
        assert_eq!(Manifest::beside(&onnx).unwrap().unwrap().name, "tiny");
        let other = folder.path().join("other.onnx");
        assert_eq!(Manifest::beside(&other), Ok(None));
        std::fs::write(folder.path().join("other.toml"), WHOLE).unwrap();
        let error = Manifest::beside(&other).unwrap_err().to_string();
        assert!(
            error.contains("`file` is \"tiny.onnx\", not other.onnx"),
            "{error}"
        );
    }

    #[test]
    fn flags_alone_make_a_sensible_manifest() {
        let input = parse(WHOLE).unwrap().input;
        let path = Path::new("x/net.onnx");
        let manifest = Manifest::from_flags(path, input.clone(), Flags::default()).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.preprocessing.resize_to),
            ("net", 9)
        );
        let grey = Input {
            channels: 1,
            ..input.clone()
        };
        let manifest = Manifest::from_flags(path, grey, Flags::default()).unwrap();
        assert_eq!(manifest.preprocessing.colour, Colour::Grey);
        let five = Input {
            channels: 5,
            ..input
        };
        let error = Manifest::from_flags(path, five, Flags::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
