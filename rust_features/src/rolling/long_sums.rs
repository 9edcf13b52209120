//! Sums over long windows of several lengths: a few additions a bar, no residue, little room.

use crate::memory::part;

/// Bars in a block.
const BLOCK: usize = 16;
/// Bars for which the rests are made at a time.
const STEP: usize = 8;

/// Sums of `Q` quantities over the newest `LENGTHS[i]` bars, for `L` lengths of at least 16. Each is right with as many
/// bars; before, it says nothing.
///
/// A window is the rest of an old block, whole blocks, and the block that is still open. The sums of the rests are made for
/// eight bars at a time; between, a bar costs three additions. A running sum would be as cheap and would keep residue: a print
/// of 1e12 that has left it would still be felt. Blocks lie at absolute bar numbers, so the order of the additions, and with it
/// every bit, is the same from wherever a history starts. The lengths share their blocks; `BLOCKS` is at least (`n` − 15)/16 of
/// the longest.
///
/// It keeps no values: the caller says what the quantities were `lag` bars ago (NaN: before the first bar).
///
/// ```
/// use candlecast_features::rolling::{LongSums, Window};
///
/// let (mut window, mut sums) = (Window::<48, 64>::new(), LongSums::<1, 2, 2>::new());
/// for bar in 1_000..1_100 {
///     window.push(0.5);
///     let [[short], [long]] = sums.update((bar, [20, 48], |lag| [window.lag(lag)])).unwrap();
///     assert_eq!((short == 10.0, long == 24.0), (bar >= 1_019, bar >= 1_047));
/// }
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct LongSums<const Q: usize, const L: usize, const BLOCKS: usize> {
    /// Where the next block goes.
    next: u32,
    open: [f64; Q],
    /// Of the whole blocks of each window.
    middles: [[f64; Q]; L],
    /// Of what each window holds of older bars, now and in the next bars.
    rests: [[[f64; Q]; L]; STEP],
    blocks: [[f64; Q]; BLOCKS],
}

impl<const Q: usize, const L: usize, const BLOCKS: usize> LongSums<Q, L, BLOCKS> {
    /// The blocks are read when one is full.
    pub(crate) const RARELY: (usize, usize) = part!(blocks: [[f64; Q]; BLOCKS]);

    /// Sums that have seen nothing.
    pub fn new() -> Self {
        let none = [0.0; Q];
        Self { next: 0, open: none, middles: [none; L], rests: [[none; L]; STEP], blocks: [none; BLOCKS] }
    }

    /// Takes the newest bar. `bar` is its absolute number: the same bar has the same number in every history. `at(lag)`
    /// gives the quantities `lag` bars before it, for any `lag` in the longest window.
    #[inline(always)]
    pub fn update(
        &mut self,
        (bar, lengths, at): (u64, [usize; L], impl Fn(usize) -> [f64; Q]),
    ) -> Option<[[f64; Q]; L]> {
        add(&mut self.open, &at(0));
        let in_open = (bar as usize + 1) % BLOCK;
        if in_open == 0 {
            self.close(lengths);
        }
        if in_open.is_multiple_of(STEP) {
            self.turn(in_open, lengths, at);
        }
        let mut sums = self.middles;
        for (sums, rests) in sums.iter_mut().zip(&self.rests[in_open % STEP]) {
            add(sums, &self.open);
            add(sums, rests);
        }
        Some(sums)
    }

    /// The open block is full.
    fn close(&mut self, lengths: [usize; L]) {
        self.blocks[self.next as usize] = std::mem::replace(&mut self.open, [0.0; Q]);
        self.next = (self.next + 1) % BLOCKS as u32;
        let (newer, older) = self.blocks.split_at(self.next as usize);
        for (middle, n) in self.middles.iter_mut().zip(lengths) {
            *middle = [0.0; Q];
            for block in older.iter().chain(newer).skip(BLOCKS - whole(n)) {
                add(middle, block);
            }
        }
    }

    /// The sums of what is older than the whole blocks, for this bar and the next ones.
    #[inline(always)]
    fn turn(&mut self, in_open: usize, lengths: [usize; L], at: impl Fn(usize) -> [f64; Q]) {
        for (i, n) in lengths.into_iter().enumerate() {
            let mut sum = [0.0; Q];
            for lag in in_open + BLOCK * whole(n)..n {
                if let Some(rests) = self.rests.get_mut(n - lag) {
                    rests[i] = sum;
                }
                add(&mut sum, &at(lag));
            }
            self.rests[0][i] = sum;
        }
    }
}

impl<const Q: usize, const L: usize, const BLOCKS: usize> Default for LongSums<Q, L, BLOCKS> {
    fn default() -> Self {
        Self::new()
    }
}

/// As many whole blocks as stay in a window of `n` bars until the next is full.
#[inline(always)]
const fn whole(n: usize) -> usize {
    (n - (BLOCK - 1)) / BLOCK
}

#[inline(always)]
fn add<const Q: usize>(sums: &mut [f64; Q], values: &[f64; Q]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};
    use crate::rolling::Window;

    const LENGTHS: [usize; 7] = [16, 30, 31, 48, 95, 96, 480];

    fn sums(first_bar: u64, xs: &[f64]) -> Vec<[[f64; 2]; 7]> {
        let (mut window, mut sums) = (Window::<480, 512>::new(), LongSums::<2, 7, 29>::new());
        let mut step = |(bar, x): (u64, &f64)| {
            window.push(*x);
            sums.update((bar, LENGTHS, |lag| [window.lag(lag), window.lag(lag) * window.lag(lag)])).unwrap()
        };
        (first_bar..).zip(xs).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_for_many_lengths_bit_equal_from_every_start() {
        let xs = walk(65, 700);
        for first_bar in [0, 1, 3, 15, 16, 1_888_889] {
            let all = sums(first_bar, &xs);
            for (i, sums) in all.iter().enumerate() {
                for (sums, n) in sums.iter().zip(LENGTHS) {
                    if let ([sum, squares], Some(from)) = (sums, (i + 1).checked_sub(n)) {
                        let window = &xs[from..=i];
                        assert_close(*sum, window.iter().sum(), 1e-12);
                        assert_close(*squares, window.iter().map(|x| x * x).sum(), 1e-12);
                    }
                }
            }
            for start in (1..18).chain([100]) {
                let part = sums(first_bar + start as u64, &xs[start..]);
                for (i, n) in LENGTHS.into_iter().enumerate() {
                    assert!((n - 1..part.len()).all(|bar| part[bar][i] == all[start + bar][i]));
                }
            }
        }
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut xs = walk(66, 700);
        let plain = sums(0, &xs);
        xs[100] = 1e100;
        let after = sums(0, &xs);
        for (i, n) in LENGTHS.into_iter().enumerate() {
            assert_ne!(plain[99 + n][i], after[99 + n][i]);
            assert!((100 + n..700).all(|bar| plain[bar][i] == after[bar][i]));
        }
    }

    #[test]
    fn nothing_sums_to_nothing() {
        assert_eq!(sums(7, &[0.0; 500])[499], [[0.0, 0.0]; 7]);
    }
}
