//! Exponentially weighted variance.

use crate::indicator::Indicator;

/// `s = 0.94·s₁ + 0.06·r²` (RiskMetrics 1996). Input: the return, and the variance to begin with; only the first is used, and it is
/// the first value.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::RiskMetrics};
///
/// let values = replay(RiskMetrics::new(), [(9.0, 1.0), (1.0, 9.0), (0.0, 9.0)]);
/// assert_eq!(values, [Some(1.0), Some(1.0), Some(0.94)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct RiskMetrics {
    variance: Option<f64>,
}

impl RiskMetrics {
    /// A variance that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for RiskMetrics {
    type Input = (f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (r, seed): (f64, f64)) -> Option<f64> {
        self.variance = Some(self.variance.map_or(seed, |s| s + 0.06 * (r * r - s)));
        self.variance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_weighted_sum_of_all_squares() {
        let xs = walk(68, 200);
        for (i, s) in replay(RiskMetrics::new(), xs.iter().map(|r| (*r, 7.0))).into_iter().enumerate() {
            let weighted: f64 = (1..=i).map(|j| 0.06 * 0.94_f64.powi((i - j) as i32) * xs[j] * xs[j]).sum();
            assert_close(s.unwrap(), weighted + 7.0 * 0.94_f64.powi(i as i32), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_has_none() {
        assert_eq!(replay(RiskMetrics::new(), [(0.0, 0.0); 9])[8], Some(0.0));
    }
}
