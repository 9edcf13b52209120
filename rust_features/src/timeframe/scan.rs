//! What a look over the last values gives, as an indicator.

use std::marker::PhantomData;

use crate::{indicator::Indicator, rolling::Window};

/// A function of the last `KEEP` inputs, computed with every input: for a series that is rare enough to look over it
/// each time, such as the closes of a higher timeframe. `CAP` is where they lie (see [`Window`]). Warm when the function says so.
/// Input: the value, and the function.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Window, timeframe::Scan};
///
/// let before = |window: &Window<2, 4>| Some(window.lag(1)).filter(|x| !x.is_nan());
/// let inputs = [1.0, 2.0, 3.0].map(|x| (x, before as fn(&_) -> _));
/// assert_eq!(replay(Scan::new(), inputs), [None, Some(1.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Scan<T, const KEEP: usize, const CAP: usize> {
    window: Window<KEEP, CAP>,
    output: PhantomData<T>,
}

impl<T, const KEEP: usize, const CAP: usize> Scan<T, KEEP, CAP> {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { window: Window::new(), output: PhantomData }
    }
}

impl<T, const KEEP: usize, const CAP: usize> Default for Scan<T, KEEP, CAP> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const KEEP: usize, const CAP: usize> Indicator for Scan<T, KEEP, CAP> {
    type Input = (f64, fn(&Window<KEEP, CAP>) -> Option<T>);
    type Output = T;

    #[inline]
    fn update(&mut self, (x, look): Self::Input) -> Option<T> {
        self.window.push(x);
        look(&self.window)
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
        let look: fn(&Window<7, 9>) -> _ = |window| Some(sum(window.last::<7>())).filter(|sum| !sum.is_nan());
        for (i, seen) in replay(Scan::new(), xs.iter().map(|x| (*x, look))).into_iter().enumerate() {
            assert_eq!(seen, (i >= 6).then(|| sum(&xs[i - 6..=i])));
        }
    }
}
