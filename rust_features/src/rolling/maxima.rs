//! Maxima and minima of the newest values, looked for anew every bar: several numbers at once, and nothing to remember.

use crate::math::{larger, smaller};

/// The best of ever more of the newest values, the newest last: the highest, or the lowest.
///
/// ```
/// use candlecast_features::{math::larger, rolling::Widening};
///
/// let mut highest = Widening::new(&[9.0, 1.0, 2.0], larger);
/// assert_eq!([highest.to(1), highest.to(2), highest.to(3)], [2.0, 2.0, 9.0]);
/// ```
#[derive(Debug)]
pub struct Widening<'a, F> {
    xs: &'a [f64],
    best: F,
    lanes: [f64; 4],
    /// Values that are in the lanes: a multiple of 4.
    done: usize,
}

impl<'a, F: Fn(f64, f64) -> f64> Widening<'a, F> {
    /// Of the newest value of `xs`.
    #[inline(always)]
    pub fn new(xs: &'a [f64], best: F) -> Self {
        Self { xs, best, lanes: [xs[xs.len() - 1]; 4], done: 0 }
    }

    /// The best of the newest `n`; not fewer than before.
    #[inline(always)]
    pub fn to(&mut self, n: usize) -> f64 {
        let (rest, chunks) = self.xs[self.xs.len() - n..self.xs.len() - self.done].as_rchunks::<4>();
        for chunk in chunks.iter().rev() {
            for (lane, x) in self.lanes.iter_mut().zip(chunk) {
                *lane = (self.best)(*lane, *x);
            }
        }
        self.done += 4 * chunks.len();
        let ([a, b, c, d], best) = (self.lanes, &self.best);
        rest.iter().fold(best(best(a, c), best(b, d)), |so_far, x| best(so_far, *x))
    }
}

/// (greatest, least) of `xs`.
///
/// ```
/// assert_eq!(candlecast_features::rolling::extent(&[2.0, 3.0, 1.0]), (3.0, 1.0));
/// ```
#[inline(always)]
pub fn extent(xs: &[f64]) -> (f64, f64) {
    xs.iter().fold((f64::NEG_INFINITY, f64::INFINITY), |(most, least), x| (larger(most, *x), smaller(least, *x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    const LENGTHS: [usize; 6] = [1, 2, 5, 13, 28, 96];

    fn check(xs: &[f64]) {
        for seen in 1..xs.len() {
            let xs = &xs[seen.saturating_sub(96)..seen];
            let (mut highest, mut lowest) = (Widening::new(xs, larger), Widening::new(xs, smaller));
            for window in LENGTHS.iter().filter_map(|n| Some(&xs[xs.len().checked_sub(*n)?..])) {
                let (most, least) = (plain(window, f64::MIN, f64::max), plain(window, f64::MAX, f64::min));
                assert_eq!((highest.to(window.len()), lowest.to(window.len())), (most, least), "bar {seen}");
                assert_eq!(extent(window), (most, least));
            }
        }
    }

    fn plain(xs: &[f64], start: f64, best: fn(f64, f64) -> f64) -> f64 {
        xs.iter().copied().fold(start, best)
    }

    #[test]
    fn are_the_plain_maxima_and_minima() {
        check(&walk(7, 500));
        check(&ticks(8, 500));
    }

    #[test]
    fn survive_long_falls_and_rises_and_flats() {
        check(&(0..200).map(f64::from).collect::<Vec<_>>());
        check(&(0..200).map(|i| -f64::from(i)).collect::<Vec<_>>());
        check(&[3.0; 200]);
    }
}
