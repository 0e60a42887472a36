//! What a picture looks like without knowing what it shows: its light, its sharpness,
//! and a small grey copy for comparing pictures (`duplicates.rs`). Judged at about the
//! size in which a backbone sees it, since blur that shrinking removes does no harm; so
//! a camera with many pixels is not called blurred.
//!
//! One picture is decoded at a time and thread; what is kept of it has 4 KB.

use crate::preprocess::Decoded;

use super::outliers::robust;
use super::{Kind, duplicates::Thumbnail};

/// Short side in pixels at which sharpness is judged; smaller pictures stay as they are.
const SIDE: usize = 256;
/// Length in pixels of the blur that sharpness is compared with.
const BLUR: usize = 9;

/// 95 % of the pixels of a dark picture are below this grey level.
const DARK: f64 = 32.0;
/// Also dark: below this share of what is usual in the set.
const DARK_SHARE: f64 = 0.25;
/// 95 % of the pixels of a bright picture are above this grey level.
const BRIGHT: f64 = 240.0;
/// A flat picture's grey levels differ by less, the outer 5 % at both ends left out.
const FLAT: f64 = 8.0;
/// Every picture above this blur is called blurred, none below the other.
const SURELY_BLURRED: f64 = 0.75;
const LEAST_BLUR: f64 = 0.5;
/// Between them: this many robust standard deviations beyond the set's median.
const BLUR_DEVIATIONS: f64 = 3.5;

/// What is kept of a picture.
#[derive(Clone, Debug)]
pub struct Look {
    /// Grey level that 5 % of the pixels are below, 0 to 255.
    pub low: f64,
    /// Grey level that 95 % of the pixels are below.
    pub high: f64,
    /// 0 for sharp to 1 for blurred, after Crete et al. (2007).
    pub blur: f64,
    /// A small grey copy.
    pub thumbnail: Thumbnail,
}

/// Something wrong with one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Index of the picture.
    pub picture: usize,
    /// Dark, bright, flat or blurred.
    pub kind: Kind,
    /// Why, in a few words.
    pub detail: String,
    /// Larger is worse.
    pub score: f64,
}

impl Look {
    /// Looks at a picture.
    pub fn of(image: &Decoded) -> Self {
        Self::of_grey(&Grey::of(image))
    }

    fn of_grey(grey: &Grey) -> Self {
        let mut levels = grey.levels.clone();
        let place = |share: f64| ((grey.levels.len() - 1) as f64 * share) as usize;
        let mut level = |share| {
            f64::from(
                *levels
                    .select_nth_unstable_by(place(share), f32::total_cmp)
                    .1,
            )
        };
        Self {
            low: level(0.05),
            high: level(0.95),
            blur: blur_effect(grey),
            thumbnail: Thumbnail::of(grey),
        }
    }

    /// Whether there is anything to see.
    fn shows_something(&self) -> bool {
        self.high - self.low >= FLAT && self.high >= DARK && self.low <= BRIGHT
    }
}

/// What is wrong with pictures, absolutely and compared with the others; at most one
/// fault a picture.
pub fn faults(looks: &[Option<Look>]) -> Vec<Fault> {
    let seen: Vec<&Look> = looks.iter().flatten().collect();
    let usual_high = robust(&seen.iter().map(|look| look.high).collect::<Vec<_>>()).0;
    let blurs: Vec<f64> = seen
        .iter()
        .filter(|look| look.shows_something())
        .map(|look| look.blur)
        .collect();
    let (middle, deviation) = robust(&blurs);
    let limit = (middle + BLUR_DEVIATIONS * deviation).clamp(LEAST_BLUR, SURELY_BLURRED);
    let dark = DARK.max(DARK_SHARE * usual_high);
    let pictures = looks.iter().enumerate();
    pictures
        .filter_map(|(picture, look)| {
            let (kind, detail, score) = fault(look.as_ref()?, dark, limit)?;
            Some(Fault {
                picture,
                kind,
                detail,
                score,
            })
        })
        .collect()
}

