//! A series that nobody else keeps, as an indicator.

use crate::rolling::Window;

/// Takes a value a bar and passes on the newest `KEEP` (`CAP` is where they lie, see [`Window`]). Warm with the first.
///
/// ```
/// use candlecast_features::volume::Kept;
///
/// let mut kept = Kept::<2, 4>::new();
/// kept.update(1.0);
/// assert_eq!(kept.update(5.0).unwrap().last::<2>(), Some(&[1.0, 5.0]));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Kept<const KEEP: usize, const CAP: usize> {
    values: Window<KEEP, CAP>,
}

impl<const KEEP: usize, const CAP: usize> Kept<KEEP, CAP> {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        Self { values: Window::new() }
    }

    /// Takes the next value. No [`crate::indicator::Indicator`]: what it gives is borrowed.
    #[inline(always)]
    pub fn update(&mut self, x: f64) -> Option<&Window<KEEP, CAP>> {
        self.values.push(x);
        Some(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn passes_the_newest_values_on() {
        let xs = walk(80, 60);
        let mut kept = Kept::<7, 12>::new();
        for (i, x) in xs.iter().enumerate() {
            let window = kept.update(*x).unwrap();
            assert_eq!(window.newest(7), (i + 1).checked_sub(7).map(|from| &xs[from..=i]));
        }
    }
}
