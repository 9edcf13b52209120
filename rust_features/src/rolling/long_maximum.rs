//! The maximum of a long window of which only the newest part is kept.

use crate::{math::larger, memory::part};

/// Bars in a block.
const BLOCK: usize = 16;
/// Blocks remembered.
const BLOCKS: usize = 25;
/// How old the newest bar of a block is when the block is taken in.
const AGE: usize = 80;

/// Maximum of the newest 480 values. The caller keeps the newest 96 and says what their maximum is; of older ones, blocks of 16 bars at
/// absolute bar numbers remain: the maxima of their newest 1, 2, … 16 bars, which are what can be left of a block in the window.
///
/// Beyond the value of a block's newest bar, which is in the window for as long as any bar of the block is, single precision is
/// enough: the error is below 1e-7 of the range of the values in the window. Minima are maxima of the negated series.
///
/// ```
/// use candlecast_features::rolling::LongMaximum;
///
/// let mut highest = LongMaximum::new();
/// for bar in 1_000..1_480 {
///     assert_eq!(highest.update((bar, |_| 2.0, 3.0)), 3.0);
/// }
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct LongMaximum {
    /// Of the blocks that are wholly in the window.
    middle: f64,
    /// The newest value of each block.
    newest: [f64; BLOCKS],
    /// By how much the maximum of the newest 2, 3, … 16 bars exceeds it.
    beyond: [[f32; BLOCK - 1]; BLOCKS],
}

impl LongMaximum {
    /// Of the blocks a bar touches one.
    pub(crate) const RARELY: (usize, usize) = part!(beyond: [[f32; BLOCK - 1]; BLOCKS]);

    /// The window.
    pub const LENGTH: usize = AGE + BLOCK * BLOCKS;

    /// Nothing seen.
    pub fn new() -> Self {
        Self { middle: f64::NEG_INFINITY, newest: [f64::NEG_INFINITY; BLOCKS], beyond: [[0.0; BLOCK - 1]; BLOCKS] }
    }

    /// After bar number `bar`: `at(lag)` gives the value `lag` bars before it, for any `lag` below 96 (NaN: before the first bar),
    /// `maximum` is the one of these. The answer is right once 480 values were seen.
    #[inline(always)]
    pub fn update(&mut self, (bar, at, maximum): (u64, impl Fn(usize) -> f64, f64)) -> f64 {
        let in_open = (bar as usize + 1) % BLOCK;
        // A block is taken in when the open one is complete; behind it, in the ring, lies the oldest.
        let oldest = ((bar as usize + 1) / BLOCK + BLOCKS - AGE / BLOCK) % BLOCKS;
        if in_open == 0 {
            self.take((oldest + BLOCKS - 1) % BLOCKS, oldest, at);
        }
        let rest = self.maximum_of(oldest, BLOCK - in_open);
        larger(larger(maximum, self.middle), rest)
    }

    /// Of the newest `n` bars of a block.
    #[inline(always)]
    fn maximum_of(&self, block: usize, n: usize) -> f64 {
        self.newest[block] + n.checked_sub(2).map_or(0.0, |i| f64::from(self.beyond[block][i]))
    }

    /// Takes in the block that is old enough.
    fn take(&mut self, place: usize, oldest: usize, at: impl Fn(usize) -> f64) {
        let newest = at(AGE);
        let mut maximum = newest;
        for (beyond, lag) in self.beyond[place].iter_mut().zip(AGE + 1..) {
            maximum = maximum.max(at(lag));
            *beyond = (maximum - newest) as f32;
        }
        self.newest[place] = newest;
        let whole = (0..BLOCKS).filter(|block| *block != oldest);
        self.middle = whole.map(|block| self.maximum_of(block, BLOCK)).fold(f64::NEG_INFINITY, f64::max);
    }
}

impl Default for LongMaximum {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    fn plain(xs: &[f64]) -> f64 {
        xs.iter().copied().fold(f64::MIN, f64::max)
    }

    fn maxima(first_bar: u64, xs: &[f64]) -> Vec<f64> {
        let mut highest = LongMaximum::new();
        let mut step = |i: usize| {
            let recent = plain(&xs[(i + 1).saturating_sub(96)..=i]);
            highest.update((first_bar + i as u64, |lag| i.checked_sub(lag).map_or(f64::NAN, |i| xs[i]), recent))
        };
        (0..xs.len()).map(&mut step).collect()
    }

    fn check(xs: &[f64]) {
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            for (i, maximum) in maxima(first_bar, xs).into_iter().enumerate().skip(LongMaximum::LENGTH - 1) {
                let window = &xs[i + 1 - LongMaximum::LENGTH..=i];
                let range = plain(window) - window.iter().copied().fold(f64::MAX, f64::min);
                assert!((maximum - plain(window)).abs() <= 1e-7 * range, "bar {i}: {maximum}");
            }
        }
    }

    #[test]
    fn is_the_plain_maximum_within_1e_7_of_the_range() {
        check(&walk(11, 2_000));
        check(&walk(11, 2_000).into_iter().map(|x| -x).collect::<Vec<_>>());
        check(&ticks(12, 2_000));
        check(&(0..1_500).map(|i| -f64::from(i)).collect::<Vec<_>>());
        check(&(0..1_500).map(|i| if i % 700 == 0 { 1e15 } else { 1e-12 * f64::from(i % 9) }).collect::<Vec<_>>());
    }

    #[test]
    fn is_bit_equal_from_every_start_once_the_window_is_seen() {
        let xs = walk(13, 1_200);
        let whole = maxima(5, &xs);
        for start in 1..100 {
            let part = maxima(5 + start as u64, &xs[start..]);
            assert_eq!(part[LongMaximum::LENGTH - 1..], whole[start + LongMaximum::LENGTH - 1..]);
        }
    }

    #[test]
    fn a_huge_value_is_forgotten() {
        let mut xs = walk(14, 1_200);
        let calm = maxima(0, &xs);
        xs[500] = 1e12;
        let torn = maxima(0, &xs);
        assert_eq!(torn[979] as f32, 1e12);
        assert_eq!(torn[980..], calm[980..]);
    }
}
