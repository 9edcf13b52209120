//! Higher timeframes: bars of k bars, aligned to the UTC epoch.

mod buckets;
mod held;

pub use buckets::{Bucket, Buckets};
pub use held::Held;
