//! Where a value stands among the last ones.

use crate::indicator::Indicator;

/// The least value that is told from 0.
const LEAST: f64 = 1.0 / 131_072.0;
/// Last bits of an `f64` that are dropped. Of what is left above [`LEAST`], 48 bits tell values up to 2¹¹¹ apart.
const DROPPED: u32 = 11;

/// `PRANK(x, N, tolerance)` of positive x: −1 when x is the least of the last `N`, 1 when it is the greatest; ties
/// within `tolerance` count half. Warm with the `N`-th.
///
/// Counted anew every bar: the order of the ring does not matter, and comparing several at a time beats keeping them
/// sorted. Values are kept to twelve digits, in six bytes.
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
    at: u32,
    is_full: bool,
    highs: [u32; N],
    lows: [u16; N],
}

impl<const N: usize> Rank<N> {
    /// A rank among values that differ when they differ by more than `tolerance`.
    pub fn new(tolerance: f64) -> Self {
        const { assert!(N > 1, "a rank needs others") }
        Self { tolerance, at: 0, is_full: false, highs: [0; N], lows: [0; N] }
    }

    /// How many values are less than `low`, and how many at most `high`, together. Integers: their order is free, so
    /// the loop is taken several at a time.
    #[inline(always)]
    fn count(&self, low: f64, high: f64) -> f64 {
        let last_dropped = (1 << DROPPED) - 1;
        let (low, beyond) = ((steps(low) + last_dropped) >> DROPPED, (steps(high) >> DROPPED) + 1);
        let mut count = 0;
        for (high, rest) in self.highs.iter().zip(&self.lows) {
            let y = i64::from(*high) << 16 | i64::from(*rest);
            count += i64::from(y < low) + i64::from(y < beyond);
        }
        count as f64
    }
}

impl<const N: usize> Indicator for Rank<N> {
    type Input = f64;
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, x: f64) -> Option<f64> {
        let kept = steps(x) >> DROPPED;
        (self.highs[self.at as usize], self.lows[self.at as usize]) = ((kept >> 16) as u32, kept as u16);
        self.at += 1;
        if self.at as usize == N {
            (self.at, self.is_full) = (0, true);
        }
        // Those below count two, ties one; x ties with itself.
        let x = f64::from_bits((LEAST.to_bits() as i64 + (kept << DROPPED)) as u64);
        let counted = || self.count(x - self.tolerance, x + self.tolerance) - 1.0;
        self.is_full.then(|| counted() / (N - 1) as f64 - 1.0)
    }
}

/// How many numbers there are between [`LEAST`] and `x`.
#[inline(always)]
fn steps(x: f64) -> i64 {
    (x.max(LEAST).to_bits() - LEAST.to_bits()) as i64
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
    fn tells_values_apart_that_differ_in_the_twelfth_digit() {
        for scale in [1e-5, 1e-3, 0.1, 1e6, 1e27] {
            let xs = [1.0, 1.0 + 3e-12, 1.0 - 3e-12, 1.0].map(|x| x * scale);
            assert_eq!(replay(Rank::<4>::new(0.0), xs)[3], Some(0.0), "{scale}");
        }
    }

    #[test]
    fn ties_are_within_the_tolerance() {
        assert_eq!(replay(Rank::<3>::new(1e-12), [0.01 + 2e-12, 0.01 + 0.9e-12, 0.01])[2], Some(-0.5));
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(replay(Rank::<96>::new(1e-12), [1e-5; 96])[95], Some(0.0));
    }
}
