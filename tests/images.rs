//! Promise: every common image file is read the right way up and in the right colours,
//! and a damaged, cut off or huge one is refused by name, before memory is spent on it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use fieldtune::error::ErrorKind;
use fieldtune::manifest::Manifest;
use fieldtune::preprocess::{Decoded, View, decode};
use fieldtune_tests::{encoded, png_that_declares};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Rgb, RgbImage, RgbaImage};

thread_local! {
    /// The largest allocation of this thread since it was last set to 0, in bytes.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

#[allow(unsafe_code)] // an allocator cannot be written without
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// 16 x 8: black on the left, white on the right.
fn halves() -> DynamicImage {
    RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 0 } else { 255 }; 3])).into()
}

fn read(bytes: &[u8]) -> Decoded {
    decode(bytes, Path::new("x.jpg")).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    let error = decode(bytes, Path::new("farm/x.jpg")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    let line = error.to_string();
    assert!(
        line.starts_with("farm/x.jpg: ") && !line.contains('\n'),
        "{line}"
    );
    line
}

fn pixel(image: &Decoded, x: u32, y: u32) -> [u8; 3] {
    let start = 3 * (y * image.width() + x) as usize;
    image.pixels()[start..start + 3].try_into().unwrap()
}

/// `jpeg` with an Exif segment that says `orientation`.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend([0, orientation, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn the_content_decides_the_format_not_the_name() {
    let formats = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
    ];
    for format in formats {
        let image = read(&encoded(&halves(), format));
        assert_eq!((image.width(), image.height()), (16, 8), "{format:?}");
        assert!(
            pixel(&image, 2, 4)[0] < 16 && pixel(&image, 13, 4)[2] > 240,
            "{format:?}"
        );
    }
}

#[test]
fn exif_orientation_is_honoured() {
    let jpeg = encoded(&halves(), ImageFormat::Jpeg);
    // Orientation 6: turned a quarter clockwise to be seen, so left becomes top.
    let turned = read(&with_orientation(&jpeg, 6));
    assert_eq!((turned.width(), turned.height()), (8, 16));
    assert!(pixel(&turned, 4, 2)[0] < 16 && pixel(&turned, 4, 13)[0] > 240);
    // 3: upside down. 1 and nonsense: as it is.
    assert!(pixel(&read(&with_orientation(&jpeg, 3)), 2, 4)[0] > 240);
    for same in [1, 0, 99] {
        assert!(pixel(&read(&with_orientation(&jpeg, same)), 2, 4)[0] < 16);
    }
}

#[test]
fn grey_deep_and_transparent_images_become_plain_colour() {
    let grey = DynamicImage::from(GrayImage::from_pixel(3, 3, image::Luma([77])));
    let wide: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(3, 3, Rgb([0xffff, 0x8080, 0]));
    // Fully transparent: the colour below counts, as in Pillow.
    let clear = RgbaImage::from_pixel(3, 3, image::Rgba([10, 20, 30, 0]));
    let png = |image: DynamicImage| pixel(&read(&encoded(&image, ImageFormat::Png)), 1, 1);
    assert_eq!(png(grey.clone()), [77; 3]);
    assert_eq!(png(wide.into()), [255, 128, 0]);
    assert_eq!(png(clear.into()), [10, 20, 30]);
    let jpeg = read(&encoded(&grey, ImageFormat::Jpeg));
    assert!(
        pixel(&jpeg, 1, 1)
            .iter()
            .all(|level| level.abs_diff(77) <= 2)
    );
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let noise = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([((x * 37) ^ (y * 91)) as u8, x as u8, y as u8])
    });
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
    ] {
        let bytes = encoded(&noise.clone().into(), format);
        for eighth in 0..8 {
            let cut = &bytes[..bytes.len() * eighth / 8];
            let line = refusal(cut);
            assert!(line.contains("; "), "no remedy: {line}");
        }
    }
    assert!(refusal(b"").contains("is empty"));
    assert!(refusal(b"<html>not found</html>").contains("not a format that is read"));
}

#[test]
fn altered_bytes_never_panic() {
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
    ] {
        let bytes = encoded(&halves(), format);
        let mut damaged = with_orientation(&bytes, 6);
        for index in 0..damaged.len().min(700) {
            for flip in [0x01, 0x80, 0xff] {
                damaged[index] ^= flip;
                // Either outcome is fine; a panic is not.
                let _ = decode(&damaged, Path::new("x"));
                damaged[index] ^= flip;
            }
        }
    }
}

#[test]
fn an_image_that_declares_too_many_pixels_is_refused_from_its_header() {
    let mut bmp = encoded(&halves(), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&30_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&30_000_u32.to_le_bytes());
    let png = png_that_declares(60_000, 60_000);
    let mut jpeg = encoded(&halves(), ImageFormat::Jpeg);
    let start = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[start + 5..start + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let mut webp = encoded(&halves(), ImageFormat::WebP);
    let signature = webp.windows(4).position(|four| four == b"VP8L").unwrap() + 8;
    let sizes = 16_382_u32 | 16_382 << 14;
    webp[signature + 1..signature + 5].copy_from_slice(&sizes.to_le_bytes());
    for (bytes, size) in [
        (bmp, "30000 x 30000"),
        (png, "60000 x 60000"),
        (jpeg, "65500 x 65500"),
        (webp, "16383 x 16383"),
    ] {
        LARGEST.set(0);
        let line = refusal(&bytes);
        // Where sizes have 32 bits, a decoder may refuse before it tells the size.
        let refused_by_decoder =
            cfg!(target_pointer_width = "32") && line.contains("needs too much memory");
        assert!(
            refused_by_decoder || line.contains("is too large") && line.contains(size),
            "{line}"
        );
        let largest = LARGEST.get();
        assert!(largest < 1 << 20, "{size}: {largest} bytes at once");
    }
    // The allocator does see what a picture takes.
    LARGEST.set(0);
    let large = RgbImage::new(1500, 1000);
    assert!(LARGEST.get() >= large.len());
}

#[test]
fn the_bundled_backbone_has_a_true_manifest() {
    let onnx =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/efficientnet-lite0/model_f16.onnx");
    let manifest = Manifest::beside(&onnx).unwrap().unwrap();
    manifest
        .verify(&std::fs::read(&onnx).unwrap(), &onnx)
        .unwrap();
    assert!(manifest.cuts.contains(&manifest.default_cut));
    let mut tensor = vec![0.0; manifest.input.elements()];
    let white = read(&encoded(
        &RgbImage::from_pixel(300, 200, Rgb([255; 3])).into(),
        ImageFormat::Png,
    ));
    manifest
        .preprocessing
        .tensor(&white, &manifest.input, View::Original, &mut tensor)
        .unwrap();
    assert!(tensor.iter().all(|&value| value == 1.0));
}

#[test]
fn real_photographs_are_read() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hymenoptera/val/ants");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("NOT TESTED: {} is absent", folder.display());
        return;
    };
    let mut count = 0;
    for entry in entries.take(20) {
        let path = entry.unwrap().path();
        let image = decode(&std::fs::read(&path).unwrap(), &path).unwrap();
        assert!(image.width().min(image.height()) >= 32);
        count += 1;
    }
    assert!(count > 0);
}
