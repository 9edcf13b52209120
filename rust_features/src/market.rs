//! Many symbols: batches of candles in, windows out, every candle answered. One bad candle never touches another.
//!
//! A batch is taken in two steps. First, one candle after the other, the ledgers decide what becomes of it: that is cheap. Then the
//! engines move, several at once when there are threads for it. An engine's rows depend on nothing but its own candles and what
//! came with them, so neither the threads nor the way a history is cut into batches can change a bit.

use std::{collections::HashMap, sync::Mutex};

use half::f16;

use crate::{
    candle::{Candle, Field, Reason, Refusal, Values},
    catalog::{self, NEED, WIDTH},
    engine::{Engine, Move, Precision, Room, WINDOW_LEN, Way},
    extras::{Extras, OptionalInputs},
    jobs::{Engines, Job, Staff, Work, Written, locked},
    ledger::{Ledger, Progress, Step},
    reference::Reference,
    symbol::Symbol,
};

pub use crate::ledger::{State, Verdict};

/// Windows of a batch that are written into the caches, where whoever reads them finds them: 6 MB. More of them would drive one
/// another out.
const NEAR_WINDOWS_MAX: usize = 64;

/// What a market is and how much it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Pairs of symbol and interval that may be held.
    pub symbols_max: usize,
    /// Conflicts within 96 candles that quarantine a symbol.
    pub conflicts_max: usize,
    /// The optional inputs in use.
    pub used: OptionalInputs,
    /// The symbol whose closes the others are compared with, when the reference is in use.
    pub reference: Option<Symbol>,
    /// Threads that move engines.
    pub threads: usize,
    /// How the last rows are kept.
    pub rows: Precision,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            symbols_max: 20_000,
            conflicts_max: 3,
            used: OptionalInputs::default(),
            reference: None,
            threads: 1,
            rows: Precision::Single,
        }
    }
}

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
    /// Columns that have one value all through that window; 0 without one.
    pub still: u32,
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

