//! Relative volatility index.

use crate::{average::Wilder, indicator::Indicator, momentum::strength};

/// `RVI(n)` = 100·U/(U + D), U and D the Wilder averages of the deviation of bars that rose and of bars that fell (Dorsey 1993); 50
/// when U + D is at most `tiny`. Input: the deviation, the change of the close, `tiny`. Warm with the `n`-th.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::RelativeVolatility};
///
/// let bars = [(3.0, 1.0, 1e-9), (1.0, -1.0, 1e-9)];
/// assert_eq!(replay(RelativeVolatility::new(2), bars), [None, Some(75.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct RelativeVolatility {
    up: Wilder,
    down: Wilder,
}

impl RelativeVolatility {
    /// An index over `n` bars.
    pub fn new(n: u32) -> Self {
        Self { up: Wilder::new(n), down: Wilder::new(n) }
    }
}

impl Indicator for RelativeVolatility {
    type Input = (f64, f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (deviation, change, tiny): (f64, f64, f64)) -> Option<f64> {
        let up = self.up.update(if change > 0.0 { deviation } else { 0.0 });
        let down = self.down.update(if change < 0.0 { deviation } else { 0.0 });
        let (up, down) = (up?, down?);
        Some(strength(up, down, tiny))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, signs, walk};

    #[test]
    fn is_dorseys_index_for_many_lengths() {
        let (deviations, changes) = (walk(66, 200), signs(67, 200));
        let bars = || deviations.iter().zip(&changes).map(|(s, d)| (*s, f64::from(*d), 1e-9));
        for n in [2_usize, 5, 14] {
            let values = replay(RelativeVolatility::new(n as u32), bars());
            assert!(values[..n - 1].iter().all(Option::is_none));
            let average = |sign: f64, i: usize| {
                let xs: Vec<f64> = bars().map(|(s, d, _)| if d == sign { s } else { 0.0 }).collect();
                let seed = xs[..n].iter().sum::<f64>() / n as f64;
                xs[n..=i].iter().fold(seed, |m, x| (m * (n as f64 - 1.0) + x) / n as f64)
            };
            for (i, value) in values.iter().enumerate().skip(n) {
                let (up, down) = (average(1.0, i), average(-1.0, i));
                assert_close(value.unwrap(), 100.0 * up / (up + down), 1e-10);
            }
        }
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(replay(RelativeVolatility::new(3), [(0.0, 0.0, 1e-9); 9])[8], Some(50.0));
    }
}
