//! Statistics of the returns: shape, memory, tails, roughness.

mod autocorrelation;
mod correlation;
mod dickey_fuller;
mod entropy;
mod excursions;
mod folded;
mod fractal;
mod hurst;
mod increments;
mod level;
mod moments;
mod ordinal;
mod quantile_rank;
mod smallest;
mod variance_ratio;

pub use autocorrelation::Autocorrelation;
pub use correlation::correlation;
pub use dickey_fuller::DickeyFuller;
pub use entropy::{entropy, entropy_of_returns};
pub use excursions::Excursions;
pub use folded::{Fold, Folded};
pub use fractal::folds_of_dimension;
pub use hurst::scaling_of_increments;
pub use increments::{Increments, LAGS};
pub use level::Level;
pub use moments::{Moments, Shape, asinh_arguments};
pub use ordinal::OrdinalPatterns;
pub use quantile_rank::{lead, quantile_rank};
pub use smallest::Smallest;
pub use variance_ratio::variance_ratio;

/// Whether a series moves so evenly that its raw power sums cancel: the mean is more than ten deviations away from 0.
#[inline(always)]
fn is_drift(mean: f64, variance: f64) -> bool {
    variance < 0.01 * mean * mean
}

#[cfg(test)]
mod samples {
    use crate::oracle::{ticks, walk};

    /// Log returns of a walk, with now and then a large one.
    pub fn returns(seed: u64, n: usize) -> Vec<f64> {
        let wild = |(i, r): (usize, f64)| if i % 37 == 11 { 6.0 * r } else { r };
        walk(seed, n + 1).windows(2).map(|pair| (pair[1] / pair[0]).ln()).enumerate().map(wild).collect()
    }

    /// Log returns of a walk on a coarse grid: many are exactly 0, many are equal.
    pub fn tied_returns(seed: u64, n: usize) -> Vec<f64> {
        ticks(seed, n + 1).windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect()
    }

    /// Log closes of a walk.
    pub fn log_closes(seed: u64, n: usize) -> Vec<f64> {
        walk(seed, n).into_iter().map(f64::ln).collect()
    }
}
