//! The order flow of many symbols: batches of one symbol in, every event answered.

use std::collections::HashMap;

use super::{
    Flow, OrderFlow, Quote, Taken,
    book::{Applied, Book, Event, Level, Offers},
    prices::Trade,
};
use crate::symbol::Symbol;

/// A snapshot of the book, or an event of differences.
#[derive(Clone, Copy, Debug)]
pub struct Depth<'a> {
    /// Since when, ms since 1970.
    pub ts: i64,
    /// Its numbers; of a snapshot `last` alone counts.
    pub event: Event,
    /// Whether it is the whole book.
    pub is_snapshot: bool,
    /// Levels it sets.
    pub levels: &'a [Level],
}

/// What a batch brings of one symbol, each kind in the order of its times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// Trades.
    pub trades: &'a [Trade],
    /// Best bids and asks.
    pub quotes: &'a [Quote],
    /// What builds a book, whose best levels are quotes.
    pub depth: &'a [Depth<'a>],
}

/// What became of a batch, in its order.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// What was known with each trade; as of the newest for one that was not accepted.
    pub flows: Vec<Flow>,
    /// What became of each trade.
    pub trades: Vec<Taken>,
    /// What became of each quote.
    pub quotes: Vec<Taken>,
    /// What became of each snapshot and event.
    pub depth: Vec<Applied>,
}

/// How many symbols there may be was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What was counted of a symbol, and where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Time of the newest trade.
    pub newest_ts: Option<i64>,
    /// Trades accepted.
    pub trades: u64,
    /// Trades and quotes that came too late.
    pub late: u64,
    /// Trades that came again.
    pub duplicates: u64,
    /// What was no trade or quote.
    pub refused: u64,
    /// Gaps in the differences of the book.
    pub gaps: u64,
    /// Whether a book built of differences is valid; false without one.
    pub book_is_valid: bool,
}

struct One {
    flow: OrderFlow,
    book: Book,
    status: Status,
}

/// Order flows by symbol.
pub struct OrderFlows {
    by_symbol: HashMap<Symbol, One>,
    symbols_max: usize,
    stale_ms: i64,
}

impl OrderFlows {
    /// With no symbol. A quote speaks for at most `stale_ms`.
    pub fn new(symbols_max: usize, stale_ms: i64) -> Self {
        Self { by_symbol: HashMap::new(), symbols_max, stale_ms }
    }

    /// Take a batch of one symbol by the times of its events; at one time the book moves first.
    ///
    /// # Errors
    /// The symbol is new and there are as many as there may be.
    pub fn push(&mut self, symbol: Symbol, batch: Batch<'_>) -> Result<Answer, Full> {
        let is_full = self.by_symbol.len() >= self.symbols_max;
        let one = match self.by_symbol.get_mut(&symbol) {
            Some(one) => one,
            None if is_full => return Err(Full),
            None => self.by_symbol.entry(symbol).or_insert_with(|| One {
                flow: OrderFlow::new(self.stale_ms),
                book: Book::default(),
                status: Status::default(),
            }),
        };
        let mut answer = Answer {
            flows: Vec::with_capacity(batch.trades.len()),
            trades: Vec::with_capacity(batch.trades.len()),
            ..Answer::default()
        };
        let (mut quotes, mut depth) = (batch.quotes.iter().peekable(), batch.depth.iter().peekable());
        let mut book_until = |one: &mut One, answer: &mut Answer, ts: i64| loop {
            let next = |at: Option<i64>| at.filter(|at| *at <= ts);
            let (of_depth, of_quote) = (next(depth.peek().map(|d| d.ts)), next(quotes.peek().map(|q| q.ts)));
            if of_depth.is_some() && (of_quote.is_none() || of_depth <= of_quote) {
                answer.depth.push(one.depth(depth.next().expect("peeked")));
            } else if of_quote.is_some() {
                let taken = one.flow.quote(*quotes.next().expect("peeked"));
                answer.quotes.push(one.counted(taken));
            } else {
                break;
            }
        };
        for trade in batch.trades {
            book_until(one, &mut answer, trade.ts);
            let taken = one.flow.trade(*trade);
            one.status.trades += u64::from(taken == Taken::Accepted);
            answer.trades.push(one.counted(taken));
            answer.flows.push(one.flow.newest());
        }
        book_until(one, &mut answer, i64::MAX);
        Ok(answer)
    }

    /// What is known of a symbol as of a time, or as of its newest trade when that is later; None for an unknown symbol.
    pub fn at(&self, symbol: &Symbol, ts: i64) -> Option<Flow> {
        let flow = &self.by_symbol.get(symbol)?.flow;
        Some(match flow.newest_ts() {
            Some(newest) if newest >= ts => flow.newest(),
            _ => flow.at(ts),
        })
    }

    /// Where a symbol stands; None for an unknown one.
    pub fn status(&self, symbol: &Symbol) -> Option<Status> {
        let one = self.by_symbol.get(symbol)?;
        Some(Status { newest_ts: one.flow.newest_ts(), book_is_valid: one.book.is_valid(), ..one.status })
    }

    /// The best `n` bids and asks of a symbol's book. None while it is not valid.
    pub fn top(&self, symbol: &Symbol, n: usize) -> Option<(Offers, Offers)> {
        let book = &self.by_symbol.get(symbol)?.book;
        book.is_valid().then(|| book.top(n))
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.by_symbol.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_symbol.is_empty()
    }
}

