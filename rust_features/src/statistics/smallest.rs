//! The smallest values of a window: its lower tail.

/// The `K` smallest of the last values, ascending.
///
/// It keeps up to `KEEP` of the smallest: few values that come or go are among them, and a bar mostly costs two comparisons. When fewer
/// than `K` are left, the window is searched. `KEEP` is about twice `K`.
///
/// ```
/// use candlecast_features::statistics::Smallest;
///
/// let mut smallest = Smallest::<2, 4>::new();
/// assert_eq!(smallest.update((4.0, None, [5.0, 1.0, 4.0].into_iter())), Some([1.0, 4.0]));
/// assert_eq!(smallest.update((3.0, Some(5.0), [1.0, 4.0, 3.0].into_iter())), Some([1.0, 3.0]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Smallest<const K: usize, const KEEP: usize> {
    values: [f64; KEEP],
    len: usize,
    /// No value of the window that is not kept is less.
    bound: f64,
}

impl<const K: usize, const KEEP: usize> Smallest<K, KEEP> {
    /// Holds nothing yet.
    pub fn new() -> Self {
        const { assert!(0 < K && K < KEEP) }
        Self { values: [0.0; KEEP], len: 0, bound: f64::NEG_INFINITY }
    }

    /// Takes the newest value, the one that leaves the window with it (none the first time), and the values of the window, the
    /// newest included.
    #[inline(always)]
    pub fn update(
        &mut self,
        (new, leaving, window): (f64, Option<f64>, impl Iterator<Item = f64>),
    ) -> Option<[f64; K]> {
        if let Some(leaving) = leaving.filter(|leaving| *leaving <= self.bound) {
            self.remove(leaving);
        }
        if new <= self.bound {
            self.insert(new);
        }
        if self.len < K {
            self.search(window);
        }
        self.values.first_chunk().copied()
    }

    fn remove(&mut self, x: f64) {
        let place = self.place_of(x);
        // At the bound, an equal value that is not kept may be meant.
        if place < self.len && self.values[place] == x {
            self.values.copy_within(place + 1..self.len, place);
            self.len -= 1;
        }
    }

    fn insert(&mut self, x: f64) {
        let place = self.place_of(x);
        if self.len == KEEP {
            // The greatest is not kept.
            if place == KEEP {
                self.bound = x;
                return;
            }
            self.len -= 1;
            self.bound = self.values[self.len];
        }
        self.values.copy_within(place..self.len, place + 1);
        self.values[place] = x;
        self.len += 1;
    }

    /// How many kept values are less.
    fn place_of(&self, x: f64) -> usize {
        self.values[..self.len].partition_point(|y| *y < x)
    }

    #[cold]
    #[inline(never)]
    fn search(&mut self, window: impl Iterator<Item = f64>) {
        (self.len, self.bound) = (0, f64::INFINITY);
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
            let values = smallest.update((xs[i], (i >= N).then(|| xs[i - N]), window.iter().copied()));
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
