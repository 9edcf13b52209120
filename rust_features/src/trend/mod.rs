//! Trend: which way a series goes, how strongly and for how long.

mod adx;
mod efficiency;
mod parabolic;
mod regression;
mod super_trend;
mod vertical_horizontal;
mod wilder_sum;

pub use adx::{Adx, Directional};
pub use efficiency::efficiency;
pub use parabolic::ParabolicSar;
pub use regression::Line;
pub use super_trend::SuperTrend;
pub use vertical_horizontal::vertical_horizontal;
pub use wilder_sum::WilderSum;
