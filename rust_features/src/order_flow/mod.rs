//! The order flow of one symbol: trades and the best bid and ask in, the gate's three features out. By event time alone.
//!
//! What is not known is NaN, with a reason, and never 0.

pub mod book;
pub mod flows;
pub mod prices;
pub mod ticks;

use std::collections::VecDeque;

use prices::{Moments, Prices, Trade};
use ticks::Ticks;

/// Quotes that are remembered, so that a trade finds the one of its own time.
const QUOTES_MAX: usize = 256;

/// What became of a trade or a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Taken {
    /// It moved the state.
    Accepted,
    /// A trade with its time and number is in the window already.
    Duplicate,
    /// Something newer was there before it; nothing changed.
    Late,
    /// It is none: a price or size that is not finite or not above 0.
    Refused,
}

/// Why a feature is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Undefined {
    /// It is defined.
    No,
    /// No trade in the window.
    NoTrades,
    /// All trades in the window have one price: σ is 0.
    NoSpread,
    /// No bid and ask before it, or the book is invalid.
    NoBook,
    /// The newest bid and ask before it are too old.
    StaleBook,
}

impl Taken {
    /// By code.
    pub const NAMES: &[&str] = &["ACCEPTED", "DUPLICATE", "LATE", "REFUSED"];
}

impl Undefined {
    /// By code.
    pub const NAMES: &[&str] = &["", "NO_TRADES", "NO_SPREAD", "NO_BOOK", "STALE_BOOK"];
}

/// The best bid and ask; a side without an offer has size 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quote {
    /// Since when, ms since 1970.
    pub ts: i64,
    /// Best bid.
    pub bid: f64,
    /// Its size.
    pub bid_size: f64,
    /// Best ask.
    pub ask: f64,
    /// Its size.
    pub ask_size: f64,
}

/// What is known at a moment. NaN where it is not defined.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Mean tick sign of the last 50 trades.
    pub tick_ratio: f64,
    /// (bid − ask)/(bid + ask) size at the best level; 0 when both are empty.
    pub depth_ratio: f64,
    /// (last price − VWAP)/σ of the last 30 s, at most 600 trades.
    pub price_dist: f64,
    /// Price of the newest trade.
    pub price: f64,
    /// Volume-weighted average price of the window.
    pub vwap: f64,
    /// Its σ, volume-weighted.
    pub std_dev: f64,
    /// Size of the best bid.
    pub bid_vol: f64,
    /// Size of the best ask.
    pub ask_vol: f64,
    /// Why `price_dist` (or, without trades, all of the trades' columns) is not defined.
    pub no_dist: Undefined,
    /// Why `depth_ratio` is not defined.
    pub no_depth: Undefined,
}

impl Flow {
    /// Columns of [`Flow::columns`].
    pub const COLUMNS: usize = 8;

    /// tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol.
    pub fn columns(&self) -> [f64; Self::COLUMNS] {
        let Self { tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol, .. } = *self;
        [tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol]
    }
}

/// The state of one symbol: some 40 KB when its window is full.
#[derive(Clone, Debug)]
pub struct OrderFlow {
    ticks: Ticks,
    prices: Prices,
    quotes: VecDeque<Option<Quote>>, // None since its time: the book was lost; times are in `quote_times`
    quote_times: VecDeque<i64>,
    stale_ms: i64,
}

impl OrderFlow {
    /// With nothing known. A quote speaks for at most `stale_ms`.
    pub fn new(stale_ms: i64) -> Self {
        assert!(stale_ms > 0, "a quote lasts for a while");
        Self {
            ticks: Ticks::default(),
            prices: Prices::default(),
            quotes: VecDeque::new(),
            quote_times: VecDeque::new(),
            stale_ms,
        }
    }

    /// Take a trade; what is known with it is [`OrderFlow::newest`].
    #[inline]
    pub fn trade(&mut self, trade: Trade) -> Taken {
        let is_some = |x: f64| x > 0.0 && x.is_finite();
        if !(is_some(trade.price) && is_some(trade.qty)) {
            return Taken::Refused;
        }
        let newest = self.prices.newest().map_or((i64::MIN, -1), |newest| (newest.ts, newest.id));
        if trade.ts < newest.0 || (trade.ts == newest.0 && trade.id >= 0 && trade.id <= newest.1) {
            let is_known = trade.id >= 0 && self.prices.holds(trade.ts, trade.id);
            return if is_known { Taken::Duplicate } else { Taken::Late };
        }
        self.ticks.push(trade.price);
        self.prices.push(trade);
        Taken::Accepted
    }

