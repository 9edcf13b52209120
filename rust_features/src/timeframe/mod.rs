//! Higher timeframes: bars of k bars, aligned to the UTC epoch.

mod buckets;
mod frame;
mod held;
mod scan;

pub use buckets::Buckets;
pub use frame::{Bucket, Timeframe};
pub use held::Held;
pub use scan::Scan;
