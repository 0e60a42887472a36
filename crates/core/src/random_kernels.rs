//! From a window of a series to features by many fixed convolutions: for each, the share of
//! the window where its response lies above a threshold. After MiniRocket (Dempster, Schmidt
//! and Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
//! classification", KDD 2021), for windows of any number of channels.
//!
//! Every kernel has nine weights, six of -1 and three of 2, and so 84 forms. Each is spread
//! out by several dilations and applied to the sum of a few channels drawn for it; thresholds
//! are quantiles of its responses to training windows. With x zero outside of the window,
//! k the three places of the twos and d the dilation, the response is (section 3.1)
//!
//! c\[t\] = -sum over i in 0..9 of x\[t + (i - 4) d\] + 3 sum over i in k of x\[t + (i - 4) d\]
//!
//! and a feature is the share of all t with c\[t\] > threshold; for every second kernel only
//! those t count at which the kernel lies within the window.
//!
//! Unlike there, dilations are 1, 2, 3, 4, 6, 8, 12 ..., found without a logarithm so that
//! every processor finds the same, each with as many thresholds as the others.
//!
//! Plain f32 arithmetic in a fixed order, so the same values everywhere.

use crate::Error;
use crate::random::Random;

/// Forms of a kernel: the ways to choose 3 of 9 places.
pub const FORMS: usize = 84;
/// Weights of a kernel.
pub const TAPS: usize = 9;
/// The most channels that one kernel sums.
pub const MAX_SUMMED: usize = 9;
/// The most dilations: enough for windows of 2^16 values.
pub const MAX_DILATIONS: usize = 32;
/// Shortest window, in values of a channel: there a kernel just lies within it.
pub const MIN_LENGTH: usize = TAPS;
/// Share of an unit by which quantiles advance, the inverse of the golden ratio: they spread
/// evenly whatever their number.
const GOLDEN: f32 = 0.618_034;

/// The places of the twos in each form, in lexicographic order.
const PLACES: [[u8; 3]; FORMS] = places();

const fn places() -> [[u8; 3]; FORMS] {
    let mut all = [[0; 3]; FORMS];
    let (mut found, mut first) = (0, 0);
    while first < TAPS - 2 {
        let mut second = first + 1;
        while second < TAPS - 1 {
            let mut third = second + 1;
            while third < TAPS {
                all[found] = [first as u8, second as u8, third as u8];
                (found, third) = (found + 1, third + 1);
            }
            second += 1;
        }
        first += 1;
    }
    all
}

/// Channels that one kernel sums, each at most once.
pub type Summed = heapless::Vec<u16, MAX_SUMMED>;

/// Which channels each kernel sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Channels<'a> {
    /// Drawn from this seed.
    Drawn(u64),
    /// Stated, `[dilations, FORMS]`.
    Given(&'a [Summed]),
}

/// A dilation and how many thresholds each of its kernels has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dilation {
    /// Values from one weight to the next, 1 or more.
    pub step: usize,
    /// Features of each of its kernels.
    pub thresholds: usize,
}

/// All dilations of a transform.
pub type Dilations = heapless::Vec<Dilation, MAX_DILATIONS>;

/// A transform of windows `[channels, length]`, row-major, to [`RandomKernels::features`]
/// numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomKernels<'a> {
    channels: usize,
    length: usize,
    dilations: Dilations,
    summed: Channels<'a>,
}

impl RandomKernels<'static> {
    /// The transform of windows of this shape whose number of features comes nearest to
    /// `features` from below, but at least one a kernel; channels are drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Content`] for windows shorter than [`MIN_LENGTH`], or of no or more than
    /// 2^16 channels.
    pub fn new(channels: usize, length: usize, features: usize, seed: u64) -> Result<Self, Error> {
        let mut steps = heapless::Vec::<usize, MAX_DILATIONS>::new();
        // A kernel is at most as long as the window.
        let longest = length.saturating_sub(1) / (TAPS - 1);
        let octaves = (0..usize::BITS).map(|octave| 1 << octave);
        for step in octaves.flat_map(|step: usize| [step, step + step / 2]) {
            if step > longest || steps.len() == MAX_DILATIONS {
                break;
            }
            // 1 and 1 + 1 / 2 are the same.
            if steps.last() != Some(&step) {
                let _ = steps.push(step);
            }
        }
        let thresholds = (features / (FORMS * steps.len().max(1))).max(1);
        let dilations = steps.iter().map(|step| Dilation {
            step: *step,
            thresholds,
        });
        RandomKernels::given(channels, length, dilations.collect(), Channels::Drawn(seed))
    }
}

