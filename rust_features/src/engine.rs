//! One symbol: bars in, rows out, the last rows kept. It knows no symbol name, no duplicates and no clock.

use wincode::{SchemaRead, SchemaWrite};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::Candle,
    catalog::{State, WIDTH},
    extras::Extras,
    ledger::GAP_FILLED_MAX,
    ring::Ring,
};

pub use crate::ring::{Precision, Room, Row, WINDOW_LEN};

/// Engines that move together at most.
pub const TOGETHER_MAX: usize = 8;

/// Bars a move brings at most.
pub const BARS_MAX: usize = GAP_FILLED_MAX as usize + 1;

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

/// The features of one symbol.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
#[repr(align(64))]
pub struct Engine {
    state: State,
    newest: Row,
    ring: Ring,
}

impl Engine {
    /// Nothing seen yet; the last rows will be kept so precisely.
    pub fn new(precision: Precision) -> Self {
        Self { state: State::new(), newest: [f32::NAN; WIDTH], ring: Ring::new(precision) }
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
        State::update_each(engines, bars, next, rows);
        for engine in next {
            engine.ring.fetch(engine.have() as usize);
        }
        for (engine, row) in engines.iter_mut().zip(rows) {
            engine.keep(row);
        }
    }

    fn keep(&mut self, row: &[f64; WIDTH]) {
        self.newest = row.map(|value| value as f32);
        self.ring.keep(self.have() as usize - 1, &self.newest);
    }

    /// Takes what a move brings.
    pub fn take(&mut self, bars: &Move) {
        if let Way::Restart = bars.way {
            forget(&mut self.state);
        }
        bars.each(|candle, extras| self.update(candle, extras));
    }

    /// The row that a move would give, computed on `scratch`; its window goes where there is room, and with it comes how many
    /// columns stand still in it. Nothing changes.
    pub fn peek(&self, bars: &Move, scratch: &mut State, room: Option<Room>) -> (Row, u32) {
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
        let (have, rows) = (self.have() as usize, &rows[..len]);
        let newest = rows[len - 1];
        let still = room.map_or(0, |room| {
            self.ring.write::<false>(have, rows, room);
            self.ring.still(have, rows, &newest)
        });
        (newest, still)
    }

    /// The newest row, as float32 however the others are kept. NaN when nothing was seen.
    pub fn newest(&self) -> &Row {
        &self.newest
    }

    /// How rows are kept; `None`: they are not, whoever wrote this.
    pub fn precision(&self) -> Option<Precision> {
        self.ring.precision()
    }

    /// Bars seen since the (re)start, filled ones included.
    pub fn have(&self) -> u32 {
        self.state.bars()
    }

    /// The kept rows, oldest first, one behind the other.
    pub fn rows(&self) -> Vec<f32> {
        self.ring.rows(self.have() as usize)
    }

    /// Columns that have one value all through the window. Only when 96 rows were seen.
    pub fn still(&self) -> u32 {
        self.ring.still(self.have() as usize, &[], &self.newest)
    }

    /// Writes the window, oldest row first. Only when 96 rows were seen.
    pub fn write_window(&self, room: Room) {
        self.ring.write::<false>(self.have() as usize, &[], room);
    }

    /// As [`Engine::write_window`], one window of so many that the caches cannot hold them: it is written past them.
    pub fn write_window_far(&self, room: Room) {
        self.ring.write::<true>(self.have() as usize, &[], room);
    }
}

/// As if nothing had been seen. Apart from the others, because a new state lies on the stack for a moment.
#[cold]
#[inline(never)]
fn forget(state: &mut State) {
    *state = State::new();
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
