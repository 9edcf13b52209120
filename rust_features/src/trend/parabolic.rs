//! Parabolic stop and reverse.

use crate::indicator::Indicator;

/// What each new extreme adds to the acceleration.
const STEP: f64 = 0.02;
/// The most it comes to.
const MOST: f64 = 0.2;

/// `SAR(0.02, 0.2)`: a stop that follows the position, faster with each new extreme, and turns it round when the market
/// touches it (Wilder 1978, as TA-Lib). The second bar decides the first direction: short if its low fell, and by more
/// than its high rose. Input: high and low. Output: the stop that held for the bar, after a turn the new one. Warm with
/// the second bar.
///
/// A short position is a long one in a market that stands on its head, so there is one set of rules.
///
/// ```
/// use candlecast_features::{indicator::replay, trend::ParabolicSar};
///
/// let stops = replay(ParabolicSar::new(), [(5.0, 3.0), (6.0, 4.0), (7.0, 5.0), (7.0, 2.0)]);
/// assert_eq!(stops, [None, Some(3.0), Some(3.06), Some(7.0)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct ParabolicSar {
    previous: Option<(f64, f64)>,
    /// 1 long, −1 short; 0 before the second bar.
    side: f64,
    /// The stop for the next bar, seen from the side; so the extreme.
    stop: f64,
    extreme: f64,
    acceleration: f64,
}

impl ParabolicSar {
    /// No position yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bar as the position sees it.
    #[inline(always)]
    fn seen(&self, (h, l): (f64, f64)) -> (f64, f64) {
        if self.side > 0.0 { (h, l) } else { (-l, -h) }
    }

    #[cold]
    fn start(&mut self, before: (f64, f64), bar: (f64, f64)) {
        let (up, down) = (bar.0 - before.0, before.1 - bar.1);
        self.side = if down > 0.0 && down > up { -1.0 } else { 1.0 };
        (self.stop, self.extreme, self.acceleration) = (self.seen(before).1, self.seen(bar).0, STEP);
    }
}

impl Indicator for ParabolicSar {
    type Input = (f64, f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, bar: (f64, f64)) -> Option<f64> {
        let mut before = self.previous.replace(bar)?;
        if self.side == 0.0 {
            self.start(before, bar);
            before = bar;
        }
        if self.seen(bar).1 <= self.stop {
            self.side = -self.side;
            self.stop = (-self.extreme).min(self.seen(before).1).min(self.seen(bar).1);
            (self.extreme, self.acceleration) = (self.seen(bar).0, STEP);
        }
        let ((high, low), stop) = (self.seen(bar), self.stop);
        let step = if high > self.extreme { STEP } else { 0.0 };
        self.acceleration = (self.acceleration + step).min(MOST);
        self.extreme = self.extreme.max(high);
        // The next stop is not within the last two bars.
        self.stop = (stop + self.acceleration * (self.extreme - stop)).min(self.seen(before).1).min(low);
        Some(self.side * stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{Dice, ticks, walk};

    /// Wilder's rules, long and short each written out.
    fn naive(bars: &[(f64, f64)]) -> Vec<Option<f64>> {
        let ((h_0, l_0), (h_1, l_1)) = (bars[0], bars[1]);
        let mut long = !(l_0 - l_1 > 0.0 && l_0 - l_1 > h_1 - h_0);
        let (mut ep, mut sar) = if long { (h_1, l_0) } else { (l_1, h_0) };
        let (mut af, mut stops, mut previous) = (0.02, vec![None], bars[1]);
        for bar in &bars[1..] {
            let ((ph, pl), (nh, nl)) = (previous, *bar);
            let turns = if long { nl <= sar } else { nh >= sar };
            if turns {
                long = !long;
                sar = if long { ep.min(pl).min(nl) } else { ep.max(ph).max(nh) };
                (af, ep) = (0.02, if long { nh } else { nl });
            }
            stops.push(Some(sar));
            if !turns && (if long { nh > ep } else { nl < ep }) {
                ep = if long { nh } else { nl };
                af = f64::min(af + 0.02, 0.2);
            }
            sar += af * (ep - sar);
            sar = if long { sar.min(pl).min(nl) } else { sar.max(ph).max(nh) };
            previous = *bar;
        }
        stops
    }

    #[test]
    fn are_wilders_rules() {
        for seed in 75..95 {
            let mut dice = Dice::new(seed);
            for xs in [walk(seed, 300), ticks(seed, 300)] {
                let bars: Vec<_> = xs.iter().map(|x| (x + dice.below(2) as f64, x - dice.below(2) as f64)).collect();
                assert_eq!(replay(ParabolicSar::new(), bars.clone()), naive(&bars));
            }
        }
    }

    #[test]
    fn a_flat_market_stops_at_its_price() {
        assert_eq!(replay(ParabolicSar::new(), [(7.0, 7.0); 50])[49], Some(7.0));
    }
}
