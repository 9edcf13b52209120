//! Volatility: how far a series moves.

mod deviation;
mod true_range;

pub use deviation::{population_deviation, sample_deviation};
pub use true_range::true_range;
