//! Hull moving average.

use super::weighted_mean;
use crate::{indicator::Indicator, rolling::Window};

/// `HMA(16)` = WMA(2·WMA(x, 8) − WMA(x, 16), 4) (Hull 2005: half the length, then its square root). Input: the last 16
/// values of the series, oldest first. Warm with the fourth such window.
///
/// ```
/// use candlecast_features::{average::Hull, indicator::replay};
///
/// let values = replay(Hull::new(), [[5.0; 16]; 4]);
/// assert_eq!(values, [None, None, None, Some(5.0)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Hull {
    raw: Window<4, 8>,
}

impl Hull {
    /// An average that has seen nothing.
    pub fn new() -> Self {
        Self { raw: Window::new() }
    }
}

impl Indicator for Hull {
    type Input = [f64; 16];
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, xs: [f64; 16]) -> Option<f64> {
        self.raw.push(2.0 * weighted_mean(&xs[8..]) - weighted_mean(&xs));
        let raw = self.raw.all();
        (!raw[0].is_nan()).then(|| weighted_mean(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn wma(xs: &[f64]) -> f64 {
        let weighted: f64 = xs.iter().zip(1..).map(|(x, weight)| x * f64::from(weight)).sum();
        weighted / (xs.len() * (xs.len() + 1) / 2) as f64
    }

    #[test]
    fn is_hulls_formula() {
        let xs = walk(14, 100);
        let windows = xs.windows(16).map(|w| w.try_into().unwrap());
        for (i, value) in replay(Hull::new(), windows).into_iter().enumerate().skip(3) {
            let raw: Vec<f64> = (i - 3..=i).map(|j| 2.0 * wma(&xs[j + 8..j + 16]) - wma(&xs[j..j + 16])).collect();
            assert_close(value.unwrap(), wma(&raw), 1e-12);
        }
    }

    #[test]
    fn has_no_lag_on_a_straight_line() {
        let line: Vec<f64> = (0..40).map(f64::from).collect();
        let windows = line.windows(16).map(|w| w.try_into().unwrap());
        assert_close(replay(Hull::new(), windows)[24].unwrap(), 39.0, 0.05);
    }
}