    /// Take the best bid and ask; one of the same time replaces the one before.
    pub fn quote(&mut self, quote: Quote) -> Taken {
        let is_size = |x: f64| x >= 0.0 && x.is_finite();
        let is_side = |price: f64, size: f64| size == 0.0 || (price > 0.0 && price.is_finite());
        let sides = is_side(quote.bid, quote.bid_size) && is_side(quote.ask, quote.ask_size);
        if !(is_size(quote.bid_size) && is_size(quote.ask_size) && sides) {
            return Taken::Refused;
        }
        self.note(quote.ts, Some(quote))
    }

    /// Take note that the book is not to be believed from then on.
    pub fn no_book(&mut self, ts: i64) -> Taken {
        self.note(ts, None)
    }

    fn note(&mut self, ts: i64, quote: Option<Quote>) -> Taken {
        if self.quote_times.back().is_some_and(|newest| ts < *newest) {
            return Taken::Late;
        }
        if self.quotes.len() == QUOTES_MAX {
            self.quotes.pop_front();
            self.quote_times.pop_front();
        }
        self.quotes.push_back(quote);
        self.quote_times.push_back(ts);
        Taken::Accepted
    }

    /// Time of the newest trade.
    pub fn newest_ts(&self) -> Option<i64> {
        self.prices.newest().map(|trade| trade.ts)
    }

    /// What is known as of the newest trade.
    #[inline]
    pub fn newest(&self) -> Flow {
        self.known(self.newest_ts().unwrap_or(i64::MIN), self.prices.moments())
    }

    /// What is known as of a time, which is not before the newest trade; nothing changes.
    pub fn at(&self, ts: i64) -> Flow {
        self.known(ts, self.prices.moments_at(ts))
    }

    #[inline]
    fn known(&self, ts: i64, moments: Moments) -> Flow {
        let (vwap, std_dev) = (moments.vwap(), moments.std_dev());
        let (tick_ratio, price) = match self.prices.newest() {
            Some(newest) if !vwap.is_nan() => (self.ticks.ratio(), newest.price),
            _ => (f64::NAN, f64::NAN),
        };
        let no_dist = match std_dev {
            s if s.is_nan() => Undefined::NoTrades,
            0.0 => Undefined::NoSpread,
            _ => Undefined::No,
        };
        let price_dist = if no_dist == Undefined::No { (price - vwap) / std_dev } else { f64::NAN };
        let mut flow = Flow {
            tick_ratio,
            depth_ratio: f64::NAN,
            price_dist,
            price,
            vwap,
            std_dev,
            bid_vol: f64::NAN,
            ask_vol: f64::NAN,
            no_dist,
            no_depth: Undefined::No,
        };
        match self.quote_of(ts) {
            Ok(Quote { bid_size, ask_size, .. }) => {
                let both = bid_size + ask_size;
                flow.depth_ratio = if both == 0.0 { 0.0 } else { (bid_size - ask_size) / both };
                (flow.bid_vol, flow.ask_vol) = (bid_size, ask_size);
            }
            Err(reason) => flow.no_depth = reason,
        }
        flow
    }

