//! Simple moving average of a series nobody else keeps.

use crate::{indicator::Indicator, rolling::Sum};

/// `SMA(x, N)`, plain rolling mean. Warm with the `N`-th input.
///
/// ```
/// use candlecast_features::{average::Sma, indicator::replay};
///
/// assert_eq!(replay(Sma::<2, 4>::new(), [1.0, 3.0, 4.0]), [None, Some(2.0), Some(3.5)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Sma<const N: usize, const CAP: usize> {
    sum: Sum<N, CAP>,
}

impl<const N: usize, const CAP: usize> Sma<N, CAP> {
    /// An average that has seen nothing.
    pub fn new() -> Self {
        Self { sum: Sum::new() }
    }
}

impl<const N: usize, const CAP: usize> Indicator for Sma<N, CAP> {
    type Input = f64;
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, x: f64) -> Option<f64> {
        Some(self.sum.update(x)? * (1.0 / N as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn check<const N: usize, const CAP: usize>() {
        let xs = walk(12, 200);
        for (i, value) in replay(Sma::<N, CAP>::new(), xs.clone()).into_iter().enumerate() {
            assert_eq!(value.is_some(), i + 1 >= N);
            if let Some(value) = value {
                assert_close(value, xs[i + 1 - N..=i].iter().sum::<f64>() / N as f64, 1e-12);
            }
        }
    }

    #[test]
    fn is_the_plain_mean_for_many_lengths() {
        check::<1, 2>();
        check::<3, 8>();
        check::<14, 24>();
        check::<100, 128>();
    }
}
