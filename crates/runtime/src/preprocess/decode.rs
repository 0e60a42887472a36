//! Decoding of image files within bounds of memory, and their orientation.

use std::io::Cursor;
use std::path::Path;

use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::error::{Error, ErrorKind, Result};

/// Largest image that is decoded, in pixels (width x height).
pub const MAX_PIXELS: u64 = 64 * 1024 * 1024;

/// Most bytes the decoded pixels may take: [`MAX_PIXELS`] in RGBA with 8 bits. A
/// progressive JPEG or a palette needs working memory beside them.
pub const MAX_DECODED_BYTES: u64 = 4 * MAX_PIXELS;

/// An oriented 8-bit RGB image, never empty.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub(super) width: u32,
    pub(super) height: u32,
    /// `[height, width, 3]`, row-major.
    pub(super) pixels: Vec<u8>,
}

impl Decoded {
    /// A picture from its grey levels `[height, width, 3]`.
    pub(crate) fn new(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), 3 * width as usize * height as usize);
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Width in pixels, after orientation.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, after orientation.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Grey levels `[height, width, 3]`, row-major, red first.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Decodes a JPEG, PNG, WebP or BMP file, known by its content, whatever its name, and
/// turns it as its EXIF orientation says.
///
/// # Errors
/// `BadInput`, naming `path`: not an image, damaged, cut off, or larger than
/// [`MAX_PIXELS`] or [`MAX_DECODED_BYTES`]; the size is checked before pixels are allocated.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Decoded> {
    let bad = |what: String, remedy: &str| Error::at(ErrorKind::BadInput, path, what, remedy);
    if bytes.is_empty() {
        return Err(bad("is empty".into(), "copy it again or remove it"));
    }
    let unreadable = |error: ImageError| {
        bad(
            format!("cannot be decoded ({})", reason(&error)),
            "replace it with a whole jpeg, png, webp or bmp image, or remove it",
        )
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| unreadable(error.into()))?;
    reader.limits(limits());
    if reader.format() == Some(image::ImageFormat::Jpeg) && !jpeg_has_end(bytes) {
        return Err(bad(
            "is a JPEG that ends before its end marker".into(),
            "copy it again or remove it",
        ));
    }
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    check_size(&decoder, path)?;
    decoder.set_limits(limits()).map_err(unreadable)?;
    // A damaged EXIF block is no reason to lose the picture.
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::ImageRgb8(
        DynamicImage::from_decoder(decoder)
            .map_err(unreadable)?
            .into_rgb8(),
    );
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    Ok(Decoded {
        width: image.width(),
        height: image.height(),
        pixels: image.into_bytes(),
    })
}

/// Width and height that an image file states, before turning; `None` when it cannot
/// be read. Nothing is decoded.
pub fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    reader.into_dimensions().ok()
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

/// Refuses what would need too much memory, from the header alone.
fn check_size(decoder: &impl ImageDecoder, path: &Path) -> Result<()> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        let what = format_args!("has no pixels ({width} x {height})");
        return Err(Error::at(ErrorKind::BadInput, path, what, "remove it"));
    }
    if pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(Error::at(
            ErrorKind::BadInput,
            path,
            format_args!(
                "is too large ({width} x {height}, {} MiB of pixels; the limits are {} megapixels and {} MiB)",
                decoder.total_bytes() >> 20,
                MAX_PIXELS >> 20,
                MAX_DECODED_BYTES >> 20
            ),
            "make it smaller",
        ));
    }
    Ok(())
}

/// The decoder's reason, without the words that every such message shares.
fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Unsupported(_) => "not a format that is read here".into(),
        ImageError::Limits(_) => "needs too much memory".into(),
        other => other.to_string(),
    }
}

/// Whether the segments of a JPEG lead to its end marker. The decoder fills what is
/// missing with grey, which would be learnt as a feature of the class.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut position: usize = 2;
    while let Some(&[first, marker]) = bytes.get(position..position.saturating_add(2)) {
        match (first, marker) {
            (0xff, 0xd9) => return true,
            // Compressed data, stuffed bytes, fill bytes, restart markers.
            (0xff, 0xff) | (0x00..=0xfe, _) => position += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => position += 2,
            (0xff, _) => {
                let Some(&[high, low]) = bytes.get(position + 2..position + 4) else {
                    return false;
                };
                position += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_s_end_is_found_behind_thumbnails_and_before_trailing_bytes() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 3, 1, 0x12, 0xff, 0x00, 0xff, 0xd0, 0x34];
        let cut = [&[0xff, 0xd8], &thumbnail[..], &scan[..]].concat();
        assert!(!jpeg_has_end(&cut));
        let whole = [&cut[..], &[0xff, 0xd9, 1, 2, 3]].concat();
        assert!(jpeg_has_end(&whole));
        assert!(!jpeg_has_end(&[0xff, 0xd8, 0xff, 0xe1, 0xff]));
        assert!(!jpeg_has_end(&[
            0xff, 0xd8, 0xff, 0xe1, 0xff, 0xff, 0xff, 0xd9
        ]));
    }
}
