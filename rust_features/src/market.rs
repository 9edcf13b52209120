//! Many symbols: batches of candles in, windows out, every candle answered. One bad candle never touches another.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    candle::{Candle, Field, Reason, Refusal, Values},
    engine::{Engine, WINDOW_LEN},
    extras::Extras,
    slot::Slot,
    symbol::Symbol,
};

pub use crate::slot::{State, Verdict};

/// A candle as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The symbol, or why its name was refused.
    pub symbol: Result<Symbol, Refusal>,
    /// Interval, time, prices, volumes.
    pub values: Values,
    /// Whether the bar is still forming: it is peeked and moves nothing.
    pub forming: bool,
}

/// What became of one candle. It speaks as of that candle: time plays no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What happened.
    pub verdict: Verdict,
    /// Field and reason, when refused.
    pub refusal: Option<Refusal>,
    /// State of the symbol (of the copy, for a peek).
    pub state: State,
    /// Bars seen since the (re)start.
    pub have: u32,
    /// Whether the window holds a bar that was filled in.
    pub gap_filled: bool,
    /// Where the window was written.
    pub window: Option<usize>,
    /// 56-bit hash of the newest row of that window; 0 without one.
    pub features_hash: u64,
    /// Close of the newest bar (of the peeked one, for a peek); NaN for an unknown symbol.
    pub close: f64,
    /// Open time of that bar; −1 for an unknown symbol.
    pub open_time_ms: i64,
}

/// The outcomes of a batch, in its order.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    /// One per candle.
    pub outcomes: Vec<Outcome>,
    /// Windows written.
    pub ready: usize,
}

/// Where a symbol stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its state as of the time asked for.
    pub state: State,
    /// Bars seen since the (re)start.
    pub have: u32,
    /// Open time of the newest candle.
    pub newest_open_time_ms: Option<i64>,
    /// Conflicts since the beginning.
    pub conflicts: u64,
    /// Whether the window holds a bar that was filled in.
    pub gap_filled: bool,
}

/// Every symbol's features.
#[derive(Debug)]
pub struct Market {
    slots: HashMap<(Symbol, i64), Box<Slot>>,
    symbols_max: usize,
    conflicts_max: usize,
    /// Where peeks are computed.
    scratch: Engine,
}

impl Market {
    /// An empty market of at most `symbols_max` (symbol, interval) pairs, in which `conflicts_max` conflicts within 96 candles
    /// quarantine a symbol.
    pub fn new(symbols_max: usize, conflicts_max: usize) -> Self {
        assert!(symbols_max > 0 && conflicts_max > 0, "limits are at least 1");
        Self { slots: HashMap::new(), symbols_max, conflicts_max, scratch: Engine::new() }
    }

    /// Takes a batch in its order. `windows` is empty (no windows wanted) or has room for one window per candle; windows are
    /// written without holes, in batch order.
    pub fn push(&mut self, batch: &[Input], now_ms: i64, windows: &mut [f32]) -> Pushed {
        let mut pushed = Pushed::with_room_for(batch.len(), windows);
        for input in batch {
            let room = pushed.room(windows);
            let outcome = self.receive(input, now_ms, room);
            pushed.add(outcome.unwrap_or_else(|refusal| self.refused(input, refusal)));
        }
        pushed
    }

    /// The newest complete window of each symbol, without a new candle. Known symbols answer DUPLICATE: nothing moved.
    pub fn windows(&self, keys: &[(Result<Symbol, Refusal>, i64)], now_ms: i64, windows: &mut [f32]) -> Pushed {
        let mut pushed = Pushed::with_room_for(keys.len(), windows);
        for (symbol, interval_ms) in keys {
            let room = pushed.room(windows);
            pushed.add(match symbol {
                Ok(symbol) => self.newest(*symbol, *interval_ms, now_ms, room),
                Err(refusal) => Outcome { verdict: Verdict::Refused, refusal: Some(*refusal), ..Outcome::COLD },
            });
        }
        pushed
    }

    /// Where a symbol stands at `now_ms`. The only place where time makes a symbol STALE.
    pub fn status(&self, symbol: Symbol, interval_ms: i64, now_ms: i64) -> Status {
        let Some(slot) = self.slots.get(&(symbol, interval_ms)) else { return Status::COLD };
        Status {
            state: slot.state(Some(now_ms)),
            have: slot.engine.have(),
            newest_open_time_ms: Some(slot.newest.open_time_ms),
            conflicts: slot.conflicts,
            gap_filled: slot.engine.is_gap_filled(),
        }
    }

    /// Counts a conflict that was found elsewhere: with a candle too old to be remembered here.
    pub fn count_conflict(&mut self, symbol: Symbol, interval_ms: i64) {
        if let Some(slot) = self.slots.get_mut(&(symbol, interval_ms)) {
            slot.count_conflict();
        }
    }

    /// The kept rows of a symbol, newest last, one behind the other.
    pub fn rows(&self, symbol: Symbol, interval_ms: i64) -> Vec<f32> {
        let Some(slot) = self.slots.get(&(symbol, interval_ms)) else { return Vec::new() };
        let (older, newer) = slot.engine.rows();
        [older, newer].concat()
    }

