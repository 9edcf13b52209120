//! What a look over the last values gives, as an indicator.

use crate::{indicator::Indicator, rolling::Window};

/// A function of the last `KEEP` inputs, computed with every input: for a series that is rare enough to look over it
/// each time, such as the closes of a higher timeframe. `CAP` is where they lie (see [`Window`]). Warm when `look` says
/// so.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Window, timeframe::Scan};
///
/// let before = |window: &Window<2, 4>| window.lag(1);
/// assert_eq!(replay(Scan::new(before), [1.0, 2.0, 3.0]), [None, Some(1.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug)]
pub struct Scan<T, const KEEP: usize, const CAP: usize> {
    window: Window<KEEP, CAP>,
    look: fn(&Window<KEEP, CAP>) -> Option<T>,
}

impl<T, const KEEP: usize, const CAP: usize> Scan<T, KEEP, CAP> {
    /// What `look` sees in the window; `None` while that holds too little for it.
    pub fn new(look: fn(&Window<KEEP, CAP>) -> Option<T>) -> Self {
        Self { window: Window::new(), look }
    }
}

impl<T, const KEEP: usize, const CAP: usize> Indicator for Scan<T, KEEP, CAP> {
    type Input = f64;
    type Output = T;

    #[inline]
    fn update(&mut self, x: f64) -> Option<T> {
        self.window.push(x);
        (self.look)(&self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::walk;
    use crate::rolling::sum;

    #[test]
    fn sees_the_last_values() {
        let xs = walk(62, 100);
        let look = |window: &Window<7, 9>| window.last::<7>().map(|last| sum(last));
        for (i, seen) in replay(Scan::new(look), xs.clone()).into_iter().enumerate() {
            assert_eq!(seen, (i >= 6).then(|| sum(&xs[i - 6..=i])));
        }
    }
}
