//! A timeframe: the running bar of k bars, and the newest completed one.

use crate::indicator::Indicator;

/// One bar of a higher timeframe.
#[derive(Clone, Copy, Debug, Default, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Bucket {
    /// Open.
    pub o: f64,
    /// High.
    pub h: f64,
    /// Low.
    pub l: f64,
    /// Close.
    pub c: f64,
}

impl Bucket {
    /// h − l.
    #[inline]
    pub fn range(self) -> f64 {
        self.h - self.l
    }
}

/// The timeframe x`K`: its bars are those of bars `K·i … K·i + K − 1`, counted from the epoch.
///
/// A bucket is *completed* with its last bar, and only if all its bars were seen: the first, partial one of a history
/// is dropped. As an indicator it gives itself, after the bar: what is computed of completed buckets is fed
/// `completed()`, through [`super::Held`]. Input: the number of the bar, counted from the epoch, and the bar.
///
/// ```
/// use candlecast_features::{indicator::Indicator, timeframe::{Bucket, Timeframe}};
///
/// let mut pairs = Timeframe::<2>::new();
/// pairs.update((6, Bucket { o: 1.0, h: 3.0, l: 1.0, c: 2.0 }));
/// let pair = pairs.update((7, Bucket { o: 2.0, h: 4.0, l: 2.0, c: 3.0 })).unwrap();
/// assert_eq!(pair.completed(), Some(Bucket { o: 1.0, h: 4.0, l: 1.0, c: 3.0 }));
/// ```
#[derive(Clone, Copy, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Timeframe<const K: usize> {
    running: Bucket,
    /// Bars seen of the running bucket.
    seen: u32,
    last: Option<Bucket>,
    is_new: bool,
}

impl<const K: usize> Timeframe<K> {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bar number `bar`, counted from the epoch.
    #[inline]
    pub fn push(&mut self, bar: u64, Bucket { o, h, l, c }: Bucket) {
        let place = bar as usize % K;
        self.running = if place == 0 || self.seen == 0 {
            self.seen = 0;
            Bucket { o, h, l, c }
        } else {
            Bucket { o: self.running.o, h: self.running.h.max(h), l: self.running.l.min(l), c }
        };
        self.seen += 1;
        self.is_new = place == K - 1 && self.seen as usize == K;
        if self.is_new {
            self.last = Some(self.running);
        }
    }

    /// The bucket that the newest bar belongs to, up to and including that bar.
    #[inline]
    pub fn running(&self) -> Bucket {
        self.running
    }

    /// Bars of the running bucket that were seen: `j + 1`, unless the history began within it.
    #[inline]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// The newest completed bucket.
    #[inline]
    pub fn last(&self) -> Option<Bucket> {
        self.last
    }

    /// The bucket that the newest bar has completed, if it has.
    #[inline]
    pub fn completed(&self) -> Option<Bucket> {
        self.last.filter(|_| self.is_new)
    }
}

impl<const K: usize> Indicator for Timeframe<K> {
    type Input = (u64, Bucket);
    type Output = Self;

    #[inline]
    fn update(&mut self, (bar, bucket): (u64, Bucket)) -> Option<Self> {
        self.push(bar, bucket);
        Some(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn has_the_plain_aggregates_of_whole_buckets_from_every_start() {
        let xs = walk(60, 400);
        for start in 0..70 {
            let mut frame = Timeframe::<16>::new();
            for bar in start..xs.len() {
                let x = xs[bar];
                frame.push(bar as u64, Bucket { o: x - 0.5, h: x + 1.0, l: x - 1.0, c: x + 0.5 });
                let of = |bars: &[f64]| Bucket {
                    o: bars[0] - 0.5,
                    h: bars.iter().copied().fold(f64::MIN, f64::max) + 1.0,
                    l: bars.iter().copied().fold(f64::MAX, f64::min) - 1.0,
                    c: bars[bars.len() - 1] + 0.5,
                };
                let first = (bar - bar % 16).max(start);
                assert_eq!(frame.running(), of(&xs[first..=bar]));
                assert_eq!(frame.seen() as usize, bar - first + 1);
                let end = (bar + 1) / 16 * 16;
                let last = end.checked_sub(16).filter(|from| *from >= start).map(|from| of(&xs[from..end]));
                assert_eq!(frame.last(), last);
                assert_eq!(frame.completed(), last.filter(|_| (bar + 1) % 16 == 0));
            }
        }
    }
}
