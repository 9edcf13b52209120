//! A series that nobody else keeps, as an indicator.

/// Takes a value a bar and passes on the newest `KEEP`, to 24 bits: for what is positive, or at most 1, and then
/// divided by a sum of its kind. `CAP` is where they lie, as in [`crate::rolling::Window`]. Warm with the first.
///
/// ```
/// use candlecast_features::volume::Kept;
///
/// let mut kept = Kept::<2, 4>::new();
/// kept.update(1.0);
/// assert_eq!(kept.update(5.0).unwrap().last::<2>(), Some([1.0, 5.0]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Kept<const KEEP: usize, const CAP: usize> {
    values: [f32; CAP],
    end: u32,
}

impl<const KEEP: usize, const CAP: usize> Kept<KEEP, CAP> {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        const { assert!(0 < KEEP && KEEP < CAP, "a window needs room to slide") }
        Self { values: [0.0; CAP], end: 0 }
    }

    /// Takes the next value. No [`crate::indicator::Indicator`]: what it gives is borrowed.
    #[inline(always)]
    pub fn update(&mut self, x: f64) -> Option<&Self> {
        if self.end as usize == CAP {
            self.values.copy_within(CAP - (KEEP - 1).., 0);
            self.end = (KEEP - 1) as u32;
        }
        self.values[self.end as usize] = x as f32;
        self.end += 1;
        Some(self)
    }

    /// The newest `N` values, oldest first; `None` until `N` were seen.
    #[inline(always)]
    pub fn last<const N: usize>(&self) -> Option<[f64; N]> {
        const { assert!(N <= KEEP, "a window is asked for more than it keeps") }
        self.values[..self.end as usize].last_chunk().map(|values: &[f32; N]| values.map(f64::from))
    }

    /// The value `k` bars before the newest; `None` until it was seen. `k` is less than `KEEP`.
    #[inline(always)]
    pub fn lag(&self, k: usize) -> Option<f64> {
        Some(f64::from(self.values[(self.end as usize).checked_sub(k + 1)?]))
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
            let expected = (i + 1).checked_sub(7).map(|from| &xs[from..=i]);
            assert_eq!(kept.last::<7>().as_ref().map(|values| &values[..]), expected);
            assert_eq!(kept.lag(6), expected.map(|values| values[0]));
        }
    }
}
