//! Higher timeframes: bars of k bars, aligned to the UTC epoch.

mod frame;
mod held;
mod scan;

pub use frame::{Bucket, Timeframe};
pub use held::Held;
pub use scan::Scan;
