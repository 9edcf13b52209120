//! The smallest values of a window: its lower tail.

/// The `K` smallest of the last values, ascending.
///
/// It keeps up to `KEEP` of the smallest: few values that come or go are among them, and a bar mostly costs two
/// comparisons. When fewer than `K` are left, the window is searched. `KEEP` is about twice `K`.
///
/// ```
/// use candlecast_features::statistics::Smallest;
///
/// let mut smallest = Smallest::<2, 4>::new();
/// assert_eq!(smallest.update((4.0, f64::NAN, [5.0, 1.0, 4.0].into_iter())), Some([1.0, 4.0]));
/// assert_eq!(smallest.update((3.0, 5.0, [1.0, 4.0, 3.0].into_iter())), Some([1.0, 3.0]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Smallest<const K: usize, const KEEP: usize> {
    /// Ascending; infinite where there is none.
    values: [f64; KEEP],
    /// No value of the window that is not kept is less.
    bound: f64,
}

impl<const K: usize, const KEEP: usize> Smallest<K, KEEP> {
    /// Holds nothing yet.
    pub fn new() -> Self {
        const { assert!(0 < K && K < KEEP) }
        Self { values: [f64::INFINITY; KEEP], bound: f64::NEG_INFINITY }
    }

    /// Takes the newest value, the one that leaves the window with it (NaN: none), and the values of the
    /// window, the newest included.
    #[inline(always)]
    pub fn update(&mut self, (new, leaving, window): (f64, f64, impl Iterator<Item = f64>)) -> Option<[f64; K]> {
        if leaving <= self.bound {
            self.remove(leaving);
        }
        if new <= self.bound {
            self.insert(new);
        }
        if self.values[K - 1] == f64::INFINITY {
            self.search(window);
        }
        self.values.first_chunk().copied()
    }

    /// Takes out one value equal to `x`. At the bound there may be none: one that is not kept is meant.
    #[inline(always)]
    fn remove(&mut self, x: f64) {
        let mut is_kept = false;
        for value in &self.values {
            is_kept |= *value == x;
        }
        let from = if is_kept { x } else { f64::INFINITY };
        for i in 0..KEEP - 1 {
            self.values[i] = if self.values[i] < from { self.values[i] } else { self.values[i + 1] };
        }
        if is_kept {
            self.values[KEEP - 1] = f64::INFINITY;
        }
    }

    /// Takes in `x`; the greatest falls out.
    #[inline(always)]
    fn insert(&mut self, x: f64) {
        let old = self.values;
        let greater = |a: f64, b: f64| if a > b { a } else { b };
        let lesser = |a: f64, b: f64| if a < b { a } else { b };
        self.bound = lesser(self.bound, greater(old[KEEP - 1], x));
        self.values[0] = lesser(old[0], x);
        for i in 1..KEEP {
            self.values[i] = greater(old[i - 1], lesser(old[i], x));
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&mut self, window: impl Iterator<Item = f64>) {
        *self = Self { bound: f64::INFINITY, ..Self::new() };
        for x in window {
            if x <= self.bound {
                self.insert(x);
            }
        }
    }
}

impl<const K: usize, const KEEP: usize> Default for Smallest<K, KEEP> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::samples::{returns, tied_returns};

    fn check<const N: usize, const K: usize, const KEEP: usize>(xs: &[f64]) {
        let mut smallest = Smallest::<K, KEEP>::new();
        for i in N - 1..xs.len() {
            let window = &xs[i + 1 - N..=i];
            let values =
                smallest.update((xs[i], i.checked_sub(N).map_or(f64::NAN, |left| xs[left]), window.iter().copied()));
            let mut sorted = window.to_vec();
            sorted.sort_by(f64::total_cmp);
            assert_eq!(values.unwrap(), sorted[..K]);
        }
    }

    fn check_many(xs: &[f64]) {
        check::<8, 3, 4>(xs);
        check::<8, 3, 8>(xs);
        check::<96, 5, 12>(xs);
        check::<192, 11, 24>(xs);
    }

    #[test]
    fn are_the_first_of_the_sorted_window_for_many_lengths() {
        check_many(&returns(99, 800));
        check_many(&tied_returns(100, 800));
    }

    #[test]
    fn survive_long_falls_and_rises_and_flats() {
        check_many(&(0..500).map(f64::from).collect::<Vec<_>>());
        check_many(&(0..500).map(|i| -f64::from(i)).collect::<Vec<_>>());
        check_many(&[0.0; 500]);
        check_many(&(0..900).map(|i| f64::from(i / 100 % 2 * (i % 3))).collect::<Vec<_>>());
    }
}
