//! Commodity channel index.

use crate::rolling::{mean, sum_of};

/// `CCI` of a window of typical prices, the newest last: the distance of the newest to the mean, in 0.015 mean absolute deviations
/// about that mean (Lambert 1980, as TA-Lib); 0 when that unit is at most `tiny`.
///
/// ```
/// use candlecast_features::momentum::commodity_channel;
///
/// // Mean 3, mean absolute deviation 2.
/// let index = commodity_channel(&[1.0, 5.0, 1.0, 5.0], 1e-9);
/// assert!((index - 2.0 / (0.015 * 2.0)).abs() < 1e-12);
/// ```
#[inline(always)]
pub fn commodity_channel(typical_prices: &[f64], tiny: f64) -> f64 {
    let m = mean(typical_prices);
    let deviation = sum_of(typical_prices, |tp| (tp - m).abs()) * (1.0 / typical_prices.len() as f64);
    let unit = 0.015 * deviation;
    let newest = typical_prices[typical_prices.len() - 1];
    if unit <= tiny { 0.0 } else { (newest - m) / unit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_lamberts_index_for_many_lengths() {
        let xs = walk(33, 300);
        for n in [2, 5, 20, 60] {
            for window in xs.windows(n) {
                let m = window.iter().sum::<f64>() / n as f64;
                let deviation = window.iter().map(|x| (x - m).abs()).sum::<f64>() / n as f64;
                assert_close(commodity_channel(window, 0.0), (window[n - 1] - m) / (0.015 * deviation), 1e-9);
            }
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(commodity_channel(&[0.1; 20], 1e-10), 0.0);
    }
}
