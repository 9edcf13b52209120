//! What a return says of a later one.

use super::{
    correlation::{correlation, from_moments},
    is_drift,
};
use crate::rolling::{LongSums, Window};

/// Pairs in a window.
const N: usize = 96;
const PER_N: f64 = 1.0 / N as f64;

/// A deviation below which a return, or its size, does not move.
const TINY: f64 = 1e-9;

/// `CORR` over 96 pairs of: r and r\[1\], r and r\[2\], r and r\[4\]; |r| and |r|\[1\] (volatility clusters); r\[1\]
/// and |r| (the leverage effect). 0 when a deviation is at most 1e-9.
///
/// Only the products are summed here. The mean and the variance of a lagged window are those of the unlagged one, some
/// bars ago. Input: absolute bar number, the window of returns, sum and sum of squares of the newest 96. Each
/// correlation is right with 96 returns and those of its lag; before, it says nothing.
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::Autocorrelation};
///
/// let (mut returns, mut memory) = (Window::<194, 256>::new(), Autocorrelation::new());
/// let mut correlations = [0.0; 5];
/// for bar in 0..100 {
///     returns.push(if bar % 2 == 0 { 0.01 } else { -0.01 });
///     correlations = memory.update((bar, &returns, [0.0, 96.0 * 1e-4])).unwrap();
/// }
/// let [lag_1, lag_2, lag_4, size, leverage] = correlations;
/// assert!([lag_1 + 1.0, lag_2 - 1.0, lag_4 - 1.0].iter().all(|error| error.abs() < 1e-12));
/// assert_eq!([size, leverage], [0.0, 0.0]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Autocorrelation {
    sums: LongSums<6, 1, 5>,
    /// Mean and variance of the returns 1, 2, 3 and 4 bars ago.
    past: [[f64; 2]; 4],
    /// Of their sizes, a bar ago.
    past_size: [f64; 2],
}

impl Autocorrelation {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self { sums: LongSums::new(), past: [[0.0; 2]; 4], past_size: [0.0; 2] }
    }

    /// Takes the newest return.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, returns, [sum, squares]): (u64, &Window<KEEP, CAP>, [f64; 2]),
    ) -> Option<[f64; 5]> {
        let [[products @ .., sizes]] = self.sums.update((bar, [N], |lag| products(returns, lag)))?;
        let (now, [one, two, three, four]) = (spread(sum, squares), self.past);
        let (size, size_one) = (spread(sizes, squares), self.past_size);
        (self.past, self.past_size) = ([now, one, two, three], size);
        let (xs, ys) = ([now, now, now, size, one], [one, two, four, size_one, size]);
        let mut correlations = [0.0; 5];
        for i in 0..5 {
            let covariance = products[i] * PER_N - xs[i][0] * ys[i][0];
            correlations[i] = from_moments(covariance, [xs[i][1], ys[i][1]], TINY);
        }
        let mut has_drift = false;
        for [mean, variance] in [now, one, two, four, size, size_one] {
            has_drift |= is_drift(mean, variance);
        }
        if has_drift {
            let exact = by_definition(returns);
            for i in 0..5 {
                if is_drift(xs[i][0], xs[i][1]) || is_drift(ys[i][0], ys[i][1]) {
                    correlations[i] = exact[i];
                }
            }
        }
        Some(correlations)
    }
}

impl Default for Autocorrelation {
    fn default() -> Self {
        Self::new()
    }
}

/// Mean and population variance.
#[inline(always)]
fn spread(sum: f64, squares: f64) -> [f64; 2] {
    let mean = sum * PER_N;
    [mean, squares * PER_N - mean * mean]
}

/// What is summed.
#[inline(always)]
fn products<const KEEP: usize, const CAP: usize>(returns: &Window<KEEP, CAP>, lag: usize) -> [f64; 6] {
    let [r, one, two, four] = [0, 1, 2, 4].map(|k| returns.lag(lag + k));
    [r * one, r * two, r * four, (r * one).abs(), one * r.abs(), r.abs()]
}

/// The same from the window: where returns hardly vary about their mean, the sums cancel.
#[cold]
#[inline(never)]
fn by_definition<const KEEP: usize, const CAP: usize>(returns: &Window<KEEP, CAP>) -> [f64; 5] {
    let sizes = |xs: &[f64]| -> [f64; N] { std::array::from_fn(|i| xs[i].abs()) };
    let lagged = |k, of: &dyn Fn(&[f64], &[f64]) -> f64| {
        let newest = &returns.all()[KEEP - N - k..];
        of(&newest[k..], &newest[..N])
    };
    let plain = |k| lagged(k, &|now, before| correlation(now, before, TINY));
    let size = lagged(1, &|now, before| correlation(&sizes(now), &sizes(before), TINY));
    let leverage = lagged(1, &|now, before| correlation(before, &sizes(now), TINY));
    [plain(1), plain(2), plain(4), size, leverage]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::assert_close,
        statistics::samples::{returns, tied_returns},
    };

    fn check(xs: &[f64], tolerance: f64) {
        let (mut window, mut memory) = (Window::<194, 256>::new(), Autocorrelation::new());
        for (i, x) in xs.iter().enumerate() {
            window.push(*x);
            let newest = window.last::<N>().iter();
            let sums = [newest.clone().sum(), newest.map(|x| x * x).sum()];
            let correlations = memory.update((777 + i as u64, &window, sums));
            if i + 1 >= N + 4 {
                let now = &xs[i + 1 - N..=i];
                let sizes = |xs: &[f64]| xs.iter().map(|x| x.abs()).collect::<Vec<_>>();
                let before = |k: usize| &xs[i + 1 - N - k..=i - k];
                let plain = [1, 2, 4].map(|k| correlation(now, before(k), 1e-9));
                let size = correlation(&sizes(now), &sizes(before(1)), 1e-9);
                let leverage = correlation(before(1), &sizes(now), 1e-9);
                let expected = plain.into_iter().chain([size, leverage]);
                for (actual, expected) in correlations.unwrap().into_iter().zip(expected) {
                    assert_close(actual, expected, tolerance);
                }
            }
        }
    }

    #[test]
    fn is_the_correlation_of_lagged_windows() {
        check(&returns(84, 500), 1e-12);
        check(&tied_returns(85, 500), 1e-12);
    }

    #[test]
    fn survives_a_jump_a_drift_and_a_bounce() {
        let mut xs = returns(86, 500);
        xs[250] = 62.0;
        xs[251..].fill(0.0);
        check(&xs, 1e-12);
        check(&returns(87, 500).iter().map(|r| 0.3 + 1e-3 * r).collect::<Vec<_>>(), 1e-12);
        check(&(0..500).map(|i| if i % 2 == 0 { 0.3 } else { -0.3 }).collect::<Vec<_>>(), 1e-12);
    }

    #[test]
    fn a_flat_market_has_no_memory() {
        check(&[0.0; 150], 0.0);
        check(&[0.1; 150], 0.0);
    }
}
