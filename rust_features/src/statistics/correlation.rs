//! Correlation of two slices.

use crate::rolling::{mean, sum_of_pairs};

/// `CORR(x, y, n)`: Pearson's correlation of pairs, within ±1; 0 when the population deviation of either is at most
/// `tiny`. Three passes: for a level far above its deviation, or now and then.
///
/// ```
/// use candlecast_features::statistics::correlation;
///
/// assert_eq!(correlation(&[1.0, 2.0, 3.0], &[5.0, 3.0, 1.0], 1e-9), -1.0);
/// assert_eq!(correlation(&[1.0, 2.0, 3.0], &[7.0, 7.0, 7.0], 1e-9), 0.0);
/// ```
pub fn correlation(xs: &[f64], ys: &[f64], tiny: f64) -> f64 {
    let (n, x_mean, y_mean) = (xs.len() as f64, mean(xs), mean(ys));
    let covariance = sum_of_pairs(xs, ys, |x, y| (x - x_mean) * (y - y_mean)) / n;
    let variances = [(xs, x_mean), (ys, y_mean)].map(|(xs, m)| sum_of_pairs(xs, xs, |x, _| (x - m) * (x - m)) / n);
    from_moments(covariance, variances, tiny)
}

/// The same from the covariance and the two variances.
#[inline(always)]
pub(super) fn from_moments(covariance: f64, [x, y]: [f64; 2], tiny: f64) -> f64 {
    let least = if x < y { x } else { y };
    // Over infinity, so that no branch is needed.
    let squares = if least <= tiny * tiny { f64::INFINITY } else { x * y };
    (covariance / squares.sqrt()).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    /// From all pairs of pairs: no mean, no cancellation.
    fn naive(xs: &[f64], ys: &[f64]) -> f64 {
        let sum = |a: &[f64], b: &[f64]| -> f64 {
            let pairs = (0..a.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
            pairs.map(|(i, j)| (a[i] - a[j]) * (b[i] - b[j])).sum()
        };
        sum(xs, ys) / (sum(xs, xs) * sum(ys, ys)).sqrt()
    }

    #[test]
    fn is_pearsons_for_many_lengths() {
        let (xs, ys) = (walk(80, 300), walk(81, 300));
        for n in [2, 3, 10, 96, 192] {
            for i in [0, 50, 100] {
                let (xs, ys) = (&xs[i..i + n], &ys[i..i + n]);
                assert_close(correlation(xs, ys, 1e-9), naive(xs, ys), 1e-12);
            }
        }
    }

    #[test]
    fn survives_a_level_a_billion_times_the_deviation() {
        let (xs, ys) = (walk(82, 96), walk(83, 96));
        let shifted: Vec<f64> = xs.iter().map(|x| 1e9 + x).collect();
        assert_close(correlation(&shifted, &ys, 1e-9), naive(&xs, &ys), 1e-6);
    }
}
