//! Simple moving average over many bars.

use crate::{
    indicator::Indicator,
    rolling::{BlockSums, Window},
};

/// `SMA(x, N)` for long `N`: as [`super::Sma`], at a cost that does not grow with `N`. Input: the absolute bar number and the value.
/// Warm with the `N`-th.
///
/// ```
/// use candlecast_features::{average::LongSma, indicator::replay};
///
/// let values = replay(LongSma::<96, 112, 6>::new(), (0..96).map(|bar| (bar, 2.0)));
/// assert_eq!((values[94], values[95]), (None, Some(2.0)));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct LongSma<const N: usize, const CAP: usize, const BLOCKS: usize> {
    window: Window<N, CAP>,
    sums: BlockSums<1, BLOCKS>,
}

impl<const N: usize, const CAP: usize, const BLOCKS: usize> LongSma<N, CAP, BLOCKS> {
    /// An average that has seen nothing.
    pub fn new() -> Self {
        Self { window: Window::new(), sums: BlockSums::new(N) }
    }
}

impl<const N: usize, const CAP: usize, const BLOCKS: usize> Default for LongSma<N, CAP, BLOCKS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const CAP: usize, const BLOCKS: usize> Indicator for LongSma<N, CAP, BLOCKS> {
    type Input = (u64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (bar, x): (u64, f64)) -> Option<f64> {
        self.window.push(x);
        let [sum] = self.sums.update((bar, |lag| Some([self.window.lag(lag)?])))?;
        Some(sum / N as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn check<const N: usize, const CAP: usize, const BLOCKS: usize>() {
        let xs = walk(12, 400);
        for (i, value) in replay(LongSma::<N, CAP, BLOCKS>::new(), (777..).zip(xs.clone())).into_iter().enumerate() {
            assert_eq!(value.is_some(), i + 1 >= N);
            if let Some(value) = value {
                assert_close(value, xs[i + 1 - N..=i].iter().sum::<f64>() / N as f64, 1e-12);
            }
        }
    }

    #[test]
    fn is_the_plain_mean_for_many_lengths() {
        check::<16, 24, 1>();
        check::<96, 112, 6>();
        check::<192, 216, 12>();
    }

    #[test]
    fn a_flat_market_has_its_value() {
        assert_eq!(replay(LongSma::<96, 112, 6>::new(), (0..200).map(|bar| (bar, 7.0)))[199], Some(7.0));
    }
}