    #[inline]
    fn quote_of(&self, ts: i64) -> Result<Quote, Undefined> {
        let place = self.quote_times.iter().rposition(|since| *since <= ts).ok_or(Undefined::NoBook)?;
        let quote = self.quotes[place].ok_or(Undefined::NoBook)?;
        if ts - quote.ts > self.stale_ms { Err(Undefined::StaleBook) } else { Ok(quote) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(ts: i64, id: i64, price: f64) -> Trade {
        Trade { ts, id, price, qty: 1.0 }
    }

    fn quote(ts: i64, bid_size: f64, ask_size: f64) -> Quote {
        Quote { ts, bid: 9.0, bid_size, ask: 11.0, ask_size }
    }

    #[test]
    fn says_what_it_does_not_know_and_why() {
        let mut flow = OrderFlow::new(1_000);
        let nothing = flow.at(0);
        assert!(nothing.columns().iter().all(|x| x.is_nan()));
        assert_eq!((nothing.no_dist, nothing.no_depth), (Undefined::NoTrades, Undefined::NoBook));

        assert_eq!(flow.trade(trade(0, 1, 10.0)), Taken::Accepted);
        let first = flow.newest();
        assert_eq!((first.tick_ratio, first.price, first.vwap, first.std_dev), (0.0, 10.0, 10.0, 0.0));
        assert!(first.price_dist.is_nan());
        assert_eq!(first.no_dist, Undefined::NoSpread);

        flow.trade(trade(1, 2, 12.0));
        let second = flow.newest();
        assert_eq!((second.tick_ratio, second.price_dist, second.no_dist), (0.5, 1.0, Undefined::No));

        let later = flow.at(1 + prices::SPAN_MS);
        assert!(later.tick_ratio.is_nan() && later.price.is_nan());
        assert_eq!(later.no_dist, Undefined::NoTrades);
        assert_eq!(flow.newest().price_dist, 1.0, "asking moves nothing");
    }

    #[test]
    fn a_book_speaks_for_a_while_and_only_for_what_comes_after_it() {
        let mut flow = OrderFlow::new(1_000);
        flow.trade(trade(500, 1, 10.0));
        assert_eq!(flow.newest().no_depth, Undefined::NoBook);
        flow.quote(quote(501, 3.0, 1.0));
        assert_eq!(flow.newest().no_depth, Undefined::NoBook, "it came after the trade");
        assert_eq!(flow.at(501).depth_ratio, 0.5);
        assert_eq!(flow.at(1_501).depth_ratio, 0.5);
        assert_eq!(flow.at(1_502).no_depth, Undefined::StaleBook);
        flow.quote(quote(2_000, 0.0, 0.0));
        assert_eq!((flow.at(2_000).depth_ratio, flow.at(2_000).bid_vol), (0.0, 0.0));
        flow.no_book(2_001);
        assert_eq!(flow.at(2_001).no_depth, Undefined::NoBook);
        flow.quote(quote(2_002, 0.0, 4.0));
        assert_eq!(flow.at(2_002).depth_ratio, -1.0);
        flow.trade(trade(2_001, 2, 10.0));
        assert_eq!(flow.newest().no_depth, Undefined::NoBook, "as it was at the trade's own time");
        assert_eq!(flow.quote(quote(2_001, 1.0, 1.0)), Taken::Late);
    }

    #[test]
    fn late_and_repeated_trades_change_nothing() {
        let mut flow = OrderFlow::new(1_000);
        for (ts, id) in [(10, 5), (10, 7), (20, 8)] {
            assert_eq!(flow.trade(trade(ts, id, 10.0 + id as f64)), Taken::Accepted);
        }
        let before = flow.newest().columns();
        for (ts, id, expected) in [
            (10, 5, Taken::Duplicate),
            (20, 8, Taken::Duplicate),
            (10, 6, Taken::Late),
            (9, -1, Taken::Late),
            (20, 3, Taken::Late),
        ] {
            assert_eq!(flow.trade(trade(ts, id, 99.0)), expected, "{ts} {id}");
        }
        assert_eq!(format!("{:?}", flow.newest().columns()), format!("{before:?}"));
        assert_eq!(flow.trade(trade(20, -1, 99.0)), Taken::Accepted, "without a number it cannot be told from another");
    }

    #[test]
    fn what_is_no_trade_and_no_quote_is_refused() {
        let mut flow = OrderFlow::new(1_000);
        for (price, qty) in
            [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, 0.0), (1.0, f64::NAN)]
        {
            assert_eq!(flow.trade(Trade { ts: 0, id: 0, price, qty }), Taken::Refused);
        }
        for (bid, bid_size) in [(f64::NAN, 1.0), (9.0, f64::NAN), (9.0, -1.0), (0.0, 1.0)] {
            assert_eq!(flow.quote(Quote { bid, bid_size, ..quote(0, 1.0, 1.0) }), Taken::Refused);
        }
        assert!(flow.newest().columns().iter().all(|x| x.is_nan()));
        assert_eq!(flow.quote(Quote { bid: f64::NAN, bid_size: 0.0, ..quote(0, 1.0, 1.0) }), Taken::Accepted);
    }
}
