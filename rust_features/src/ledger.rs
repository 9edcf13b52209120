//! One symbol's book-keeping: what is new, what is repeated, what contradicts. It computes no features.

use wincode::{SchemaRead, SchemaWrite};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::{Candle, Values},
    catalog::{NEED, WINDOW},
    codes::codes,
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

/// How far a history has come.
#[derive(Clone, Copy, Debug, SchemaRead, SchemaWrite)]
pub struct Progress {
    /// Bars since the (re)start, filled ones included.
    pub have: u32,
    /// `have` when the newest filled bar was taken; 0 = none.
    newest_filled: u32,
}

/// What an engine has to do to reach a candle.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The gap is too long: forget everything first.
    pub restart: bool,
    /// Silent bars before the candle, at most [`GAP_FILLED_MAX`].
    pub fills: u32,
}

impl Progress {
    /// After a step.
    fn after(self, Step { restart, fills }: Step) -> Self {
        if restart {
            return Self { have: 1, newest_filled: 0 };
        }
        let newest_filled = if fills > 0 { self.have + fills } else { self.newest_filled };
        Self { have: self.have + fills + 1, newest_filled }
    }

    /// Whether every value of the window is defined.
    pub fn is_ready(self) -> bool {
        self.have >= NEED
    }

    /// Whether the window holds a bar that was filled in.
    pub fn is_gap_filled(self) -> bool {
        self.newest_filled > 0 && self.have - self.newest_filled < WINDOW as u32
    }
}

/// What one (symbol, interval) has been told.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
pub struct Ledger {
    pub newest: Candle,
    pub progress: Progress,
    /// Conflicts since the beginning.
    pub conflicts: u64,
    digests: Digests,
    quarantine: Quarantine,
}

impl Ledger {
    /// A symbol with its first candle.
    pub fn new(first: Candle) -> Self {
        let mut ledger = Self {
            newest: first,
            progress: Progress { have: 1, newest_filled: 0 },
            conflicts: 0,
            digests: Digests::new(),
            quarantine: Quarantine::new(),
        };
        ledger.digests.remember(&first, &first);
        ledger.quarantine.accepted();
        ledger
    }

    /// Takes a closed candle; a step when it moves the state.
    pub fn receive(&mut self, candle: Candle, conflicts_max: usize) -> (Verdict, Option<Step>) {
        let steps = self.steps_to(&candle);
        let Some(step) = step(steps) else { return (self.compare(&candle, -steps, conflicts_max), None) };
        self.progress = self.progress.after(step);
        self.digests.remember(&candle, &self.newest);
        self.quarantine.accepted();
        self.newest = candle;
        (Verdict::Accepted, Some(step))
    }

    /// What a forming candle would do: the step to it and the progress after. `None`: it lies in the past.
    pub fn peek(&self, candle: &Candle) -> Option<(Step, Progress)> {
        let step = step(self.steps_to(candle))?;
        Some((step, self.progress.after(step)))
    }

    /// The state as of the newest candle; with `now_ms`, also whether that candle is too old.
    pub fn state(&self, now_ms: Option<i64>) -> State {
        let patience = 2 * self.newest.interval_ms;
        let is_stale = now_ms.is_some_and(|now| now.saturating_sub(self.newest.close_time_ms()) > patience);
        self.state_at(self.progress, is_stale)
    }

    /// The state of this symbol if it had come so far.
    pub fn state_at(&self, progress: Progress, is_stale: bool) -> State {
        match () {
            () if self.quarantine.is_active => State::Quarantined,
            () if is_stale => State::Stale,
            () if progress.is_ready() => State::Ready,
            () => State::Warming,
        }
    }

    /// Bars from the newest candle to this one. Both times are multiples of the interval.
    fn steps_to(&self, candle: &Values) -> i64 {
        (candle.open_time_ms - self.newest.open_time_ms) / candle.interval_ms
    }

    fn compare(&mut self, candle: &Candle, bars: i64, conflicts_max: usize) -> Verdict {
        match self.digests.of(candle, bars) {
            None => Verdict::Late,
            Some(same) if same == digest(candle) => Verdict::Duplicate,
            Some(_) => {
                self.count_conflict(conflicts_max);
                Verdict::Conflict
            }
        }
    }

    /// Counts a candle that contradicts an earlier one.
    pub fn count_conflict(&mut self, conflicts_max: usize) {
        self.conflicts += 1;
        self.quarantine.conflict(conflicts_max);
    }
}

/// Bridges what is missing: with silence when it is little, with a fresh start when it is much.
fn step(steps: i64) -> Option<Step> {
    let missing = steps - 1;
    match missing {
        ..0 => None,
        0..=GAP_FILLED_MAX => Some(Step { restart: false, fills: missing as u32 }),
        _ => Some(Step { restart: true, fills: 0 }),
    }
}

/// Digests of the newest candles as they were sent; bars that were never sent have none.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
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
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
struct Quarantine {
    is_active: bool,
    accepted: u64,
    /// `accepted` at each of the newest conflicts, oldest first.
    recent: Vec<u64>,
}

impl Quarantine {
    fn new() -> Self {
        Self { is_active: false, accepted: 0, recent: Vec::new() }
    }

    fn conflict(&mut self, conflicts_max: usize) {
        self.recent.push(self.accepted);
        self.recent.drain(..self.recent.len().saturating_sub(conflicts_max));
        let is_full = self.recent.len() == conflicts_max;
        self.is_active |= is_full && self.accepted - self.recent[0] <= QUARANTINE_CANDLES;
    }

    fn accepted(&mut self) {
        self.accepted += 1;
        let quiet = self.recent.last().is_none_or(|last| self.accepted - last >= QUARANTINE_CANDLES);
        self.is_active &= !quiet;
    }
}
