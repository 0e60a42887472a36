//! Copies: the same bytes, the same picture in another file, almost the same picture.
//!
//! Almost the same means that, shrunk to 24 x 24 grey pixels without their slow changes
//! of light and with their strongest details limited, one picture correlates with the
//! other, its mirror image, or a part of either, by `LEAST_CORRELATION`. Parts are sought
//! at scales from 1 down to 0.7. So a copy is found that was recompressed, shrunk,
//! mirrored, brightened or cropped.
//!
//! Tried on demo photographs and on scratched steel: most such copies correlate by 0.87
//! and more, different photographs by less than 0.55, different scratches on blank steel
//! by up to 0.84. Without the limit, those reach 0.95. Of copies put among 200 pictures,
//! 79 of 80 were found among photographs, 72 of 80 among steel surfaces: there half of
//! the crops by 5 % fall between the parts that are tried, and brightening loses detail. Cosines of features do not tell copies
//! apart (a recompressed steel surface 0.75, two different ones up to 0.98), nor do
//! perceptual hashes of a whole picture (a crop by 10 % differs as much as another
//! surface). Both are good for guessing which pairs to compare.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::means::{Directions, dot};
use super::pictures::Grey;

/// From this correlation on two pictures are near duplicates.
const LEAST_CORRELATION: f32 = 0.86;
/// From this cosine of features on, without pixels, two pictures are the same.
const SAME_FEATURES: f32 = 0.9995;
/// Pairs compared for each picture: the nearest by features, and by pixels.
const NEAREST: usize = 5;
/// Side of the kept grey copy, in pixels.
const KEPT: usize = 64;
/// Side of what is compared.
const SIDE: usize = 24;
/// Side of the square whose mean is taken away, odd.
const SQUARE: usize = 7;
/// Values are limited to this many times their median size.
const CLIP: f32 = 2.0;
/// ... but never to less than this, in grey levels.
const LEAST_LIMIT: f32 = 1.0;
/// Grey levels (root of the mean square) below which what remains is noise.
const LEAST_DETAIL: f32 = 0.25;
/// Scales of parts, in steps of a twentieth from 1 down.
const SCALES: usize = 7;
const STEP: f32 = 0.05;

/// How two pictures are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// The same bytes.
    Exact,
    /// Other bytes, the same features.
    SamePicture,
    /// A changed copy.
    Near,
}

impl Copies {
    /// Words before the other file's name.
    pub fn words(self) -> &'static str {
        match self {
            Self::Exact => "the same file as",
            Self::SamePicture => "the same picture as",
            Self::Near => "almost the same picture as",
        }
    }
}

/// Two samples, `first` before `second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Row of one.
    pub first: usize,
    /// Row of the other.
    pub second: usize,
    /// How they are the same.
    pub copies: Copies,
    /// 1 for exact copies, else their correlation or cosine.
    pub likeness: f32,
}

/// Files with equal SHA-256; each but the first of equals once, with the first.
pub fn exact(digests: &[Option<[u8; 32]>]) -> Vec<Pair> {
    let mut firsts = std::collections::BTreeMap::new();
    let mut pairs = Vec::new();
    for (row, digest) in digests.iter().enumerate() {
        let Some(digest) = digest else { continue };
        let first = *firsts.entry(digest).or_insert(row);
        if first != row {
            pairs.push(Pair {
                first,
                second: row,
                copies: Copies::Exact,
                likeness: 1.0,
            });
        }
    }
    pairs
}

/// Pictures whose features are equal but for rounding: all that can be told without
/// pixels. Mirror images are among them when mirrored views are used.
pub fn same_features(directions: &Directions) -> Vec<Pair> {
    let pair = |first: usize| {
        let nearest = nearest(directions.len(), first, |other| {
            dot(directions.row(first), directions.row(other))
        });
        let same = nearest
            .into_iter()
            .filter(|(_, cosine)| *cosine >= SAME_FEATURES);
        same.filter(|(second, _)| first < *second)
            .map(|(second, likeness)| Pair {
                first,
                second,
                copies: Copies::SamePicture,
                likeness,
            })
            .collect::<Vec<Pair>>()
    };
    (0..directions.len())
        .into_par_iter()
        .flat_map_iter(pair)
        .collect()
}

