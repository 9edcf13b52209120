//! Exponential moving average, seeded as TA-Lib does.

use crate::indicator::Indicator;

/// `EMA(x, n)`: `e += 2/(n+1) * (x - e)`; the first value is the mean of the first `n` inputs (TA-Lib). Warm with the `n`-th.
///
/// ```
/// use candlecast_features::{average::Ema, indicator::replay};
///
/// assert_eq!(replay(Ema::new(3), [1.0, 2.0, 3.0, 6.0]), [None, None, Some(2.0), Some(4.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Ema {
    n: u32,
    seen: u32,
    alpha: f64,
    value: f64,
}

impl Ema {
    /// An average over `n` bars.
    pub fn new(n: u32) -> Self {
        Self::with_alpha(n, 2.0 / (f64::from(n) + 1.0))
    }

    /// The same recursion and seed with another weight of the newest value.
    pub(super) fn with_alpha(n: u32, alpha: f64) -> Self {
        assert!(n > 0, "an average needs a length");
        Self { n, seen: 0, alpha, value: 0.0 }
    }
}

impl Indicator for Ema {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, x: f64) -> Option<f64> {
        if self.seen >= self.n {
            self.value += self.alpha * (x - self.value);
            return Some(self.value);
        }
        self.seen += 1;
        self.value += x;
        if self.seen < self.n {
            return None;
        }
        self.value /= f64::from(self.n);
        Some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    /// The closed form: the seed and every later input, each with its own weight.
    fn naive(xs: &[f64], n: usize) -> Option<f64> {
        let seed = xs.get(..n)?.iter().sum::<f64>() / n as f64;
        let keep: f64 = 1.0 - 2.0 / (n as f64 + 1.0);
        let later = &xs[n..];
        let weighted = later.iter().rev().enumerate().map(|(age, x)| (1.0 - keep) * keep.powi(age as i32) * x);
        Some(seed * keep.powi(later.len() as i32) + weighted.sum::<f64>())
    }

    #[test]
    fn is_the_weighted_mean_of_all_inputs_for_many_lengths() {
        let xs = walk(10, 300);
        for n in [1, 2, 5, 14, 104] {
            for (i, value) in replay(Ema::new(n), xs.clone()).into_iter().enumerate() {
                let expected = naive(&xs[..=i], n as usize);
                assert_eq!(value.is_some(), expected.is_some());
                assert_close(value.unwrap_or(0.0), expected.unwrap_or(0.0), 1e-12);
            }
        }
    }

    #[test]
    fn a_flat_market_has_its_price() {
        assert_eq!(replay(Ema::new(4), [7.0; 50])[49], Some(7.0));
    }
}
