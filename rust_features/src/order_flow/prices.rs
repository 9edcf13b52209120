//! The volume-weighted prices of the last trades: a window by time and by number.

use std::collections::VecDeque;

/// How far back the window reaches, ms: a trade exactly as old as this has left.
pub const SPAN_MS: i64 = 30_000;
/// Most trades in it.
pub const TRADES_MAX: usize = 600;

/// A trade that was checked: price and quantity are finite and above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trade {
    /// When it happened, ms since 1970.
    pub ts: i64,
    /// Its number at the exchange; below 0 when there is none.
    pub id: i64,
    /// Price.
    pub price: f64,
    /// Quantity, base units.
    pub qty: f64,
}

/// Weight, mean and sum of squared deviations of weighted prices. Joined, never subtracted: what has left leaves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    #[inline]
    fn of(trade: &Trade) -> Self {
        Self { weight: trade.qty, mean: trade.price, squares: 0.0 }
    }

    /// Both together (Chan, Golub, LeVeque 1979).
    #[inline]
    fn and(self, other: Self) -> Self {
        if self.weight == 0.0 {
            return other;
        }
        if other.weight == 0.0 {
            return self;
        }
        let weight = self.weight + other.weight;
        let (apart, share) = (other.mean - self.mean, other.weight / weight);
        Self {
            weight,
            mean: self.mean + apart * share,
            squares: self.squares + other.squares + apart * apart * self.weight * share,
        }
    }

    /// Volume-weighted average price; NaN without a trade.
    #[inline]
    pub fn vwap(&self) -> f64 {
        if self.weight == 0.0 { f64::NAN } else { self.mean }
    }

    /// Volume-weighted standard deviation of the price; NaN without a trade.
    #[inline]
    pub fn std_dev(&self) -> f64 {
        if self.weight == 0.0 { f64::NAN } else { (self.squares / self.weight).sqrt() }
    }
}

/// The trades of the last [`SPAN_MS`], at most [`TRADES_MAX`], and their moments in O(1) amortised.
///
/// A queue of two stacks: of the older trades every suffix is summed up, of the newer ones the whole. When the older ones
/// are used up, the newer ones take their place. So a sum never contains what has left, however large it was.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    trades: VecDeque<Trade>,
    /// Of the older ones: each entry is the moments from that trade to the last of the older, the oldest one last.
    older: Vec<Moments>,
    newer: Moments,
}

impl Prices {
    /// Take the next trade, not older than the newest, and let go of what is too old by its time.
    #[inline]
    pub fn push(&mut self, trade: Trade) {
        while self.trades.front().is_some_and(|oldest| oldest.ts <= trade.ts - SPAN_MS) {
            self.pop();
        }
        if self.trades.len() == TRADES_MAX {
            self.pop();
        }
        self.trades.push_back(trade);
        self.newer = self.newer.and(Moments::of(&trade));
    }

    fn pop(&mut self) {
        if self.older.is_empty() {
            let mut suffix = Moments::default();
            self.older.extend(self.trades.iter().rev().map(|trade| {
                suffix = Moments::of(trade).and(suffix);
                suffix
            }));
            self.newer = Moments::default();
        }
        self.older.pop();
        self.trades.pop_front();
    }

    /// Moments of the window as of the newest trade.
    #[inline]
    pub fn moments(&self) -> Moments {
        self.older.last().copied().unwrap_or_default().and(self.newer)
    }

    /// Moments of the window as of a later time, computed anew.
    pub fn moments_at(&self, ts: i64) -> Moments {
        let inside = self.trades.iter().filter(|trade| trade.ts > ts - SPAN_MS);
        inside.fold(Moments::default(), |moments, trade| moments.and(Moments::of(trade)))
    }

    /// The newest trade.
    #[inline]
    pub fn newest(&self) -> Option<&Trade> {
        self.trades.back()
    }