/// Near duplicates among `thumbnails`, one a row. `known` pairs are not reported again.
pub fn near(
    thumbnails: &[Option<&Thumbnail>],
    directions: &Directions,
    known: &[Pair],
) -> Vec<Pair> {
    let wholes: Vec<Option<[Patch; 2]>> = thumbnails
        .par_iter()
        .map(|thumbnail| thumbnail.and_then(Thumbnail::wholes))
        .collect();
    let known: BTreeSet<(usize, usize)> =
        known.iter().map(|pair| (pair.first, pair.second)).collect();
    let mut candidates: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); thumbnails.len()];
    let guesses: Vec<Vec<usize>> = (0..thumbnails.len())
        .into_par_iter()
        .map(|row| guesses(row, &wholes, directions))
        .collect();
    for (row, others) in guesses.into_iter().enumerate() {
        for other in others {
            let (first, second) = (row.min(other), row.max(other));
            if !known.contains(&(first, second)) {
                // Either may be a part of the other.
                candidates[first].insert(second);
                candidates[second].insert(first);
            }
        }
    }
    let mut pairs: Vec<Pair> = candidates
        .par_iter()
        .enumerate()
        .flat_map_iter(|(row, others)| compare(row, others, thumbnails, &wholes))
        .collect();
    // The better of both directions.
    pairs.sort_by(|a, b| {
        let rows = (a.first, a.second).cmp(&(b.first, b.second));
        rows.then(b.likeness.total_cmp(&a.likeness))
    });
    pairs.dedup_by_key(|pair| (pair.first, pair.second));
    pairs
}

/// The other rows most like `row` by features and by whole pictures.
fn guesses(row: usize, wholes: &[Option<[Patch; 2]>], directions: &Directions) -> Vec<usize> {
    let Some([whole, mirrored]) = wholes.get(row).and_then(Option::as_ref) else {
        return Vec::new();
    };
    let by_features = nearest(wholes.len(), row, |other| {
        dot(directions.row(row), directions.row(other))
    });
    let by_pixels = nearest(wholes.len(), row, |other| match &wholes[other] {
        Some([other, _]) => dot(whole, other).max(dot(mirrored, other)),
        None => -1.0,
    });
    let all = by_features.into_iter().chain(by_pixels);
    all.map(|(other, _)| other)
        .filter(|other| wholes[*other].is_some())
        .collect()
}

/// The rows of the largest values of `like`, `row` itself left out; of equal ones the
/// first.
fn nearest(rows: usize, row: usize, like: impl Fn(usize) -> f32) -> Vec<(usize, f32)> {
    let mut nearest: Vec<(usize, f32)> = Vec::with_capacity(NEAREST + 1);
    for other in (0..rows).filter(|other| *other != row) {
        let value = like(other);
        let place = nearest.partition_point(|(_, known)| *known >= value);
        if place < NEAREST {
            nearest.insert(place, (other, value));
            nearest.truncate(NEAREST);
        }
    }
    nearest
}

/// Which of `others` are the picture of `row`, a part of it, or the mirror image.
fn compare(
    row: usize,
    others: &BTreeSet<usize>,
    thumbnails: &[Option<&Thumbnail>],
    wholes: &[Option<[Patch; 2]>],
) -> Vec<Pair> {
    let Some(thumbnail) = thumbnails[row].filter(|_| !others.is_empty()) else {
        return Vec::new();
    };
    let integral = thumbnail.integral();
    let parts: Vec<(Part, Patch)> = Part::all()
        .filter_map(|part| Some((part, patch(&integral, part)?)))
        .collect();
    let mut pairs = Vec::new();
    for other in others {
        let Some(wholes) = &wholes[*other] else {
            continue;
        };
        let likeness = wholes
            .iter()
            .map(|whole| best_part(&parts, &integral, whole))
            .fold(-1.0, f32::max);
        if likeness >= LEAST_CORRELATION {
            pairs.push(Pair {
                first: row.min(*other),
                second: row.max(*other),
                copies: Copies::Near,
                likeness,
            });
        }
    }
    pairs
}

