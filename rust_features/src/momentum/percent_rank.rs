//! How many of the past values a value exceeds.

use crate::statistics::lead;

/// Percent of `past` below `x`; a tie within `tolerance` counts half.
///
/// ```
/// assert_eq!(candlecast_features::momentum::percent_rank(&[1.0, 2.0, 3.0, 4.0], 3.0, 1e-12), 62.5);
/// ```
#[inline(always)]
pub fn percent_rank(past: &[f64], x: f64, tolerance: f64) -> f64 {
    50.0 + lead(past, x, tolerance) * (50.0 / past.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::ticks;

    #[test]
    fn counts_ties_half_for_many_lengths() {
        let xs = ticks(36, 300);
        for n in [1, 5, 100] {
            for window in xs.windows(n + 1) {
                let (x, past) = (window[n], &window[..n]);
                let below = past.iter().filter(|y| **y < x).count() as f64;
                let ties = past.iter().filter(|y| **y == x).count() as f64;
                let expected = 100.0 * (below + 0.5 * ties) / n as f64;
                assert!((percent_rank(past, x, 1e-12) - expected).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(percent_rank(&[0.0; 100], 0.0, 1e-12), 50.0);
    }
}
