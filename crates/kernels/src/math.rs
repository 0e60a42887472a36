//! Square root, exp and ln in plain f32 arithmetic: the same bits on every CPU,
//! which the platforms' own libraries do not promise.

/// The square root, rounded correctly. NaN for negative numbers.
#[inline]
pub fn sqrt(x: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_mm_cvtss_f32, _mm_set_ss, _mm_sqrt_ss};
        // SAFETY: SSE belongs to every x86-64 CPU.
        unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))) }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use core::arch::aarch64::{vdup_n_f32, vget_lane_f32, vsqrt_f32};
        // SAFETY: NEON belongs to every aarch64 CPU.
        unsafe { vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(x))) }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        sqrt_by_integers(x)
    }
}

/// The square root through an integer root: for CPUs whose root instruction
/// stable Rust cannot reach without the standard library.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn sqrt_by_integers(x: f32) -> f32 {
    if x == 0.0 || x.is_nan() || x == f32::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f32::NAN;
    }
    // x = mantissa * 2^exponent with an even exponent and 48 to 50 bits of
    // mantissa, so that the integer root has 24 or 25 bits and is exact to one.
    let bits = x.to_bits();
    let (mut exponent, mut mantissa) = ((bits >> 23) as i32 - 150, u64::from(bits & 0x007f_ffff));
    if bits >> 23 == 0 {
        exponent += 1;
    } else {
        mantissa |= 1 << 23;
    }
    let mut shift = mantissa.leading_zeros() as i32 - 14;
    if (exponent - shift) % 2 != 0 {
        shift -= 1;
    }
    mantissa <<= shift;
    exponent -= shift;
    let root = mantissa.isqrt();
    // Doubled and made odd where a remainder is left: the conversion to f32 then
    // rounds to nearest as the exact root would be.
    let sticky = root * 2 + u64::from(root * root != mantissa);
    let half = exponent / 2 - 1;
    sticky as f32 * power_of_two(half)
}

/// 2^n for n from -126 to 127.
#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// e^x. Within 2 units in the last place; 0 below -87.33 (no subnormals), infinity
/// above 88.72.
///
/// Method: x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts (Cody and
/// Waite), then the Taylor polynomial of degree 7 in r.
#[inline]
pub fn exp(x: f32) -> f32 {
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    if x.is_nan() {
        return x;
    }
    if x < -87.33 {
        return 0.0;
    }
    if x > 88.722_83 {
        return f32::INFINITY;
    }
    let n = (x * core::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + coefficient;
    }
    // 2^128 does not exist; two factors reach it.
    let n = n as i32;
    sum * power_of_two(n / 2) * power_of_two(n - n / 2)
}

/// The natural logarithm. Within 2 units in the last place; minus infinity at 0,
/// NaN below.
///
/// Method: x = 2^n f with f in [sqrt(1/2), sqrt(2)), ln f = 2 artanh(s) with
/// s = (f - 1) / (f + 1), by the odd series to s^9.
#[inline]
pub fn ln(x: f32) -> f32 {
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    if x.is_nan() || x == f32::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    let (x, offset) = if x < f32::MIN_POSITIVE {
        (x * 8_388_608.0, -23)
    } else {
        (x, 0)
    };
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let n = ((bits as i32) >> 23) + offset;
    let f = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let series = z * (0.666_666_7 + z * (0.4 + z * (0.285_714_3 + z * 0.222_222_2)));
    // f - s (f - series) keeps the large term f exact.
    let n = n as f32;
    n * HIGH + (f - (s * (f - series) - n * LOW))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    /// Miri, which takes a second for what takes a microsecond, tries one in so many.
    const STEP: usize = if cfg!(miri) { 20_011 } else { 1 };

    /// Distance in units of the last place of the correct value.
    fn units(value: f32, truth: f64) -> f64 {
        let near = truth as f32;
        let unit = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        ((f64::from(value) - truth) / unit).abs()
    }

    #[test]
    fn exp_stays_within_two_units() {
        let mut worst = 0.0f64;
        for i in (-87_000..88_700).step_by(STEP) {
            let x = i as f32 * 0.001;
            worst = worst.max(units(exp(x), f64::from(x).exp()));
        }
        assert!(worst <= 2.0, "{worst}");
        assert_eq!(
            (exp(0.0), exp(-100.0), exp(89.0)),
            (1.0, 0.0, f32::INFINITY)
        );
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn ln_stays_within_two_units() {
        let mut worst = 0.0f64;
        for i in (1..2_000_000u32).step_by(STEP) {
            let x = f32::from_bits(i * 1060);
            worst = worst.max(units(ln(x), f64::from(x).ln()));
        }
        assert!(worst <= 2.0, "{worst}");
        assert_eq!(
            (ln(1.0), ln(0.0), ln(f32::INFINITY)),
            (0.0, f32::NEG_INFINITY, f32::INFINITY)
        );
        assert!(ln(-1.0).is_nan());
    }

    #[test]
    fn both_square_roots_round_correctly() {
        for i in (0..2_130_000u32).step_by(STEP) {
            let x = f32::from_bits(i * 1000 + i % 7);
            assert_eq!(sqrt(x).to_bits(), x.sqrt().to_bits(), "{x}");
            assert_eq!(sqrt_by_integers(x).to_bits(), x.sqrt().to_bits(), "{x}");
        }
        for x in [
            0.0,
            1.0,
            4.0,
            f32::MIN_POSITIVE,
            1e-45,
            f32::MAX,
            f32::INFINITY,
        ] {
            assert_eq!(sqrt_by_integers(x), x.sqrt());
        }
        assert!(sqrt(-1.0).is_nan() && sqrt_by_integers(-1.0).is_nan());
    }
}
