//! Standard deviations of a window.

use crate::rolling::joined;

/// `SD`: sample standard deviation (ddof 1).
///
/// Taken about the newest value, so a deviation of a billionth of the level is still right; a flat window gives exactly 0.
///
/// ```
/// assert_eq!(candlecast_features::volatility::sample_deviation(&[1.0, 3.0, 5.0]), 2.0);
/// ```
#[inline(always)]
pub fn sample_deviation(xs: &[f64]) -> f64 {
    mean_and_sample_deviation(xs).1
}

/// `SMA` and `SD` of the same window, as [`sample_deviation`], in one pass.
///
/// ```
/// assert_eq!(candlecast_features::volatility::mean_and_sample_deviation(&[1.0, 3.0, 5.0]), (3.0, 2.0));
/// ```
#[inline(always)]
pub fn mean_and_sample_deviation(xs: &[f64]) -> (f64, f64) {
    let (mean, squares) = mean_and_squares_about_it(xs);
    (mean, (squares * (1.0 / (xs.len() - 1) as f64)).sqrt())
}

/// `PSD`: population standard deviation (ddof 0), as [`sample_deviation`].
///
/// ```
/// assert_eq!(candlecast_features::volatility::population_deviation(&[1.0, 3.0]), 1.0);
/// ```
#[inline(always)]
pub fn population_deviation(xs: &[f64]) -> f64 {
    let (_, squares) = mean_and_squares_about_it(xs);
    (squares * (1.0 / xs.len() as f64)).sqrt()
}

/// One pass about a value of the window. Of the squares about it at least one part in n is about the mean, so the difference below
/// loses no more than the digits of n, wherever that value lies: it is never negative, and nothing like the raw power sums.
#[inline(always)]
fn mean_and_squares_about_it(xs: &[f64]) -> (f64, f64) {
    let (n, anchor) = (xs.len() as f64, xs[xs.len() - 1]);
    let (chunks, rest) = xs.as_chunks::<8>();
    let (mut sums, mut squares) = ([0.0; 8], [0.0; 8]);
    for chunk in chunks {
        for i in 0..8 {
            let off = chunk[i] - anchor;
            sums[i] += off;
            squares[i] += off * off;
        }
    }
    for (i, x) in rest.iter().enumerate() {
        let off = x - anchor;
        sums[i] += off;
        squares[i] += off * off;
    }
    let off = joined(sums) * (1.0 / n);
    (anchor + off, joined(squares) - n * off * off)
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
            assert_close(mean_and_sample_deviation(window).0, window.iter().sum::<f64>() / n as f64, 1e-12);
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
    fn survive_a_newest_value_far_off() {
        for huge in [1e12, -1e12] {
            let mut xs = walk(22, 96);
            xs[95] = huge;
            let expected = naive_variance(&xs).sqrt();
            assert!((sample_deviation(&xs) / expected - 1.0).abs() < 1e-13);
        }
    }

    #[test]
    fn are_nothing_in_a_flat_market() {
        assert_eq!((sample_deviation(&[0.1; 96]), population_deviation(&[0.1; 10])), (0.0, 0.0));
    }
}
