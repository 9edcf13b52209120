//! Sums over long windows: a few additions a bar, and still no residue.

/// Bars in a block.
const BLOCK: usize = 16;

/// Sums of `Q` quantities over the newest `n` bars.
///
/// A window is the rest of an old block, whole blocks, and the block that is still open. When the old block changes, once in 16
/// bars, the sums of its rests are made, newest first; between, a bar costs three additions. A running sum would be as cheap and
/// would keep residue: a print of 1e12 that has left it would still be felt. Blocks lie at absolute bar numbers, so the order of
/// the additions, and with it every bit, is the same from wherever a history starts. `BLOCKS` is at least `n / 16`.
///
/// It keeps no values: the caller says what the quantities were `lag` bars ago (`None`: before the first bar).
///
/// ```
/// use candlecast_features::rolling::{BlockSums, Window};
///
/// let (mut window, mut sums) = (Window::<40, 64>::new(), BlockSums::<1, 2>::new(40));
/// for bar in 1_000..1_100 {
///     window.push(1.0);
///     let sum = sums.update((bar, |lag| Some([window.lag(lag)?])));
///     assert_eq!(sum, (bar >= 1_039).then_some([40.0]));
/// }
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct BlockSums<const Q: usize, const BLOCKS: usize> {
    n: u32,
    seen: u32,
    /// Blocks closed so far; block `b` lies at `b % BLOCKS`.
    closed: u32,
    /// Whole blocks between the old block and the open one.
    whole: u32,
    open: [f64; Q],
    /// Of the whole blocks.
    middle: [f64; Q],
    /// Of the newest 1, 2, … 16 bars of the old block.
    rests: [[f64; Q]; BLOCK],
    blocks: [[f64; Q]; BLOCKS],
}

impl<const Q: usize, const BLOCKS: usize> BlockSums<Q, BLOCKS> {
    /// Sums over `n` bars, at least 16.
    pub fn new(n: usize) -> Self {
        assert!(n >= BLOCK && n / BLOCK <= BLOCKS, "{n} bars are not a window for {BLOCKS} blocks");
        Self {
            n: n as u32,
            seen: 0,
            closed: 0,
            whole: 0,
            open: [0.0; Q],
            middle: [0.0; Q],
            rests: [[0.0; Q]; BLOCK],
            blocks: [[0.0; Q]; BLOCKS],
        }
    }

    /// Takes the newest bar. `bar` is its absolute number: the same bar has the same number in every history. `at(lag)` gives the
    /// quantities `lag` bars before it, for any `lag` below `n`.
    #[inline(always)]
    pub fn update(&mut self, (bar, at): (u64, impl Fn(usize) -> Option<[f64; Q]>)) -> Option<[f64; Q]> {
        add(&mut self.open, &at(0)?);
        self.seen = (self.seen + 1).min(self.n);
        let in_open = (bar as usize + 1) % BLOCK;
        if in_open == 0 {
            self.blocks[self.closed as usize % BLOCKS] = self.open;
            self.closed += 1;
            self.open = [0.0; Q];
        }
        let beyond = self.n as usize % BLOCK;
        if in_open == 0 || in_open == beyond {
            self.turn(in_open, at);
        }
        if self.seen < self.n {
            return None;
        }
        let rest = self.n as usize - BLOCK * self.whole as usize - in_open;
        let mut sums = self.middle;
        add(&mut sums, &self.open);
        add(&mut sums, &self.rests[rest - 1]);
        Some(sums)
    }

    /// The window's end has entered another block.
    fn turn(&mut self, in_open: usize, at: impl Fn(usize) -> Option<[f64; Q]>) {
        let older = self.n as usize - in_open;
        // An end that lies between two blocks will cut the newer one next.
        let whole = (older - 1) / BLOCK;
        let mut rest = [0.0; Q];
        let first = in_open + BLOCK * whole;
        for (k, sums) in self.rests.iter_mut().enumerate().take(older - BLOCK * whole) {
            add(&mut rest, &at(first + k).unwrap_or([0.0; Q]));
            *sums = rest;
        }
        self.whole = whole as u32;
        self.middle = [0.0; Q];
        for back in (1..=whole).rev() {
            // Before the first block there is nothing, and no window is warm.
            let block = (self.closed as usize).checked_sub(back).map_or([0.0; Q], |block| self.blocks[block % BLOCKS]);
            add(&mut self.middle, &block);
        }
    }
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

    const LENGTHS: [usize; 7] = [16, 17, 31, 50, 96, 192, 480];

    /// Sums and sums of squares after each value, for each length.
    fn sums(first_bar: u64, xs: &[f64]) -> Vec<[Option<[f64; 2]>; 7]> {
        let mut window = Window::<480, 512>::new();
        let mut all = LENGTHS.map(BlockSums::<2, 30>::new);
        let mut step = |(bar, x): (u64, &f64)| {
            window.push(*x);
            all.each_mut().map(|sums| sums.update((bar, |lag| window.lag(lag).map(|x| [x, x * x]))))
        };
        (first_bar..).zip(xs).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_whatever_the_first_bar() {
        let xs = walk(9, 700);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            for (i, sums) in sums(first_bar, &xs).into_iter().enumerate() {
                for (sums, n) in sums.into_iter().zip(LENGTHS) {
                    let window = (i + 1).checked_sub(n).map(|from| &xs[from..=i]);
                    assert_eq!(sums.is_some(), window.is_some());
                    if let (Some([sum, squares]), Some(window)) = (sums, window) {
                        assert_close(sum, window.iter().sum(), 1e-12);
                        assert_close(squares, window.iter().map(|x| x * x).sum(), 1e-12);
                    }
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
        assert_ne!(plain[579][6], after[579][6]);
        assert_eq!(plain[580..], after[580..]);
    }
}
