//! Conventional augmentation, drawn anew each time an image is read: shift, rotation and
//! scale with bilinear sampling, and mirror images where left and right do not matter.

use fieldtune_core::random::Random;
use serde::{Deserialize, Serialize};

use crate::data::Source;

/// How much images are changed. Each amount is drawn evenly from plus to minus the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Not at all.
    None,
    /// As it was done when the papers appeared: whole-pixel shifts of up to 2 (of 4 on
    /// CIFAR-10) and mirror images on CIFAR-10.
    Shift,
    /// A quarter of the strong form's bounds.
    Slight,
    /// Half of the strong form's bounds.
    Mild,
    /// Shift and scale by 15 %, rotation by 15 degrees; on CIFAR-10 shift by 4 pixels,
    /// scale by 15 %, rotation by 10 degrees, and mirror images.
    Strong,
}

/// Bounds of the drawn amounts.
struct Bounds {
    shift_pixels: f32,
    scale: f32,
    rotation_degrees: f32,
    mirror: bool,
}

impl Augmentation {
    fn bounds(self, source: Source) -> Option<Bounds> {
        let part = match self {
            Self::None => return None,
            Self::Shift => 0.0,
            Self::Slight => 0.25,
            Self::Mild => 0.5,
            Self::Strong => 1.0,
        };
        let shift = |whole: f32, strong: f32| match self {
            Self::Shift => whole,
            _ => part * strong,
        };
        Some(match source {
            Source::Mnist | Source::NewDigits => Bounds {
                shift_pixels: shift(2.0, 0.15 * 28.0),
                scale: part * 0.15,
                rotation_degrees: part * 15.0,
                mirror: false,
            },
            Source::Cifar10 => Bounds {
                shift_pixels: shift(4.0, 4.0),
                scale: part * 0.15,
                rotation_degrees: part * 10.0,
                mirror: true,
            },
        })
    }

    /// Writes a changed `image` `[channels, rows, columns]` of `source` to `out`, both as
    /// grey levels. What comes in at the border repeats the border.
    pub fn apply(self, source: Source, image: &[u8], random: &mut Random, out: &mut [f32]) {
        let Some(bounds) = self.bounds(source) else {
            for (out, pixel) in out.iter_mut().zip(image) {
                *out = f32::from(*pixel);
            }
            return;
        };
        let mut draw = |bound: f32| bound * (2.0 * random.uniform() - 1.0);
        let mut shift = [draw(bounds.shift_pixels), draw(bounds.shift_pixels)];
        if self == Self::Shift {
            shift = shift.map(f32::round);
        }
        let scale = 1.0 + draw(bounds.scale);
        let (sine, cosine) = draw(bounds.rotation_degrees).to_radians().sin_cos();
        let flip = if bounds.mirror && draw(1.0) < 0.0 {
            -1.0
        } else {
            1.0
        };
        let map = [
            [cosine / scale, -sine / scale],
            [flip * sine / scale, flip * cosine / scale],
        ];
        warp(image, source.shape(), &map, shift, out);
    }
}

/// `out` at position p (counted from the middle) is `image` at `map (p + shift)`.
fn warp(image: &[u8], shape: [usize; 3], map: &[[f32; 2]; 2], shift: [f32; 2], out: &mut [f32]) {
    let [_, rows, columns] = shape;
    let plane = rows * columns;
    let middle = [rows, columns].map(|size| (size - 1) as f32 / 2.0);
    for row in 0..rows {
        for column in 0..columns {
            let y = row as f32 - middle[0] + shift[0];
            let x = column as f32 - middle[1] + shift[1];
            let (above, down) = split(map[0][0] * y + map[0][1] * x + middle[0], rows);
            let (left, right) = split(map[1][0] * y + map[1][1] * x + middle[1], columns);
            let below = (above + 1).min(rows - 1) * columns;
            let above = above * columns;
            let next = (left + 1).min(columns - 1);
            let at = row * columns + column;
            for (image, out) in image.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
                let pixel = |index: usize| f32::from(image[index]);
                let upper = pixel(above + left) * (1.0 - right) + pixel(above + next) * right;
                let lower = pixel(below + left) * (1.0 - right) + pixel(below + next) * right;
                out[at] = upper * (1.0 - down) + lower * down;
            }
        }
    }
}

/// The pixel before a position and how far it is on the way to the next one.
fn split(position: f32, size: usize) -> (usize, f32) {
    let position = position.clamp(0.0, (size - 1) as f32);
    let whole = position as usize;
    (whole, position - whole as f32)
}