    /// Symbols known.
    pub fn symbols(&self) -> usize {
        self.slots.len()
    }

    fn receive(&mut self, input: &Input, now_ms: i64, room: Option<&mut [f32]>) -> Result<Outcome, Refusal> {
        let key = (input.symbol?, input.values.interval_ms);
        let candle = Candle::new(input.values, input.forming, now_ms)?;
        let is_full = self.slots.len() >= self.symbols_max;
        let slot = match self.slots.entry(key) {
            Entry::Occupied(occupied) => occupied.into_mut(),
            Entry::Vacant(_) if input.forming => {
                self.scratch.restart();
                self.scratch.update(&candle, Extras::default(), false);
                return Ok(Outcome::of(Verdict::Peeked, State::Warming, &self.scratch, &candle, room));
            }
            Entry::Vacant(_) if is_full => return Err(Refusal { field: Field::Symbol, reason: Reason::SymbolLimit }),
            Entry::Vacant(vacant) => {
                let slot = vacant.insert(Box::new(Slot::new(candle, self.conflicts_max)));
                return Ok(Outcome::of(Verdict::Accepted, slot.state(None), &slot.engine, &candle, room));
            }
        };
        let verdict = if input.forming { slot.peek(candle, &mut self.scratch) } else { slot.receive(candle) };
        Ok(match verdict {
            Verdict::Peeked => Outcome::of(verdict, slot.state_of(&self.scratch, false), &self.scratch, &candle, room),
            Verdict::Accepted => Outcome::of(verdict, slot.state(None), &slot.engine, &candle, room),
            // Whoever lost the answer to the newest candle gets it again.
            Verdict::Duplicate if candle.open_time_ms == slot.newest.open_time_ms => {
                Outcome::of(verdict, slot.state(None), &slot.engine, &candle, room)
            }
            _ => Outcome::of(verdict, slot.state(None), &slot.engine, &slot.newest, None),
        })
    }

    /// The answer to a malformed candle: its symbol, if there is one, stands where it stood.
    fn refused(&self, input: &Input, refusal: Refusal) -> Outcome {
        let slot = input.symbol.ok().and_then(|symbol| self.slots.get(&(symbol, input.values.interval_ms)));
        let standing = slot.map_or(Outcome::COLD, |slot| {
            Outcome::of(Verdict::Refused, slot.state(None), &slot.engine, &slot.newest, None)
        });
        Outcome { verdict: Verdict::Refused, refusal: Some(refusal), ..standing }
    }

    fn newest(&self, symbol: Symbol, interval_ms: i64, now_ms: i64, room: Option<&mut [f32]>) -> Outcome {
        let Some(slot) = self.slots.get(&(symbol, interval_ms)) else { return Outcome::COLD };
        let state = slot.state(Some(now_ms));
        Outcome::of(Verdict::Duplicate, state, &slot.engine, &slot.newest, room)
    }
}

impl Outcome {
    /// What is said of a symbol that was never seen.
    const COLD: Self = Self {
        verdict: Verdict::Duplicate,
        refusal: None,
        state: State::Cold,
        have: 0,
        gap_filled: false,
        window: None,
        features_hash: 0,
        close: f64::NAN,
        open_time_ms: -1,
    };

    /// What `engine` says after its newest bar; its window, when complete, goes where there is room.
    fn of(verdict: Verdict, state: State, engine: &Engine, newest: &Values, room: Option<&mut [f32]>) -> Self {
        let room = room.filter(|_| engine.is_ready());
        let mut outcome = Self {
            verdict,
            state,
            have: engine.have(),
            gap_filled: engine.is_gap_filled(),
            close: newest.close,
            open_time_ms: newest.open_time_ms,
            ..Self::COLD
        };
        if let Some(window) = room {
            engine.write_window(window);
            outcome.features_hash = engine.features_hash();
            // The batch knows the true index.
            outcome.window = Some(0);
        }
        outcome
    }
}

impl Status {
    /// What is said of a symbol that was never seen.
    const COLD: Self = Self { state: State::Cold, have: 0, newest_open_time_ms: None, conflicts: 0, gap_filled: false };
}

impl Pushed {
    fn with_room_for(candles: usize, windows: &[f32]) -> Self {
        let room = windows.len() / WINDOW_LEN;
        assert!(windows.is_empty() || room >= candles, "room for {room} windows, but {candles} candles");
        Self { outcomes: Vec::with_capacity(candles), ready: 0 }
    }

    /// The next free window.
    fn room<'a>(&self, windows: &'a mut [f32]) -> Option<&'a mut [f32]> {
        windows.get_mut(self.ready * WINDOW_LEN..(self.ready + 1) * WINDOW_LEN)
    }

    fn add(&mut self, mut outcome: Outcome) {
        if let Some(window) = &mut outcome.window {
            *window = self.ready;
            self.ready += 1;
        }
        self.outcomes.push(outcome);
    }
}
