//! Volume-weighted average price of a session.

use crate::indicator::Indicator;

/// Turnover and volume since the session began: their ratio is its VWAP. Input: the number of the bar within the
/// session, counted from 1, its turnover and its volume. Warm with the first.
///
/// ```
/// use candlecast_features::{indicator::replay, volume::SessionVwap};
///
/// let totals = replay(SessionVwap::new(), [(95, 8.0, 2.0), (96, 9.0, 3.0), (1, 5.0, 1.0), (2, 6.0, 1.0)]);
/// assert_eq!(totals[1..], [Some((17.0, 5.0)), Some((5.0, 1.0)), Some((11.0, 2.0))]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct SessionVwap {
    turnover: f64,
    volume: f64,
}

impl SessionVwap {
    /// No session has begun.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for SessionVwap {
    type Input = (u32, f64, f64);
    type Output = (f64, f64);

    #[inline]
    fn update(&mut self, (bar, turnover, volume): (u32, f64, f64)) -> Option<(f64, f64)> {
        if bar == 1 {
            *self = Self::new();
        }
        self.turnover += turnover;
        self.volume += volume;
        Some((self.turnover, self.volume))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn are_the_plain_sums_of_the_session() {
        let xs = walk(84, 300);
        let bars = xs.iter().enumerate().map(|(i, x)| (i as u32 % 96 + 1, x * 3.0, *x));
        for (i, totals) in replay(SessionVwap::new(), bars).into_iter().enumerate() {
            let volume: f64 = xs[i - i % 96..=i].iter().sum();
            let (turnover, total) = totals.unwrap();
            assert_close(turnover, 3.0 * volume, 1e-12);
            assert_close(total, volume, 1e-12);
        }
    }

    #[test]
    fn a_huge_bar_is_forgotten_with_its_session() {
        let totals = replay(SessionVwap::new(), [(1, 1e300, 1e24), (1, 0.1, 0.2), (2, 0.0, 0.0)]);
        assert_eq!(totals[2], Some((0.1, 0.2)));
    }
}
