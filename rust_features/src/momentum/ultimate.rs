//! Ultimate oscillator.

use crate::rolling::sum;

/// `ULTOSC(7, 14, 28)` = 100·(4a₇ + 2a₁₄ + a₂₈)/7, aₙ = Σ buying pressure / Σ true range over n bars (Williams 1985, as TA-Lib);
/// aₙ = ½ when the ranges sum to at most `tiny`. Buying pressure is c − min(l, c₁). Oldest bar first.
///
/// ```
/// assert_eq!(candlecast_features::momentum::ultimate(&[1.0; 28], &[4.0; 28], 1e-9), 25.0);
/// ```
#[inline(always)]
pub fn ultimate(pressures: &[f64; 28], ranges: &[f64; 28], tiny: f64) -> f64 {
    let (pressures, ranges) = (nested(pressures), nested(ranges));
    let share = |i: usize| if ranges[i] <= tiny { 0.5 } else { pressures[i] / ranges[i] };
    (100.0 / 7.0) * (4.0 * share(0) + 2.0 * share(1) + share(2))
}

/// Sums of the newest 7, 14 and 28.
#[inline(always)]
fn nested(xs: &[f64; 28]) -> [f64; 3] {
    let (sum_7, before_7, before_14) = (sum(&xs[21..]), sum(&xs[14..21]), sum(&xs[..14]));
    [sum_7, sum_7 + before_7, sum_7 + before_7 + before_14]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_williams_weighted_mean_of_shares() {
        for (pressures, ranges) in walk(41, 200).windows(28).zip(walk(42, 200).windows(28)) {
            let sum = |xs: &[f64], n: usize| xs[28 - n..].iter().sum::<f64>();
            let share = |n: usize| sum(pressures, n) / sum(ranges, n);
            let value = ultimate(pressures.try_into().unwrap(), ranges.try_into().unwrap(), 1e-9);
            assert_close(value, (4.0 * share(7) + 2.0 * share(14) + share(28)) / 0.07, 1e-10);
        }
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(ultimate(&[0.0; 28], &[0.0; 28], 1e-9), 50.0);
    }
}
