//! Fractal dimension of a range.

use std::f64::consts::SQRT_2;

/// Ehlers' fractal dimension (2005, of FRAMA) is D = log₂(2(N1 + N2)/N3), N1 and N2 the ranges of the two halves of a
/// window and N3 its own: 1 on a straight line, 2 where each half spans the whole. This is 2^(D − 1½); 1 when N1 + N2
/// or N3 is at most `tiny`.
///
/// ```
/// use candlecast_features::statistics::folds_of_dimension;
///
/// let dimension = |n1, n2, n3| folds_of_dimension(n1, n2, n3, 1e-9).log2() + 1.5;
/// assert!((dimension(1.0, 1.0, 2.0) - 1.0).abs() < 1e-12);
/// assert!((dimension(2.0, 2.0, 2.0) - 2.0).abs() < 1e-12);
/// assert_eq!(dimension(0.0, 0.0, 0.0), 1.5);
/// ```
#[inline(always)]
pub fn folds_of_dimension(n1: f64, n2: f64, n3: f64, tiny: f64) -> f64 {
    if n1 + n2 <= tiny || n3 <= tiny { 1.0 } else { (n1 + n2) / (n3 * SQRT_2) }
}