/// The largest correlation of a part with a whole picture; the best part of a coarse
/// grid is moved by half steps.
fn best_part(parts: &[(Part, Patch)], integral: &Integral, whole: &[f32]) -> f32 {
    let mut best = (None, -1.0);
    for (part, values) in parts {
        let correlation = dot(values, whole);
        if correlation > best.1 {
            best = (Some(*part), correlation);
        }
    }
    let Some(part) = best.0 else { return -1.0 };
    let finer = part.around().filter_map(|part| patch(integral, part));
    finer
        .map(|values| dot(&values, whole))
        .fold(best.1, f32::max)
}

/// `SIDE` x `SIDE` values of mean 0 and length 1.
type Patch = Vec<f32>;

/// A square part of a picture, in shares of its sides.
#[derive(Clone, Copy, Debug)]
struct Part {
    scale: f32,
    left: f32,
    top: f32,
}

impl Part {
    const WHOLE: Self = Self {
        scale: 1.0,
        left: 0.0,
        top: 0.0,
    };

    /// A coarse grid.
    fn all() -> impl Iterator<Item = Self> {
        (0..SCALES).flat_map(|smaller| {
            let places = 0..=smaller;
            places.clone().flat_map(move |x| {
                places.clone().map(move |y| Self {
                    scale: 1.0 - STEP * smaller as f32,
                    left: STEP * x as f32,
                    top: STEP * y as f32,
                })
            })
        })
    }

    /// Half a step in every direction and scale, as far as it lies inside.
    fn around(self) -> impl Iterator<Item = Self> {
        let steps = [-0.5 * STEP, 0.0, 0.5 * STEP];
        steps
            .into_iter()
            .flat_map(move |larger| {
                steps.into_iter().flat_map(move |right| {
                    steps.into_iter().map(move |down| Self {
                        scale: self.scale + larger,
                        left: self.left + right,
                        top: self.top + down,
                    })
                })
            })
            .filter(|part| part.left >= 0.0 && part.top >= 0.0)
            .filter(|part| part.left.max(part.top) + part.scale <= 1.0 + f32::EPSILON)
    }
}

/// A small grey copy of a picture, its sides made equal.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// `[KEPT, KEPT]`.
    levels: Vec<u8>,
}

impl Thumbnail {
    /// Shrinks by means of equal areas.
    pub(crate) fn of(grey: &Grey) -> Self {
        let integral = Integral::of(&grey.levels, grey.width, grey.height);
        let level = integral.means(Part::WHOLE, KEPT).into_iter();
        Self {
            levels: level
                .map(|level| level.round().clamp(0.0, 255.0) as u8)
                .collect(),
        }
    }

    fn integral(&self) -> Integral {
        let levels: Vec<f32> = self.levels.iter().map(|level| f32::from(*level)).collect();
        Integral::of(&levels, KEPT, KEPT)
    }

    /// The whole picture and its mirror image; `None` when there is no detail.
    fn wholes(&self) -> Option<[Patch; 2]> {
        let whole = patch(&self.integral(), Part::WHOLE)?;
        let rows = whole.chunks_exact(SIDE);
        let mirrored = rows.flat_map(|row| row.iter().rev().copied()).collect();
        Some([whole, mirrored])
    }
}

/// A part without its slow changes of light; `None` when nothing remains.
fn patch(integral: &Integral, part: Part) -> Option<Patch> {
    let mut values = integral.means(part, SIDE);
    let smooth = Integral::of(&values, SIDE, SIDE);
    for (index, value) in values.iter_mut().enumerate() {
        *value -= smooth.mean_around(index % SIDE, index / SIDE);
    }
    clip(&mut values);
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    values.iter_mut().for_each(|value| *value -= mean);
    let length = dot(&values, &values).sqrt();
    if length < LEAST_DETAIL * count.sqrt() {
        return None;
    }
    values.iter_mut().for_each(|value| *value /= length);
    Some(values)
}