fn fault(look: &Look, dark: f64, blurred: f64) -> Option<(Kind, String, f64)> {
    let Look {
        low, high, blur, ..
    } = *look;
    if high < dark {
        let detail = format!("95 % of it is darker than grey level {high:.0} of 255");
        return Some((Kind::Dark, detail, -high));
    }
    if low > BRIGHT {
        let detail = format!("95 % of it is brighter than grey level {low:.0} of 255");
        return Some((Kind::Bright, detail, low));
    }
    if high - low < FLAT {
        let detail = format!("its grey levels differ by {:.0} of 255", high - low);
        return Some((Kind::Flat, detail, low - high));
    }
    (blur > blurred).then(|| {
        let detail =
            format!("blur {blur:.2}, from 0 for sharp to 1; the limit here is {blurred:.2}");
        (Kind::Blurred, detail, blur)
    })
}

/// Grey levels of a picture, shrunk so that its short side has at most [`SIDE`] pixels.
pub(crate) struct Grey {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `[height, width]`, 0 to 255. Never empty.
    pub(crate) levels: Vec<f32>,
}

impl Grey {
    /// Means of equal areas, which adds no sharpness and no blur of its own.
    pub(crate) fn of(image: &Decoded) -> Self {
        let (wide, high) = (image.width() as usize, image.height() as usize);
        let short = wide.min(high).max(1);
        let fit = |side: usize| {
            if short > SIDE {
                (side * SIDE / short).max(1)
            } else {
                side.max(1)
            }
        };
        let (width, height) = (fit(wide), fit(high));
        let mut levels = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = y * high / height..((y + 1) * high / height).max(y * high / height + 1);
            for x in 0..width {
                let columns = x * wide / width..((x + 1) * wide / width).max(x * wide / width + 1);
                levels.push(mean_luma(image, rows.clone(), columns));
            }
        }
        Self {
            width,
            height,
            levels,
        }
    }
}

/// Mean of 0.299 red + 0.587 green + 0.114 blue.
fn mean_luma(
    image: &Decoded,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> f32 {
    let count = rows.len() * columns.len();
    let mut sums = [0_u64; 3];
    for y in rows {
        let start = y * image.width() as usize + columns.start;
        let part = image.pixels().get(3 * start..3 * (start + columns.len()));
        for pixel in part.unwrap_or_default().chunks_exact(3) {
            for (sum, level) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(*level);
            }
        }
    }
    let [red, green, blue] = sums.map(|sum| sum as f64);
    ((0.299 * red + 0.587 * green + 0.114 * blue) / count.max(1) as f64) as f32
}

/// How blurred a picture is, 0 to 1: how little of the differences between neighbouring
/// pixels is lost when it is blurred once more, the larger of both directions (Crete,
/// Dolmiere, Ladret, Nicolas, "The blur effect", 2007). 0 for a picture of one colour.
pub(crate) fn blur_effect(grey: &Grey) -> f64 {
    let (width, height) = (grey.width, grey.height);
    let rows = (0..height).map(|y| (y * width, 1, width));
    let columns = (0..width).map(|x| (x, width, height));
    let across = lost(grey, rows);
    let down = lost(grey, columns);
    across.max(down)
}

/// The share of differences that stays, over lines of (start, step, length).
fn lost(grey: &Grey, lines: impl Iterator<Item = (usize, usize, usize)>) -> f64 {
    let (mut before, mut gone) = (0.0, 0.0);
    let mut line = Vec::new();
    for (start, step, length) in lines {
        line.clear();
        line.extend(grey.levels.iter().skip(start).step_by(step).take(length));
        let blurred = blurred(&line);
        for (sharp, soft) in line.windows(2).zip(blurred.windows(2)) {
            let (sharp, soft) = ((sharp[1] - sharp[0]).abs(), (soft[1] - soft[0]).abs());
            before += f64::from(sharp);
            gone += f64::from((sharp - soft).max(0.0));
        }
    }
    if before > 0.0 {
        (before - gone) / before
    } else {
        0.0
    }
}

