//! Second-order structure function: how far a walk gets in k bars.

use crate::rolling::Window;

/// Bars over which increments are taken.
pub const LAGS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Points of the walk.
const POINTS: usize = 193;

/// Bars in a block.
const BLOCK: usize = 16;

/// Blocks kept: no lag has more of them in its window.
const BLOCKS: usize = 11;

/// Sums of (p − p\[k\])² over the 193 − k pairs inside the last 193 points, for each of [`LAGS`]. Warm with the 193rd.
///
/// As [`crate::rolling::BlockSums`], for six windows that begin at different bars: a bar costs three additions for each,
/// the blocks lie at absolute bar numbers, and once in 16 bars the sums of what is older than the whole blocks are made anew.
/// Input: absolute bar number and the window of points.
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::Increments};
///
/// let (mut points, mut increments) = (Window::<193, 256>::new(), Increments::new());
/// let mut sums = None;
/// for bar in 0..193 {
///     points.push(bar as f64);
///     sums = increments.update((bar, &points));
/// }
/// // 192 steps of 1, 161 of 32.
/// assert_eq!((sums.unwrap()[0], sums.unwrap()[5]), (192.0, 161.0 * 1024.0));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Increments {
    open: [f64; 6],
    /// Of the whole blocks.
    middle: [f64; 6],
    /// Of what is older, when 0, 1, … 15 bars of the open block are seen.
    older: [[f64; 6]; BLOCK],
    blocks: [[f64; 6]; BLOCKS],
    /// Where the next block goes.
    next: usize,
}

impl Increments {
    /// Has seen nothing.
    pub fn new() -> Self {
        let none = [0.0; 6];
        Self { open: none, middle: none, older: [none; BLOCK], blocks: [none; BLOCKS], next: 0 }
    }

    /// Takes the newest point.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, points): (u64, &Window<KEEP, CAP>),
    ) -> Option<[f64; 6]> {
        for (sum, k) in self.open.iter_mut().zip(LAGS) {
            *sum += square(points, 0, k);
        }
        let in_open = (bar as usize + 1) % BLOCK;
        if in_open == 0 {
            self.turn(points);
        }
        points.lag(POINTS - 1)?;
        Some(std::array::from_fn(|i| self.middle[i] + self.open[i] + self.older[in_open][i]))
    }

    /// A block is complete.
    fn turn<const KEEP: usize, const CAP: usize>(&mut self, points: &Window<KEEP, CAP>) {
        self.blocks[self.next] = std::mem::take(&mut self.open);
        self.next = (self.next + 1) % BLOCKS;
        for (i, k) in LAGS.into_iter().enumerate() {
            // As many whole blocks as stay in the window until the next is complete.
            let whole = (POINTS - k - (BLOCK - 1)) / BLOCK;
            let newest = (1..=whole).map(|back| self.blocks[(self.next + BLOCKS - back) % BLOCKS][i]);
            self.middle[i] = newest.sum();
            // With 15 bars of the open block seen there may be nothing older.
            self.older[BLOCK - 1][i] = 0.0;
            let mut sum = 0.0;
            for lag in BLOCK * whole..POINTS - k {
                sum += square(points, lag, k);
                if let Some(older) = self.older.get_mut(POINTS - k - 1 - lag) {
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

/// The increment over `k` bars, `lag` bars ago, squared; 0 where it begins before the first point.
#[inline(always)]
fn square<const KEEP: usize, const CAP: usize>(points: &Window<KEEP, CAP>, lag: usize, k: usize) -> f64 {
    let newer_and_older = points.lag(lag).zip(points.lag(lag + k));
    newer_and_older.map_or(0.0, |(newer, older)| (newer - older) * (newer - older))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::log_closes};

    fn sums(first_bar: u64, points: &[f64]) -> Vec<Option<[f64; 6]>> {
        let (mut window, mut increments) = (Window::<193, 256>::new(), Increments::new());
        let mut step = |(bar, p): (u64, &f64)| {
            window.push(*p);
            increments.update((bar, &window))
        };
        (first_bar..).zip(points).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_whatever_the_first_bar() {
        let points = log_closes(88, 400);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            for (i, sums) in sums(first_bar, &points).into_iter().enumerate() {
                assert_eq!(sums.is_some(), i >= 192);
                let Some(sums) = sums else { continue };
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
            for (whole, part) in whole[start..].iter().zip(sums(5 + start as u64, &points[start..])) {
                assert!(part.is_none() || part == *whole);
            }
        }
        points[200] = 27.0;
        let torn = sums(5, &points);
        assert_ne!(torn[392], whole[392]);
        assert_eq!(torn[393..], whole[393..]);
    }

    #[test]
    fn are_nothing_in_a_flat_market() {
        assert_eq!(sums(3, &[4.6; 200])[199], Some([0.0; 6]));
    }
}
