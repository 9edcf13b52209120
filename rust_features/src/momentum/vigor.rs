//! Relative vigor index.

use crate::{average::Sma, indicator::Indicator, rolling::Window};

/// `RVGI(10)`: SMA of the smoothed bodies over SMA of the smoothed ranges, smoothed = (x + 2x₁ + 2x₂ + x₃)/6 (Ehlers 2002); 0 when
/// the denominator is at most `tiny`. Input: body (c − o), range (h − l), `tiny`. Warm with the thirteenth.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Vigor};
///
/// assert_eq!(replay(Vigor::new(), [(1.0, 2.0, 1e-9); 13])[12], Some(0.5));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Vigor {
    bodies: Window<4, 8>,
    ranges: Window<4, 8>,
    body: Sma<10, 16>,
    range: Sma<10, 16>,
}

impl Vigor {
    /// An index that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Vigor {
    type Input = (f64, f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (body, range, tiny): (f64, f64, f64)) -> Option<f64> {
        self.bodies.push(body);
        self.ranges.push(range);
        let body = self.body.update(smoothed(self.bodies.last()?));
        let range = self.range.update(smoothed(self.ranges.last()?));
        let (body, range) = (body?, range?);
        Some(if range <= tiny { 0.0 } else { body / range })
    }
}

#[inline]
fn smoothed(xs: &[f64; 4]) -> f64 {
    (xs[3] + 2.0 * xs[2] + 2.0 * xs[1] + xs[0]) / 6.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_ehlers_ratio() {
        let (closes, ranges) = (walk(38, 200), walk(39, 200));
        let bodies: Vec<f64> = closes.iter().map(|c| c - 100.0).collect();
        let bars = bodies.iter().zip(&ranges).map(|(body, range)| (*body, *range, 1e-9));
        let values = replay(Vigor::new(), bars);
        assert!(values[..12].iter().all(Option::is_none));
        let fir = |xs: &[f64], i: usize| (xs[i] + 2.0 * xs[i - 1] + 2.0 * xs[i - 2] + xs[i - 3]) / 6.0;
        for (i, value) in values.iter().enumerate().skip(12) {
            let sum = |xs: &[f64]| (i - 9..=i).map(|j| fir(xs, j)).sum::<f64>();
            assert_close(value.unwrap(), sum(&bodies) / sum(&ranges), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(replay(Vigor::new(), [(0.0, 0.0, 1e-9); 20])[19], Some(0.0));
    }
}
