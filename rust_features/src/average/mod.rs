//! Averages: what level a series has lately had.

mod averages;
mod cascade;
mod ema;
mod hull;
mod kama;
mod long_sma;
mod median;
mod sma;
mod t3;
mod weighted;
mod wilder;

pub use averages::Averages;
pub use cascade::Cascade;
pub use ema::Ema;
pub use hull::Hull;
pub use kama::Kama;
pub use long_sma::LongSma;
pub use median::Median;
pub use sma::Sma;
pub use t3::T3;
pub use weighted::weighted_mean;
pub use wilder::Wilder;
