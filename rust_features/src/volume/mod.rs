//! Volume: how much is traded, on which side, at which price.

mod bulk;
mod chaikin;
mod corwin_schultz;
mod impact;
mod kept;
mod on_balance;
mod profile;
mod session_vwap;
mod sums;

pub use bulk::bulk_imbalance;
pub use chaikin::{Chaikin, close_location};
pub use corwin_schultz::corwin_schultz;
pub use impact::Impact;
pub use kept::Kept;
pub use on_balance::{on_balance, on_balance_correlation};
pub use profile::{Profile, profile};
pub use session_vwap::SessionVwap;
pub use sums::sums_of;
