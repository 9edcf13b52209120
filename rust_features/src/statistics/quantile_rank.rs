//! Where a value stands among others.

/// `PRANK`: the place of `x` among `xs`, of which it is one, from −1 (the least) to 1 (the greatest); a tie within
/// `tolerance` counts half. That is how many more are below it than above, of all others.
///
/// ```
/// use candlecast_features::statistics::quantile_rank;
///
/// assert_eq!(quantile_rank(&[1.0, 2.0, 3.0, 4.0, 5.0], 4.0, 0.0), 0.5);
/// assert_eq!(quantile_rank(&[1.0, 4.0, 4.0], 4.0, 0.0), 0.5);
/// ```
#[inline(always)]
pub fn quantile_rank(xs: &[f64], x: f64, tolerance: f64) -> f64 {
    lead(xs, x, tolerance) * (1.0 / (xs.len() - 1) as f64)
}

/// How many of `xs` are below `x` minus how many are above it, by more than `tolerance`.
///
/// ```
/// assert_eq!(candlecast_features::statistics::lead(&[1.0, 2.0, 5.0], 4.0, 0.0), 1.0);
/// ```
#[inline(always)]
pub fn lead(xs: &[f64], x: f64, tolerance: f64) -> f64 {
    let (low, high) = (x - tolerance, x + tolerance);
    // Integers: their order is free, so they are compared and counted several at a time.
    xs.iter().map(|y| i64::from(*y < low) - i64::from(*y > high)).sum::<i64>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{assert_close, ticks},
        statistics::samples::tied_returns,
    };

    #[test]
    fn counts_ties_half_for_many_lengths() {
        for xs in [ticks(97, 300), tied_returns(98, 300)] {
            for n in [2, 5, 96, 192] {
                for window in xs.windows(n) {
                    let x = window[n - 1];
                    let below = window.iter().filter(|y| **y < x - 1e-12).count() as f64;
                    let ties = window.iter().filter(|y| (**y - x).abs() <= 1e-12).count() as f64;
                    let expected = 2.0 * (below + 0.5 * (ties - 1.0)) / (n - 1) as f64 - 1.0;
                    assert_close(quantile_rank(window, x, 1e-12), expected, 1e-13);
                }
            }
        }
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(quantile_rank(&[0.1; 192], 0.1, 0.0), 0.0);
    }
}