    /// Whether the window holds a trade with this time and number.
    pub fn holds(&self, ts: i64, id: i64) -> bool {
        self.trades.binary_search_by_key(&(ts, id), |trade| (trade.ts, trade.id)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(trades: &[Trade]) -> (f64, f64) {
        let newest = trades.last().unwrap().ts;
        let inside: Vec<_> = trades.iter().rev().take(TRADES_MAX).filter(|t| t.ts > newest - SPAN_MS).collect();
        let weight: f64 = inside.iter().map(|t| t.qty).sum();
        let mean = inside.iter().map(|t| t.qty * t.price).sum::<f64>() / weight;
        let squares: f64 = inside.iter().map(|t| t.qty * (t.price - mean).powi(2)).sum();
        (mean, (squares / weight).sqrt())
    }

    fn market(n: u64, step_ms: i64) -> Vec<Trade> {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut ts, mut price) = (1_700_000_000_000, 60_000.0);
        (0..n)
            .map(|id| {
                ts += (random() * 2.0 * step_ms as f64) as i64;
                price += random() - 0.5;
                Trade { ts, id: id as i64, price, qty: random() + 1e-6 }
            })
            .collect()
    }

    #[test]
    fn are_those_of_the_naive_definition_in_busy_and_in_quiet_markets() {
        for step_ms in [1, 40, 200, 5_000, 60_000] {
            let trades = market(3_000, step_ms);
            let mut prices = Prices::default();
            for (i, trade) in trades.iter().enumerate() {
                prices.push(*trade);
                let (vwap, std_dev) = naive(&trades[..=i]);
                let (m, at) = (prices.moments(), prices.moments_at(trade.ts));
                assert!((m.vwap() - vwap).abs() < 1e-9 * vwap, "step {step_ms}, trade {i}");
                assert!((m.std_dev() - std_dev).abs() < 1e-9 * (1.0 + std_dev), "{} {std_dev}", m.std_dev());
                assert!((at.std_dev() - std_dev).abs() < 1e-9 * (1.0 + std_dev));
                assert!(prices.trades.len() <= TRADES_MAX && prices.older.len() <= TRADES_MAX);
            }
        }
    }

    #[test]
    fn a_small_spread_at_a_large_price_is_not_lost() {
        let mut prices = Prices::default();
        for i in 0..1_000 {
            prices.push(Trade { ts: i, id: i, price: 1e6 + 1e-3 * (i % 2) as f64, qty: 1.0 });
        }
        assert!((prices.moments().std_dev() - 5e-4).abs() < 1e-8);
    }

    #[test]
    fn a_print_of_1e12_is_wholly_forgotten_once_it_has_left() {
        let (mut hit, mut spared) = (Prices::default(), Prices::default());
        for trade in market(700, 40) {
            hit.push(trade);
            spared.push(trade);
        }
        let newest = hit.newest().unwrap().ts;
        hit.push(Trade { ts: newest, id: 700, price: 1e12, qty: 1e9 });
        spared.push(Trade { ts: newest, id: 700, price: 60_000.0, qty: 1.0 });
        for mut trade in market(700, 40) {
            trade.ts += newest - 1_700_000_000_000 + 1;
            trade.id += 701;
            hit.push(trade);
            spared.push(trade);
        }
        assert_eq!(hit.moments(), spared.moments());
    }

    #[test]
    fn one_price_has_no_spread_and_no_trade_has_no_price() {
        let mut prices = Prices::default();
        assert!(prices.moments().vwap().is_nan() && prices.moments().std_dev().is_nan());
        for i in 0..2_000 {
            prices.push(Trade { ts: 10 * i, id: i, price: 0.1, qty: 0.3 });
            assert_eq!((prices.moments().vwap(), prices.moments().std_dev()), (0.1, 0.0));
        }
        assert!(prices.moments_at(2_000 * 10 + SPAN_MS).vwap().is_nan());
    }

    #[test]
    fn a_trade_as_old_as_the_span_has_left() {
        let mut prices = Prices::default();
        prices.push(Trade { ts: 0, id: 0, price: 1.0, qty: 1.0 });
        prices.push(Trade { ts: SPAN_MS - 1, id: 1, price: 3.0, qty: 1.0 });
        assert_eq!(prices.moments().vwap(), 2.0);
        prices.push(Trade { ts: SPAN_MS, id: 2, price: 5.0, qty: 1.0 });
        assert_eq!(prices.moments().vwap(), 4.0);
    }
}
