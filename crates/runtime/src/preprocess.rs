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

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Layout};
use resize::{Placement, letterbox, short_side, whole};

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
}

/// How much larger things are in [`View::Near`].
const NEARER: f64 = 1.25;

impl View {
    /// All views, in the order of their bits in a [`ViewSet`](crate::views::ViewSet).
    pub const ALL: [Self; 4] = [Self::Original, Self::Mirrored, Self::Near, Self::Far];

    /// Stable name, part of cache keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Mirrored => "mirrored",
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    /// In words: which part of a picture it shows.
    pub fn crop(self, preprocessing: &Preprocessing) -> String {
        let resize_to = preprocessing.resize_to;
        match (self, preprocessing.resize) {
            (Self::Mirrored, _) => "as the original, left and right swapped".into(),
            (Self::Near, _) => format!(
                "the part of the picture that the original shows, of it the middle, 1/{NEARER} as \
                 high and as wide, resized to height and width in one step"
            ),
            (Self::Far, Resize::ShortSide) => {
                "short side to the larger of height and width, then the middle".into()
            }
            (Self::Original, Resize::ShortSide) => {
                format!("short side to {resize_to} pixels, then the middle")
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
    /// Short side in pixels before the centre is cut out; only for [`Resize::ShortSide`].
    #[serde(default)]
    pub resize_to: u32,
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
            Resize::ShortSide => format!("short-side:{}", self.resize_to),
            Resize::Stretch => "stretch".into(),
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
        let side = self.resize_to as usize;
        let too_small = side < input.height.max(input.width);
        if self.resize == Resize::ShortSide && (too_small || side > MAX_SIDE) {
            return Some(format!(
                "`resize_to` is {side}, but must be from {} (the larger side of the input) to {MAX_SIDE}",
                input.height.max(input.width)
            ));
        }
        None
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
                    View::Original | View::Near | View::Far => place.left + x,
                };
                let pixel = (place.top + y) * input.width + column;
                self.write_pixel([red, green, blue], pixel, input, output);
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
        self.resize == Resize::ShortSide && self.resize_to as usize > side
    }

    /// Which part of the image goes where in the input.
    fn placement(&self, image: &Decoded, input: &Input, view: View) -> Placement {
        let mut place = match (self.resize, view) {
            (Resize::ShortSide, View::Far) => {
                short_side(image, input, input.height.max(input.width) as u32)
            }
            (Resize::ShortSide, _) => short_side(image, input, self.resize_to),
            (Resize::Stretch, _) => whole(image, input),
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

/// Largest side of an input or of the resize before the crop, in pixels.
pub const MAX_SIDE: usize = 4096;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of `height` x `width`; `level` gives the grey levels at (x, y).
    fn image(width: u32, height: u32, level: impl Fn(u32, u32) -> [u8; 3]) -> Decoded {
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| level(x, y))
            .collect();
        Decoded {
            width,
            height,
            pixels,
        }
    }

    fn input(layout: Layout, channels: usize, height: usize, width: usize) -> Input {
        let tensor = String::new();
        Input {
            tensor,
            layout,
            channels,
            height,
            width,
        }
    }

    fn settings(resize: Resize, resize_to: u32) -> Preprocessing {
        Preprocessing {
            resize,
            resize_to,
            interpolation: Interpolation::Bilinear,
            colour: Colour::Rgb,
            mean: vec![0.0],
            scale: vec![1.0],
        }
    }

    fn tensor(settings: &Preprocessing, image: &Decoded, input: &Input, view: View) -> Vec<f32> {
        let mut output = vec![f32::NAN; input.elements()];
        settings.tensor(image, input, view, &mut output).unwrap();
        output
    }

    #[test]
    fn channels_layout_and_scale_go_where_the_manifest_says() {
        let picture = image(2, 1, |x, _| [10 + x as u8, 20 + x as u8, 30 + x as u8]);
        let mut settings = settings(Resize::Stretch, 0);
        let planes = input(Layout::Nchw, 3, 1, 2);
        let found = tensor(&settings, &picture, &planes, View::Original);
        assert_eq!(found, [10.0, 11.0, 20.0, 21.0, 30.0, 31.0]);
        let found = tensor(&settings, &picture, &planes, View::Mirrored);
        assert_eq!(found, [11.0, 10.0, 21.0, 20.0, 31.0, 30.0]);
        settings.colour = Colour::Bgr;
        settings.mean = vec![30.0, 20.0, 10.0];
        settings.scale = vec![1.0, 2.0, 3.0];
        let pixels = input(Layout::Nhwc, 3, 1, 2);
        let found = tensor(&settings, &picture, &pixels, View::Original);
        assert_eq!(found, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        let grey = Preprocessing {
            colour: Colour::Grey,
            mean: vec![0.0],
            scale: vec![1.0],
            ..settings
        };
        let white = image(2, 1, |x, _| [[255, 0, 0], [0, 255, 0]][x as usize]);
        let one = input(Layout::Nchw, 1, 1, 2);
        // 0.299 and 0.587 of 255.
        assert_eq!(tensor(&grey, &white, &one, View::Original), [76.0, 150.0]);
    }

    #[test]
    fn short_side_keeps_the_middle_and_stretch_keeps_all() {
        // 8 x 4, each column its own level; the middle 4 columns are 2 to 5.
        let picture = image(8, 4, |x, _| [x as u8 * 10; 3]);
        let square = input(Layout::Nchw, 3, 4, 4);
        let found = tensor(
            &settings(Resize::ShortSide, 4),
            &picture,
            &square,
            View::Original,
        );
        assert_eq!(&found[..4], [20.0, 30.0, 40.0, 50.0]);
        let found = tensor(
            &settings(Resize::Stretch, 0),
            &picture,
            &square,
            View::Original,
        );
        assert!(found[0] < 15.0 && found[3] > 55.0, "{:?}", &found[..4]);
    }

    #[test]
    fn a_crop_is_the_same_as_resizing_everything_and_cutting() {
        let picture = image(37, 61, |x, y| [(x * 7) as u8, (y * 4) as u8, (x * y) as u8]);
        let (wide, high) = resize::short_side_size(&picture, 24);
        assert_eq!((wide, high), (24, 39));
        let whole = input(Layout::Nhwc, 3, high as usize, wide as usize);
        let whole = tensor(
            &settings(Resize::Stretch, 0),
            &picture,
            &whole,
            View::Original,
        );
        let part = input(Layout::Nhwc, 3, 16, 16);
        let part = tensor(
            &settings(Resize::ShortSide, 24),
            &picture,
            &part,
            View::Original,
        );
        // torchvision: top = round(23 / 2), to even = 12; left = 4.
        for (row, values) in part.chunks_exact(16 * 3).enumerate() {
            let start = ((12 + row) * 24 + 4) * 3;
            let pairs = values.iter().zip(&whole[start..start + 48]);
            assert!(
                pairs.clone().all(|(one, other)| (one - other).abs() <= 1.0),
                "row {row}"
            );
        }
    }

    #[test]
    fn near_shows_a_part_of_the_original_and_far_shows_more() {
        // Each column its own level: the first and last level tell how much is seen.
        let picture = image(64, 64, |x, _| [x as u8 * 3; 3]);
        let square = input(Layout::Nchw, 3, 32, 32);
        let settings = settings(Resize::ShortSide, 40);
        let ends = |view| {
            let found = tensor(&settings, &picture, &square, view);
            (found[0], found[31])
        };
        let (near, original, far) = (ends(View::Near), ends(View::Original), ends(View::Far));
        assert!(
            far.0 < original.0 && original.0 < near.0,
            "{far:?} {original:?} {near:?}"
        );
        assert!(
            far.1 > original.1 && original.1 > near.1,
            "{far:?} {original:?} {near:?}"
        );
        let share = (near.1 - near.0) / (original.1 - original.0);
        assert!((share - 1.0 / NEARER as f32).abs() < 0.02, "{share}");
        assert!(settings.has_far_view(&square));
        let tight = Preprocessing {
            resize_to: 32,
            ..settings.clone()
        };
        assert!(!tight.has_far_view(&square));
        let stretched = Preprocessing {
            resize: Resize::Stretch,
            ..settings
        };
        assert!(!stretched.has_far_view(&square));
    }

    #[test]
    fn letterbox_bars_hold_the_mean() {
        let picture = image(8, 4, |_, _| [200; 3]);
        let mut settings = settings(Resize::Letterbox, 0);
        settings.mean = vec![100.0];
        let square = input(Layout::Nchw, 3, 4, 4);
        let found = tensor(&settings, &picture, &square, View::Original);
        let rows: Vec<f32> = found[..16].chunks_exact(4).map(|row| row[0]).collect();
        assert_eq!(rows, [0.0, 100.0, 100.0, 0.0]);
    }

    #[test]
    fn a_line_of_pixels_works_in_every_way_of_resizing() {
        let square = input(Layout::Nchw, 3, 32, 32);
        for (width, height) in [(1, 5000), (5000, 1), (1, 1)] {
            let picture = image(width, height, |_, _| [90; 3]);
            for resize in [Resize::ShortSide, Resize::Stretch, Resize::Letterbox] {
                for view in View::ALL {
                    let found = tensor(&settings(resize, 40), &picture, &square, view);
                    assert!(found.iter().all(|&value| value == 90.0 || value == 0.0));
                    assert!(found.contains(&90.0), "{resize:?} {width} x {height}");
                }
            }
        }
    }

    #[test]
    fn whatever_changes_a_tensor_changes_the_identity() {
        let base = settings(Resize::ShortSide, 40);
        let small = input(Layout::Nchw, 3, 32, 32);
        let text = base.identity(&small);
        assert_eq!(
            text,
            "v1 nchw 3x32x32 rgb short-side:40 bilinear mean=0,0,0 scale=1,1,1"
        );
        let spelled = Preprocessing {
            mean: vec![0.0; 3],
            ..base.clone()
        };
        assert_eq!(spelled.identity(&small), text);
        let changed = [
            Preprocessing {
                resize_to: 41,
                ..base.clone()
            },
            Preprocessing {
                interpolation: Interpolation::Bicubic,
                ..base.clone()
            },
            Preprocessing {
                colour: Colour::Bgr,
                ..base.clone()
            },
            Preprocessing {
                scale: vec![0.5],
                ..base.clone()
            },
        ];
        assert!(changed.iter().all(|other| other.identity(&small) != text));
        assert_ne!(base.identity(&input(Layout::Nhwc, 3, 32, 32)), text);
    }
}
