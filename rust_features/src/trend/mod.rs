//! Trend: which way a series goes, how strongly and for how long.

mod adx;
mod parabolic;
mod range;
mod regression;
mod super_trend;
mod wilder_sum;

pub use adx::{Adx, Directional};
pub use parabolic::ParabolicSar;
pub use range::range;
pub use regression::Line;
pub use super_trend::SuperTrend;
pub use wilder_sum::WilderSum;
