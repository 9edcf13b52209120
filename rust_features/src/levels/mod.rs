//! Levels: the highs and lows a market has left behind.

mod floor_pivots;
mod swings;

pub use floor_pivots::floor_pivots;
pub use swings::{Peak, Peaks, Swings};
