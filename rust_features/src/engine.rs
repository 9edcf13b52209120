//! One symbol: candle in, row out, the last rows kept. It knows no symbol name, no duplicates and no gaps.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::Candle,
    catalog::{NEED, State, WIDTH, WINDOW},
    extras::Extras,
};

/// Values in a window.
pub const WINDOW_LEN: usize = WINDOW * WIDTH;

/// A row as it is served.
pub type Row = [f32; WIDTH];

/// The features of one symbol.
#[derive(Clone, Debug)]
pub struct Engine {
    state: State,
    /// The row of bar `b` (counted from 0) lies at `b % WINDOW`.
    rows: Box<[Row]>,
    /// Bars seen when the newest filled bar was taken, that bar included; 0 = none.
    newest_filled: u32,
}

impl Engine {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { state: State::new(), rows: vec![[f32::NAN; WIDTH]; WINDOW].into(), newest_filled: 0 }
    }

    /// Forgets everything, in place.
    pub fn restart(&mut self) {
        self.state = State::new();
        self.newest_filled = 0;
    }

    /// Becomes what `other` is, without allocating.
    pub fn copy_from(&mut self, other: &Self) {
        self.state.clone_from(&other.state);
        self.rows.copy_from_slice(&other.rows);
        self.newest_filled = other.newest_filled;
    }

    /// Takes the next closed bar; `filled` when it stands in for a missing one.
    pub fn update(&mut self, candle: &Candle, extras: Extras, filled: bool) {
        let row = self.state.update(candle, extras).map(|value| value as f32);
        let have = self.state.bars();
        self.rows[(have - 1) as usize % WINDOW] = row;
        if filled {
            self.newest_filled = have;
        }
    }

    /// Bars seen since the (re)start, filled ones included.
    pub fn have(&self) -> u32 {
        self.state.bars()
    }

    /// Whether every value of the window is defined.
    pub fn is_ready(&self) -> bool {
        self.have() >= NEED
    }

    /// Whether the window holds a bar that was filled in.
    pub fn is_gap_filled(&self) -> bool {
        self.newest_filled > 0 && self.have() - self.newest_filled < WINDOW as u32
    }

    /// The kept rows in two runs, oldest first.
    pub fn rows(&self) -> (&[f32], &[f32]) {
        let next = self.have() as usize % WINDOW;
        if (self.have() as usize) < WINDOW {
            return (self.rows[..next].as_flattened(), &[]);
        }
        let (newer, older) = self.rows.split_at(next);
        (older.as_flattened(), newer.as_flattened())
    }

    /// Writes the window, oldest row first. Only when [`Engine::is_ready`].
    pub fn write_window(&self, window: &mut [f32]) {
        let (older, newer) = self.rows();
        let (first, second) = window.split_at_mut(older.len());
        first.copy_from_slice(older);
        second.copy_from_slice(newer);
    }

    /// Low 56 bits of the hash of the newest row's float32 bytes, little-endian.
    pub fn features_hash(&self) -> u64 {
        let newest = (self.have() as usize + WINDOW - 1) % WINDOW;
        hash_row(&self.rows[newest])
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

fn hash_row(row: &Row) -> u64 {
    let bytes = row.map(f32::to_le_bytes);
    xxh3_64(bytes.as_flattened()) & ((1 << 56) - 1)
}
