//! The value some bars ago, for a series of which nothing else is needed.

use crate::indicator::Indicator;

/// The input `K` updates earlier.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Lag};
///
/// assert_eq!(replay(Lag::<2>::new(), [1.0, 2.0, 3.0, 4.0]), [None, None, Some(1.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Lag<const K: usize> {
    values: [f64; K],
    at: usize,
    is_full: bool,
}

impl<const K: usize> Lag<K> {
    /// A lag that has seen nothing.
    pub fn new() -> Self {
        Self { values: [0.0; K], at: 0, is_full: false }
    }
}

impl<const K: usize> Default for Lag<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const K: usize> Indicator for Lag<K> {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, x: f64) -> Option<f64> {
        let old = std::mem::replace(&mut self.values[self.at], x);
        let answer = self.is_full.then_some(old);
        self.at += 1;
        if self.at == K {
            (self.at, self.is_full) = (0, true);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::walk;

    #[test]
    fn is_the_earlier_value() {
        let xs = walk(3, 50);
        let lagged = replay(Lag::<7>::new(), xs.clone());
        for (i, value) in lagged.into_iter().enumerate() {
            assert_eq!(value, i.checked_sub(7).map(|earlier| xs[earlier]));
        }
    }
}
