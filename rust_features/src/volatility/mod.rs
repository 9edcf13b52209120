//! Volatility: how far a series moves.

mod deviation;
mod mass_index;
mod rank;
mod relative_volatility;
mod risk_metrics;
mod same_slot;
mod squeeze_momentum;
mod true_range;
mod yang_zhang;

pub use deviation::{mean_and_sample_deviation, population_deviation, sample_deviation};
pub use mass_index::MassIndex;
pub use rank::Rank;
pub use relative_volatility::RelativeVolatility;
pub use risk_metrics::RiskMetrics;
pub use same_slot::SameSlot;
pub use squeeze_momentum::SqueezeMomentum;
pub use true_range::true_range;
pub use yang_zhang::YangZhang;
