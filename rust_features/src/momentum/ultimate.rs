//! Ultimate oscillator.

use crate::{
    indicator::Indicator,
    rolling::{Window, nested_sums},
};

/// `ULTOSC(7, 14, 28)` = 100·(4a₇ + 2a₁₄ + a₂₈)/7, aₙ = Σ buying pressure / Σ true range over n bars (Williams 1985, as TA-Lib);
/// aₙ = ½ when the ranges sum to at most `tiny`. Input: buying pressure c − min(l, c₁), true range, `tiny`. Warm with the 28th.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Ultimate};
///
/// assert_eq!(replay(Ultimate::new(), [(1.0, 4.0, 1e-9); 28])[27], Some(25.0));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Ultimate {
    pressures: Window<28, 40>,
    ranges: Window<28, 40>,
}

impl Ultimate {
    /// An oscillator that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Ultimate {
    type Input = (f64, f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (pressure, range, tiny): (f64, f64, f64)) -> Option<f64> {
        const LENGTHS: [usize; 3] = [7, 14, 28];
        self.pressures.push(pressure);
        self.ranges.push(range);
        let (pressures, ranges) = (nested_sums(&self.pressures, LENGTHS), nested_sums(&self.ranges, LENGTHS));
        let share = |i: usize| Some(if ranges[i]? <= tiny { 0.5 } else { pressures[i]? / ranges[i]? });
        Some(100.0 * (4.0 * share(0)? + 2.0 * share(1)? + share(2)?) / 7.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_williams_weighted_mean_of_shares() {
        let (pressures, ranges) = (walk(41, 200), walk(42, 200));
        let bars = pressures.iter().zip(&ranges).map(|(p, r)| (*p, *r, 1e-9));
        let values = replay(Ultimate::new(), bars);
        assert!(values[..27].iter().all(Option::is_none));
        for i in 27..200 {
            let sum = |xs: &[f64], n: usize| xs[i + 1 - n..=i].iter().sum::<f64>();
            let share = |n: usize| sum(&pressures, n) / sum(&ranges, n);
            assert_close(values[i].unwrap(), (4.0 * share(7) + 2.0 * share(14) + share(28)) / 0.07, 1e-10);
        }
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(replay(Ultimate::new(), [(0.0, 0.0, 1e-9); 40])[39], Some(50.0));
    }
}
