//! From a window of a sensor's values to features: what a backbone is for pictures, small
//! enough for a microcontroller. Motion, current, vibration: any few channels sampled at a
//! steady rate.
//!
//! For each channel: the mean, the effective value (RMS) of what is left when the mean is
//! taken off, and the mean amplitude in bands of equal width of its spectrum. Plain f32
//! arithmetic in a fixed order, so the same values everywhere.

use crate::Error;
use core::fmt;
use fieldtune_kernels::sqrt;
use microfft::real;

/// The most channels of a window.
pub const MAX_CHANNELS: usize = 16;
/// The bands that a spectrum is cut into; half as many for windows of 16 values.
const BANDS: usize = 16;
/// Features of a channel beside its bands.
const PLAIN: usize = 2;

/// The shape of a window: `[channels, length]` values, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Channels, such as 3 for the axes of an accelerometer.
    pub channels: usize,
    /// Values of each channel: a power of two from 16 to 512.
    pub length: usize,
}

impl Window {
    /// A shape that can be computed.
    ///
    /// # Errors
    /// [`Error::Content`] for other numbers of channels or values.
    pub fn new(channels: usize, length: usize) -> Result<Self, Error> {
        let length_fits = length.is_power_of_two() && (16..=512).contains(&length);
        if length_fits && (1..=MAX_CHANNELS).contains(&channels) {
            Ok(Self { channels, length })
        } else {
            Err(Error::Content)
        }
    }

    /// The shape that a head file's preprocessing names: what [`Display`](fmt::Display)
    /// writes. `None` for features of a backbone.
    pub fn from_preprocessing(text: &str) -> Option<Self> {
        let (channels, length) = text.strip_prefix(PREFIX)?.split_once('x')?;
        Self::new(channels.parse().ok()?, length.parse().ok()?).ok()
    }

    /// Values in a window.
    pub fn elements(&self) -> usize {
        self.channels * self.length
    }

    fn bands(&self) -> usize {
        BANDS.min(self.length / 2)
    }

    /// F, features of a window.
    pub fn features(&self) -> usize {
        self.channels * (PLAIN + self.bands())
    }

    /// Computes the features `[F]` of the values `[channels, length]`. `work` `[length]` is
    /// the caller's space.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when a slice is too short.
    pub fn compute(
        &self,
        values: impl Fn(usize) -> f32,
        work: &mut [f32],
        features: &mut [f32],
    ) -> Result<(), Error> {
        for (need, have) in [(self.length, work.len()), (self.features(), features.len())] {
            if have < need {
                return Err(Error::NoRoom { need, have });
            }
        }
        let work = &mut work[..self.length];
        let rows = features.chunks_exact_mut(PLAIN + self.bands());
        for (channel, row) in rows.enumerate().take(self.channels) {
            for (index, value) in work.iter_mut().enumerate() {
                *value = values(channel * self.length + index);
            }
            self.channel(work, row);
        }
        Ok(())
    }

    /// The features of one channel, whose values are spent.
    fn channel(&self, values: &mut [f32], features: &mut [f32]) {
        let share = 1.0 / self.length as f32;
        let mean = values.iter().sum::<f32>() * share;
        let mut square = 0.0;
        for value in values.iter_mut() {
            *value -= mean;
            square += *value * *value;
        }
        features[0] = mean;
        features[1] = sqrt(square * share);
        transform(values);
        // The amplitude of a sine is twice its coefficient; the pair at 0 holds the mean,
        // which is gone, and the coefficient of half the sampling rate.
        values[..2].fill(0.0);
        let pairs = self.length / 2 / self.bands();
        let scale = 2.0 * share / pairs as f32;
        for (band, pairs) in features[PLAIN..]
            .iter_mut()
            .zip(values.chunks_exact(2 * pairs))
        {
            let amplitudes = pairs
                .chunks_exact(2)
                .map(|pair| sqrt(pair[0] * pair[0] + pair[1] * pair[1]));
            *band = scale * amplitudes.sum::<f32>();
        }
    }
}

/// How the preprocessing of a window's head begins; the 1 is the version of what
/// [`Window::compute`] does.
const PREFIX: &str = "sensor window 1, ";

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}x{}", self.channels, self.length)
    }
}

/// The Fourier transform of real values, in place: pairs of real and imaginary parts.
fn transform(values: &mut [f32]) {
    macro_rules! sizes {
        ($($size:literal $function:ident),*) => {
            match values.len() {
                $($size => if let Ok(values) = <&mut [f32; $size]>::try_from(values) {
                    let spectrum: [_; $size / 2] = *real::$function(values);
                    for (pair, value) in values.chunks_exact_mut(2).zip(spectrum) {
                        pair.copy_from_slice(&[value.re, value.im]);
                    }
                },)*
                _ => {}
            }
        };
    }
    sizes!(16 rfft_16, 32 rfft_32, 64 rfft_64, 128 rfft_128, 256 rfft_256, 512 rfft_512);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_shows_in_its_band_at_its_amplitude() {
        let window = Window::new(2, 128).expect("a sound shape");
        let turn = |step: f32| libm::sinf(2.0 * core::f32::consts::PI * step / 128.0);
        // Channel 0 is a constant, channel 1 a sine of amplitude 3 around 5, at the 10th
        // of 64 frequencies: bands hold 4 each.
        let value = |index: usize| match index {
            0..128 => -2.0,
            _ => 5.0 + 3.0 * turn(10.0 * (index - 128) as f32),
        };
        let (mut work, mut features) = ([0.0; 128], [9.0; 36]);
        window
            .compute(value, &mut work, &mut features)
            .expect("room");
        assert_eq!((features[0], window.features()), (-2.0, 36));
        assert!(features[1..18].iter().all(|value| value.abs() < 1e-5));
        let sine = &features[18..];
        assert!((sine[0] - 5.0).abs() < 1e-5, "{sine:?}");
        assert!((sine[1] - 3.0 / sqrt(2.0)).abs() < 1e-4, "{sine:?}");
        assert!((sine[2 + 2] - 3.0 / 4.0).abs() < 1e-4, "{sine:?}");
        let others = sine[2..].iter().enumerate().filter(|(band, _)| *band != 2);
        assert!(others.map(|(_, value)| *value).all(|value| value < 1e-4));
    }

    #[test]
    fn the_shape_is_known_by_its_name() {
        for (channels, length) in [(1, 16), (3, 128), (16, 512)] {
            let window = Window::new(channels, length).expect("a sound shape");
            let mut text = heapless::String::<64>::new();
            fmt::Write::write_fmt(&mut text, format_args!("{window}")).expect("short");
            assert_eq!(Window::from_preprocessing(&text), Some(window));
        }
        for other in ["none", "sensor window 1, 3x100", "sensor window 2, 3x128"] {
            assert_eq!(Window::from_preprocessing(other), None);
        }
        assert!(Window::new(0, 64).is_err() && Window::new(17, 64).is_err());
    }
}
