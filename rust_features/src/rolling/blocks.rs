//! Sums over long windows: few additions a bar, and still no residue.

use super::{Window, sum, sum_of};

/// Bars in a block.
const BLOCK: usize = 16;

/// Sums of `f(x)` over blocks of 16 bars, to make long sums of a [`Window`] cheap.
///
/// A long window is the rest of an old block, whole blocks, and the block that is still open. A running sum would be cheaper by a
/// little and would keep residue: a print of 1e12 that has left it would still be felt. Blocks lie at absolute bar numbers, so the
/// order of the additions, and with it every bit, is the same from wherever a history starts.
///
/// ```
/// use candlecast_features::rolling::{Blocks, Window};
///
/// let (mut window, mut blocks) = (Window::<40, 64>::new(), Blocks::new());
/// for bar in 1_000..1_100 {
///     window.push(1.0);
///     blocks.push(bar, 1.0);
/// }
/// assert_eq!(blocks.sum_of(&window, 40, |x| x), Some(40.0));
/// ```
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Sums of whole blocks; of the first only what was seen of it, and no window that is warm holds that one whole.
    closed: Window<31, 48>,
    open: f64,
    in_open: usize,
}

impl Blocks {
    /// The longest window the blocks reach over.
    pub const LONGEST: usize = 31 * BLOCK;

    /// Nothing seen.
    pub fn new() -> Self {
        Self { closed: Window::new(), open: 0.0, in_open: 0 }
    }

    /// Takes `f(x)` of bar number `bar`, which is absolute: the same bar has the same number in every history.
    #[inline]
    pub fn push(&mut self, bar: u64, fx: f64) {
        self.open += fx;
        self.in_open = bar as usize % BLOCK + 1;
        if self.in_open == BLOCK {
            self.closed.push(self.open);
            (self.open, self.in_open) = (0.0, 0);
        }
    }

    /// Sum of `f(x)` over the newest `n` values of the window the blocks belong to. `n` is at least 16.
    #[inline]
    pub fn sum_of<const KEEP: usize, const CAP: usize>(
        &self,
        window: &Window<KEEP, CAP>,
        n: usize,
        f: impl Fn(f64) -> f64,
    ) -> Option<f64> {
        debug_assert!((BLOCK..=Self::LONGEST).contains(&n), "{n} values are not a window for blocks");
        let older = n - self.in_open;
        let rest = sum_of(&window.newest(n)?[..older % BLOCK], f);
        Some(rest + sum(self.closed.newest(older / BLOCK)?) + self.open)
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    const LENGTHS: [usize; 6] = [16, 17, 50, 96, 192, 480];

    /// Sums of squares after each value, for each length.
    fn sums(first_bar: u64, xs: &[f64]) -> Vec<[Option<f64>; 6]> {
        let (mut window, mut blocks) = (Window::<480, 512>::new(), Blocks::new());
        let mut step = |(bar, x): (u64, &f64)| {
            window.push(*x);
            blocks.push(bar, x * x);
            LENGTHS.map(|n| blocks.sum_of(&window, n, |x| x * x))
        };
        (first_bar..).zip(xs).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_whatever_the_first_bar() {
        let xs = walk(9, 700);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            for (i, sums) in sums(first_bar, &xs).into_iter().enumerate() {
                for (sum, n) in sums.into_iter().zip(LENGTHS) {
                    let window = (i + 1).checked_sub(n).map(|from| &xs[from..=i]);
                    assert_eq!(sum.is_some(), window.is_some());
                    let plain = window.map(|window| window.iter().map(|x| x * x).sum());
                    assert_close(sum.unwrap_or(0.0), plain.unwrap_or(0.0), 1e-12);
                }
            }
        }
    }

    #[test]
    fn are_bit_equal_from_every_start_once_the_window_is_seen() {
        let xs = walk(10, 700);
        let whole = sums(5, &xs);
        for start in 1..150 {
            let part = sums(5 + start as u64, &xs[start..]);
            for (whole, part) in whole[start..].iter().zip(part) {
                for (whole, part) in whole.iter().zip(part) {
                    assert!(part.is_none() || part == *whole);
                }
            }
        }
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut xs = walk(11, 700);
        let plain = sums(0, &xs);
        xs[100] = 1e100;
        let after = sums(0, &xs);
        assert_ne!(plain[579][5], after[579][5]);
        assert_eq!(plain[580..], after[580..]);
    }
}
