//! Where a value stands among the last ones.

use crate::{indicator::Indicator, statistics::quantile_rank};

/// `PRANK(x, N, tolerance)`: −1 when x is the least of the last `N`, 1 when it is the greatest; ties within `tolerance` count half.
/// Warm with the `N`-th.
///
/// Counted anew every bar: the order of the ring does not matter, and comparing several at a time beats keeping them sorted.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::Rank};
///
/// let ranks = replay(Rank::<3>::new(1e-12), [1.0, 2.0, 3.0, 2.0, 2.0]);
/// assert_eq!(ranks, [None, None, Some(1.0), Some(-0.5), Some(-0.5)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Rank<const N: usize> {
    tolerance: f64,
    at: usize,
    is_full: bool,
    values: [f64; N],
}

impl<const N: usize> Rank<N> {
    /// A rank among values that differ when they differ by more than `tolerance`.
    pub fn new(tolerance: f64) -> Self {
        const { assert!(N > 1, "a rank needs others") }
        Self { tolerance, at: 0, is_full: false, values: [0.0; N] }
    }
}

impl<const N: usize> Indicator for Rank<N> {
    type Input = f64;
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, x: f64) -> Option<f64> {
        self.values[self.at] = x;
        self.at += 1;
        if self.at == N {
            (self.at, self.is_full) = (0, true);
        }
        self.is_full.then(|| quantile_rank(&self.values, x, self.tolerance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, ticks, walk};

    fn check<const N: usize>(xs: Vec<f64>) {
        let ranks = replay(Rank::<N>::new(1e-12), xs.clone());
        assert!(ranks[..N - 1].iter().all(Option::is_none));
        for (window, rank) in xs.windows(N).zip(&ranks[N - 1..]) {
            let x = window[N - 1];
            let below = window.iter().filter(|y| **y < x).count() as f64;
            let others_tied = window.iter().filter(|y| **y == x).count() as f64 - 1.0;
            assert_close(rank.unwrap(), 2.0 * (below + 0.5 * others_tied) / (N as f64 - 1.0) - 1.0, 1e-14);
        }
    }

    #[test]
    fn counts_ties_half_for_many_lengths() {
        check::<2>(ticks(63, 300));
        check::<20>(ticks(63, 300));
        check::<96>(walk(64, 300));
        check::<192>(ticks(64, 400));
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(replay(Rank::<96>::new(1e-12), [1e-5; 96])[95], Some(0.0));
    }
}
