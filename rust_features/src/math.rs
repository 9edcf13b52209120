//! Numbers, the same on every machine: the C library's logarithms differ in the last bit from one to another. Several at a time.

/// The larger of two numbers; the second, if one is NaN. One instruction, where [`f64::max`] takes three.
#[inline(always)]
pub fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The smaller of two numbers, as [`larger`].
#[inline(always)]
pub fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The array of `of(0)`, `of(1)`, … As [`std::array::from_fn`], but always a part of the function that asks for it: else what is
/// compiled for wide registers would call what is not.
#[inline(always)]
pub fn each<const N: usize>(of: impl Fn(usize) -> f64) -> [f64; N] {
    let mut values = [0.0; N];
    for (i, value) in values.iter_mut().enumerate() {
        *value = of(i);
    }
    values
}

/// Natural logarithms of positive, normal, finite numbers.
///
/// The method of FreeBSD's `log` (Ng 1993: reduce to [√½, √2), then a polynomial in s = f/(2 + f)), without branches, so that the
/// compiler takes four at once. Error below 1 ulp; `ln(1)` is exactly 0.
///
/// ```
/// assert_eq!(candlecast_features::math::ln([1.0, 8.0]), [0.0, 8.0_f64.ln()]);
/// ```
#[inline(always)]
pub fn ln<const N: usize>(xs: [f64; N]) -> [f64; N] {
    let mut logarithms = [0.0; N];
    for i in 0..N {
        logarithms[i] = ln_of(xs[i]);
    }
    logarithms
}

/// The natural logarithm of one number, as [`ln`].
#[allow(clippy::excessive_precision, reason = "the digits of the source")]
#[inline(always)]
pub fn ln_of(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_471_803_691_238_164_90e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_700_02e-10;
    const L1: f64 = 6.666_666_666_666_735_130e-1;
    const L2: f64 = 3.999_999_999_940_941_908e-1;
    const L3: f64 = 2.857_142_874_366_239_149e-1;
    const L4: f64 = 2.222_219_843_214_978_396e-1;
    const L5: f64 = 1.818_357_216_161_805_012e-1;
    const L6: f64 = 1.531_383_769_920_937_332e-1;
    const L7: f64 = 1.479_819_860_511_658_591e-1;
    debug_assert!(x.is_normal() && x > 0.0, "{x} has no logarithm here");
    // Move the mantissa into [√½, √2) by counting the exponent from √½ on.
    let from_root_half = x.to_bits().wrapping_add(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd);
    let biased = from_root_half >> 52;
    let mantissa = f64::from_bits((from_root_half & 0x000f_ffff_ffff_ffff) + 0x3fe6_a09e_667f_3bcd);
    // An integer below 2^52 becomes a float by lending it an exponent.
    let k = f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 1_023.0);
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (L2 + w * (L4 + w * L6));
    let odd = z * (L1 + w * (L3 + w * (L5 + w * L7)));
    let half_square = 0.5 * f * f;
    s * (half_square + even + odd) + k * LN2_LOW - half_square + f + k * LN2_HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Dice;

    #[test]
    fn is_the_logarithm_to_the_last_bit_or_two() {
        let mut dice = Dice::new(50);
        for i in 0..200_000 {
            // Every exponent, and many numbers near 1, where a careless method loses digits.
            let x = if i % 2 == 0 {
                1.0 + 1e-3 * (dice.unit() - 0.5)
            } else {
                (1.0 + dice.unit()) * 2.0_f64.powi((dice.below(2_000) as i32) - 1_000)
            };
            let (actual, expected) = (ln_of(x), x.ln());
            let ulp = f64::from_bits(expected.abs().to_bits() + 1) - expected.abs();
            assert!((actual - expected).abs() <= 2.0 * ulp, "ln({x:e}) = {actual:e}, not {expected:e}");
        }
    }

    #[test]
    fn is_nothing_at_one_and_falls_below() {
        assert_eq!(ln([1.0, f64::from_bits(1.0_f64.to_bits() - 1)]), [0.0, -f64::EPSILON / 2.0]);
    }
}
