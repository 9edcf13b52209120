//! Standard deviations of a window.

use crate::rolling::{mean, sum_of};

/// `SD`: sample standard deviation (ddof 1).
///
/// Two passes, so a deviation of a billionth of the level is still right; a flat window gives (nearly) exactly 0.
///
/// ```
/// assert_eq!(candlecast_features::volatility::sample_deviation(&[1.0, 3.0, 5.0]), 2.0);
/// ```
#[inline(always)]
pub fn sample_deviation(xs: &[f64]) -> f64 {
    (squares_about_mean(xs) / (xs.len() - 1) as f64).sqrt()
}

/// `PSD`: population standard deviation (ddof 0).
///
/// ```
/// assert_eq!(candlecast_features::volatility::population_deviation(&[1.0, 3.0]), 1.0);
/// ```
#[inline(always)]
pub fn population_deviation(xs: &[f64]) -> f64 {
    (squares_about_mean(xs) / xs.len() as f64).sqrt()
}

#[inline(always)]
fn squares_about_mean(xs: &[f64]) -> f64 {
    let m = mean(xs);
    sum_of(xs, |x| (x - m) * (x - m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    /// Half the mean squared difference of all pairs: no mean, no cancellation.
    fn naive_variance(xs: &[f64]) -> f64 {
        let n = xs.len() as f64;
        let pairs = xs.iter().flat_map(|a| xs.iter().map(move |b| (a - b) * (a - b)));
        pairs.sum::<f64>() / (2.0 * n * (n - 1.0))
    }

    #[test]
    fn are_the_plain_deviations_for_many_lengths() {
        let xs = walk(20, 300);
        for n in [2, 5, 20, 96, 192] {
            let window = &xs[300 - n..];
            let variance = naive_variance(window);
            assert_close(sample_deviation(window), variance.sqrt(), 1e-12);
            assert_close(population_deviation(window), (variance * (n as f64 - 1.0) / n as f64).sqrt(), 1e-12);
        }
    }

    #[test]
    fn survive_a_level_a_billion_times_the_deviation() {
        let xs: Vec<f64> = walk(21, 96).iter().map(|x| 1e6 + 1e-5 * x).collect();
        let small: Vec<f64> = xs.iter().map(|x| x - 1e6).collect();
        let expected = naive_variance(&small).sqrt();
        assert!((sample_deviation(&xs) / expected - 1.0).abs() < 1e-6);
    }

    #[test]
    fn are_nothing_in_a_flat_market() {
        assert!(sample_deviation(&[0.1; 96]) < 1e-16);
    }
}