impl<'a> RandomKernels<'a> {
    /// A transform whose kernels are stated.
    ///
    /// # Errors
    /// [`Error::Content`] when they do not fit the window or each other.
    pub fn given(
        channels: usize,
        length: usize,
        dilations: Dilations,
        summed: Channels<'a>,
    ) -> Result<Self, Error> {
        let within = |dilation: &Dilation| {
            dilation.step >= 1 && dilation.step.saturating_mul(TAPS - 1) < length
        };
        let known = |summed: &Summed| {
            summed
                .iter()
                .all(|channel| usize::from(*channel) < channels)
        };
        let summed_fits = match summed {
            Channels::Drawn(_) => true,
            Channels::Given(all) => all.len() == dilations.len() * FORMS && all.iter().all(known),
        };
        let channels_fit = (1..=1 << 16).contains(&channels);
        if !summed_fits || !channels_fit || dilations.is_empty() || !dilations.iter().all(within) {
            return Err(Error::Content);
        }
        Ok(Self {
            channels,
            length,
            dilations,
            summed,
        })
    }

    /// Features of a window, and thresholds.
    pub fn features(&self) -> usize {
        let each = self.dilations.iter().map(|dilation| dilation.thresholds);
        FORMS * each.sum::<usize>()
    }

    /// Elements of the space that the transform works in.
    pub fn work_elements(&self) -> usize {
        (self.channels + 1) * self.length
    }

    /// Computes the features `[features]` of the window `values` `[channels, length]` with
    /// `thresholds` `[features]`. `work` `[work_elements]` is the caller's space.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when a slice is too short.
    pub fn compute(
        &self,
        values: &[f32],
        thresholds: &[f32],
        work: &mut [f32],
        features: &mut [f32],
    ) -> Result<(), Error> {
        let need = self.features();
        self.require(values, work)?;
        for have in [thresholds.len(), features.len()] {
            if have < need {
                return Err(Error::NoRoom { need, have });
            }
        }
        let mut place = 0;
        self.each(
            |_| 0,
            |_| values,
            work,
            |response, count| {
                let thresholds = &thresholds[place..place + count];
                for (feature, threshold) in features[place..].iter_mut().zip(thresholds) {
                    let above = response.iter().filter(|value| **value > *threshold).count();
                    *feature = above as f32 / response.len() as f32;
                }
                place += count;
            },
        );
        Ok(())
    }

    /// Finds thresholds `[features]`: for each kernel, quantiles of its response to one of
    /// `count` training windows. `window` gives them, each `[channels, length]`; which one is
    /// drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when a slice is too short, [`Error::Content`] when `count` is 0.
    pub fn fit<'b>(
        &self,
        count: usize,
        window: impl Fn(usize) -> &'b [f32],
        seed: u64,
        work: &mut [f32],
        thresholds: &mut [f32],
    ) -> Result<(), Error> {
        let (need, have) = (self.features(), thresholds.len());
        if have < need {
            return Err(Error::NoRoom { need, have });
        }
        if count == 0 {
            return Err(Error::Content);
        }
        for index in 0..count {
            self.require(window(index), work)?;
        }
        let bound = u32::try_from(count).unwrap_or(u32::MAX);
        let draw = |kernel: usize| {
            let mut random = Random::new(seed.wrapping_add(kernel as u64));
            random.below(bound) as usize
        };
        let mut place = 0;
        self.each(draw, window, work, |response, count| {
            response.sort_unstable_by(f32::total_cmp);
            for threshold in &mut thresholds[place..place + count] {
                place += 1;
                *threshold = quantile(response, fraction(place as f32 * GOLDEN));
            }
        });
        Ok(())
    }

    fn require(&self, values: &[f32], work: &[f32]) -> Result<(), Error> {
        let elements = self.channels * self.length;
        let rooms = [(elements, values.len()), (self.work_elements(), work.len())];
        for (need, have) in rooms {
            if have < need {
                return Err(Error::NoRoom { need, have });
            }
        }
        Ok(())
    }

    /// Gives every kernel's counted responses to `take`, with its number of thresholds.
    /// `which` says which window is for a kernel, `window` gives its values.
    fn each<'b>(
        &self,
        which: impl Fn(usize) -> usize,
        window: impl Fn(usize) -> &'b [f32],
        work: &mut [f32],
        mut take: impl FnMut(&mut [f32], usize),
    ) {
        let (sums, response) = work.split_at_mut(self.channels * self.length);
        let response = &mut response[..self.length];
        for (index, dilation) in self.dilations.iter().enumerate() {
            let mut summed_of = None;
            for (form, places) in PLACES.iter().enumerate() {
                let kernel = index * FORMS + form;
                let number = which(kernel);
                let values = window(number);
                // The sum of all nine values is the same for all forms of one window.
                if summed_of != Some(number) {
                    self.sums(values, dilation.step, sums);
                    summed_of = Some(number);
                }
                response.fill(0.0);
                self.with_summed(kernel, |channel| {
                    let from = channel * self.length..(channel + 1) * self.length;
                    for (sum, value) in response.iter_mut().zip(&sums[from.clone()]) {
                        *sum -= value;
                    }
                    for place in places {
                        let offset = offset(usize::from(*place), dilation.step);
                        add_shifted(&values[from.clone()], offset, 3.0, response);
                    }
                });
                let margin = match (index + form) % 2 {
                    0 => 0,
                    _ => TAPS / 2 * dilation.step,
                };
                take(
                    &mut response[margin..self.length - margin],
                    dilation.thresholds,
                );
            }
        }
    }

    /// The sum of the nine values that a kernel sees, at every place of every channel.
    fn sums(&self, values: &[f32], step: usize, sums: &mut [f32]) {
        let channels = values.chunks_exact(self.length);
        for (values, sums) in channels.zip(sums.chunks_exact_mut(self.length)) {
            sums.fill(0.0);
            for place in 0..TAPS {
                add_shifted(values, offset(place, step), 1.0, sums);
            }
        }
    }

    /// Calls `with` for every channel that a kernel sums.
    fn with_summed(&self, kernel: usize, mut with: impl FnMut(usize)) {
        let drawn;
        let summed = match self.summed {
            Channels::Given(all) => &all[kernel],
            Channels::Drawn(seed) => {
                drawn = draw(self.channels, seed.wrapping_add(kernel as u64));
                &drawn
            }
        };
        summed
            .iter()
            .for_each(|channel| with(usize::from(*channel)));
    }
}

