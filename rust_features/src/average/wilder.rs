//! Wilder's moving average (RMA, SMMA).

use super::Ema;
use crate::indicator::Indicator;

/// `RMA(x, n)`: `m += (x - m)/n`; the first value is the mean of the first `n` inputs (Wilder 1978, as TA-Lib). Warm with
/// the `n`-th.
///
/// ```
/// use candlecast_features::{average::Wilder, indicator::replay};
///
/// assert_eq!(replay(Wilder::new(2), [1.0, 3.0, 6.0]), [None, Some(2.0), Some(4.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Wilder(Ema);

impl Wilder {
    /// An average over `n` bars.
    pub fn new(n: u32) -> Self {
        Self(Ema::with_alpha(n, 1.0 / f64::from(n)))
    }
}

impl Indicator for Wilder {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, x: f64) -> Option<f64> {
        self.0.update(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_wilders_recursion_for_many_lengths() {
        let xs = walk(11, 300);
        for n in [1_usize, 2, 14, 42] {
            let values = replay(Wilder::new(n as u32), xs.clone());
            assert!(values[..n - 1].iter().all(Option::is_none));
            // Wilder's own form: (previous * (n - 1) + x) / n.
            let mut expected = xs[..n].iter().sum::<f64>() / n as f64;
            assert_close(values[n - 1].unwrap(), expected, 1e-12);
            for i in n..xs.len() {
                expected = (expected * (n as f64 - 1.0) + xs[i]) / n as f64;
                assert_close(values[i].unwrap(), expected, 1e-12);
            }
        }
    }

    #[test]
    fn a_flat_market_has_its_value() {
        assert_eq!(replay(Wilder::new(4), [7.0; 50])[49], Some(7.0));
    }
}
