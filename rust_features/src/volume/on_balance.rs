//! Does volume agree with price?

use super::sums_of;

/// Bars of the window, in runs that are summed side by side.
const BARS: usize = 48;
const RUN: usize = 8;

/// Correlation of the close and the on-balance volume over 48 bars (Granville 1963: OBV adds the volume of a bar that closed higher
/// and takes off that of one that closed lower). Input: closes, and volumes with the sign of the change of the close. 0 when the
/// deviation of the closes is at most `tiny` or that of the OBV at most `tiny_volume`.
///
/// ```
/// use candlecast_features::volume::on_balance_correlation;
///
/// let rising: [f64; 48] = std::array::from_fn(|i| i as f64);
/// let agreement = on_balance_correlation(&rising, &[5.0; 48], 1e-9, 1e-9);
/// assert!((agreement - 1.0).abs() < 1e-12);
/// ```
#[inline(always)]
pub fn on_balance_correlation(closes: &[f64; BARS], signed: &[f64; BARS], tiny: f64, tiny_volume: f64) -> f64 {
    let obv = on_balance(signed);
    let n = BARS as f64;
    let [c, o] = sums_of::<BARS, 2>(|i| [closes[i], obv[i]]).map(|sum| sum / n);
    let [cc, oo, co] = sums_of::<BARS, 3>(|i| {
        let (c, o) = (closes[i] - c, obv[i] - o);
        [c * c, o * o, c * o]
    });
    if cc <= n * (tiny * tiny) || oo <= n * (tiny_volume * tiny_volume) {
        return 0.0;
    }
    (co / (cc * oo).sqrt()).clamp(-1.0, 1.0)
}

/// The OBV within the window: that of the oldest bar is 0.
#[inline(always)]
fn on_balance(signed: &[f64; BARS]) -> [f64; BARS] {
    let mut obv = *signed;
    // A correlation does not feel a shift, but a huge oldest volume would cost all digits of the others.
    obv[0] = 0.0;
    let runs = obv.as_chunks_mut::<RUN>().0;
    for i in 1..RUN {
        for run in runs.iter_mut() {
            run[i] += run[i - 1];
        }
    }
    let mut before = 0.0;
    for run in runs {
        let total = run[RUN - 1];
        for o in run {
            *o += before;
        }
        before += total;
    }
    obv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Dice, assert_close, ticks};

    fn naive(closes: &[f64], volumes: &[f64]) -> f64 {
        let mut obv = vec![0.0];
        for i in 1..closes.len() {
            let sign = if closes[i] == closes[i - 1] { 0.0 } else { (closes[i] - closes[i - 1]).signum() };
            obv.push(obv[i - 1] + sign * volumes[i]);
        }
        let n = closes.len() as f64;
        let (c, o) = (closes.iter().sum::<f64>() / n, obv.iter().sum::<f64>() / n);
        let sum = |f: fn(f64, f64) -> f64| closes.iter().zip(&obv).map(|(x, y)| f(x - c, y - o)).sum::<f64>();
        sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt()
    }

    #[test]
    fn is_pearsons_of_price_and_running_volume() {
        let (closes, mut dice) = (ticks(88, 400), Dice::new(89));
        let volumes: Vec<f64> = closes.iter().map(|_| 1e4 * dice.unit()).collect();
        let signed: Vec<f64> = (0..400_usize)
            .map(|i| match i.checked_sub(1).map_or(0.0, |j| closes[i] - closes[j]) {
                0.0 => 0.0,
                change => change.signum() * volumes[i],
            })
            .collect();
        for from in 0..=400 - BARS {
            let window = from..from + BARS;
            let [c, s] = [&closes, &signed].map(|xs| xs[window.clone()].try_into().unwrap());
            let expected = naive(&closes[window.clone()], &volumes[window]);
            assert_close(on_balance_correlation(c, s, 1e-7, 1e-9), expected, 1e-11);
        }
    }

    #[test]
    fn the_oldest_volume_does_not_count() {
        let closes: [f64; 48] = std::array::from_fn(|i| (i as f64).sin());
        let mut signed: [f64; 48] = std::array::from_fn(|i| (i as f64).cos());
        let calm = on_balance_correlation(&closes, &signed, 1e-9, 1e-9);
        signed[0] = 1e24;
        assert_eq!(on_balance_correlation(&closes, &signed, 1e-9, 1e-9), calm);
    }

    #[test]
    fn a_flat_or_volumeless_market_is_at_zero() {
        let rising: [f64; 48] = std::array::from_fn(|i| i as f64);
        assert_eq!(on_balance_correlation(&[0.1; 48], &[5.0; 48], 1e-10, 0.0), 0.0);
        assert_eq!(on_balance_correlation(&rising, &[0.0; 48], 1e-10, 0.0), 0.0);
    }
}
