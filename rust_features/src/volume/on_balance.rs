//! On-balance volume: does volume agree with price?

use super::sums_of;

/// Values in a run.
const RUN: usize = 8;

/// On-balance volume (Granville 1963: the volume of a bar that closed higher is added, that of one that closed lower is
/// taken off) at `N` bars, a multiple of 8; 0 at the oldest. Input: the volumes with the sign of the change of the close.
///
/// Drawn anew every bar, so nothing is felt of a bar that has left. Runs of eight are summed side by side: an addition
/// waits for seven others, not for 47.
///
/// ```
/// use candlecast_features::volume::on_balance;
///
/// let line = on_balance(&std::array::from_fn::<_, 48, _>(|i| if i % 2 == 0 { 3.0 } else { -1.0 }));
/// assert_eq!((line[0], line[1], line[47]), (0.0, -1.0, 45.0));
/// ```
#[inline(always)]
pub fn on_balance<const N: usize>(signed: &[f64; N]) -> [f64; N] {
    const { assert!(N.is_multiple_of(RUN)) }
    let mut line = *signed;
    line[0] = 0.0;
    let (runs, _) = line.as_chunks_mut::<RUN>();
    for i in 1..RUN {
        for run in runs.iter_mut() {
            run[i] += run[i - 1];
        }
    }
    let mut before = 0.0;
    for run in runs {
        for obv in run.iter_mut() {
            *obv += before;
        }
        before = run[RUN - 1];
    }
    line
}

/// Correlation of the close and the on-balance volume at `N` bars, a multiple of 8; 0 when the deviation of the closes
/// is at most `tiny` or that of the OBV at most `tiny_volume`.
///
/// ```
/// use candlecast_features::volume::on_balance_correlation;
///
/// let closes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
/// let agreement = on_balance_correlation(&closes, &closes.map(|c| 20.0 * c), (1e-9, 1e-9));
/// assert!((agreement - 1.0).abs() < 1e-15);
/// ```
#[inline(always)]
pub fn on_balance_correlation<const N: usize>(
    closes: &[f64; N],
    obv: &[f64; N],
    (tiny, tiny_volume): (f64, f64),
) -> f64 {
    let n = N as f64;
    let [c, o] = sums_of::<N, 2, 8>(|i| [closes[i], obv[i]]).map(|sum| sum * (1.0 / n));
    let [cc, oo, co] = sums_of::<N, 3, 8>(|i| {
        let (c, o) = (closes[i] - c, obv[i] - o);
        [c * c, o * o, c * o]
    });
    if cc <= n * (tiny * tiny) || oo <= n * (tiny_volume * tiny_volume) {
        return 0.0;
    }
    (co / (cc * oo).sqrt()).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Dice, assert_close, ticks, walk};

    /// Bars of the window.
    const BARS: usize = 48;

    #[test]
    fn is_the_running_sum() {
        let mut dice = Dice::new(89);
        let changes: Vec<f64> = (0..300).map(|_| 1e4 * (dice.unit() - 0.5)).collect();
        for changes in changes.windows(BARS) {
            let mut total = 0.0;
            for (i, obv) in on_balance::<BARS>(changes.try_into().unwrap()).into_iter().enumerate() {
                total += if i == 0 { 0.0 } else { changes[i] };
                assert_close(obv, total, 1e-10);
            }
        }
    }

    #[test]
    fn the_change_of_the_oldest_bar_leads_into_the_window() {
        let mut changes = [1.0; BARS];
        changes[0] = 1e24;
        assert_eq!(on_balance(&changes), std::array::from_fn(|i| i as f64));
    }

    #[test]
    fn the_correlation_is_pearsons() {
        let (closes, volumes) = (ticks(88, 400), walk(87, 400));
        for (c, o) in closes.windows(BARS).zip(volumes.windows(BARS)) {
            let covariance = |xs: &[f64], ys: &[f64]| {
                let pairs = (0..BARS).flat_map(|i| (0..i).map(move |j| (i, j)));
                pairs.map(|(i, j)| (xs[i] - xs[j]) * (ys[i] - ys[j])).sum::<f64>()
            };
            let expected = covariance(c, o) / (covariance(c, c) * covariance(o, o)).sqrt();
            let (c, o): (&[f64; BARS], _) = (c.try_into().unwrap(), o.try_into().unwrap());
            assert_close(on_balance_correlation(c, o, (1e-7, 1e-9)), expected, 1e-11);
        }
    }

    #[test]
    fn a_flat_or_volumeless_market_is_at_zero() {
        let rising: [f64; 48] = std::array::from_fn(|i| i as f64);
        assert_eq!(on_balance_correlation(&[0.1; 48], &rising, (1e-10, 0.0)), 0.0);
        assert_eq!(on_balance_correlation(&rising, &[0.0; 48], (1e-10, 0.0)), 0.0);
    }
}
