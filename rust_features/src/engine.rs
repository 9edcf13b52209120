//! One symbol: bars in, rows out, the last rows kept. It knows no symbol name, no duplicates and no clock.

use half::f16;
use wincode::{SchemaRead, SchemaWrite};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::Candle,
    catalog::{State, WIDTH, WINDOW},
    extras::Extras,
    ledger::GAP_FILLED_MAX,
    memory::{Ahead, LINE, write_f16, write_f32},
};

/// Engines that move together at most.
pub const TOGETHER_MAX: usize = 8;

/// Values in a window.
pub const WINDOW_LEN: usize = WINDOW * WIDTH;

/// Bars a move brings at most.
pub const BARS_MAX: usize = GAP_FILLED_MAX as usize + 1;

/// A row as it is served.
pub type Row = [f32; WIDTH];

/// A candle and the way to it.
#[derive(Clone, Debug)]
pub struct Move {
    /// The candle.
    pub candle: Candle,
    /// What comes with it.
    pub extras: Extras,
    /// What comes before it.
    pub way: Way,
}

/// What comes before a candle.
#[derive(Clone, Debug)]
pub enum Way {
    /// Nothing: it follows the newest bar.
    Next,
    /// Everything is forgotten.
    Restart,
    /// Silent bars: they were never sent. Rare and large.
    Silence(Box<[(Candle, Extras)]>),
}

/// Where a window goes.
#[derive(Debug)]
pub enum Room<'a> {
    /// As float32.
    F32(&'a mut [f32]),
    /// As float16: every value of the set lies within ±10.
    F16(&'a mut [f16]),
}

/// The features of one symbol.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
#[repr(align(64))]
pub struct Engine {
    state: State,
    /// The row of bar `b` (counted from 0) lies at `b % WINDOW`.
    rows: [Row; WINDOW],
}

impl Engine {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { state: State::new(), rows: [[f32::NAN; WIDTH]; WINDOW] }
    }

    /// Takes the next closed bar.
    pub fn update(&mut self, candle: &Candle, extras: Extras) {
        let row = self.state.update(candle, extras);
        self.keep(&row);
    }

    /// Takes the next closed bar of up to [`TOGETHER_MAX`] engines; `next` are the engines whose turn is after them. The same rows as
    /// one by one, in less time: see [`State::update_each`].
    pub fn update_each(engines: &mut [&mut Self], bars: &[(Candle, Extras)], next: &[&Self]) {
        let mut rows = [[f64::NAN; WIDTH]; TOGETHER_MAX];
        let rows = &mut rows[..engines.len()];
        for engine in next {
            (0..size_of::<Row>().div_ceil(LINE)).for_each(|line| Ahead::of(engine.place()).fetch(line));
        }
        State::update_each(engines, bars, next, rows);
        for (engine, row) in engines.iter_mut().zip(rows) {
            engine.keep(row);
        }
    }

    /// Where the next row goes.
    fn place(&self) -> &Row {
        &self.rows[self.have() as usize % WINDOW]
    }

    fn keep(&mut self, row: &[f64; WIDTH]) {
        self.rows[(self.have() - 1) as usize % WINDOW] = row.map(|value| value as f32);
    }

    /// Takes what a move brings.
    pub fn take(&mut self, bars: &Move) {
        if let Way::Restart = bars.way {
            forget(&mut self.state);
        }
        bars.each(|candle, extras| self.update(candle, extras));
    }

    /// The row that a move would give, computed on `scratch`; its window goes where there is room. Nothing changes.
    pub fn peek(&self, bars: &Move, scratch: &mut State, room: Option<Room>) -> Row {
        if let Way::Restart = bars.way {
            forget(scratch);
        } else {
            scratch.clone_from(&self.state);
        }
        let (mut rows, mut len) = ([[f32::NAN; WIDTH]; BARS_MAX], 0);
        bars.each(|candle, extras| {
            rows[len] = scratch.update(candle, extras).map(|value| value as f32);
            len += 1;
        });
        if let Some(room) = room {
            self.write(&rows[..len], room);
        }
        rows[len - 1]
    }

    /// The newest row. Only when one was seen.
    pub fn newest(&self) -> &Row {
        &self.rows[(self.have() - 1) as usize % WINDOW]
    }

    /// Bars seen since the (re)start, filled ones included.
    pub fn have(&self) -> u32 {
        self.state.bars()
    }

    /// The kept rows in two runs, oldest first.
    pub fn rows(&self) -> (&[Row], &[Row]) {
        let next = self.have() as usize % WINDOW;
        if (self.have() as usize) < WINDOW {
            return (&self.rows[..next], &[]);
        }
        let (newer, older) = self.rows.split_at(next);
        (older, newer)
    }

    /// Writes the window, oldest row first. Only when 96 rows were seen.
    pub fn write_window(&self, room: Room) {
        self.write(&[], room);
    }

    /// As [`Engine::write_window`], one window of so many that the caches cannot hold them: it is written past them.
    pub fn write_window_far(&self, room: Room) {
        match room {
            Room::F32(to) => lay_out(to, self.runs(&[]), write_f32),
            Room::F16(to) => lay_out(to, self.runs(&[]), write_f16::<true>),
        }
    }

    /// Writes the newest kept rows and, behind them, `newer` ones.
    fn write(&self, newer: &[Row], room: Room) {
        match room {
            Room::F32(to) => lay_out(to, self.runs(newer), |to, run| to.copy_from_slice(run)),
            Room::F16(to) => lay_out(to, self.runs(newer), write_f16::<false>),
        }
    }

    /// The window that ends with `newer` rows: what lies together.
    fn runs<'a>(&'a self, newer: &'a [Row]) -> [&'a [f32]; 3] {
        let (older, old) = self.rows();
        let runs = [older.get(newer.len()..).unwrap_or(&[]), &old[newer.len().saturating_sub(older.len())..], newer];
        runs.map(|run| run.as_flattened())
    }
}

/// As if nothing had been seen. Apart from the others, because a new state lies on the stack for a moment.
#[cold]
#[inline(never)]
fn forget(state: &mut State) {
    *state = State::new();
}

/// Puts the runs behind one another.
fn lay_out<T>(mut to: &mut [T], runs: [&[f32]; 3], put: impl Fn(&mut [T], &[f32])) {
    for run in runs {
        let (here, rest) = to.split_at_mut(run.len());
        put(here, run);
        to = rest;
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Move {
    /// Gives every bar of the move.
    fn each(&self, mut take: impl FnMut(&Candle, Extras)) {
        if let Way::Silence(bars) = &self.way {
            bars.iter().for_each(|(candle, extras)| take(candle, *extras));
        }
        take(&self.candle, self.extras);
    }
}

impl AsRef<State> for Engine {
    fn as_ref(&self) -> &State {
        &self.state
    }
}

impl AsMut<State> for Engine {
    fn as_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// Low 56 bits of the hash of a row's float32 bytes, little-endian.
pub fn hash_row(row: &Row) -> u64 {
    let bytes = row.map(f32::to_le_bytes);
    xxh3_64(bytes.as_flattened()) & ((1 << 56) - 1)
}
