//! Momentum of the squeeze indicator.

use crate::{
    indicator::Indicator,
    rolling::{Window, sum_of_pairs},
};

/// Weights of the newest 20 values, oldest first, in the end point of the straight line fitted to them, times 70. The end point is
/// 3·WMA − 2·SMA, so the `j`-th value weighs 3·j/210 − 2/20.
const WEIGHTS: [f64; 20] = [-6., -5., -4., -3., -2., -1., 0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13.];

/// `LRE(y, 20)`, y = the close less the mean of the middle of its channel and its average, each of 20 bars (Carter 2005, "TTM
/// squeeze"). Input: close, (highest, lowest), average. Warm with the twentieth.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::SqueezeMomentum};
///
/// let values = replay(SqueezeMomentum::new(), [(9.0, (10.0, 4.0), 5.0); 20]);
/// assert_eq!((values[18], values[19]), (None, Some(3.0)));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct SqueezeMomentum {
    values: Window<20, 24>,
}

impl SqueezeMomentum {
    /// A momentum that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for SqueezeMomentum {
    type Input = (f64, (f64, f64), f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (c, (highest, lowest), average): (f64, (f64, f64), f64)) -> Option<f64> {
        self.values.push(c - ((highest + lowest) / 2.0 + average) / 2.0);
        let ys = self.values.all();
        (!ys[0].is_nan()).then(|| sum_of_pairs(ys, &WEIGHTS, |y, weight| y * weight) * (1.0 / 70.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_end_of_the_least_squares_line() {
        let xs = walk(71, 200);
        let values = replay(SqueezeMomentum::new(), xs.iter().map(|x| (*x, (120.0, 80.0), 90.0)));
        assert!(values[..19].iter().all(Option::is_none));
        for (window, value) in xs.windows(20).zip(&values[19..]) {
            let y: Vec<f64> = window.iter().map(|x| x - 95.0).collect();
            let mean = y.iter().sum::<f64>() / 20.0;
            let slope = y.iter().enumerate().map(|(t, y)| (t as f64 - 9.5) * (y - mean)).sum::<f64>() / 665.0;
            assert_close(value.unwrap(), mean + 9.5 * slope, 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(replay(SqueezeMomentum::new(), [(7.0, (7.0, 7.0), 7.0); 40])[39], Some(0.0));
    }
}
