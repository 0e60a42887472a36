//! Samples as small pictures with what the head said about them.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, Rgb, imageops};

use crate::senses;
use crate::session::Judged;

use super::page::{name, percent};
use super::probability;

/// Longer side of a picture in pixels.
const SIDE: u32 = 160;
const JPEG_QUALITY: u8 = 80;

/// The confident mistakes, most confident first, each file once, at most `most`.
pub(super) fn worst<'a>(judged: impl Iterator<Item = &'a Judged>, most: usize) -> Vec<&'a Judged> {
    let mut wrong: Vec<&Judged> = judged
        .filter(|judged| judged.prediction.label != judged.truth)
        .collect();
    wrong.sort_by(|a, b| probability(b).total_cmp(&probability(a)));
    let mut seen = HashSet::new();
    wrong.retain(|judged| seen.insert(judged.path.as_path()));
    wrong.truncate(most);
    wrong
}

/// The right ones.
pub(super) fn right(judged: &[Judged]) -> Vec<&Judged> {
    let judged = judged.iter();
    judged
        .filter(|judged| judged.prediction.label == judged.truth)
        .collect()
}

/// At most `most` from all over the list, so that not all are of the first class.
pub(super) fn spread<'a>(judged: &[&'a Judged], most: usize) -> Vec<&'a Judged> {
    let shown = judged.len().min(most);
    let places = (0..shown).map(|index| index * judged.len() / shown);
    places
        .filter_map(|place| judged.get(place).copied())
        .collect()
}

/// A grid of pictures. A sample that cannot be read or is no image has a grey box.
pub(super) fn grid(
    shown: &[&Judged],
    labels: &[String],
    read: &dyn Fn(&Path) -> Option<Vec<u8>>,
) -> String {
    let label = |class: usize| {
        labels
            .get(class)
            .map_or_else(String::new, |label| name(label))
    };
    let figure = |judged: &&Judged| {
        let picture = thumbnail_or_box(read(&judged.path), &judged.path);
        let (truth, called) = (label(judged.truth), label(judged.prediction.label));
        let said = format!("<span>{}</span>", percent(probability(judged)));
        let doubt = if judged.prediction.unknown {
            ", marked unknown"
        } else {
            ""
        };
        let line = if judged.truth == judged.prediction.label {
            format!("<b>{called}</b> ({said}{doubt})")
        } else {
            format!("is <b>{truth}</b>, called <b>{called}</b> ({said}{doubt})")
        };
        let path = name(&judged.path.display().to_string());
        format!("<figure>{picture}<figcaption>{line}<br>{path}</figcaption></figure>\n")
    };
    let figures: String = shown.iter().map(figure).collect();
    format!("<div class=\"pictures\">\n{figures}</div>\n")
}

/// A file's picture, or a grey box.
pub(super) fn thumbnail_or_box(bytes: Option<Vec<u8>>, path: &Path) -> String {
    let picture = bytes.and_then(|bytes| thumbnail(&bytes, path));
    picture.unwrap_or_else(|| "<div class=\"none\">no picture</div>".into())
}

/// An image element that holds its own data. Only pixels go in: the file's metadata,
/// such as the place where it was taken, stays out of the report.
fn thumbnail(bytes: &[u8], path: &Path) -> Option<String> {
    let image = senses::shown(bytes, path)?;
    let (width, height) = (image.width(), image.height());
    let pixels: ImageBuffer<Rgb<u8>, &[u8]> = ImageBuffer::from_raw(width, height, image.pixels())?;
    let longer = width.max(height).max(SIDE);
    let fit = |side: u32| {
        let fitted = u64::from(side) * u64::from(SIDE) / u64::from(longer);
        u32::try_from(fitted).map_or(SIDE, |fitted| fitted.max(1))
    };
    let small = imageops::thumbnail(&pixels, fit(width), fit(height));
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    small.write_with_encoder(encoder).ok()?;
    let data = STANDARD.encode(jpeg);
    Some(format!(
        "<img alt=\"\" src=\"data:image/jpeg;base64,{data}\">"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Prediction;

    fn judged(path: &str, truth: usize, said: f32) -> Judged {
        let probabilities = vec![said, 1.0 - said];
        let prediction = Prediction {
            label: 0,
            probabilities,
            unknown: false,
            unknown_score: None,
            windows: Vec::new(),
        };
        Judged {
            path: path.into(),
            truth,
            prediction,
        }
    }

    #[test]
    fn the_worst_mistakes_are_the_surest_and_each_file_stands_once() {
        let all = [
            judged("a", 1, 0.6),
            judged("b", 0, 0.99),
            judged("c", 1, 0.9),
            judged("c", 1, 0.8),
            judged("d", 1, f32::NAN),
            judged("e", 1, 0.7),
        ];
        let paths = |found: Vec<&Judged>| -> Vec<String> {
            found
                .iter()
                .map(|one| one.path.display().to_string())
                .collect()
        };
        assert_eq!(paths(worst(all.iter(), 3)), ["c", "e", "a"]);
        assert_eq!(paths(right(&all)), ["b"]);
        let many: Vec<Judged> = (0..9)
            .map(|index| judged(&index.to_string(), 0, 0.9))
            .collect();
        assert_eq!(paths(spread(&right(&many), 3)), ["0", "3", "6"]);
        assert!(spread(&[], 3).is_empty() && worst([].iter(), 3).is_empty());
    }

    #[test]
    fn a_thumbnail_is_a_small_jpeg_of_the_same_shape() {
        for (width, height, wanted) in [
            (320, 80, (160, 40)),
            (1, 5000, (1, 160)),
            (20, 10, (20, 10)),
        ] {
            let source = image::RgbImage::from_pixel(width, height, Rgb([200, 30, 30]));
            let mut png = std::io::Cursor::new(Vec::new());
            source.write_to(&mut png, image::ImageFormat::Png).unwrap();
            let html = thumbnail(&png.into_inner(), Path::new("x.png")).unwrap();
            let data = html
                .split("base64,")
                .nth(1)
                .unwrap()
                .trim_end_matches("\">");
            let found = image::load_from_memory(&STANDARD.decode(data).unwrap())
                .unwrap()
                .to_rgb8();
            assert_eq!(found.dimensions(), wanted);
            let Rgb([red, green, _]) = *found.get_pixel(0, 0);
            assert!(
                red.abs_diff(200) < 12 && green.abs_diff(30) < 12,
                "{red} {green}"
            );
        }
    }
}
