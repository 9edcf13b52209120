//! A series that nobody else keeps, as an indicator.

/// Takes a value a bar and passes on the newest `KEEP`, to 24 bits: for what is positive, or at most 1, and then
/// divided by a sum of its kind. `CAP` is where they lie, as in [`crate::rolling::Window`]; what was not seen yet is NaN.
///
/// ```
/// use candlecast_features::volume::Kept;
///
/// let mut kept = Kept::<2, 4>::new();
/// kept.update(1.0);
/// assert_eq!(kept.update(5.0).unwrap().last::<2>(), [1.0, 5.0]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Kept<const KEEP: usize, const CAP: usize> {
    values: [f32; CAP],
    /// Where the oldest is.
    start: u32,
}

impl<const KEEP: usize, const CAP: usize> Kept<KEEP, CAP> {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        const { assert!(0 < KEEP && KEEP < CAP, "a window needs room to slide") }
        Self { values: [f32::NAN; CAP], start: 0 }
    }

    /// Takes the next value. No [`crate::indicator::Indicator`]: what it gives is borrowed.
    #[inline(always)]
    pub fn update(&mut self, x: f64) -> Option<&Self> {
        self.start += 1;
        if self.start as usize > CAP - KEEP {
            self.values.copy_within(CAP - (KEEP - 1).., 0);
            self.start = 0;
        }
        self.values[self.start as usize + KEEP - 1] = x as f32;
        Some(self)
    }

    #[inline(always)]
    fn all(&self) -> &[f32; KEEP] {
        let start = self.start as usize;
        self.values[start..start + KEEP].first_chunk().expect("as many as are kept")
    }

    /// The newest `N` values, oldest first.
    #[inline(always)]
    pub fn last<const N: usize>(&self) -> [f64; N] {
        const { assert!(N <= KEEP, "a window is asked for more than it keeps") }
        let newest: &[f32; N] = self.all().last_chunk().expect("no more than are kept");
        newest.map(f64::from)
    }

    /// The value `k` bars before the newest. `k` is less than `KEEP`.
    #[inline(always)]
    pub fn lag(&self, k: usize) -> f64 {
        f64::from(self.all()[KEEP - 1 - k])
    }
}

impl<const KEEP: usize, const CAP: usize> Default for Kept<KEEP, CAP> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn passes_the_newest_values_on() {
        let xs: Vec<f64> = walk(80, 60).into_iter().map(|x| f64::from(x as f32)).collect();
        let mut kept = Kept::<7, 12>::new();
        for (i, x) in xs.iter().enumerate() {
            let kept = kept.update(*x).unwrap();
            if let Some(from) = (i + 1).checked_sub(7) {
                assert_eq!(kept.last::<7>(), xs[from..=i]);
                assert_eq!(kept.lag(6), xs[from]);
            } else {
                assert!(kept.lag(6).is_nan());
            }
        }
    }
}
