//! Bulk volume classification.

use std::f64::consts::FRAC_1_SQRT_2;

/// How one-sided the volume of a bar was, by the move it made (Easley, López de Prado and O'Hara 2012): 2Φ(z) − 1, from
/// −1 (all sold) to 1 (all bought), z being the return in standard deviations.
///
/// ```
/// use candlecast_features::volume::bulk_imbalance;
///
/// assert_eq!(bulk_imbalance(0.0), 0.0);
/// assert!((bulk_imbalance(-1.0) + 0.682_689_492_137_086).abs() < 1e-15);
/// ```
#[inline(always)]
pub fn bulk_imbalance(z: f64) -> f64 {
    // Not the C library's: that differs in the last bit from one machine to another.
    libm::erf(z * FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::assert_close;

    #[test]
    fn is_the_integral_of_the_density() {
        // Simpson's rule from 0 to z.
        for z in [0.1, 0.7, 1.3, 2.9, 6.0] {
            let n = 2_000;
            let density = |i: usize| (-0.5 * (z * i as f64 / n as f64).powi(2)).exp() / std::f64::consts::TAU.sqrt();
            let inner: f64 = (1..n).map(|i| density(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
            let half = (density(0) + inner + density(n)) * z / n as f64 / 3.0;
            assert_close(bulk_imbalance(z), 2.0 * half, 1e-12);
            assert_eq!(bulk_imbalance(-z), -bulk_imbalance(z));
        }
    }

    #[test]
    fn is_whole_for_the_wildest_move() {
        assert_eq!(bulk_imbalance(6e6), 1.0);
    }
}