/// Where a weight lies, seen from the kernel's middle.
fn offset(place: usize, step: usize) -> isize {
    (place as isize - (TAPS / 2) as isize) * step as isize
}

/// Adds `factor * values[t + offset]` to every `sums[t]`; outside of the window there are
/// zeros.
fn add_shifted(values: &[f32], offset: isize, factor: f32, sums: &mut [f32]) {
    let away = offset.unsigned_abs().min(values.len());
    let (values, sums) = match offset >= 0 {
        true => (&values[away..], sums),
        false => (values, &mut sums[away..]),
    };
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// One to [`MAX_SUMMED`] of the channels, small numbers as likely as large ones in octaves.
fn draw(channels: usize, seed: u64) -> Summed {
    let mut random = Random::new(seed);
    let most = channels.min(MAX_SUMMED);
    // 2^u with u even from 0 to log2(most + 1), in octaves and evenly within each.
    let mut count = 1;
    while count < most && random.below(2) == 1 {
        count *= 2;
    }
    let count = (count + random.below(count as u32) as usize).min(most);
    let mut summed = Summed::new();
    while summed.len() < count {
        let channel = random.below(channels as u32) as u16;
        if !summed.contains(&channel) {
            // There is room: `count` is at most the capacity.
            let _ = summed.push(channel);
        }
    }
    summed
}

/// The part after the point of a number that is not negative.
fn fraction(number: f32) -> f32 {
    number - (number as u32) as f32
}

/// The value below which so much of the sorted values lies, between two in proportion.
fn quantile(sorted: &[f32], share: f32) -> f32 {
    let place = share * sorted.len().saturating_sub(1) as f32;
    let below = place as usize;
    let value = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let (low, high) = (
        value(below),
        value((below + 1).min(sorted.len().saturating_sub(1))),
    );
    low + (place - below as f32) * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dilations_are_half_octaves_that_fit() {
        let steps = |length: usize| {
            let kernels = RandomKernels::new(1, length, 1000, 0).expect("fits");
            kernels
                .dilations
                .iter()
                .map(|d| d.step)
                .collect::<heapless::Vec<_, 32>>()
        };
        assert_eq!(steps(9), [1]);
        assert_eq!(steps(100), [1, 2, 3, 4, 6, 8, 12]);
        assert_eq!(steps(129).last(), Some(&16));
        assert!(RandomKernels::new(1, 8, 1000, 0).is_err());
        assert!(RandomKernels::new(0, 9, 1000, 0).is_err());
        let kernels = RandomKernels::new(2, 100, 1200, 0).expect("fits");
        assert_eq!(kernels.features(), 84 * 7 * 2);
    }

    #[test]
    fn drawn_channels_are_different_ones_of_those_there_are() {
        let mut seen = [0; MAX_SUMMED + 1];
        for seed in 0..2000 {
            let summed = draw(12, seed);
            seen[summed.len()] += 1;
            assert!(summed.iter().all(|channel| *channel < 12));
            let mut sorted = summed.clone();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]));
            assert_eq!(draw(1, seed), [0]);
        }
        assert!(
            seen[1] > 800 && seen[2..].iter().all(|count| *count > 5),
            "{seen:?}"
        );
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&sorted, 0.0), 1.0);
        assert_eq!(quantile(&sorted, 0.25), 1.5);
        assert_eq!(quantile(&sorted, 0.75), 3.0);
        assert_eq!(quantile(&sorted[..1], 0.9), 1.0);
    }
}
