//! Cross: how a market moves with another.

mod comoments;

pub use comoments::{Comoments, Moments, Pairs};
