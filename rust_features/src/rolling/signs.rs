//! The sum of the last signs: small integers, so the running sum is exact.

use crate::indicator::Indicator;

/// Sum of the last `N` signs (or of flags 0 and 1). Warm with the `N`-th.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::SignSum};
///
/// assert_eq!(replay(SignSum::<2>::new(), [1, 1, -1]), [None, Some(2.0), Some(0.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct SignSum<const N: usize> {
    signs: [i8; N],
    at: usize,
    is_full: bool,
    sum: i32,
}

impl<const N: usize> SignSum<N> {
    /// A sum that has seen nothing.
    pub fn new() -> Self {
        Self { signs: [0; N], at: 0, is_full: false, sum: 0 }
    }
}

impl<const N: usize> Default for SignSum<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Indicator for SignSum<N> {
    type Input = i8;
    type Output = f64;

    #[inline]
    fn update(&mut self, sign: i8) -> Option<f64> {
        let old = std::mem::replace(&mut self.signs[self.at], sign);
        self.sum += i32::from(sign) - i32::from(old);
        self.at += 1;
        if self.at == N {
            (self.at, self.is_full) = (0, true);
        }
        self.is_full.then_some(f64::from(self.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::signs;

    #[test]
    fn is_the_plain_sum() {
        let all = signs(5, 300);
        for (i, sum) in replay(SignSum::<20>::new(), all.clone()).into_iter().enumerate() {
            let plain = (i >= 19).then(|| all[i - 19..=i].iter().map(|s| f64::from(*s)).sum());
            assert_eq!(sum, plain);
        }
    }
}
