//! Fisher transform.

use super::place;
use crate::{indicator::Indicator, rolling::extent};

/// Ehlers' Fisher transform of a price over 10 bars (Ehlers 2002): q = place of the price in its channel, a = 0.66(q − ½) + 0.67a₁
/// within ±0.999, f = ½ln((1 + a)/(1 − a)) + ½f₁, from a = f = 0. Input: the newest 10 prices, oldest first, and the width below which
/// the channel is flat (then q = ½).
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Fisher};
///
/// let values = replay(Fisher::new(), [([0., 1., 2., 3., 4., 5., 6., 7., 8., 9.], 1e-9)]);
/// // At the top of its channel: a = 0.33.
/// assert!((values[0].unwrap() - 0.33_f64.atanh()).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Fisher {
    a: f64,
    f: f64,
}

impl Fisher {
    /// A transform that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Fisher {
    type Input = ([f64; 10], f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (xs, tiny): ([f64; 10], f64)) -> Option<f64> {
        let q = place(xs[9], extent(&xs), tiny);
        self.a = (0.66 * (q - 0.5) + 0.67 * self.a).clamp(-0.999, 0.999);
        self.f = 0.5 * ((1.0 + self.a) / (1.0 - self.a)).ln() + 0.5 * self.f;
        Some(self.f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_ehlers_recursion() {
        let xs = walk(35, 200);
        let values = replay(Fisher::new(), xs.windows(10).map(|window| (window.try_into().unwrap(), 1e-9)));
        let (mut a, mut f) = (0.0_f64, 0.0);
        for i in 9..xs.len() {
            let window = &xs[i - 9..=i];
            let highest = window.iter().copied().fold(f64::MIN, f64::max);
            let lowest = window.iter().copied().fold(f64::MAX, f64::min);
            a = (0.33 * 2.0 * ((xs[i] - lowest) / (highest - lowest) - 0.5) + 0.67 * a).clamp(-0.999, 0.999);
            f = a.atanh() + 0.5 * f;
            assert_close(values[i - 9].unwrap(), f, 1e-10);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(replay(Fisher::new(), [([7.0; 10], 7e-9); 20])[19], Some(0.0));
    }
}
