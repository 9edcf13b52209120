//! Chaikin's accumulation: volume, weighted by where in its range the bar closed.

use crate::indicator::Indicator;

/// Money flow multiplier: ((c − l) − (h − c))/(h − l), from −1 (close at the low) to 1 (at the high); 0 when the range
/// is at most `tiny`.
///
/// ```
/// assert_eq!(candlecast_features::volume::close_location([12.0, 8.0, 11.0], 1e-9), 0.5);
/// ```
#[inline(always)]
pub fn close_location([h, l, c]: [f64; 3], tiny: f64) -> f64 {
    if h - l <= tiny { 0.0 } else { ((c - l) - (h - c)) / (h - l) }
}

/// Chaikin oscillator `ADOSC(3, 10)`: EMA(AD, 3) − EMA(AD, 10) of the accumulation line AD, both from the first bar on
/// (TA-Lib). Input: the bar's money flow, multiplier times volume. Warm with the first.
///
/// AD itself would grow for ever and leave ever fewer digits to a difference. What is kept is how far each average lags
/// AD.
///
/// ```
/// use candlecast_features::{indicator::replay, volume::Chaikin};
///
/// // AD = 5, 27: its EMA(3) goes to 16, its EMA(10) to 9.
/// let values = replay(Chaikin::new(), [5.0, 22.0]);
/// assert_eq!(values[0], Some(0.0));
/// assert!((values[1].unwrap() - 7.0).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Chaikin {
    has_begun: bool,
    behind_3: f64,
    behind_10: f64,
}

impl Chaikin {
    /// An oscillator that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Chaikin {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, money_flow: f64) -> Option<f64> {
        if self.has_begun {
            self.behind_3 = 0.5 * (self.behind_3 + money_flow);
            self.behind_10 = 9.0 / 11.0 * (self.behind_10 + money_flow);
        }
        self.has_begun = true;
        Some(self.behind_10 - self.behind_3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_difference_of_two_averages_of_the_line() {
        let flows: Vec<f64> = walk(83, 300).iter().map(|x| x - 100.0).collect();
        let (mut line, mut fast, mut slow) = (0.0, None, None);
        for (value, flow) in replay(Chaikin::new(), flows.clone()).into_iter().zip(flows) {
            line += flow;
            let average = |before: Option<f64>, n: f64| before.map_or(line, |e| e + 2.0 / (n + 1.0) * (line - e));
            (fast, slow) = (Some(average(fast, 3.0)), Some(average(slow, 10.0)));
            assert_close(value.unwrap(), fast.unwrap() - slow.unwrap(), 1e-10);
        }
    }

    #[test]
    fn nothing_flows_in_a_flat_market() {
        assert_eq!(close_location([0.1; 3], 1e-10), 0.0);
        assert_eq!(replay(Chaikin::new(), [0.0; 30])[29], Some(0.0));
    }
}
