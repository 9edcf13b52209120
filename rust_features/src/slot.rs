//! One symbol's book-keeping: what is new, what is repeated, what contradicts. The engine behind it sees only good bars.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::{Candle, Values},
    codes::codes,
    engine::Engine,
    extras::Extras,
};

/// A gap of up to this many candles is filled; a longer one restarts the symbol.
pub const GAP_FILLED_MAX: i64 = 4;

/// Candles remembered by their digest, to tell a repetition from a contradiction.
const REMEMBERED: usize = 96;

/// Accepted candles among which conflicts are counted, and which must pass without one to end a quarantine.
const QUARANTINE_CANDLES: u64 = 96;

codes! {
    /// What became of a candle.
    Verdict {
        /// The state moved: one new row.
        Accepted = "ACCEPTED",
        /// The same candle again, same values: nothing changed.
        Duplicate = "DUPLICATE",
        /// A closed candle again, with other values: refused and counted.
        Conflict = "CONFLICT",
        /// Older than the newest and no longer remembered: refused.
        Late = "LATE",
        /// Malformed, or one symbol too many.
        Refused = "REFUSED",
        /// A forming candle: it gave a row and moved nothing.
        Peeked = "PEEKED",
    }
}

codes! {
    /// In which state a symbol is.
    State {
        /// Never seen.
        Cold = "COLD",
        /// Its window is not complete.
        Warming = "WARMING",
        /// Its window is complete.
        Ready = "READY",
        /// No candle for more than two intervals.
        Stale = "STALE",
        /// Repeated conflicts: its source contradicts itself.
        Quarantined = "QUARANTINED",
    }
}

/// Everything one (symbol, interval) remembers.
#[derive(Debug)]
pub struct Slot {
    pub engine: Engine,
    pub newest: Candle,
    /// Conflicts since the beginning.
    pub conflicts: u64,
    digests: Digests,
    quarantine: Quarantine,
}

/// Where a candle stands relative to the newest.
enum Place {
    /// The next one, behind so many missing ones.
    Ahead { missing: i64 },
    /// So many bars before the newest.
    Behind { bars: i64 },
}

impl Slot {
    /// A symbol with its first candle.
    pub fn new(first: Candle, conflicts_max: usize) -> Self {
        let mut slot = Self {
            engine: Engine::new(),
            newest: first,
            conflicts: 0,
            digests: Digests::new(),
            quarantine: Quarantine::new(conflicts_max),
        };
        slot.take(first);
        slot
    }

    /// Takes a closed candle.
    pub fn receive(&mut self, candle: Candle) -> Verdict {
        match self.place(&candle) {
            Place::Ahead { missing } => {
                advance(&mut self.engine, self.newest, missing);
                self.take(candle);
                Verdict::Accepted
            }
            Place::Behind { bars } => self.compare(&candle, bars),
        }
    }

    /// What a forming candle would give: computed on a copy, `scratch`, which tells the rest.
    pub fn peek(&self, candle: Candle, scratch: &mut Engine) -> Verdict {
        let Place::Ahead { missing } = self.place(&candle) else { return Verdict::Late };
        scratch.copy_from(&self.engine);
        advance(scratch, self.newest, missing);
        scratch.update(&candle, Extras::default(), false);
        Verdict::Peeked
    }

    /// The state as of the newest candle; with `now_ms`, also whether that candle is too old.
    pub fn state(&self, now_ms: Option<i64>) -> State {
        let patience = 2 * self.newest.interval_ms;
        let is_stale = now_ms.is_some_and(|now| now.saturating_sub(self.newest.close_time_ms()) > patience);
        self.state_of(&self.engine, is_stale)
    }

    /// The state of this symbol if `engine` were its engine.
    pub fn state_of(&self, engine: &Engine, is_stale: bool) -> State {
        match () {
            () if self.quarantine.is_active => State::Quarantined,
            () if is_stale => State::Stale,
            () if engine.is_ready() => State::Ready,
            () => State::Warming,
        }
    }

