//! An order book out of snapshots and differences; a gap in their numbers makes it invalid until the next snapshot.

use std::collections::{BTreeMap, VecDeque};

/// Levels of events that came before their snapshot and are kept for it.
pub const EARLY_LEVELS_MAX: usize = 100_000;
/// Levels of one side; a feed that opens more is not to be trusted.
pub const LEVELS_MAX: usize = 200_000;

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who would buy.
    Bid,
    /// Who would sell.
    Ask,
}

/// One price level: its new size, 0 when it is gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Side.
    pub side: Side,
    /// Price, finite and above 0.
    pub price: f64,
    /// Size, finite, 0 or more.
    pub qty: f64,
}

/// The numbers of an event of differences, as Binance gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// First update in it.
    pub first: i64,
    /// Last update in it.
    pub last: i64,
    /// Last update of the event before, where the feed says so (futures); 0 where it does not (spot).
    pub previous: i64,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The book has it.
    Yes,
    /// The book had it already: it is part of the snapshot, or came again.
    Known,
    /// The book waits for a snapshot; the event is kept for it.
    Early,
    /// There is a gap before it: the book is invalid until the next snapshot. The event is kept for that.
    Gap,
}

/// Levels of one side, (price, size), best first.
pub type Offers = Vec<(f64, f64)>;

/// Price levels and where they stand.
#[derive(Clone, Debug, Default)]
pub struct Book {
    bids: BTreeMap<u64, f64>, // by the bits of the price: of positive numbers they are in its order
    asks: BTreeMap<u64, f64>,
    last: Option<i64>, // the newest update in it, while it is valid
    bridged: bool,     // an event has followed the snapshot
    early: VecDeque<(Event, Vec<Level>)>,
    early_levels: usize,
}

impl Book {
    /// Whether it can be believed.
    pub fn is_valid(&self) -> bool {
        self.last.is_some()
    }

    /// Take a snapshot as of an update, and what came before it but belongs behind it.
    ///
    /// Returns whether it is valid now: kept events that leave a gap behind it make it invalid again.
    pub fn snapshot(&mut self, last: i64, levels: &[Level]) -> bool {
        self.bids.clear();
        self.asks.clear();
        (self.last, self.bridged) = (Some(last), false);
        self.set(levels);
        self.early_levels = 0;
        for (event, levels) in std::mem::take(&mut self.early) {
            self.apply(event, &levels);
        }
        self.is_valid()
    }

    /// Take an event of differences.
    pub fn apply(&mut self, event: Event, levels: &[Level]) -> Applied {
        let Some(last) = self.last else {
            self.keep(event, levels);
            return Applied::Early;
        };
        if event.last <= last && (self.bridged || event.previous == 0 || event.last < last) {
            return Applied::Known;
        }
        let follows = match (self.bridged, event.previous) {
            (true, 0) => event.first <= last + 1,
            (true, previous) => previous == last,
            // The first one behind a snapshot may begin before it.
            (false, 0) => event.first <= last + 1,
            (false, previous) => previous <= last,
        };
        if !follows {
            self.last = None;
            self.keep(event, levels);
            return Applied::Gap;
        }
        self.set(levels);
        (self.last, self.bridged) = (Some(event.last), true);
        if self.bids.len().max(self.asks.len()) > LEVELS_MAX {
            self.last = None;
            return Applied::Gap;
        }
        Applied::Yes
    }

    fn keep(&mut self, event: Event, levels: &[Level]) {
        self.early_levels += levels.len();
        self.early.push_back((event, levels.to_vec()));
        while self.early_levels > EARLY_LEVELS_MAX {
            self.early_levels -= self.early.pop_front().map_or(0, |(_, levels)| levels.len());
        }
    }

    fn set(&mut self, levels: &[Level]) {
        for Level { side, price, qty } in levels {
            let side = match side {
                Side::Bid => &mut self.bids,
                Side::Ask => &mut self.asks,
            };
            if *qty == 0.0 {
                side.remove(&price.to_bits());
            } else {
                side.insert(price.to_bits(), *qty);
            }
        }
    }