impl One {
    fn counted(&mut self, taken: Taken) -> Taken {
        match taken {
            Taken::Accepted => {}
            Taken::Late => self.status.late += 1,
            Taken::Duplicate => self.status.duplicates += 1,
            Taken::Refused => self.status.refused += 1,
        }
        taken
    }

    fn depth(&mut self, depth: &Depth<'_>) -> Applied {
        let applied = if depth.is_snapshot {
            if self.book.snapshot(depth.event.last, depth.levels) { Applied::Yes } else { Applied::Gap }
        } else {
            self.book.apply(depth.event, depth.levels)
        };
        match (applied, self.book.best()) {
            (Applied::Yes, Some([(bid, bid_size), (ask, ask_size)])) => {
                self.flow.quote(Quote { ts: depth.ts, bid, bid_size, ask, ask_size });
            }
            (Applied::Gap, _) => {
                self.status.gaps += 1;
                self.flow.no_book(depth.ts);
            }
            _ => {}
        }
        applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order_flow::{Undefined, book::Side};

    fn symbol(name: &str) -> Symbol {
        name.parse().unwrap()
    }

    fn trade(ts: i64, id: i64, price: f64) -> Trade {
        Trade { ts, id, price, qty: 1.0 }
    }

    #[test]
    fn events_of_a_batch_go_by_their_times() {
        let mut flows = OrderFlows::new(10, 1_000);
        let quote = |ts, bid_size| Quote { ts, bid: 9.0, bid_size, ask: 11.0, ask_size: 1.0 };
        let batch = Batch {
            trades: &[trade(5, 1, 10.0), trade(10, 2, 10.5), trade(20, 3, 10.0)],
            quotes: &[quote(10, 3.0), quote(15, 1.0), quote(30, 7.0)],
            depth: &[],
        };
        let answer = flows.push(symbol("A"), batch).unwrap();
        assert_eq!(answer.flows[0].no_depth, Undefined::NoBook);
        assert_eq!((answer.flows[1].depth_ratio, answer.flows[2].depth_ratio), (0.5, 0.0));
        assert_eq!(flows.at(&symbol("A"), 30).unwrap().bid_vol, 7.0);
        assert_eq!(flows.at(&symbol("A"), 0).unwrap().price, 10.0, "as of the newest trade, which is later");
        assert!(flows.at(&symbol("B"), 0).is_none());
    }

    #[test]
    fn any_split_into_batches_gives_the_same() {
        let trades: Vec<_> = (0..200).map(|i| trade(40 * i, i, 100.0 + ((i * i) % 7) as f64)).collect();
        let (mut whole, mut parts) = (OrderFlows::new(10, 1_000), OrderFlows::new(10, 1_000));
        let all = whole.push(symbol("A"), Batch { trades: &trades, ..Batch::default() }).unwrap();
        let mut seen = Vec::new();
        for part in trades.chunks(7) {
            seen.extend(parts.push(symbol("A"), Batch { trades: part, ..Batch::default() }).unwrap().flows);
        }
        let bits = |flows: &[Flow]| flows.iter().map(|f| f.columns().map(f64::to_bits)).collect::<Vec<_>>();
        assert_eq!(bits(&all.flows), bits(&seen));
    }

    #[test]
    fn a_gap_in_the_book_is_told_until_a_snapshot_comes() {
        let mut flows = OrderFlows::new(10, 1_000);
        let level = |side, qty| Level { side, price: 10.0, qty };
        let both = [level(Side::Bid, 3.0), Level { price: 11.0, ..level(Side::Ask, 1.0) }];
        let depth = |ts, first, last, is_snapshot| Depth {
            ts,
            event: Event { first, last, previous: 0 },
            is_snapshot,
            levels: &both,
        };
        fn batch<'a>(depth: &'a [Depth<'a>]) -> Batch<'a> {
            Batch { depth, ..Batch::default() }
        }
        let answer = flows.push(symbol("A"), batch(&[depth(0, 0, 10, true), depth(1, 11, 11, false)])).unwrap();
        assert_eq!(answer.depth, [Applied::Yes, Applied::Yes]);
        assert_eq!(flows.at(&symbol("A"), 1).unwrap().depth_ratio, 0.5);
        let answer = flows.push(symbol("A"), batch(&[depth(2, 13, 13, false)])).unwrap();
        assert_eq!(answer.depth, [Applied::Gap]);
        assert_eq!(flows.at(&symbol("A"), 2).unwrap().no_depth, Undefined::NoBook);
        assert_eq!(flows.status(&symbol("A")).unwrap().gaps, 1);
        flows.push(symbol("A"), batch(&[depth(3, 0, 13, true)])).unwrap();
        assert_eq!(flows.at(&symbol("A"), 3).unwrap().depth_ratio, 0.5);
    }

    #[test]
    fn no_more_symbols_than_there_may_be() {
        let mut flows = OrderFlows::new(1, 1_000);
        assert!(flows.push(symbol("A"), Batch::default()).is_ok());
        assert_eq!(flows.push(symbol("B"), Batch::default()).unwrap_err(), Full);
        assert!(flows.push(symbol("A"), Batch::default()).is_ok());
    }
}