/// Limits values to a few times the median size: two surfaces with one straight scratch
/// each would else be alike, whatever lies around it.
fn clip(values: &mut [f32]) {
    let mut sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    let middle = sizes.len() / 2;
    let median = *sizes.select_nth_unstable_by(middle, f32::total_cmp).1;
    // Things on a blank ground keep their outlines.
    let limit = (CLIP * median).max(LEAST_LIMIT);
    let inside = |value: &mut f32| *value = value.clamp(-limit, limit);
    values.iter_mut().for_each(inside);
}

/// Sums over all rectangles that start at the top left corner.
struct Integral {
    width: usize,
    height: usize,
    /// `[height + 1, width + 1]`.
    sums: Vec<f64>,
}

impl Integral {
    fn of(levels: &[f32], width: usize, height: usize) -> Self {
        let line = width + 1;
        let mut sums = vec![0.0; line * (height + 1)];
        for (y, row) in levels.chunks_exact(width).enumerate() {
            let mut sum = 0.0;
            for (x, level) in row.iter().enumerate() {
                sum += f64::from(*level);
                sums[(y + 1) * line + x + 1] = sums[y * line + x + 1] + sum;
            }
        }
        Self {
            width,
            height,
            sums,
        }
    }

    /// The sum up to a point between pixels.
    fn at(&self, x: f64, y: f64) -> f64 {
        let (x, y) = (
            x.clamp(0.0, self.width as f64),
            y.clamp(0.0, self.height as f64),
        );
        let left = (x as usize).min(self.width - 1);
        let top = (y as usize).min(self.height - 1);
        let (right, down) = (x - left as f64, y - top as f64);
        let sum = |x: usize, y: usize| self.sums[y * (self.width + 1) + x];
        let above = sum(left, top) + right * (sum(left + 1, top) - sum(left, top));
        let below = sum(left, top + 1) + right * (sum(left + 1, top + 1) - sum(left, top + 1));
        above + down * (below - above)
    }

    /// Mean levels of `side` x `side` equal cells of a part.
    fn means(&self, part: Part, side: usize) -> Vec<f32> {
        let (wide, high) = (self.width as f64, self.height as f64);
        let place = |start: f32, index: usize, length: f64| {
            (f64::from(start) + f64::from(part.scale) * index as f64 / side as f64) * length
        };
        let corner =
            |x: usize, y: usize| self.at(place(part.left, x, wide), place(part.top, y, high));
        let corners: Vec<f64> = (0..=side)
            .flat_map(|y| (0..=side).map(move |x| (x, y)))
            .map(|(x, y)| corner(x, y))
            .collect();
        let scale = f64::from(part.scale) / side as f64;
        let area = scale * scale * wide * high;
        let line = side + 1;
        let cell = |x: usize, y: usize| {
            let (top, below) = (y * line + x, (y + 1) * line + x);
            corners[below + 1] - corners[below] - corners[top + 1] + corners[top]
        };
        let cells = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
        cells.map(|(x, y)| (cell(x, y) / area) as f32).collect()
    }

