//! Which part of an image goes where in the input, and the resize itself.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::{Decoded, Interpolation};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Input;

/// Most pixels between the two passes of a resize; beyond, the passes change places.
const MAX_BETWEEN_PIXELS: u64 = 32 << 20;

/// Grey levels `[place.height, place.width, 3]`. Rows are resized first and columns second,
/// each rounded and cut off to 8 bits, which is what Pillow does: where a cubic overshoots,
/// in pictures of black and white, the order shows in the result. Only for a picture that
/// is thousands of times higher than wide are columns first, since rows first would fill
/// the memory.
pub(super) fn levels(
    image: &Decoded,
    place: &Placement,
    interpolation: Interpolation,
) -> Result<Vec<u8>> {
    let [left, top, kept_width, kept_height] = place.crop;
    // The rows that the second pass reads.
    let reach = reach(interpolation) * (kept_height / place.height as f64).max(1.0) + 1.0;
    let first = (top - reach).floor().max(0.0);
    let end = (top + kept_height + reach).ceil().min(image.height.into());
    let (width, height) = (place.width as u32, place.height as u32);
    let rows = (end - first) as u32;
    let resize = Pass { interpolation };
    let source = (&image.pixels[..], image.width, image.height);
    if u64::from(width) * u64::from(rows) > MAX_BETWEEN_PIXELS {
        return resize.run(source, place.crop, width, height);
    }
    let crop = [left, first, kept_width, f64::from(rows)];
    let between = resize.run(source, crop, width, rows)?;
    let crop = [0.0, top - first, f64::from(width), kept_height];
    resize.run((&between, width, rows), crop, width, height)
}

/// Pixels on either side of a place that an interpolation looks at, when it enlarges.
fn reach(interpolation: Interpolation) -> f64 {
    match interpolation {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Failed, format_args!("resize: {error}"))
}

/// One call of the library, which leaves out a direction in which nothing changes.
struct Pass {
    interpolation: Interpolation,
}

impl Pass {
    /// The library's typed call: the other one carries the code of all kinds of pixels
    /// along, 3 MB of it.
    fn run(
        &self,
        (levels, source_width, source_height): (&[u8], u32, u32),
        [left, top, kept_width, kept_height]: [f64; 4],
        width: u32,
        height: u32,
    ) -> Result<Vec<u8>> {
        let source = TypedImageRef::<U8x3>::from_buffer(source_width, source_height, levels)
            .map_err(|error| failed(&error))?;
        let mut resized = vec![0; width as usize * height as usize * 3];
        let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut resized)
            .map_err(|error| failed(&error))?;
        let filter = match self.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .crop(left, top, kept_width, kept_height);
        Resizer::new()
            .resize_typed(&source, &mut target, &options)
            .map_err(|error| failed(&error))?;
        Ok(resized)
    }
}

/// `crop` (left, top, width, height in pixels of the image) fills `height` x `width`
/// pixels of the input, from (`left`, `top`) on.
pub(super) struct Placement {
    pub crop: [f64; 4],
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// The middle of the image after it became `height` x `width` pixels.
pub(super) fn stretched(image: &Decoded, input: &Input, [high, wide]: [usize; 2]) -> Placement {
    let (left, kept_width) = centre(wide as u64, input.width, f64::from(image.width));
    let (top, kept_height) = centre(high as u64, input.height, f64::from(image.height));
    Placement {
        crop: [left, top, kept_width, kept_height],
        ..whole(image, input)
    }
}

/// All of the image over all of the input.
fn whole(image: &Decoded, input: &Input) -> Placement {
    Placement {
        crop: [0.0, 0.0, f64::from(image.width), f64::from(image.height)],
        left: 0,
        top: 0,
        width: input.width,
        height: input.height,
    }
}

/// The middle of the image after its short side became `short` pixels.
pub(super) fn short_side(image: &Decoded, input: &Input, short: u32) -> Placement {
    let (wide, high) = short_side_size(image, short);
    let (left, kept_width) = centre(wide, input.width, f64::from(image.width));
    let (top, kept_height) = centre(high, input.height, f64::from(image.height));
    Placement {
        crop: [left, top, kept_width, kept_height],
        ..whole(image, input)
    }
}

/// All of the image in the middle of the input, its shape kept; half a pixel goes to the
/// even side, as in Pillow's `ImageOps.pad`.
pub(super) fn letterbox(image: &Decoded, input: &Input) -> Placement {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    let ratio = (input.width as f64 / width).min(input.height as f64 / height);
    let fit = |side: f64, limit: usize| {
        ((side * ratio).round_ties_even() as usize).clamp(1, limit.max(1))
    };
    let (wide, high) = (fit(width, input.width), fit(height, input.height));
    Placement {
        left: half(input.width - wide),
        top: half(input.height - high),
        width: wide,
        height: high,
        ..whole(image, input)
    }
}

/// Half of a number, rounded to even.
fn half(number: usize) -> usize {
    number / 2 + usize::from(number % 4 == 3)
}

/// Width and height after the short side became `short` pixels; the other is cut to whole
/// pixels as torchvision does.
pub(super) fn short_side_size(image: &Decoded, short: u32) -> (u64, u64) {
    let (width, height, short) = (
        u64::from(image.width),
        u64::from(image.height),
        u64::from(short),
    );
    if width <= height {
        (short, short * height / width)
    } else {
        (short * width / height, short)
    }
}

/// The part of one side, in pixels of the image (start, length), that remains when the
/// side is resized to `resized` pixels and the `kept` in the middle are cut out.
fn centre(resized: u64, kept: usize, side: f64) -> (f64, f64) {
    let (resized, kept) = (resized as f64, kept as f64);
    let pixels = side / resized;
    let start = (((resized - kept) / 2.0).round_ties_even() * pixels).clamp(0.0, side);
    // Rounding must not reach beyond the image.
    (start, (kept * pixels).min(side - start))
}
