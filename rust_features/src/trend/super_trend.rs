//! SuperTrend.

use crate::indicator::Indicator;

/// `SuperTrend(n, multiple)`: bands at the middle of the bar ± multiple·RMA(TR, n), each of which only closes in until
/// the close before was beyond it; the trend is up once a close is above the upper band, down once one is below the
/// lower (Seban 2008). No trend on the first bar with bands. Input: RMA(TR, n), middle (h + l)/2 and close.
///
/// Output: the line — the lower band in a rise, the upper in a fall, the close before either — and the direction. Warm
/// with the first.
///
/// ```
/// use candlecast_features::{indicator::replay, trend::SuperTrend};
///
/// let bars = [(1.0, 10.0, 10.0), (1.0, 10.0, 12.0), (1.0, 13.0, 13.0)];
/// let lines = replay(SuperTrend::new(1.0), bars);
/// assert_eq!(lines, [Some((10.0, 0)), Some((9.0, 1)), Some((12.0, 1))]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct SuperTrend {
    multiple: f64,
    bands: Option<(f64, f64)>,
    previous_close: f64,
    direction: i8,
}

impl SuperTrend {
    /// A trend within bands of `multiple` average true ranges.
    pub fn new(multiple: f64) -> Self {
        Self { multiple, bands: None, previous_close: 0.0, direction: 0 }
    }
}

impl Indicator for SuperTrend {
    type Input = (f64, f64, f64);
    type Output = (f64, i8);

    #[inline(always)]
    fn update(&mut self, (range, middle, c): (f64, f64, f64)) -> Option<(f64, i8)> {
        let c_1 = std::mem::replace(&mut self.previous_close, c);
        let reach = self.multiple * range;
        let (mut upper, mut lower) = (middle + reach, middle - reach);
        if let Some((upper_1, lower_1)) = self.bands {
            upper = if (upper < upper_1) | (c_1 > upper_1) { upper } else { upper_1 };
            lower = if (lower > lower_1) | (c_1 < lower_1) { lower } else { lower_1 };
            if (self.direction <= 0) & (c > upper) {
                self.direction = 1;
            } else if (self.direction >= 0) & (c < lower) {
                self.direction = -1;
            }
        }
        self.bands = Some((upper, lower));
        let line = if self.direction > 0 { lower } else { upper };
        Some((if self.direction == 0 { c } else { line }, self.direction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{Dice, walk};

    /// Average true range, middle, close.
    fn bars(seed: u64, n: usize) -> Vec<(f64, f64, f64)> {
        let mut dice = Dice::new(seed);
        let bar = |x: f64| (2.0 * dice.unit(), x, x + dice.unit() - 0.5);
        walk(seed, n).into_iter().map(bar).collect()
    }

    #[test]
    fn is_the_plain_recursion_for_many_widths() {
        let bars = bars(76, 400);
        for multiple in [0.5, 1.0, 2.0, 3.0] {
            let lines = replay(SuperTrend::new(multiple), bars.clone());
            let basic = |i: usize, sign: f64| bars[i].1 + sign * multiple * bars[i].0;
            let (mut fu, mut fl, mut d, mut turns) = (basic(0, 1.0), basic(0, -1.0), 0, 0);
            assert_eq!(lines[0], Some((bars[0].2, 0)));
            for i in 1..bars.len() {
                let (bu, bl, c, c_1) = (basic(i, 1.0), basic(i, -1.0), bars[i].2, bars[i - 1].2);
                fu = if bu < fu || c_1 > fu { bu } else { fu };
                fl = if bl > fl || c_1 < fl { bl } else { fl };
                let before = d;
                if d <= 0 && c > fu {
                    d = 1;
                } else if d >= 0 && c < fl {
                    d = -1;
                }
                turns += i32::from(d != before);
                assert_eq!(lines[i], Some(([fu, c, fl][(d + 1) as usize], d as i8)), "width {multiple}, bar {i}");
            }
            assert!(turns > 3);
        }
    }

    #[test]
    fn a_flat_market_has_no_direction() {
        assert_eq!(replay(SuperTrend::new(3.0), [(0.0, 7.0, 7.0); 50])[49], Some((7.0, 0)));
    }
}
