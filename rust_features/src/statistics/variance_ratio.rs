//! Variance ratio of Lo and MacKinlay.

use super::{Shape, is_drift};
use crate::rolling::sum_of_pairs;

/// Whether a walk of 192 returns is a random walk: (VR(Q) − 1) in its standard error for independent returns. VR is the
/// variance of Q-bar returns over Q times that of one-bar returns, from overlapping pairs, unbiased (Lo and MacKinlay
/// 1988). 0 when the returns have a sample variance of at most 1e-18.
///
/// `squares` is the sum of squared Q-bar increments of the 193 points, `returns` the shape of the 192 returns.
///
/// ```
/// use candlecast_features::statistics::{Shape, variance_ratio};
///
/// // Up and down in turn: nothing is left after two bars.
/// let points: [f64; 193] = std::array::from_fn(|i| 0.01 * (i % 2) as f64);
/// let returns: Vec<f64> = points.windows(2).map(|pair| pair[1] - pair[0]).collect();
/// let z = variance_ratio::<2>(&points, 0.0, &Shape::of(&returns));
/// assert!((z + (192.0_f64).sqrt()).abs() < 1e-9);
/// ```
#[inline(always)]
pub fn variance_ratio<const Q: usize>(points: &[f64; 193], squares: f64, returns: &Shape) -> f64 {
    let (n, q) = (192.0, Q as f64);
    let variance = returns.variance * (n / (n - 1.0));
    if variance <= 1e-18 {
        return 0.0;
    }
    let (drift, pairs) = (q * returns.mean, n - q + 1.0);
    let about_drift = if is_drift(returns.mean, returns.variance) {
        sum_of_pairs(&points[Q..], &points[..193 - Q], |p, before| (p - before - drift) * (p - before - drift))
    } else {
        // The sum of overlapping increments is that of the last Q points less that of the first Q.
        let increments = sum_of_pairs(&points[193 - Q..], &points[..Q], |p, before| p - before);
        squares - drift * (2.0 * increments - pairs * drift)
    };
    let per_bar = about_drift * (1.0 / (q * pairs * (1.0 - q / n)));
    let standard_error = (2.0 * (2.0 * q - 1.0) * (q - 1.0) / (3.0 * q * n)).sqrt();
    (per_bar * (1.0 / variance) - 1.0) * (1.0 / standard_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::log_closes};

    fn check<const Q: usize>(points: &[f64; 193], tolerance: f64) {
        let returns: Vec<f64> = points.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (n, q) = (192.0, Q as f64);
        let mu = returns.iter().sum::<f64>() / n;
        let one = returns.iter().map(|r| (r - mu).powi(2)).sum::<f64>() / (n - 1.0);
        let m = q * (n - q + 1.0) * (1.0 - q / n);
        let of_q = (Q..193).map(|j| (points[j] - points[j - Q] - q * mu).powi(2)).sum::<f64>() / m;
        let expected = (of_q / one - 1.0) / (2.0 * (2.0 * q - 1.0) * (q - 1.0) / (3.0 * q * n)).sqrt();
        let squares = (Q..193).map(|j| (points[j] - points[j - Q]).powi(2)).sum();
        assert_close(variance_ratio::<Q>(points, squares, &Shape::of(&returns)), expected, tolerance);
    }

    #[test]
    fn is_lo_and_mackinlays_for_many_lengths() {
        for points in log_closes(91, 400).windows(193) {
            let points = points.try_into().unwrap();
            check::<2>(points, 1e-11);
            check::<4>(points, 1e-11);
            check::<16>(points, 1e-11);
            check::<32>(points, 1e-11);
            let drifting = std::array::from_fn(|i| points[i] * 0.01 + i as f64 * 0.1);
            check::<4>(&drifting, 1e-8);
            check::<16>(&drifting, 1e-8);
        }
    }

    #[test]
    fn a_flat_market_has_no_ratio() {
        assert_eq!(variance_ratio::<4>(&[1.0; 193], 0.0, &Shape::of(&[0.0; 192])), 0.0);
        assert_eq!(variance_ratio::<4>(&[1.0; 193], 0.0, &Shape::of(&[0.1; 192])), 0.0);
    }
}
