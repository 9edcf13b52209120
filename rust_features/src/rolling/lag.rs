//! The value some bars ago, for a series of which nothing else is needed.

use crate::indicator::Indicator;

/// The input `K` updates earlier; NaN before there was one.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Lag};
///
/// assert_eq!(replay(Lag::<2>::new(), [1.0, 2.0, 3.0, 4.0])[2..], [Some(1.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Lag<const K: usize> {
    values: [f64; K],
    at: u32,
}

impl<const K: usize> Lag<K> {
    /// A lag that has seen nothing.
    pub fn new() -> Self {
        Self { values: [f64::NAN; K], at: 0 }
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
        let old = std::mem::replace(&mut self.values[self.at as usize], x);
        self.at = if self.at as usize == K - 1 { 0 } else { self.at + 1 };
        Some(old)
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
            assert_eq!(value.filter(|x| !x.is_nan()), i.checked_sub(7).map(|earlier| xs[earlier]));
        }
    }
}
