//! One symbol: bars in, rows out, the last rows kept. It knows no symbol name, no duplicates and no clock.

use half::{f16, slice::HalfFloatSliceExt};
use wincode::{SchemaRead, SchemaWrite};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::Candle,
    catalog::{State, WIDTH, WINDOW},
    extras::{Extras, OptionalInputs},
    ledger::GAP_FILLED_MAX,
};

/// Values in a window.
pub const WINDOW_LEN: usize = WINDOW * WIDTH;

/// Bars a move brings at most.
pub const BARS_MAX: usize = GAP_FILLED_MAX as usize + 1;

/// A row as it is served.
pub type Row = [f32; WIDTH];

/// The way to a candle: a fresh start or silent bars before it, then the candle.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The candle.
    pub candle: Candle,
    /// Forget everything first.
    pub restart: bool,
    /// Silent bars before the candle.
    pub fills: u32,
    /// The first of them, if any.
    pub silence: Candle,
    /// Closes of the reference during them and, last, with the candle.
    pub references: [Option<f64>; BARS_MAX],
    /// The optional inputs in use.
    pub used: OptionalInputs,
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
        let at = (self.state.bars() - 1) as usize % WINDOW;
        self.rows[at] = row.map(|value| value as f32);
    }

    /// Takes what a move brings.
    pub fn take(&mut self, bars: &Move) {
        if bars.restart {
            self.state = State::new();
        }
        bars.each(|candle, extras| self.update(candle, extras));
    }

    /// The row that a move would give, computed on `scratch`; its window goes where there is room. Nothing changes.
    pub fn peek(&self, bars: &Move, scratch: &mut State, room: Option<Room>) -> Row {
        if bars.restart {
            scratch.clone_from(&State::new());
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

    /// Writes the newest kept rows and, behind them, `newer` ones.
    fn write(&self, newer: &[Row], room: Room) {
        let (older, old) = self.rows();
        let runs = [older.get(newer.len()..).unwrap_or(&[]), &old[newer.len().saturating_sub(older.len())..], newer];
        let runs = runs.map(|run| run.as_flattened());
        match room {
            Room::F32(to) => lay_out(to, runs, |to, run| to.copy_from_slice(run)),
            Room::F16(to) => lay_out(to, runs, |to, run| to.convert_from_f32_slice(run)),
        }
    }
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
        let mut silence = self.silence;
        let fills = self.fills as usize;
        for reference_close in &self.references[..fills] {
            take(&silence, Extras::of(&silence, *reference_close, self.used));
            silence = silence.followed_by_silence();
        }
        take(&self.candle, Extras::of(&self.candle, self.references[fills], self.used));
    }
}

/// Low 56 bits of the hash of a row's float32 bytes, little-endian.
pub fn hash_row(row: &Row) -> u64 {
    let bytes = row.map(f32::to_le_bytes);
    xxh3_64(bytes.as_flattened()) & ((1 << 56) - 1)
}
