//! Hurst exponent of a walk.

use super::LAGS;

/// Hurst's H is the slope of ½ln D on ln k over k in [`LAGS`], D the mean squared increment over k bars (Mandelbrot and
/// van Ness 1968), at least 1e-18. This is e^(70·ln 2·(H − ½)): one logarithm instead of six. 1, a random walk, when D
/// over one bar is at most 1e-18. Input: the sums of squared increments inside 193 points.
///
/// ```
/// use candlecast_features::statistics::{LAGS, scaling_of_increments};
///
/// // A random walk: D grows as k. A straight line, H = 1: as k².
/// assert!((scaling_of_increments(LAGS.map(|k| ((193 - k) * k) as f64)) - 1.0).abs() < 1e-12);
/// let line = scaling_of_increments(LAGS.map(|k| ((193 - k) * k * k) as f64));
/// assert!((line.ln() / (70.0 * 2.0_f64.ln()) - 0.5).abs() < 1e-12);
/// ```
#[inline(always)]
pub fn scaling_of_increments(sums: [f64; 6]) -> f64 {
    let pairs = LAGS.map(|k| 1.0 / (193 - k) as f64);
    let means: [f64; 6] = std::array::from_fn(|i| (sums[i] * pairs[i]).max(1e-18));
    if means[0] <= 1e-18 {
        return 1.0;
    }
    // The lags are powers of two: the weights of the slope are −5, −3, −1, 1, 3, 5 over 70·ln 2 (with the ½), and a
    // random walk has 2^35 here.
    let fifth = |x: f64| (x * x) * (x * x) * x;
    let [a, b, c, d, e, f] = means;
    const WALK: f64 = (1_u64 << 35) as f64;
    fifth(f) * (e * e * e) * d / (fifth(a) * (b * b * b) * c * WALK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::log_closes};

    #[test]
    fn is_the_slope_of_the_regression() {
        let points = log_closes(90, 600);
        for points in points.windows(193) {
            let sums = LAGS.map(|k| (k..193).map(|i| (points[i] - points[i - k]).powi(2)).sum::<f64>());
            let ys: Vec<f64> = sums.iter().zip(LAGS).map(|(sum, k)| 0.5 * (sum / (193 - k) as f64).ln()).collect();
            let xs = LAGS.map(|k| (k as f64).ln());
            let (x_mean, y_mean) = (xs.iter().sum::<f64>() / 6.0, ys.iter().sum::<f64>() / 6.0);
            let slope = xs.iter().zip(&ys).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>()
                / xs.iter().map(|x| (x - x_mean).powi(2)).sum::<f64>();
            let exponent = 0.5 + scaling_of_increments(sums).ln() / (70.0 * 2.0_f64.ln());
            assert_close(exponent, slope, 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_a_random_walk() {
        assert_eq!(scaling_of_increments([0.0; 6]), 1.0);
        // Normal numbers at both ends of what prices allow.
        let ends = [[1e-16; 6], [4e3 * 192.0; 6], [1e-15, 1e-15, 1e-15, 1e6, 1e6, 1e6], [1e6, 1e6, 1e6, 0.0, 0.0, 0.0]];
        assert!(ends.iter().all(|sums| scaling_of_increments(*sums).is_normal()));
    }
}
