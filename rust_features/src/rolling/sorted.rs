//! The order of the last values: medians, quantiles.

use super::Window;

/// The newest `N` values of a window in ascending order; of each only when it came, in a byte.
///
/// The one that leaves is found by bisection and everything between it and the place of the new one moves by one: one
/// short `memmove` a bar, and no residue.
///
/// ```
/// use candlecast_features::rolling::{Sorted, Window};
///
/// let (mut window, mut sorted) = (Window::<4, 5>::new(), Sorted::<3>::new());
/// for x in [5.0, 1.0, 3.0, 2.0] {
///     window.push(x);
///     sorted.update(&window);
/// }
/// assert_eq!(sorted.at(&window, 2), Some(3.0));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Sorted<const N: usize> {
    /// Numbers of the values, counted by the byte.
    order: [u8; N],
    len: u8,
    newest: u8,
}

impl<const N: usize> Sorted<N> {
    /// Holds nothing yet.
    pub fn new() -> Self {
        const { assert!(0 < N && N < 256, "a byte tells no more values apart") }
        Self { order: [0; N], len: 0, newest: 0 }
    }

    /// Takes in the newest value of `window`, which has every value since the first or more than `N` of them, and lets the oldest go.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(&mut self, window: &Window<KEEP, CAP>) {
        const { assert!(N < KEEP, "the value that leaves must still be known") }
        let new = window.lag(0);
        self.newest = self.newest.wrapping_add(1);
        let len = usize::from(self.len);
        let hole = if len < N {
            self.len += 1;
            len
        } else {
            let leaving = self.newest.wrapping_sub(N as u8);
            let first = self.below(window, N, window.lag(N));
            (first..N - 1).find(|place| self.order[*place] == leaving).unwrap_or(N - 1)
        };
        // The new value's place among the others; one to the left when the hole lies before it.
        let place = self.below(window, len, new);
        let place = if place > hole { place - 1 } else { place };
        if place < hole {
            self.order.copy_within(place..hole, place + 1);
        } else {
            self.order.copy_within(hole + 1..=place, hole);
        }
        self.order[place] = self.newest;
    }

    /// The `i`-th value, counted from 0; `None` until `N` were seen.
    #[inline(always)]
    pub fn at<const KEEP: usize, const CAP: usize>(&self, window: &Window<KEEP, CAP>, i: usize) -> Option<f64> {
        (usize::from(self.len) == N).then(|| self.value(window, self.order[i]))
    }

    /// How many of the `len` values are less than `x`.
    #[inline(always)]
    fn below<const KEEP: usize, const CAP: usize>(&self, window: &Window<KEEP, CAP>, len: usize, x: f64) -> usize {
        let is_less = |place: usize| usize::from(self.value(window, self.order[place]) < x);
        let (mut below, mut left) = (0, len);
        // No branch hangs on a comparison: it would be guessed wrong half of the time.
        while left > 1 {
            let half = left / 2;
            below += half & is_less(below + half - 1).wrapping_neg();
            left -= half;
        }
        if left == 1 { below + is_less(below) } else { 0 }
    }

    #[inline(always)]
    fn value<const KEEP: usize, const CAP: usize>(&self, window: &Window<KEEP, CAP>, number: u8) -> f64 {
        window.lag(usize::from(self.newest.wrapping_sub(number)))
    }
}

impl<const N: usize> Default for Sorted<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    fn check<const N: usize>(xs: &[f64]) {
        let (mut window, mut sorted) = (Window::<201, 216>::new(), Sorted::<N>::new());
        for (i, x) in xs.iter().enumerate() {
            window.push(*x);
            sorted.update(&window);
            let values: Option<Vec<f64>> = (0..N).map(|i| sorted.at(&window, i)).collect();
            let plain = (i + 1).checked_sub(N).map(|from| {
                let mut plain = xs[from..=i].to_vec();
                plain.sort_by(f64::total_cmp);
                plain
            });
            assert_eq!(values, plain, "bar {i}");
        }
    }

    #[test]
    fn is_the_sorted_window_for_many_lengths() {
        // A tick walk: many equal values, the case that breaks a careless bisection.
        for xs in [ticks(6, 1_000), walk(6, 1_000), vec![3.0; 600]] {
            check::<1>(&xs);
            check::<2>(&xs);
            check::<5>(&xs);
            check::<96>(&xs);
            check::<200>(&xs);
        }
    }
}