/// The caller's buffer for windows: none, or one window per candle. They are written without holes, in batch order.
#[derive(Debug)]
pub enum Windows<'a> {
    /// None wanted.
    None,
    /// As float32.
    F32(&'a mut [f32]),
    /// As float16.
    F16(&'a mut [f16]),
}

/// Every symbol's features.
#[derive(Debug)]
pub struct Market {
    pub(crate) settings: Settings,
    /// Of the optional inputs in use.
    pub(crate) feature_set_hash: u64,
    slots: HashMap<(Symbol, i64), usize>,
    ledgers: Vec<Ledger>,
    engines: Engines,
    /// Closes of the reference symbol, by interval.
    pub(crate) references: HashMap<i64, Reference>,
    staff: Staff,
}

impl Market {
    /// An empty market.
    pub fn new(settings: Settings) -> Self {
        assert!(
            settings.symbols_max > 0 && settings.conflicts_max > 0 && settings.threads > 0,
            "limits are at least 1"
        );
        Self {
            settings,
            feature_set_hash: catalog::feature_set_hash(settings.used),
            slots: HashMap::new(),
            ledgers: Vec::new(),
            engines: Vec::new(),
            references: HashMap::new(),
            staff: Staff::new(settings.threads),
        }
    }

    /// Takes a batch in its order, except that a candle of the reference symbol goes before the other candles of its bar.
    pub fn push(&mut self, batch: &[Input], now_ms: i64, windows: Windows) -> Pushed {
        self.push_for_rows(batch, now_ms, windows, &mut [])
    }

    /// As [`Market::push`]. `rows` is empty or has room for a row per candle: the newest of its symbol after it, where a window would
    /// be written if it were complete; NaN elsewhere.
    pub fn push_for_rows(&mut self, batch: &[Input], now_ms: i64, windows: Windows, rows: &mut [f32]) -> Pushed {
        let mut planned: Vec<Option<Planned>> = batch.iter().map(|_| None).collect();
        let is_reference = |i: &usize| batch[*i].symbol.is_ok_and(|symbol| self.is_reference(symbol));
        let references: Vec<usize> = (0..batch.len()).filter(is_reference).collect();
        let forming = Forming::of(references.iter().map(|i| &batch[*i]));
        let mut ahead = references.iter().copied().peekable();
        for (i, input) in batch.iter().enumerate() {
            // What is planned already was taken before its turn.
            while let Some(j) = ahead.next_if(|j| *j <= i || batch[*j].is_of_bar_up_to(input)) {
                planned[j] = Some(self.plan(&batch[j], now_ms, &forming));
            }
            if planned[i].is_none() {
                planned[i] = Some(self.plan(input, now_ms, &forming));
            }
        }
        let planned: Vec<Planned> = planned.into_iter().flatten().collect();
        self.carry_out(planned, windows, rows)
    }

    /// The newest complete window of each symbol, without a new candle. Known symbols answer DUPLICATE: nothing moved.
    pub fn windows(&self, keys: &[(Result<Symbol, Refusal>, i64)], now_ms: i64, windows: Windows) -> Pushed {
        let newest = |(symbol, interval_ms): &(Result<Symbol, Refusal>, i64)| match symbol {
            Err(refusal) => {
                Planned::answer(Outcome { verdict: Verdict::Refused, refusal: Some(*refusal), ..Outcome::COLD })
            }
            Ok(symbol) => self.slots.get(&(*symbol, *interval_ms)).map_or(Planned::answer(Outcome::COLD), |slot| {
                let ledger = &self.ledgers[*slot];
                let state = ledger.state(Some(now_ms));
                let outcome = Outcome::of(Verdict::Duplicate, state, ledger.progress, &ledger.newest);
                Planned { outcome, work: Some((*slot, Work::Show)) }
            }),
        };
        let planned: Vec<Planned> = keys.iter().map(newest).collect();
        self.carry_out(planned, windows, &mut [])
    }

    /// Where a symbol stands at `now_ms`. The only place where time makes a symbol STALE.
    pub fn status(&self, symbol: Symbol, interval_ms: i64, now_ms: i64) -> Status {
        let Some(slot) = self.slots.get(&(symbol, interval_ms)) else { return Status::COLD };
        let ledger = &self.ledgers[*slot];
        Status {
            state: ledger.state(Some(now_ms)),
            have: ledger.progress.have,
            newest_open_time_ms: Some(ledger.newest.open_time_ms),
            conflicts: ledger.conflicts,
            gap_filled: ledger.progress.is_gap_filled(),
        }
    }

    /// Counts a conflict that was found elsewhere: with a candle too old to be remembered here.
    pub fn count_conflict(&mut self, symbol: Symbol, interval_ms: i64) {
        if let Some(slot) = self.slots.get(&(symbol, interval_ms)) {
            self.ledgers[*slot].count_conflict(self.settings.conflicts_max);
        }
    }

    /// The kept rows of a symbol, newest last, one behind the other.
    pub fn rows(&self, symbol: Symbol, interval_ms: i64) -> Vec<f32> {
        let Some(slot) = self.slots.get(&(symbol, interval_ms)) else { return Vec::new() };
        locked(&self.engines[*slot]).rows()
    }

    /// What is known: the reference symbol first, then by name and interval. A series of snapshots in this order can be taken
    /// while candles come in: the reference never knows more than the others do.
    pub fn symbols(&self) -> Vec<(Symbol, i64)> {
        let mut known: Vec<_> = self.slots.keys().copied().collect();
        known.sort_unstable_by(|a, b| {
            let place = |key: &(Symbol, i64)| !self.is_reference(key.0);
            (place(a), a.0.as_str(), a.1).cmp(&(place(b), b.0.as_str(), b.1))
        });
        known
    }

    /// What a symbol is made of.
    pub(crate) fn parts<T>(
        &self,
        symbol: Symbol,
        interval_ms: i64,
        of: impl FnOnce(&Ledger, &Engine) -> T,
    ) -> Option<T> {
        let slot = *self.slots.get(&(symbol, interval_ms))?;
        Some(of(&self.ledgers[slot], &locked(&self.engines[slot])))
    }

    /// Puts a symbol in the place of what was known of it.
    pub(crate) fn put(&mut self, key: (Symbol, i64), ledger: Ledger, engine: Box<Engine>) -> Result<(), Refusal> {
        if let Some(slot) = self.slots.get(&key) {
            self.ledgers[*slot] = ledger;
            self.engines[*slot] = Mutex::new(engine);
            return Ok(());
        }
        self.add(key, ledger, engine).map(|_| ())
    }

    /// Adds a symbol, if there is room.
    fn add(&mut self, key: (Symbol, i64), ledger: Ledger, engine: Box<Engine>) -> Result<usize, Refusal> {
        if self.slots.len() >= self.settings.symbols_max {
            return Err(Refusal { field: Field::Symbol, reason: Reason::SymbolLimit });
        }
        let slot = self.ledgers.len();
        self.slots.insert(key, slot);
        self.ledgers.push(ledger);
        self.engines.push(Mutex::new(engine));
        Ok(slot)
    }

    /// Decides what becomes of a candle; moves the ledger and no engine.
    fn plan(&mut self, input: &Input, now_ms: i64, forming: &Forming) -> Planned {
        self.try_to_plan(input, now_ms, forming).unwrap_or_else(|refusal| {
            // A malformed candle's symbol, if there is one, stands where it stood.
            let slot = input.symbol.ok().and_then(|symbol| self.slots.get(&(symbol, input.values.interval_ms)));
            let standing = slot.map_or(Outcome::COLD, |slot| {
                let ledger = &self.ledgers[*slot];
                Outcome::of(Verdict::Refused, ledger.state(None), ledger.progress, &ledger.newest)
            });
            Planned::answer(Outcome { verdict: Verdict::Refused, refusal: Some(refusal), ..standing })
        })
    }

    fn try_to_plan(&mut self, input: &Input, now_ms: i64, forming: &Forming) -> Result<Planned, Refusal> {
        let key = (input.symbol?, input.values.interval_ms);
        let candle = Candle::new(input.values, input.forming, now_ms)?;
        let Some(slot) = self.slots.get(&key).copied() else { return self.meet(key, candle, input.forming) };
        let ledger = &mut self.ledgers[slot];
        let previous = ledger.newest;
        if input.forming {
            let Some((step, progress)) = ledger.peek(&candle) else {
                let late = Outcome::of(Verdict::Late, ledger.state(None), ledger.progress, &ledger.newest);
                return Ok(Planned::answer(late));
            };
            let outcome = Outcome::of(Verdict::Peeked, ledger.state_at(progress, false), progress, &candle);
            let bars = self.way_to(key, candle, &previous, step, forming.close(&candle));
            return Ok(Planned { outcome, work: Some((slot, Work::Peek(bars))) });
        }
        let (verdict, step) = ledger.receive(candle, self.settings.conflicts_max);
        let outcome = Outcome::of(verdict, ledger.state(None), ledger.progress, &ledger.newest);
        let work = match step {
            Some(step) => {
                self.publish(key, &candle, step.fills);
                Some(Work::Take(self.way_to(key, candle, &previous, step, None)))
            }
            // Whoever lost the answer to the newest candle gets it again.
            None if verdict == Verdict::Duplicate && candle.open_time_ms == previous.open_time_ms => Some(Work::Show),
            None => None,
        };
        Ok(Planned { outcome, work: work.map(|work| (slot, work)) })
    }

    /// The first candle of a symbol. Apart from the others, because a new engine lies on the stack for a moment: touching so much
    /// of it for every candle would cost more than the rest.
    #[inline(never)]
    fn meet(&mut self, key: (Symbol, i64), candle: Candle, is_forming: bool) -> Result<Planned, Refusal> {
        let ledger = Ledger::new(candle);
        let verdict = if is_forming { Verdict::Peeked } else { Verdict::Accepted };
        let outcome = Outcome::of(verdict, State::Warming, ledger.progress, &candle);
        if is_forming {
            return Ok(Planned::answer(outcome));
        }
        let slot = self.add(key, ledger, Box::new(Engine::new(self.settings.rows)))?;
        self.publish(key, &candle, 0);
        let bars = self.way_to(key, candle, &candle, Step { restart: false, fills: 0 }, None);
        Ok(Planned { outcome, work: Some((slot, Work::Take(bars))) })
    }

    /// A closed candle of the reference symbol becomes known to the others.
    fn publish(&mut self, (symbol, interval_ms): (Symbol, i64), candle: &Candle, fills: u32) {
        if self.is_reference(symbol) {
            let bar = candle.open_time_ms / candle.interval_ms;
            self.references.entry(interval_ms).or_insert_with(Reference::new).push(bar, fills, candle.close);
        }
    }

    /// What an engine must take to get from `previous` to `candle`.
    fn way_to(&self, key: (Symbol, i64), candle: Candle, previous: &Candle, step: Step, forming: Option<f64>) -> Move {
        // The reference symbol is itself computed without a reference.
        let used = OptionalInputs {
            reference: self.settings.used.reference && !self.is_reference(key.0),
            ..self.settings.used
        };
        let closes = used.reference.then(|| self.references.get(&key.1)).flatten();
        let bar = candle.open_time_ms / candle.interval_ms;
        let close = |bar: i64| closes.and_then(|closes| closes.close(bar));
        let silence = |fills: u32| {
            let mut silent = previous.followed_by_silence();
            let bars = (bar - i64::from(fills)..bar).map(|bar| {
                let taken = (silent, Extras::of(&silent, close(bar), used));
                silent = silent.followed_by_silence();
                taken
            });
            bars.collect()
        };
        let way = match step {
            Step { restart: true, .. } => Way::Restart,
            Step { fills: 0, .. } => Way::Next,
            Step { fills, .. } => Way::Silence(silence(fills)),
        };
        Move { candle, extras: Extras::of(&candle, close(bar).or(forming), used), way }
    }

    fn is_reference(&self, symbol: Symbol) -> bool {
        self.settings.used.reference && self.settings.reference == Some(symbol)
    }

    /// Gives every ready candle its room, in order, and lets the engines move.
    fn carry_out(&self, planned: Vec<Planned>, windows: Windows, rows: &mut [f32]) -> Pushed {
        assert!(rows.is_empty() || rows.len() == planned.len() * WIDTH, "rows for some candles only");
        rows.fill(f32::NAN);
        let mut pushed = Pushed { outcomes: Vec::with_capacity(planned.len()), ready: 0 };
        let mut jobs = Vec::with_capacity(planned.len());
        let is_far = planned.len() > NEAR_WINDOWS_MAX;
        let (mut rooms, mut rows) = (windows.rooms(planned.len()), rows.chunks_exact_mut(WIDTH));
        for (candle, Planned { mut outcome, work }) in planned.into_iter().enumerate() {
            let row = rows.next();
            if let Some((slot, work)) = work {
                let room = if outcome.have >= NEED { rooms.next() } else { None };
                if room.is_some() {
                    outcome.window = Some(pushed.ready);
                    pushed.ready += 1;
                }
                // What nobody has room for is not made.
                if room.is_some() || row.is_some() || matches!(work, Work::Take(_)) {
                    jobs.push(Job { candle, slot, work, room, is_far, row });
                }
            }
            pushed.outcomes.push(outcome);
        }
        for Written { candle, features_hash, still } in self.staff.run(&self.engines, jobs) {
            (pushed.outcomes[candle].features_hash, pushed.outcomes[candle].still) = (features_hash, still);
        }
        pushed
    }
}

/// What was decided of a candle.
struct Planned {
    outcome: Outcome,
    /// The slot of the engine, and what it does.
    work: Option<(usize, Work)>,
}

impl Planned {
    /// Nothing moves.
    fn answer(outcome: Outcome) -> Self {
        Self { outcome, work: None }
    }
}

/// Closes of the reference's forming candles in a batch: they serve the forming candles of others.
struct Forming(Vec<(i64, i64, f64)>);

impl Forming {
    fn of<'a>(references: impl Iterator<Item = &'a Input>) -> Self {
        let forming = references.filter(|input| input.forming).map(|Input { values, .. }| values);
        Self(forming.map(|values| (values.interval_ms, values.open_time_ms, values.close)).collect())
    }

    fn close(&self, candle: &Values) -> Option<f64> {
        let is_same = |(interval_ms, open_time_ms, _): &&(i64, i64, f64)| {
            (*interval_ms, *open_time_ms) == (candle.interval_ms, candle.open_time_ms)
        };
        self.0.iter().rev().find(is_same).map(|(.., close)| *close)
    }
}