    /// The best `n` bids and asks.
    pub fn top(&self, n: usize) -> (Offers, Offers) {
        let level = |(bits, qty): (&u64, &f64)| (f64::from_bits(*bits), *qty);
        (self.bids.iter().rev().take(n).map(level).collect(), self.asks.iter().take(n).map(level).collect())
    }

    /// The best bid and ask, (price, size); (NaN, 0) for a side that is empty. None while it is invalid.
    pub fn best(&self) -> Option<[(f64, f64); 2]> {
        self.last?;
        let level = |(bits, qty): (&u64, &f64)| (f64::from_bits(*bits), *qty);
        let none = (f64::NAN, 0.0);
        Some([self.bids.last_key_value().map_or(none, level), self.asks.first_key_value().map_or(none, level)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(price: f64, qty: f64) -> Level {
        Level { side: Side::Bid, price, qty }
    }

    fn ask(price: f64, qty: f64) -> Level {
        Level { side: Side::Ask, price, qty }
    }

    fn spot(first: i64, last: i64) -> Event {
        Event { first, last, previous: 0 }
    }

    #[test]
    fn levels_come_change_and_go() {
        let mut book = Book::default();
        assert!(book.best().is_none());
        assert!(book.snapshot(10, &[bid(9.0, 1.0), bid(8.0, 2.0), ask(11.0, 3.0), ask(12.0, 4.0)]));
        assert_eq!(book.best(), Some([(9.0, 1.0), (11.0, 3.0)]));
        assert_eq!(book.apply(spot(11, 12), &[bid(9.0, 0.0), bid(8.0, 5.0), ask(10.5, 1.0)]), Applied::Yes);
        assert_eq!(book.best(), Some([(8.0, 5.0), (10.5, 1.0)]));
        assert_eq!(book.top(9).1, [(10.5, 1.0), (11.0, 3.0), (12.0, 4.0)]);
        assert_eq!(book.apply(spot(13, 13), &[bid(8.0, 0.0)]), Applied::Yes);
        let [(price, qty), _] = book.best().unwrap();
        assert!(price.is_nan() && qty == 0.0);
    }

    #[test]
    fn a_gap_makes_it_invalid_until_the_next_snapshot() {
        let mut book = Book::default();
        book.snapshot(10, &[bid(9.0, 1.0)]);
        assert_eq!(book.apply(spot(11, 12), &[]), Applied::Yes);
        assert_eq!(book.apply(spot(11, 12), &[bid(1.0, 1.0)]), Applied::Known);
        assert_eq!(book.apply(spot(14, 15), &[bid(9.5, 1.0)]), Applied::Gap);
        assert!(!book.is_valid() && book.best().is_none());
        assert_eq!(book.apply(spot(16, 17), &[bid(9.6, 1.0)]), Applied::Early);
        assert!(book.snapshot(15, &[bid(9.5, 1.0)]), "what was kept follows it");
        assert_eq!(book.best().unwrap()[0], (9.6, 1.0));
    }

    #[test]
    fn a_snapshot_that_is_too_old_for_what_follows_does_not_do() {
        let mut book = Book::default();
        assert_eq!(book.apply(spot(20, 21), &[]), Applied::Early);
        assert!(!book.snapshot(15, &[bid(9.5, 1.0)]));
        assert!(book.snapshot(20, &[bid(9.5, 1.0)]), "the event was kept");
    }

    #[test]
    fn futures_name_the_event_before() {
        let mut book = Book::default();
        let event = |first, last, previous| Event { first, last, previous };
        book.snapshot(10, &[]);
        assert_eq!(book.apply(event(3, 9, 2), &[bid(1.0, 1.0)]), Applied::Known);
        assert_eq!(book.apply(event(10, 14, 9), &[]), Applied::Yes, "begins before the snapshot and ends behind it");
        assert_eq!(book.apply(event(30, 34, 14), &[]), Applied::Yes, "numbers may be left out");
        assert_eq!(book.apply(event(41, 44, 40), &[]), Applied::Gap);
    }

    #[test]
    fn what_came_too_early_is_kept_within_a_limit() {
        let mut book = Book::default();
        let levels = vec![bid(1.0, 1.0); 1_000];
        for i in 0..200 {
            book.apply(spot(i, i), &levels);
        }
        assert!(book.early_levels <= EARLY_LEVELS_MAX && book.early.len() == 100);
    }
}
