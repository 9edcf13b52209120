//! Awesome oscillator.

use crate::rolling::sum;

/// `AO` = SMA(x, 5) − SMA(x, 34) of the newest 34 middles of bars, oldest first (Williams 1998).
///
/// ```
/// use candlecast_features::momentum::awesome;
///
/// // On a straight line the two averages are 29/2 bars apart.
/// assert_eq!(awesome(&std::array::from_fn(|i| i as f64)), 14.5);
/// ```
#[inline(always)]
pub fn awesome(middles: &[f64; 34]) -> f64 {
    let sum_5 = sum(&middles[29..]);
    sum_5 * (1.0 / 5.0) - (sum_5 + sum(&middles[..29])) * (1.0 / 34.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_difference_of_the_plain_means() {
        for window in walk(40, 200).windows(34) {
            let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
            assert_close(awesome(window.try_into().unwrap()), mean(&window[29..]) - mean(window), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(awesome(&[7.0; 34]), 0.0);
    }
}
