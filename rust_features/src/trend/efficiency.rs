//! Kaufman's efficiency ratio.

use crate::rolling::path;

/// `ER` of a window of values: how far it came over how far it went (Kaufman 1995), 0..1. n + 1 values make n changes. 0 when the
/// path is at most `tiny`.
///
/// ```
/// assert_eq!(candlecast_features::trend::efficiency(&[1.0, 4.0, 3.0], 1e-9), 0.5);
/// ```
#[inline(always)]
pub fn efficiency(xs: &[f64], tiny: f64) -> f64 {
    let path = path(xs);
    if path <= tiny { 0.0 } else { (xs[xs.len() - 1] - xs[0]).abs() / path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_kaufmans_ratio_for_many_lengths() {
        let xs = walk(73, 200);
        for n in [1, 2, 10, 48, 100] {
            for window in xs.windows(n + 1) {
                let path: f64 = window.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
                assert_close(efficiency(window, 0.0), (window[n] - window[0]).abs() / path, 1e-12);
            }
        }
    }

    #[test]
    fn a_straight_way_is_efficient_and_a_flat_market_is_not() {
        assert_eq!(efficiency(&[5.0, 4.0, 2.0, 1.0], 1e-9), 1.0);
        assert_eq!(efficiency(&[7.0; 11], 7e-9), 0.0);
    }
}
