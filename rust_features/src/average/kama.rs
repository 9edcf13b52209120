//! Kaufman's adaptive moving average.

use crate::{indicator::Indicator, rolling::path};

/// `KAMA(x, 10)`: fast 2, slow 30 (Kaufman 1995, as TA-Lib). `k += (ER·(2/3 − 2/31) + 2/31)² · (x − k)`, where the efficiency
/// ratio ER = min(1, |x − x₁₀| / Σ|Δx|), and 1 when that path is at most `tiny`. The value before the first is the ninth
/// earlier input. Input: the newest 11 values, oldest first, and `tiny`.
///
/// ```
/// use candlecast_features::{average::Kama, indicator::replay};
///
/// // A straight line is perfectly efficient: the fast constant, squared.
/// let values = replay(Kama::new(), [([0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10.], 1e-9)]);
/// assert!((values[0].unwrap() - (9.0 + 4.0 / 9.0)).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Kama {
    value: Option<f64>,
}

impl Kama {
    /// An average that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Kama {
    type Input = ([f64; 11], f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (xs, tiny): ([f64; 11], f64)) -> Option<f64> {
        const FAST: f64 = 2.0 / 3.0;
        const SLOW: f64 = 2.0 / 31.0;
        let (x, path) = (xs[10], path(&xs));
        let efficiency = if path <= tiny { 1.0 } else { ((x - xs[0]).abs() / path).min(1.0) };
        let smoothing = efficiency * (FAST - SLOW) + SLOW;
        let previous = self.value.unwrap_or(xs[9]);
        self.value = Some(previous + smoothing * smoothing * (x - previous));
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_kaufmans_recursion() {
        let xs = walk(15, 200);
        let values = replay(Kama::new(), xs.windows(11).map(|window| (window.try_into().unwrap(), 1e-9)));
        let mut expected = xs[9];
        for i in 10..xs.len() {
            let path: f64 = (i - 9..=i).map(|j| (xs[j] - xs[j - 1]).abs()).sum();
            let constant = ((xs[i] - xs[i - 10]).abs() / path) * (2.0 / 3.0 - 2.0 / 31.0) + 2.0 / 31.0;
            expected = expected * (1.0 - constant.powi(2)) + constant.powi(2) * xs[i];
            assert_close(values[i - 10].unwrap(), expected, 1e-12);
        }
    }

    #[test]
    fn a_flat_market_has_its_price() {
        assert_eq!(replay(Kama::new(), [([7.0; 11], 7e-9); 50])[49], Some(7.0));
    }
}
