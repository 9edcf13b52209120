//! Sums over a window of values nobody else keeps: three additions a bar, no residue, hardly any room but the values.

use crate::{indicator::Indicator, memory::part};

/// Sums of `Q` quantities over the newest `N` bars; it keeps the values itself. Input: the absolute bar number and the
/// quantities. Warm with the `N`-th bar.
///
/// The ring is made of blocks. A block that is full becomes, in place, the sums of its rests: of its newest `BLOCK`
/// bars, one less, … one. The next bars overwrite the oldest block from its old end, so the place behind the newest bar
/// always holds the sum of what is left of it. The window is that rest, the whole blocks, and the block that is still
/// open. Blocks lie at absolute bar numbers, so every bit is the same from wherever a history starts. `BLOCK` divides
/// `N`.
///
/// Where the values are kept anyway, [`super::LongSums`] takes less room. `T` is how they are kept: `f32` where no
/// quantity is negative and of its sum only the ratio to another matters; it keeps 1e-38 to 1e37.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::RingSums};
///
/// let sums = replay(RingSums::<1, 4, 2>::new(), (1_000..).zip([[1.0], [2.0], [3.0], [4.0], [5.0]]));
/// assert_eq!(sums, [None, None, None, Some([10.0]), Some([14.0])]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct RingSums<const Q: usize, const N: usize, const BLOCK: usize, T = f64> {
    seen: usize,
    open: [f64; Q],
    /// Of the whole blocks.
    middle: [f64; Q],
    /// Values in the open block, sums of rests in the others.
    ring: [[T; Q]; N],
}

impl<const Q: usize, const N: usize, const BLOCK: usize, T: Number> RingSums<Q, N, BLOCK, T> {
    /// Of the ring a bar touches two places.
    pub(crate) const RARELY: (usize, usize) = part!(ring: [[T; Q]; N]);

    /// Sums that have seen nothing.
    pub fn new() -> Self {
        const { assert!(0 < BLOCK && BLOCK < N && N.is_multiple_of(BLOCK), "a window is made of blocks") }
        Self { seen: 0, open: [0.0; Q], middle: [0.0; Q], ring: [[T::of(0.0); Q]; N] }
    }

    /// The open block, which ends with `place`, is full.
    fn close(&mut self, place: usize) {
        let mut rest = [0.0; Q];
        for values in self.ring[place + 1 - BLOCK..=place].iter_mut().rev() {
            add(&mut rest, &values.map(T::value));
            *values = rest.map(T::of);
        }
        let next = (place + 1) % N;
        (self.open, self.middle) = ([0.0; Q], [0.0; Q]);
        for block in (0..N).step_by(BLOCK).filter(|block| *block != next) {
            add(&mut self.middle, &self.ring[block].map(T::value));
        }
    }
}

impl<const Q: usize, const N: usize, const BLOCK: usize, T: Number> Default for RingSums<Q, N, BLOCK, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const Q: usize, const N: usize, const BLOCK: usize, T: Number> Indicator for RingSums<Q, N, BLOCK, T> {
    type Input = (u64, [f64; Q]);
    type Output = [f64; Q];

    #[inline(always)]
    fn update(&mut self, (bar, values): (u64, [f64; Q])) -> Option<[f64; Q]> {
        let place = (bar % N as u64) as usize;
        self.ring[place] = values.map(T::of);
        add(&mut self.open, &values);
        if (place + 1).is_multiple_of(BLOCK) {
            self.close(place);
        }
        if self.seen + 1 < N {
            self.seen += 1;
            return None;
        }
        let mut sums = self.middle;
        add(&mut sums, &self.open);
        add(&mut sums, &self.ring[(place + 1) % N].map(T::value));
        Some(sums)
    }
}

/// How a value is kept.
pub trait Number: Copy {
    /// Of the value.
    fn of(x: f64) -> Self;
    /// The value.
    fn value(self) -> f64;
}

impl Number for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn value(self) -> f64 {
        self
    }
}

impl Number for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn value(self) -> f64 {
        f64::from(self)
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
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn sums<const N: usize, const BLOCK: usize>(first_bar: u64, xs: &[f64]) -> Vec<Option<[f64; 2]>> {
        replay(RingSums::<2, N, BLOCK>::new(), (first_bar..).zip(xs.iter().map(|x| [*x, x * x])))
    }

    fn check<const N: usize, const BLOCK: usize>() {
        let xs = walk(60, 400);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            let all = sums::<N, BLOCK>(first_bar, &xs);
            for (i, sums) in all.iter().enumerate() {
                let window = (i + 1).checked_sub(N).map(|from| &xs[from..=i]);
                assert_eq!(sums.is_some(), window.is_some());
                if let (Some([sum, squares]), Some(window)) = (sums, window) {
                    assert_close(*sum, window.iter().sum(), 1e-12);
                    assert_close(*squares, window.iter().map(|x| x * x).sum(), 1e-12);
                }
            }
            for start in 1..=BLOCK + 1 {
                let part = sums::<N, BLOCK>(first_bar + start as u64, &xs[start..]);
                assert!(part.iter().zip(&all[start..]).all(|(part, whole)| part.is_none() || part == whole));
            }
        }
    }

    #[test]
    fn are_the_plain_sums_for_many_lengths_bit_equal_from_every_start() {
        check::<2, 1>();
        check::<8, 4>();
        check::<20, 4>();
        check::<25, 5>();
        check::<48, 16>();
        check::<96, 16>();
    }

    #[test]
    fn of_f32_are_good_to_24_bits() {
        let xs = walk(75, 400);
        let sums = replay(RingSums::<1, 96, 16, f32>::new(), (9..).zip(xs.iter().map(|x| [*x])));
        for (window, sum) in xs.windows(96).zip(&sums[95..]) {
            assert!((sum.unwrap()[0] / window.iter().sum::<f64>() - 1.0).abs() < 6e-8);
        }
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut xs = walk(61, 400);
        let plain = sums::<96, 16>(0, &xs);
        xs[100] = 1e100;
        let after = sums::<96, 16>(0, &xs);
        assert_ne!(plain[195], after[195]);
        assert_eq!(plain[196..], after[196..]);
    }

    #[test]
    fn nothing_sums_to_nothing() {
        assert_eq!(sums::<20, 4>(3, &[0.0; 40])[39], Some([0.0, 0.0]));
    }
}
