//! From the bytes of an image file to the input tensor of a backbone: decode, orient,
//! resize, crop, scale. Which numbers a backbone wants is said in its manifest
//! (`manifest.rs`); reading files and caching features are elsewhere.
//!
//! Choices that change pixels, all as in Pillow and torchvision unless said:
//! - transparency is dropped, the colour below it is kept (`convert("RGB")`);
//! - 16-bit samples are rounded to 8 bit, grey is repeated in three channels;
//! - resizing is antialiased convolution (bilinear, or bicubic with a = -0.5) on 8-bit
//!   values; only the part that the crop keeps is ever computed, so an image of
//!   1 x 5000 pixels needs no more memory than any other;
//! - the bars of a letterbox hold the mean, that is 0 after scaling.
//!
//! `tests/preprocessing.rs` compares with Pillow.

mod decode;
mod resize;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Layout};
use resize::{Placement, letterbox, short_side, stretched};

pub use decode::{Decoded, MAX_DECODED_BYTES, MAX_PIXELS, decode, dimensions};

/// How an image is brought to the height and width of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Short side to `resize_to` pixels, then the centre is cut out.
    ShortSide,
    /// Both sides to the input's size; the shape of things changes.
    Stretch,
    /// Long side to the input's size; bars fill the rest.
    Letterbox,
}

/// The kernel of the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle, antialiased.
    Bilinear,
    /// Cubic with a = -0.5, antialiased.
    Bicubic,
}

/// What the channels of the input hold, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel: 0.299 red + 0.587 green + 0.114 blue.
    Grey,
}

impl Colour {
    /// Channels an image has in this order.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// Which of the views of a sample is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The sample as it is.
    Original,
    /// Left and right swapped, after the crop.
    Mirrored,
    /// The middle, 1.25 times as large.
    Near,
    /// As much as a crop of the input's shape can hold.
    Far,
    /// Each level times 1.3, rounded, at most 255.
    Brighter,
    /// Each level divided by 1.3, rounded.
    Darker,
}

/// How much larger things are in [`View::Near`].
const NEARER: f64 = 1.25;

/// How much lighter levels are in [`View::Brighter`].
const LIGHTER: f32 = 1.3;

impl View {
    /// All views, in the order of their bits in a [`ViewSet`](crate::views::ViewSet).
    pub const ALL: [Self; 6] = [
        Self::Original,
        Self::Mirrored,
        Self::Near,
        Self::Far,
        Self::Brighter,
        Self::Darker,
    ];

    /// Stable name, part of cache keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Mirrored => "mirrored",
            Self::Near => "near",
            Self::Far => "far",
            Self::Brighter => "brighter",
            Self::Darker => "darker",
        }
    }

    /// What each level becomes.
    fn levels(self) -> [u8; 256] {
        let seen = match self {
            Self::Brighter => |level: f32| level * LIGHTER,
            Self::Darker => |level: f32| level / LIGHTER,
            Self::Original | Self::Mirrored | Self::Near | Self::Far => |level| level,
        };
        std::array::from_fn(|level| seen(level as f32).round() as u8)
    }

    /// In words: what it shows of a picture.
    pub fn crop(self, preprocessing: &Preprocessing) -> String {
        let resize_to = preprocessing.resize_to;
        match (self, preprocessing.resize) {
            (Self::Mirrored, _) => "as the original, left and right swapped".into(),
            (Self::Brighter, _) => format!(
                "as the original, each level (0 to 255) times {LIGHTER}, rounded, at most 255"
            ),
            (Self::Darker, _) => {
                format!("as the original, each level (0 to 255) divided by {LIGHTER}, rounded")
            }
            (Self::Near, _) => format!(
                "the part of the picture that the original shows, of it the middle, 1/{NEARER} as \
                 high and as wide, resized to height and width in one step"
            ),
            (Self::Far, Resize::ShortSide) => {
                "short side to the larger of height and width, then the middle".into()
            }
            (Self::Original, Resize::ShortSide) => match preprocessing.crop {
                Some(crop) => format!(
                    "short side to the larger of height and width / {crop} pixels, then the middle"
                ),
                None => format!("short side to {resize_to} pixels, then the middle"),
            },
            (Self::Original, Resize::Stretch) if preprocessing.crop.is_some() => {
                let crop = preprocessing.crop.unwrap_or(1.0);
                format!("all of it, resized to height / {crop} and width / {crop}, then the middle")
            }
            (_, Resize::Stretch) => "all of it, resized to height and width".into(),
            (_, Resize::Letterbox) => {
                "all of it, its shape kept, in the middle; the rest is 0 after scaling".into()
            }
        }
    }
}

