//! Linearly weighted moving average.

use crate::rolling::joined;

/// `WMA` of a window: weights 1 (oldest) to n (newest), as TA-Lib.
///
/// Taken as the newest value plus the weighted mean of the distances to it, so that a flat window gives its value exactly.
///
/// ```
/// assert_eq!(candlecast_features::average::weighted_mean(&[3.0, 6.0]), 5.0);
/// ```
#[inline(always)]
pub fn weighted_mean(xs: &[f64]) -> f64 {
    let n = xs.len();
    let anchor = xs[n - 1];
    let (chunks, rest) = xs.as_chunks::<8>();
    let mut weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for i in 0..8 {
            lanes[i] += weights[i] * (chunk[i] - anchor);
            weights[i] += 8.0;
        }
    }
    let mut total = joined(lanes);
    for (weight, x) in weights.iter().zip(rest) {
        total += weight * (x - anchor);
    }
    anchor + total * (1.0 / (n * (n + 1) / 2) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_plain_weighted_mean_for_every_length() {
        let xs = walk(13, 100);
        for n in 1..=60 {
            let window = &xs[100 - n..];
            let plain: f64 = window.iter().enumerate().map(|(i, x)| (i + 1) as f64 * x).sum();
            assert_close(weighted_mean(window), plain / (n * (n + 1) / 2) as f64, 1e-12);
        }
    }

    #[test]
    fn a_flat_window_has_its_value_exactly() {
        assert_eq!(weighted_mean(&[0.1; 60]), 0.1);
    }
}
