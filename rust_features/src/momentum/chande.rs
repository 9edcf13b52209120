//! Chande momentum oscillator.

use crate::rolling::path;

/// `CMO` of a window of values: (U − D)/(U + D), U and D the sums of its rises and falls (Chande 1994: plain sums; TA-Lib's are
/// Wilder smoothed). n + 1 values make n changes. 0 when U + D is at most `tiny`.
///
/// ```
/// assert_eq!(candlecast_features::momentum::chande(&[1.0, 4.0, 3.0], 1e-9), 0.5);
/// ```
#[inline(always)]
pub fn chande(xs: &[f64], tiny: f64) -> f64 {
    // U + D is the path walked, U − D what is left of it.
    let path = path(xs);
    if path <= tiny { 0.0 } else { (xs[xs.len() - 1] - xs[0]) / path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_chandes_ratio_for_many_lengths() {
        let xs = walk(34, 300);
        for n in [2, 5, 20, 100] {
            for window in xs.windows(n + 1) {
                let sum = |sign: f64| window.windows(2).map(|p| (sign * (p[1] - p[0])).max(0.0)).sum::<f64>();
                let (up, down) = (sum(1.0), sum(-1.0));
                assert_close(chande(window, 0.0), (up - down) / (up + down), 1e-10);
            }
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(chande(&[7.0; 21], 7e-9), 0.0);
    }
}