/// Running mean over [`BLUR`] pixels, the ends repeated.
fn blurred(line: &[f32]) -> Vec<f32> {
    let at = |index: isize| {
        let inside = index.clamp(0, line.len() as isize - 1);
        line[inside as usize]
    };
    let half = (BLUR / 2) as isize;
    let mut sum: f32 = (-half..=half).map(at).sum();
    (0..line.len() as isize)
        .map(|index| {
            let mean = sum / BLUR as f32;
            sum += at(index + half + 1) - at(index - half);
            mean
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;

    use super::*;

    /// A picture of random squares of `square` pixels, blurred `times` times.
    fn picture(seed: u64, low: f32, high: f32, times: usize) -> Grey {
        const SIDE: usize = 120;
        let mut random = Random::new(seed);
        let cells: Vec<f32> = (0..400)
            .map(|_| low + (high - low) * random.uniform())
            .collect();
        let level = |at: usize| cells[at / SIDE / 6 * 20 + at % SIDE / 6];
        let mut grey = Grey {
            width: SIDE,
            height: SIDE,
            levels: (0..SIDE * SIDE).map(level).collect(),
        };
        for _ in 0..times {
            for row in grey.levels.chunks_exact_mut(SIDE) {
                let soft = blurred(row);
                row.copy_from_slice(&soft);
            }
            for x in 0..SIDE {
                let column: Vec<f32> = grey.levels.iter().skip(x).step_by(SIDE).copied().collect();
                for (y, value) in blurred(&column).into_iter().enumerate() {
                    grey.levels[y * SIDE + x] = value;
                }
            }
        }
        grey
    }

    fn found(pictures: &[Grey]) -> Vec<(usize, Kind)> {
        let looks: Vec<Option<Look>> = pictures
            .iter()
            .map(|grey| Some(Look::of_grey(grey)))
            .collect();
        faults(&looks)
            .into_iter()
            .map(|fault| (fault.picture, fault.kind))
            .collect()
    }

    #[test]
    fn each_fault_is_named_and_good_pictures_have_none() {
        let mut pictures: Vec<Grey> = (0..8).map(|seed| picture(seed, 30.0, 200.0, 0)).collect();
        assert_eq!(found(&pictures), []);
        pictures.push(picture(9, 0.0, 12.0, 0));
        pictures.push(picture(10, 244.0, 255.0, 0));
        pictures.push(picture(11, 100.0, 104.0, 0));
        pictures.push(picture(12, 30.0, 200.0, 2));
        let kinds = [Kind::Dark, Kind::Bright, Kind::Flat, Kind::Blurred];
        let expected: Vec<(usize, Kind)> = (8..).zip(kinds).collect();
        assert_eq!(found(&pictures), expected);
    }

    #[test]
    fn a_set_of_night_pictures_is_not_called_dark() {
        let pictures: Vec<Grey> = (0..6).map(|seed| picture(seed, 0.0, 60.0, 0)).collect();
        assert_eq!(found(&pictures), []);
    }

    #[test]
    fn an_unreadable_picture_has_no_fault_and_keeps_its_place() {
        let looks = [None, Some(Look::of_grey(&picture(1, 0.0, 10.0, 0)))];
        assert_eq!(faults(&looks)[0].picture, 1);
    }

    #[test]
    fn blurring_once_more_always_counts_as_more_blurred() {
        let values: Vec<f64> = (0..4)
            .map(|times| blur_effect(&picture(3, 0.0, 255.0, times)))
            .collect();
        assert!(
            values.is_sorted() && values[0] < 0.4 && values[3] > 0.6,
            "{values:?}"
        );
    }
}
