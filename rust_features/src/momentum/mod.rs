//! Momentum: how fast and how one-sidedly a series moves.

mod awesome;
mod chande;
mod channel;
mod commodity_channel;
mod fisher;
mod percent_rank;
mod rsi;
mod streak;
mod ultimate;
mod vigor;

pub use awesome::awesome;
pub use chande::chande;
pub use channel::{Channel, place};
pub use commodity_channel::commodity_channel;
pub use fisher::Fisher;
pub use percent_rank::percent_rank;
pub use rsi::{Rsi, strength};
pub use streak::Streak;
pub use ultimate::ultimate;
pub use vigor::vigor;