/// How images become input tensors: value = (level - mean) * scale, level in 0..=255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// How the image is brought to the input's size.
    pub resize: Resize,
    /// Short side in pixels before the centre is cut out; only for [`Resize::ShortSide`],
    /// where `crop` is not given.
    #[serde(default)]
    pub resize_to: u32,
    /// Share of each side, above 0 to 1, that is kept of the resized image: its centre. So
    /// the sides are resized to the input's divided by this, rounded down: timm's
    /// `crop_pct`. 0.875 is `Resize(256)` and `CenterCrop(224)`, or, with
    /// [`Resize::Stretch`], `Resize((256, 256))` and `CenterCrop(224)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<f32>,
    /// Kernel of the resize.
    pub interpolation: Interpolation,
    /// Order of the channels.
    pub colour: Colour,
    /// Subtracted from the grey level; one value, or one a channel.
    pub mean: Vec<f32>,
    /// Multiplied afterwards; one value, or one a channel.
    pub scale: Vec<f32>,
}

impl Preprocessing {
    /// Canonical text of everything that decides the values of a tensor; part of the
    /// cache key and of the identity a head file stores.
    pub fn identity(&self, input: &Input) -> String {
        let resize = match self.resize {
            Resize::ShortSide => format!("short-side:{}", self.short_side(input)),
            Resize::Stretch => match self.stretched_to(input) {
                sides if sides == [input.height, input.width] => "stretch".into(),
                [height, width] => format!("stretch:{height}x{width}"),
            },
            Resize::Letterbox => "letterbox".into(),
        };
        let interpolation = match self.interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        };
        let colour = match self.colour {
            Colour::Rgb => "rgb",
            Colour::Bgr => "bgr",
            Colour::Grey => "grey",
        };
        let layout = match input.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        };
        let per_channel = |values: &[f32]| {
            let texts: Vec<String> = (0..input.channels)
                .map(|channel| at_channel(values, channel).to_string())
                .collect();
            texts.join(",")
        };
        format!(
            "v1 {layout} {}x{}x{} {colour} {resize} {interpolation} mean={} scale={}",
            input.channels,
            input.height,
            input.width,
            per_channel(&self.mean),
            per_channel(&self.scale),
        )
    }

    /// What is wrong with these settings for this input, or `None`.
    pub fn problem(&self, input: &Input) -> Option<String> {
        let channels = self.colour.channels();
        if input.channels != channels {
            return Some(format!(
                "`colour` has {channels} channels but `input.channels` is {}",
                input.channels
            ));
        }
        for (key, values) in [("mean", &self.mean), ("scale", &self.scale)] {
            if values.len() != 1 && values.len() != channels {
                return Some(format!(
                    "`{key}` needs 1 or {channels} values, has {}",
                    values.len()
                ));
            }
            if values.iter().any(|value| !value.is_finite()) {
                return Some(format!("`{key}` holds a value that is not finite"));
            }
        }
        self.crop_problem(input)
            .or_else(|| self.side_problem(input))
    }

    fn crop_problem(&self, input: &Input) -> Option<String> {
        let crop = self.crop?;
        if !(crop > 0.0 && crop <= 1.0) {
            return Some(format!(
                "`crop` is {crop}, but must be above 0 and at most 1"
            ));
        }
        match self.resize {
            Resize::Letterbox => Some("`crop` is given, but a letterbox keeps all".into()),
            Resize::ShortSide if self.resize_to != 0 => {
                Some("`crop` and `resize_to` say the same thing: give one of them".into())
            }
            Resize::Stretch => {
                let longest = longest_side(input);
                let side = self
                    .stretched_to(input)
                    .into_iter()
                    .max()
                    .unwrap_or_default();
                let text = || format!("`crop` is {crop}: too small, it resizes to {side} pixels");
                (side > longest).then(text)
            }
            Resize::ShortSide => None,
        }
    }

    fn side_problem(&self, input: &Input) -> Option<String> {
        let (least, most) = (input.height.max(input.width), longest_side(input));
        let side = self.short_side(input) as usize;
        if self.resize != Resize::ShortSide || (least..=most).contains(&side) {
            return None;
        }
        let key = if self.crop.is_some() {
            "crop"
        } else {
            "resize_to"
        };
        Some(format!(
            "`{key}` makes the short side {side} pixels, but it must be from {least} (the larger side of the input) to {most}"
        ))
    }

    /// The short side in pixels before the centre is cut out.
    fn short_side(&self, input: &Input) -> u32 {
        let larger = input.height.max(input.width);
        match self.crop {
            Some(crop) => u32::try_from(shared(larger, crop)).unwrap_or(u32::MAX),
            None => self.resize_to,
        }
    }

    /// Height and width in pixels of a stretched image before the centre is cut out.
    fn stretched_to(&self, input: &Input) -> [usize; 2] {
        [input.height, input.width].map(|side| shared(side, self.crop.unwrap_or(1.0)))
    }

    /// Fills `output`, `[channels, height, width]` or `[height, width, channels]` as the
    /// input's layout says, from an image.
    ///
    /// # Errors
    /// `Failed` when `output` has the wrong length or the settings do not fit the input.
    pub fn tensor(
        &self,
        image: &Decoded,
        input: &Input,
        view: View,
        output: &mut [f32],
    ) -> Result<()> {
        if let Some(problem) = self.problem(input) {
            return Err(Error::new(ErrorKind::Failed, problem));
        }
        if output.len() != input.elements() {
            let (have, need) = (output.len(), input.elements());
            let message = format_args!("input tensor has {have} elements, needs {need}");
            return Err(Error::new(ErrorKind::Failed, message));
        }
        let place = self.placement(image, input, view);
        let resized = resize::levels(image, &place, self.interpolation)?;
        let levels = view.levels();
        // Bars of a letterbox.
        output.fill(0.0);
        for y in 0..place.height {
            for x in 0..place.width {
                let start = (y * place.width + x) * 3;
                let Some(&[red, green, blue]) = resized.get(start..start + 3) else {
                    return Err(Error::new(ErrorKind::Failed, "resized image is too short"));
                };
                let column = match view {
                    View::Mirrored => input.width - 1 - (place.left + x),
                    View::Original | View::Near | View::Far | View::Brighter | View::Darker => {
                        place.left + x
                    }
                };
                let pixel = (place.top + y) * input.width + column;
                let seen = [red, green, blue].map(|level| levels[usize::from(level)]);
                self.write_pixel(seen, pixel, input, output);
            }
        }
        Ok(())
    }

    fn write_pixel(&self, rgb: [u8; 3], pixel: usize, input: &Input, output: &mut [f32]) {
        let [red, green, blue] = rgb;
        let levels = match self.colour {
            Colour::Rgb => [red, green, blue],
            Colour::Bgr => [blue, green, red],
            Colour::Grey => [luma(rgb), 0, 0],
        };
        for (channel, level) in levels.into_iter().take(input.channels).enumerate() {
            let index = match input.layout {
                Layout::Nchw => channel * input.height * input.width + pixel,
                Layout::Nhwc => pixel * input.channels + channel,
            };
            if let Some(value) = output.get_mut(index) {
                let mean = at_channel(&self.mean, channel);
                *value = (f32::from(level) - mean) * at_channel(&self.scale, channel);
            }
        }
    }

    /// Whether [`View::Far`] shows more than [`View::Original`]: where a crop cuts
    /// something off.
    pub fn has_far_view(&self, input: &Input) -> bool {
        let side = input.height.max(input.width);
        let [height, width] = self.stretched_to(input);
        match self.resize {
            Resize::ShortSide => self.short_side(input) as usize > side,
            Resize::Stretch => height > input.height || width > input.width,
            Resize::Letterbox => false,
        }
    }

    /// Which part of the image goes where in the input.
    fn placement(&self, image: &Decoded, input: &Input, view: View) -> Placement {
        let mut place = match (self.resize, view) {
            (Resize::ShortSide, View::Far) => {
                short_side(image, input, input.height.max(input.width) as u32)
            }
            (Resize::ShortSide, _) => short_side(image, input, self.short_side(input)),
            (Resize::Stretch, View::Far) => stretched(image, input, [input.height, input.width]),
            (Resize::Stretch, _) => stretched(image, input, self.stretched_to(input)),
            (Resize::Letterbox, _) => letterbox(image, input),
        };
        if view == View::Near {
            let [left, top, width, height] = place.crop;
            let (near_width, near_height) = (width / NEARER, height / NEARER);
            place.crop = [
                left + 0.5 * (width - near_width),
                top + 0.5 * (height - near_height),
                near_width,
                near_height,
            ];
        }
        place
    }
}

/// Largest side in pixels of the resize before the crop, but for inputs that are longer.
const MAX_SIDE: usize = 4096;

fn longest_side(input: &Input) -> usize {
    MAX_SIDE.max(input.height).max(input.width)
}

/// A side of which `crop` is `kept`. Written as decimals, `crop` is a little off in binary:
/// 224 / 0.875 must be 256 and 21 / 0.7 must be 30, whichever way it is off.
fn shared(kept: usize, crop: f32) -> usize {
    (kept as f64 / f64::from(crop) * (1.0 + 1e-6)).floor() as usize
}

/// Pillow's integer luma (ITU-R 601).
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000;
    (sum >> 16) as u8
}

/// One value for all channels, or one a channel; 0 where there is none.
fn at_channel(values: &[f32], channel: usize) -> f32 {
    let single = values.first().filter(|_| values.len() == 1);
    single.or(values.get(channel)).copied().unwrap_or(0.0)
}