    fn place(&self, candle: &Values) -> Place {
        // Both times are multiples of the interval.
        let steps = (candle.open_time_ms - self.newest.open_time_ms) / candle.interval_ms;
        if steps > 0 { Place::Ahead { missing: steps - 1 } } else { Place::Behind { bars: -steps } }
    }

    fn take(&mut self, candle: Candle) {
        self.engine.update(&candle, Extras::default(), false);
        self.digests.remember(&candle, &self.newest);
        self.quarantine.accepted();
        self.newest = candle;
    }

    fn compare(&mut self, candle: &Candle, bars: i64) -> Verdict {
        match self.digests.of(candle, bars) {
            None => Verdict::Late,
            Some(same) if same == digest(candle) => Verdict::Duplicate,
            Some(_) => {
                self.count_conflict();
                Verdict::Conflict
            }
        }
    }

    /// Counts a candle that contradicts an earlier one.
    pub fn count_conflict(&mut self) {
        self.conflicts += 1;
        self.quarantine.conflict();
    }
}

/// Bridges `missing` bars after `newest`: with silence when they are few, with a fresh start when they are many.
fn advance(engine: &mut Engine, newest: Candle, missing: i64) {
    if missing > GAP_FILLED_MAX {
        engine.restart();
        return;
    }
    let mut silence = newest;
    for _ in 0..missing {
        silence = silence.followed_by_silence();
        engine.update(&silence, Extras::default(), true);
    }
}

/// Digests of the newest candles as they were sent; bars that were never sent have none.
#[derive(Debug)]
struct Digests([Option<u64>; REMEMBERED]);

impl Digests {
    fn new() -> Self {
        Self([None; REMEMBERED])
    }

    fn at(candle: &Values) -> usize {
        (candle.open_time_ms / candle.interval_ms) as usize % REMEMBERED
    }

    /// Remembers `candle`, which follows `newest`, and forgets what it pushes out.
    fn remember(&mut self, candle: &Candle, newest: &Values) {
        let steps = (candle.open_time_ms - newest.open_time_ms) / candle.interval_ms;
        for back in 1..steps.min(REMEMBERED as i64) as usize {
            self.0[(Self::at(candle) + REMEMBERED - back) % REMEMBERED] = None;
        }
        self.0[Self::at(candle)] = Some(digest(candle));
    }

    /// The digest of the candle `bars` before the newest, which is where `candle` stands.
    fn of(&self, candle: &Values, bars: i64) -> Option<u64> {
        (bars < REMEMBERED as i64).then(|| self.0[Self::at(candle)]).flatten()
    }
}

fn digest(candle: &Values) -> u64 {
    let prices = [candle.open, candle.high, candle.low, candle.close];
    let amounts = [candle.volume, candle.quote_volume, candle.trades, candle.taker_buy_volume];
    let bytes = [prices, amounts].map(|values| values.map(f64::to_le_bytes));
    xxh3_64(bytes.as_flattened().as_flattened())
}

/// Counts conflicts among the newest accepted candles.
#[derive(Debug)]
struct Quarantine {
    is_active: bool,
    conflicts_max: usize,
    accepted: u64,
    /// `accepted` at each of the newest `conflicts_max` conflicts.
    recent: VecDeque<u64>,
}

impl Quarantine {
    fn new(conflicts_max: usize) -> Self {
        assert!(conflicts_max > 0, "a quarantine needs a conflict");
        Self { is_active: false, conflicts_max, accepted: 0, recent: VecDeque::new() }
    }

    fn conflict(&mut self) {
        self.recent.push_back(self.accepted);
        if self.recent.len() > self.conflicts_max {
            self.recent.pop_front();
        }
        let is_full = self.recent.len() == self.conflicts_max;
        self.is_active |= is_full && self.accepted - self.recent[0] <= QUARANTINE_CANDLES;
    }

    fn accepted(&mut self) {
        self.accepted += 1;
        let quiet = self.recent.back().is_none_or(|last| self.accepted - last >= QUARANTINE_CANDLES);
        self.is_active &= !quiet;
    }
}
