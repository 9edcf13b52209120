//! The last values of a series as one contiguous slice. It knows nothing of what is computed from them.

/// Holds the newest `KEEP` values of a series, oldest first, in one slice. What was not seen yet is NaN, so there are always as
/// many, and a length known to the compiler makes the loops over them straight.
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
/// assert_eq!(window.last::<3>(), &[7.0, 8.0, 9.0]);
/// assert_eq!(window.lag(2), 7.0);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Window<const KEEP: usize, const CAP: usize> {
    values: [f64; CAP],
    /// Where the oldest is.
    start: u32,
}

impl<const KEEP: usize, const CAP: usize> Window<KEEP, CAP> {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        const { assert!(0 < KEEP && KEEP < CAP, "a window needs room to slide") }
        Self { values: [f64::NAN; CAP], start: 0 }
    }

    /// What is left out where little but the newest `N` values and the oldest one is read.
    pub(crate) const fn between_oldest_and_newest<const N: usize>() -> (usize, usize) {
        let values = std::mem::offset_of!(Self, values);
        (values + (CAP - KEEP + 1) * size_of::<f64>(), values + (KEEP - N) * size_of::<f64>())
    }

    /// Appends the newest value.
    #[inline]
    pub fn push(&mut self, x: f64) {
        self.start += 1;
        if self.start as usize > CAP - KEEP {
            self.values.copy_within(CAP - (KEEP - 1).., 0);
            self.start = 0;
        }
        self.values[self.start as usize + KEEP - 1] = x;
    }

    /// The newest `KEEP` values, oldest first.
    #[inline(always)]
    pub fn all(&self) -> &[f64; KEEP] {
        let start = self.start as usize;
        self.values[start..start + KEEP].first_chunk().expect("as many as are kept")
    }

    /// The newest `N` values, oldest first.
    #[inline(always)]
    pub fn last<const N: usize>(&self) -> &[f64; N] {
        const { assert!(N <= KEEP, "a window is asked for more than it keeps") }
        self.all().last_chunk().expect("no more than are kept")
    }

    /// The value `k` bars before the newest. `k` is less than `KEEP`.
    #[inline(always)]
    pub fn lag(&self, k: usize) -> f64 {
        self.all()[KEEP - 1 - k]
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
        let mut all = vec![f64::NAN; 4];
        for i in 0..100 {
            window.push(f64::from(i));
            all.push(f64::from(i));
            let newest = all.last_chunk::<4>().unwrap();
            for k in 0..4 {
                assert_eq!(window.lag(k).to_bits(), newest[3 - k].to_bits());
                assert_eq!(window.all()[3 - k].to_bits(), newest[3 - k].to_bits());
            }
            assert_eq!(window.last::<1>(), &[f64::from(i)]);
            assert!(i < 2 || window.last::<3>() == &newest[1..]);
        }
    }

    #[test]
    fn is_nan_where_nothing_was_seen() {
        let mut window = Window::<3, 8>::new();
        assert!(window.all().iter().all(|x| x.is_nan()));
        window.push(1.0);
        assert!(window.lag(2).is_nan() && window.lag(1).is_nan());
        assert_eq!(window.lag(0), 1.0);
    }
}
