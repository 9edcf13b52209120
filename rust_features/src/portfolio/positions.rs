//! Open positions, one of a series at most, moved by its candles as the backtest moves its own.
//!
//! A signal at a close enters at the next open. Within a bar the worse comes first: at the open a stop that the open has
//! passed fills there, a take at its own price; within the bar the stop, then the take; at the close a position that
//! has had its bars ends. One whose candle stays away ends at its last close, once a later one is there: the candles of a
//! close come in several messages. What it brought is kept by series, for the realised Sharpe ratio.

use super::{Bar, grown};

/// Of the Sharpe ratio: so many times a year as trades are closed.
const YEAR_MS: f64 = 365.0 * 86_400_000.0;
/// Rounding of equal gains.
const VARIANCE_MIN: f64 = 1e-18;

/// Which way a forecast or a position looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The price rises.
    Long,
    /// The price falls.
    Short,
}

impl Side {
    /// 1 or -1.
    pub fn sign(self) -> f64 {
        match self {
            Side::Long => 1.0,
            Side::Short => -1.0,
        }
    }
}

/// An open position.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Number of its series.
    pub series: usize,
    /// Which way.
    pub side: Side,
    /// Of the signal.
    pub quality: f64,
    /// Close of the signal's candle.
    pub signal_ms: i64,
    /// Close at which it has had its bars.
    pub until_ms: i64,
    /// Price; NaN until the next candle.
    pub entry: f64,
    /// Last close.
    pub mark: f64,
    /// Fraction of the entry.
    pub stop_loss: f64,
    /// Fraction of the entry.
    pub take_profit: f64,
}

impl Position {
    /// Move by a candle; return the price at which it left within it.
    fn moved(&mut self, bar: Bar) -> Option<f64> {
        let was_held = !self.entry.is_nan();
        if !was_held {
            self.entry = bar.open;
        }
        self.mark = bar.close;
        let sign = self.side.sign();
        let stop = self.entry * (1.0 - sign * self.stop_loss);
        let take = self.entry * (1.0 + sign * self.take_profit);
        let (stopped, reached) = match self.side {
            Side::Long => (bar.low <= stop, bar.high >= take),
            Side::Short => (bar.high >= stop, bar.low <= take),
        };
        if was_held && sign * (bar.open - stop) <= 0.0 {
            Some(bar.open)
        } else if was_held && sign * (bar.open - take) >= 0.0 {
            Some(take)
        } else if stopped {
            Some(stop)
        } else if reached {
            Some(take)
        } else {
            None
        }
    }
}

/// What closed trades of a series brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many.
    pub trades: u64,
    /// Sum of their returns.
    pub total: f64,
    /// Sum of the squares of their returns.
    pub squares: f64,
    /// First entry.
    pub first_ms: i64,
    /// Last exit.
    pub last_ms: i64,
}

impl Tally {
    /// Return the realised Sharpe ratio, a year; of equal gains it is infinite, of less than two trades 0.
    pub fn sharpe(&self) -> f64 {
        let n = self.trades as f64;
        let mean = self.total / n;
        if self.trades < 2 || mean == 0.0 {
            return 0.0;
        }
        let variance = ((self.squares - n * mean * mean).max(0.0)) / (n - 1.0);
        let variance = if variance < VARIANCE_MIN { 0.0 } else { variance };
        let years = (self.last_ms - self.first_ms) as f64 / YEAR_MS;
        mean / variance.sqrt() * (n / years).sqrt()
    }

    fn add(&mut self, more: &Tally) {
        self.first_ms = if self.trades == 0 { more.first_ms } else { self.first_ms.min(more.first_ms) };
        self.last_ms = self.last_ms.max(more.last_ms);
        self.trades += more.trades;
        self.total += more.total;
        self.squares += more.squares;
    }
}

/// Open positions and what closed ones brought.
pub struct Positions {
    bars_max: i64,
    cost: f64,
    /// In the order they were opened.
    pub open: Vec<Position>,
    tallies: Vec<Tally>,
}

impl Positions {
    /// None yet; each is held for `bars_max` bars, and `cost` (a fraction) is taken from each trade's return.
    pub fn new(bars_max: i64, cost: f64) -> Self {
        Self { bars_max, cost, open: Vec::new(), tallies: Vec::new() }
    }

    /// Open a position at a close with the price `mark`; say whether one of the other side ended. One of its own stays.
    pub fn enter(&mut self, position: Position, interval_ms: i64) -> bool {
        let before = self.open.iter().position(|held| held.series == position.series);
        if let Some(at) = before {
            if self.open[at].side == position.side {
                return false;
            }
            let held = self.open.remove(at);
            self.closed(&held, position.mark, position.signal_ms);
        }
        let until_ms = position.signal_ms + self.bars_max * interval_ms;
        self.open.push(Position { until_ms, entry: f64::NAN, ..position });
        before.is_some()
    }

    /// Move positions by the candles of one close; `bar` gives that of a series.
    pub fn move_all(&mut self, close_ms: i64, bar: impl Fn(usize) -> Option<Bar>) {
        let mut at = 0;
        while at < self.open.len() {
            let held = &mut self.open[at];
            let (left, ends) = match bar(held.series) {
                Some(bar) if held.signal_ms < close_ms => (held.moved(bar), close_ms >= held.until_ms),
                _ => (None, close_ms > held.until_ms),
            };
            match left.or_else(|| ends.then_some(held.mark)).filter(|price| !price.is_nan()) {
                Some(price) => {
                    let held = self.open.remove(at);
                    self.closed(&held, price, close_ms);
                }
                None => at += 1,
            }
        }
    }

    /// Take note of what a position brought; one that never entered brought nothing.
    fn closed(&mut self, held: &Position, price: f64, close_ms: i64) {
        if held.entry.is_finite() {
            let gain = held.side.sign() * (price - held.entry) / held.entry - self.cost;
            let trade =
                Tally { trades: 1, total: gain, squares: gain * gain, first_ms: held.signal_ms, last_ms: close_ms };
            self.count(held.series, &trade);
        }
    }

    /// Add closed trades of a series.
    pub fn count(&mut self, series: usize, trades: &Tally) {
        grown(&mut self.tallies, series);
        self.tallies[series].add(trades);
    }

    /// Begin the Sharpe ratios anew.
    pub fn forget_trades(&mut self) {
        self.tallies.clear();
    }

    /// Return what the closed trades of a series brought.
    pub fn tally(&self, series: usize) -> Tally {
        self.tallies.get(series).copied().unwrap_or_default()
    }
}
