//! Fisher transform.

use super::place;
use crate::{indicator::Indicator, rolling::Extremes};

/// Ehlers' Fisher transform of a price over 10 bars (Ehlers 2002): q = place of the price in its channel, a = 0.66(q − ½) + 0.67a₁
/// within ±0.999, f = ½ln((1 + a)/(1 − a)) + ½f₁, from a = f = 0. Input: the price and the width below which the channel is flat
/// (then q = ½). Warm with the tenth.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Fisher};
///
/// let values = replay(Fisher::new(), (0..10).map(|x| (f64::from(x), 1e-9)));
/// // At the top of its channel: a = 0.33.
/// assert!((values[9].unwrap() - 0.33_f64.atanh()).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Fisher {
    highest: Extremes<1, 16>,
    /// Of the negated price.
    lowest: Extremes<1, 16>,
    a: f64,
    f: f64,
}

impl Fisher {
    /// A transform that has seen nothing.
    pub fn new() -> Self {
        Self { highest: Extremes::new([10]), lowest: Extremes::new([10]), a: 0.0, f: 0.0 }
    }
}

impl Default for Fisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Indicator for Fisher {
    type Input = (f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (x, tiny): (f64, f64)) -> Option<f64> {
        let ([highest], [lowest]) = (self.highest.update(x)?, self.lowest.update(-x)?);
        let q = place(x, (highest?, -lowest?), tiny);
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
        let values = replay(Fisher::new(), xs.iter().map(|x| (*x, 1e-9)));
        assert!(values[..9].iter().all(Option::is_none));
        let (mut a, mut f) = (0.0_f64, 0.0);
        for i in 9..xs.len() {
            let window = &xs[i - 9..=i];
            let highest = window.iter().copied().fold(f64::MIN, f64::max);
            let lowest = window.iter().copied().fold(f64::MAX, f64::min);
            a = (0.33 * 2.0 * ((xs[i] - lowest) / (highest - lowest) - 0.5) + 0.67 * a).clamp(-0.999, 0.999);
            f = a.atanh() + 0.5 * f;
            assert_close(values[i].unwrap(), f, 1e-10);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(replay(Fisher::new(), [(7.0, 7e-9); 20])[19], Some(0.0));
    }
}
