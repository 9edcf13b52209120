//! The last values of a series as one contiguous slice. It knows nothing of what is computed from them.

/// Holds at least the newest `KEEP` values of a series, oldest first, in one slice.
///
/// Values are written behind one another into `CAP` places; when the last place is taken, the newest `KEEP - 1` move to the
/// front. A mirrored ring would also give one slice, at twice the memory: with hundreds of bars per series and thousands of
/// symbols the cache is what is scarce.
///
/// ```
/// use candlecast_features::rolling::Window;
///
/// let mut window = Window::<3, 5>::new();
/// for x in 1..=9 {
///     window.push(f64::from(x));
/// }
/// assert_eq!(window.last::<3>(), Some(&[7.0, 8.0, 9.0]));
/// assert_eq!(window.lag(2), Some(7.0));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Window<const KEEP: usize, const CAP: usize> {
    values: [f64; CAP],
    end: usize,
}

impl<const KEEP: usize, const CAP: usize> Window<KEEP, CAP> {
    /// An empty window.
    pub fn new() -> Self {
        const { assert!(0 < KEEP && KEEP < CAP, "a window needs room to slide") }
        Self { values: [0.0; CAP], end: 0 }
    }

    /// Appends the newest value.
    #[inline]
    pub fn push(&mut self, x: f64) {
        if self.end == CAP {
            self.values.copy_within(CAP - (KEEP - 1).., 0);
            self.end = KEEP - 1;
        }
        self.values[self.end] = x;
        self.end += 1;
    }

    /// The newest `N` values, oldest first; `None` until `N` were seen. A length known to the compiler makes the loops over it
    /// straight.
    #[inline]
    pub fn last<const N: usize>(&self) -> Option<&[f64; N]> {
        const { assert!(N <= KEEP, "a window is asked for more than it keeps") }
        self.values[..self.end].last_chunk()
    }

    /// As [`Window::last`], for a length that is only known now. `n` is at most `KEEP`.
    #[inline]
    pub fn newest(&self, n: usize) -> Option<&[f64]> {
        debug_assert!(n <= KEEP, "{n} values asked of a window that keeps {KEEP}");
        self.values[..self.end].get(self.end.checked_sub(n)?..)
    }

    /// All that is kept for sure: the newest `KEEP` values, or fewer before there are as many, oldest first.
    #[inline]
    pub fn all(&self) -> &[f64] {
        &self.values[self.end.saturating_sub(KEEP)..self.end]
    }

    /// The value `k` bars before the newest; `None` until it was seen. `k` is less than `KEEP`.
    #[inline]
    pub fn lag(&self, k: usize) -> Option<f64> {
        debug_assert!(k < KEEP, "lag {k} asked of a window that keeps {KEEP}");
        Some(self.values[self.end.checked_sub(k + 1)?])
    }
}

impl<const KEEP: usize, const CAP: usize> Default for Window<KEEP, CAP> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_newest_values_in_order_across_many_slides() {
        let mut window = Window::<4, 5>::new();
        let mut all = Vec::new();
        for i in 0..100 {
            window.push(f64::from(i));
            all.push(f64::from(i));
            for n in 1..=4 {
                let expected = all.len().checked_sub(n).map(|from| &all[from..]);
                assert_eq!(window.newest(n), expected);
                assert_eq!(window.lag(n - 1), expected.map(|tail| tail[0]));
            }
            assert_eq!(window.last::<3>().map(|last| &last[..]), window.newest(3));
            assert_eq!(window.all(), &all[all.len().saturating_sub(4)..]);
        }
    }

    #[test]
    fn is_silent_until_enough_was_seen() {
        let mut window = Window::<3, 8>::new();
        assert_eq!((window.last::<1>(), window.lag(0)), (None, None));
        window.push(1.0);
        assert_eq!((window.last::<2>(), window.lag(1)), (None, None));
        assert_eq!(window.lag(0), Some(1.0));
    }
}
