//! Second-order structure function: how far a walk gets in k bars.

use crate::{memory::part, rolling::Window};

/// Bars over which increments are taken.
pub const LAGS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Points of the walk.
const POINTS: usize = 193;

/// Bars in a block.
const BLOCK: usize = 16;

/// Bars for which the sums of what is older than the whole blocks are made at a time.
const STEP: usize = 8;

/// Blocks kept: no lag has more of them in its window.
const BLOCKS: usize = WHOLE[0];

/// Of each lag, as many whole blocks as stay in the window until the next is complete.
const WHOLE: [usize; 6] = {
    let (mut whole, mut i) = ([0; 6], 0);
    while i < 6 {
        whole[i] = (POINTS - LAGS[i] - (BLOCK - 1)) / BLOCK;
        i += 1;
    }
    whole
};

/// Sums of (p − p\[k\])² over the 193 − k pairs inside the last 193 points, for each of [`LAGS`]. Right with the 193rd; before, it says
/// nothing.
///
/// As [`crate::rolling::LongSums`], for six windows of six series: a bar costs three additions for each, the blocks
/// lie at absolute bar numbers, and once in four bars the sums of what is older than the whole blocks are made anew.
/// Input: absolute bar number and the window of points.
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::Increments};
///
/// let (mut points, mut increments) = (Window::<193, 256>::new(), Increments::new());
/// let mut sums = [0.0; 6];
/// for bar in 0..193 {
///     points.push(bar as f64);
///     sums = increments.update((bar, &points)).unwrap();
/// }
/// // 192 steps of 1, 161 of 32.
/// assert_eq!((sums[0], sums[5]), (192.0, 161.0 * 1024.0));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Increments {
    open: [f64; 6],
    /// Of the whole blocks.
    middle: [f64; 6],
    /// Of what is older, now and in the next bars.
    older: [[f64; 6]; STEP],
    blocks: [[f64; 6]; BLOCKS],
    /// Where the next block goes.
    next: usize,
}

impl Increments {
    /// The blocks are read when one is full.
    pub(crate) const RARELY: (usize, usize) = part!(blocks: [[f64; 6]; BLOCKS]);

    /// Has seen nothing.
    pub fn new() -> Self {
        let none = [0.0; 6];
        Self { open: none, middle: none, older: [none; STEP], blocks: [none; BLOCKS], next: 0 }
    }

    /// Takes the newest point.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, points): (u64, &Window<KEEP, CAP>),
    ) -> Option<[f64; 6]> {
        let points = points.last();
        for (open, k) in self.open.iter_mut().zip(LAGS) {
            let increment = points[POINTS - 1] - points[POINTS - 1 - k];
            *open += increment * increment;
        }
        let in_open = (bar as usize + 1) % BLOCK;
        if in_open == 0 {
            self.close();
        }
        if in_open.is_multiple_of(STEP) {
            self.turn(in_open, points);
        }
        let mut sums = self.older[in_open % STEP];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += self.middle[i] + self.open[i];
        }
        Some(sums)
    }

    /// A block is complete.
    fn close(&mut self) {
        self.blocks[self.next] = std::mem::take(&mut self.open);
        self.next = (self.next + 1) % BLOCKS;
        let (newer, older) = self.blocks.split_at(self.next);
        self.middle = [0.0; 6];
        for (block, have) in older.iter().chain(newer).zip((1..=BLOCKS).rev()) {
            for i in 0..6 {
                self.middle[i] += if have <= WHOLE[i] { block[i] } else { 0.0 };
            }
        }
    }

    /// What is older than the whole blocks begins elsewhere.
    #[inline(always)]
    fn turn(&mut self, in_open: usize, points: &[f64; POINTS]) {
        // With 15 bars of the open block seen there may be nothing older.
        self.older = [[0.0; 6]; STEP];
        for i in 0..6 {
            let (k, mut sum) = (LAGS[i], 0.0);
            for newest in (k..POINTS - BLOCK * WHOLE[i] - in_open).rev() {
                sum += (points[newest] - points[newest - k]).powi(2);
                if let Some(older) = self.older.get_mut(newest - k) {
                    older[i] = sum;
                }
            }
        }
    }
}

impl Default for Increments {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::log_closes};

    fn sums(first_bar: u64, points: &[f64]) -> Vec<[f64; 6]> {
        let (mut window, mut increments) = (Window::<193, 256>::new(), Increments::new());
        let mut step = |(bar, p): (u64, &f64)| {
            window.push(*p);
            increments.update((bar, &window)).unwrap()
        };
        (first_bar..).zip(points).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_whatever_the_first_bar() {
        let points = log_closes(88, 400);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            for (i, sums) in sums(first_bar, &points).into_iter().enumerate().skip(192) {
                let points = &points[i - 192..=i];
                for (sum, k) in sums.into_iter().zip(LAGS) {
                    let plain: f64 = (k..193).map(|j| (points[j] - points[j - k]).powi(2)).sum();
                    assert_close(sum / plain, 1.0, 1e-13);
                }
            }
        }
    }

    #[test]
    fn are_bit_equal_from_every_start_and_forget_what_has_left() {
        let mut points = log_closes(89, 500);
        let whole = sums(5, &points);
        for start in 1..60 {
            assert_eq!(sums(5 + start as u64, &points[start..])[192..], whole[start + 192..]);
        }
        points[200] = 27.0;
        let torn = sums(5, &points);
        assert_ne!(torn[392], whole[392]);
        assert_eq!(torn[393..], whole[393..]);
    }

    #[test]
    fn are_nothing_in_a_flat_market() {
        assert_eq!(sums(3, &[4.6; 200])[199], [0.0; 6]);
    }
}