impl Input {
    /// Whether this candle's bar is that of `other` or an earlier one.
    fn is_of_bar_up_to(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.values, &other.values);
        ours.interval_ms == theirs.interval_ms && ours.open_time_ms <= theirs.open_time_ms
    }
}

impl<'a> Windows<'a> {
    /// One room after the other, for as many as there is room.
    fn rooms(self, candles: usize) -> impl Iterator<Item = Room<'a>> {
        let (wide, narrow): (&mut [f32], &mut [f16]) = match self {
            Self::None => (&mut [], &mut []),
            Self::F32(wide) => (wide, &mut []),
            Self::F16(narrow) => (&mut [], narrow),
        };
        let room = (wide.len() + narrow.len()) / WINDOW_LEN;
        assert!(wide.len() + narrow.len() == 0 || room >= candles, "room for {room} windows, but {candles} candles");
        let narrow = narrow.chunks_exact_mut(WINDOW_LEN).map(Room::F16);
        wide.chunks_exact_mut(WINDOW_LEN).map(Room::F32).chain(narrow)
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
        still: 0,
        close: f64::NAN,
        open_time_ms: -1,
    };

    fn of(verdict: Verdict, state: State, progress: Progress, newest: &Values) -> Self {
        Self {
            verdict,
            state,
            have: progress.have,
            gap_filled: progress.is_gap_filled(),
            close: newest.close,
            open_time_ms: newest.open_time_ms,
            ..Self::COLD
        }
    }
}

impl Status {
    /// What is said of a symbol that was never seen.
    const COLD: Self = Self { state: State::Cold, have: 0, newest_open_time_ms: None, conflicts: 0, gap_filled: false };
}
