//! Relative vigor index.

use crate::rolling::sum_of_pairs;

/// Weights of 13 values, oldest first, in the sum of 10 smoothed ones, times 6.
const WEIGHTS: [f64; 13] = [1., 3., 5., 6., 6., 6., 6., 6., 6., 6., 5., 3., 1.];

/// `RVGI(10)`: SMA of the smoothed bodies over SMA of the smoothed ranges, smoothed = (x + 2x₁ + 2x₂ + x₃)/6 (Ehlers 2002); 0 when
/// the denominator is at most `tiny`. Bodies (c − o) and ranges (h − l) of the newest 13 bars, oldest first.
///
/// ```
/// assert_eq!(candlecast_features::momentum::vigor(&[1.0; 13], &[2.0; 13], 1e-9), 0.5);
/// ```
#[inline(always)]
pub fn vigor(bodies: &[f64; 13], ranges: &[f64; 13], tiny: f64) -> f64 {
    let body = sum_of_pairs(bodies, &WEIGHTS, |x, weight| x * weight);
    let range = sum_of_pairs(ranges, &WEIGHTS, |x, weight| x * weight);
    if range <= 60.0 * tiny { 0.0 } else { body / range }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_ehlers_ratio() {
        let bodies: Vec<f64> = walk(38, 200).iter().map(|c| c - 100.0).collect();
        for (bodies, ranges) in bodies.windows(13).zip(walk(39, 200).windows(13)) {
            let fir = |xs: &[f64]| (xs[3] + 2.0 * xs[2] + 2.0 * xs[1] + xs[0]) / 6.0;
            let sum = |xs: &[f64]| xs.windows(4).map(fir).sum::<f64>();
            let value = vigor(bodies.try_into().unwrap(), ranges.try_into().unwrap(), 1e-9);
            assert_close(value, sum(bodies) / sum(ranges), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(vigor(&[0.0; 13], &[0.0; 13], 1e-9), 0.0);
    }
}
