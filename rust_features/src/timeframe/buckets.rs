//! Bars of k bars: the running one and the newest completed ones.

use crate::rolling::Window;

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

/// The bars of timeframe x`K`: those of bars `K·i … K·i + K − 1`, counted from the epoch.
///
/// A bucket is *completed* with its last bar, and only if all its bars were seen: the first, partial one of a history is dropped.
/// The newest `KEEP` highs, lows and closes are kept, `CAP` is where they lie (see [`Window`]).
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Buckets<const K: usize, const KEEP: usize, const CAP: usize> {
    running: Bucket,
    /// Bars seen of the running bucket.
    seen: u32,
    last: Option<Bucket>,
    is_new: bool,
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
        Self {
            running: Bucket::default(),
            seen: 0,
            last: None,
            is_new: false,
            highs: Window::new(),
            lows: Window::new(),
            closes: Window::new(),
        }
    }

    /// Takes bar number `bar`, counted from the epoch.
    #[inline]
    pub fn update(&mut self, bar: u64, Bucket { o, h, l, c }: Bucket) {
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
            self.highs.push(self.running.h);
            self.lows.push(self.running.l);
            self.closes.push(self.running.c);
        }
    }

    /// The bucket that the newest bar belongs to, up to and including that bar.
    pub fn running(&self) -> Bucket {
        self.running
    }

    /// Bars of the running bucket that were seen: `j + 1`, unless the history began within it.
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// The newest completed bucket.
    pub fn last(&self) -> Option<Bucket> {
        self.last
    }

    /// The bucket that the newest bar has completed, if it has.
    pub fn completed(&self) -> Option<Bucket> {
        self.last.filter(|_| self.is_new)
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
    fn are_the_plain_aggregates_of_whole_buckets_from_every_start() {
        let xs = walk(60, 400);
        for start in 0..70 {
            let mut buckets = Buckets::<16, 3, 5>::new();
            for bar in start..xs.len() {
                let x = xs[bar];
                buckets.update(bar as u64, Bucket { o: x - 0.5, h: x + 1.0, l: x - 1.0, c: x + 0.5 });
                let of = |bars: &[f64]| Bucket {
                    o: bars[0] - 0.5,
                    h: bars.iter().copied().fold(f64::MIN, f64::max) + 1.0,
                    l: bars.iter().copied().fold(f64::MAX, f64::min) - 1.0,
                    c: bars[bars.len() - 1] + 0.5,
                };
                let first = (bar - bar % 16).max(start);
                assert_eq!(buckets.running(), of(&xs[first..=bar]));
                assert_eq!(buckets.seen() as usize, bar - first + 1);
                let end = (bar + 1) / 16 * 16;
                let last = end.checked_sub(16).filter(|from| *from >= start).map(|from| of(&xs[from..end]));
                assert_eq!(buckets.last(), last);
                assert_eq!(buckets.completed(), last.filter(|_| (bar + 1) % 16 == 0));
                let whole = end / 16 - start.div_ceil(16);
                assert_eq!(buckets.closes.lag(0), last.map(|bucket| bucket.c));
                assert_eq!(buckets.highs.lag(2).is_some(), last.is_some() && whole >= 3);
            }
        }
    }
}
