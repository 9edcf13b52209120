//! A timeframe with the prices of its newest bars.

use super::{Bucket, Timeframe};
use crate::rolling::Window;

/// The timeframe x`K` ([`Timeframe`]) and the newest `KEEP` highs, lows and closes of completed buckets; `CAP` is where
/// they lie (see [`Window`]).
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Buckets<const K: usize, const KEEP: usize, const CAP: usize> {
    frame: Timeframe<K>,
    /// Highs of the newest completed buckets.
    pub highs: Window<KEEP, CAP>,
    /// Lows of the newest completed buckets.
    pub lows: Window<KEEP, CAP>,
    /// Closes of the newest completed buckets.
    pub closes: Window<KEEP, CAP>,
}

impl<const K: usize, const KEEP: usize, const CAP: usize> Buckets<K, KEEP, CAP> {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { frame: Timeframe::new(), highs: Window::new(), lows: Window::new(), closes: Window::new() }
    }

    /// Takes bar number `bar`, counted from the epoch.
    #[inline]
    pub fn update(&mut self, bar: u64, bucket: Bucket) {
        self.frame.push(bar, bucket);
        if let Some(Bucket { h, l, c, .. }) = self.completed() {
            self.highs.push(h);
            self.lows.push(l);
            self.closes.push(c);
        }
    }

    /// As [`Timeframe::running`].
    #[inline]
    pub fn running(&self) -> Bucket {
        self.frame.running()
    }

    /// As [`Timeframe::seen`].
    #[inline]
    pub fn seen(&self) -> u32 {
        self.frame.seen()
    }

    /// As [`Timeframe::last`].
    #[inline]
    pub fn last(&self) -> Option<Bucket> {
        self.frame.last()
    }

    /// As [`Timeframe::completed`].
    #[inline]
    pub fn completed(&self) -> Option<Bucket> {
        self.frame.completed()
    }
}

impl<const K: usize, const KEEP: usize, const CAP: usize> Default for Buckets<K, KEEP, CAP> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn keep_the_prices_of_whole_buckets_from_every_start() {
        let xs = walk(61, 400);
        for start in 0..40_usize {
            let mut buckets = Buckets::<16, 3, 5>::new();
            for bar in start..xs.len() {
                let x = xs[bar];
                buckets.update(bar as u64, Bucket { o: x, h: x + 1.0, l: x - 1.0, c: x + 0.5 });
                let end = (bar + 1) / 16 * 16;
                for back in 0..3 {
                    // The bucket `back` before the newest completed one, if all of it was seen.
                    let from = end.checked_sub(16 * (back + 1)).filter(|from| *from >= start);
                    let whole = from.map(|from| &xs[from..from + 16]);
                    let highest = whole.map(|w| w.iter().copied().fold(f64::MIN, f64::max) + 1.0);
                    let lowest = whole.map(|w| w.iter().copied().fold(f64::MAX, f64::min) - 1.0);
                    assert_eq!((buckets.highs.lag(back), buckets.lows.lag(back)), (highest, lowest));
                    assert_eq!(buckets.closes.lag(back), whole.map(|w| w[15] + 0.5));
                }
            }
        }
    }
}