    /// Mean of the square around a pixel, as much of it as lies inside.
    fn mean_around(&self, x: usize, y: usize) -> f32 {
        let half = SQUARE / 2;
        let (left, top) = (x.saturating_sub(half), y.saturating_sub(half));
        let (right, below) = (
            (x + half + 1).min(self.width),
            (y + half + 1).min(self.height),
        );
        let sum = |x: usize, y: usize| self.sums[y * (self.width + 1) + x];
        let all = sum(right, below) - sum(left, below) - sum(right, top) + sum(left, top);
        (all / ((right - left) * (below - top)) as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use fieldtune_core::random::Random;

    use super::*;
    use crate::data::Data;

    const WIDE: usize = 160;

    /// Soft random spots on a square of `WIDE` pixels.
    fn spots(seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let spots: Vec<[f32; 4]> = (0..60)
            .map(|_| {
                [
                    random.uniform(),
                    random.uniform(),
                    60.0 * random.normal(),
                    0.02 + 0.06 * random.uniform(),
                ]
            })
            .collect();
        let level = |x: f32, y: f32| {
            let of = |[cx, cy, height, size]: &[f32; 4]| {
                let square = (x - cx).powi(2) + (y - cy).powi(2);
                height * (-square / (size * size)).exp()
            };
            (120.0 + spots.iter().map(of).sum::<f32>()).clamp(0.0, 255.0)
        };
        let place = |at: usize| (at as f32 + 0.5) / WIDE as f32;
        (0..WIDE * WIDE)
            .map(|at| level(place(at % WIDE), place(at / WIDE)))
            .collect()
    }

    /// The part from (left, top) on, `change` made to every level.
    fn part(
        levels: &[f32],
        left: usize,
        top: usize,
        side: usize,
        change: impl Fn(f32) -> f32,
    ) -> Thumbnail {
        let cells = (0..side * side).map(|at| levels[(top + at / side) * WIDE + left + at % side]);
        Thumbnail::of(&Grey {
            width: side,
            height: side,
            levels: cells.map(change).collect(),
        })
    }

    fn found(thumbnails: &[Thumbnail]) -> Vec<(usize, usize)> {
        // Features that say nothing: all pairs are equally near.
        let features = vec![1.0; thumbnails.len()];
        let views = [&features[..]];
        let data = Data {
            views: &views,
            held: crate::views::ViewSet::ORIGINAL,
            labels: &vec![0; thumbnails.len()],
            groups: &[],
            features: 1,
            classes: 1,
        };
        let thumbnails: Vec<Option<&Thumbnail>> = thumbnails.iter().map(Some).collect();
        let pairs = near(&thumbnails, &Directions::of(&data), &[]);
        pairs.iter().map(|pair| (pair.first, pair.second)).collect()
    }

    #[test]
    fn changed_copies_are_found_and_other_pictures_are_not() {
        let original = spots(1);
        let mirrored: Vec<f32> = original
            .chunks_exact(WIDE)
            .flat_map(|row| row.iter().rev().copied())
            .collect();
        let same = |level: f32| level;
        let whole = |levels: &[f32]| part(levels, 0, 0, WIDE, same);
        let copies = [
            whole(&mirrored),
            part(&original, 0, 0, WIDE, |level| {
                (1.2 * level + 10.0).min(255.0)
            }),
            part(&original, 8, 8, 144, same),
            part(&original, 5, 21, 133, same),
            part(&mirrored, 40, 0, 120, same),
        ];
        for (number, copy) in copies.into_iter().enumerate() {
            let all = [whole(&original), whole(&spots(2)), copy, whole(&spots(3))];
            assert_eq!(found(&all), [(0, 2)], "copy {number}");
        }
        let others: Vec<Thumbnail> = (10..40).map(|seed| whole(&spots(seed))).collect();
        assert_eq!(found(&others), []);
    }

    #[test]
    fn pictures_without_detail_are_not_alike() {
        let flat: Vec<Thumbnail> = (0..4)
            .map(|level| part(&vec![50.0 * level as f32; WIDE * WIDE], 0, 0, WIDE, |l| l))
            .collect();
        assert_eq!(found(&flat), []);
    }

    #[test]
    fn equal_bytes_are_reported_once_each() {
        let digests = [
            Some([1; 32]),
            None,
            Some([2; 32]),
            Some([1; 32]),
            None,
            Some([1; 32]),
        ];
        let pairs: Vec<(usize, usize)> = exact(&digests)
            .iter()
            .map(|pair| (pair.first, pair.second))
            .collect();
        assert_eq!(pairs, [(0, 3), (0, 5)]);
    }

    #[test]
    fn the_nearest_are_in_order_without_the_row_itself() {
        let values = [0.1, 0.9, 0.5, 0.9, 0.2, 0.3, 0.4, 0.0];
        let rows: Vec<usize> = nearest(8, 2, |row| values[row])
            .iter()
            .map(|(row, _)| *row)
            .collect();
        assert_eq!(rows, [1, 3, 6, 5, 4]);
    }
}
