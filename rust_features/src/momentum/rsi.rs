//! Relative strength index.

use crate::{average::Wilder, indicator::Indicator, math::larger};

/// `RSI(x, n)` = 100·AG/(AG + AL), AG and AL the Wilder averages of gains and losses (Wilder 1978, as TA-Lib); 50 when
/// AG + AL is at most `tiny`. Input: the change of x, and `tiny`. Warm with the `n`-th change.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Rsi};
///
/// assert_eq!(replay(Rsi::new(2), [(3.0, 1e-9), (-1.0, 1e-9), (0.0, 1e-9)]), [None, Some(75.0), Some(75.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Rsi {
    gain: Wilder,
    loss: Wilder,
}

impl Rsi {
    /// An index over `n` changes.
    pub fn new(n: u32) -> Self {
        Self { gain: Wilder::new(n), loss: Wilder::new(n) }
    }
}

impl Indicator for Rsi {
    type Input = (f64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (change, tiny): (f64, f64)) -> Option<f64> {
        let (gain, loss) = (self.gain.update(larger(change, 0.0)), self.loss.update(larger(-change, 0.0)));
        let (gain, loss) = (gain?, loss?);
        Some(strength(gain, loss, tiny))
    }
}

/// `RSI` of the averages of gains and losses.
#[inline(always)]
pub fn strength(gain: f64, loss: f64, tiny: f64) -> f64 {
    if gain + loss <= tiny { 50.0 } else { 100.0 * gain / (gain + loss) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_wilders_index_for_many_lengths() {
        let xs = walk(30, 300);
        let changes: Vec<f64> = xs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for n in [2_usize, 5, 14, 42] {
            let values = replay(Rsi::new(n as u32), changes.iter().map(|d| (*d, 1e-9)));
            assert!(values[..n - 1].iter().all(Option::is_none));
            let seed = |sign: f64| changes[..n].iter().map(|d| (sign * d).max(0.0)).sum::<f64>() / n as f64;
            let (mut gain, mut loss) = (seed(1.0), seed(-1.0));
            for i in n..changes.len() {
                gain = (gain * (n as f64 - 1.0) + changes[i].max(0.0)) / n as f64;
                loss = (loss * (n as f64 - 1.0) + (-changes[i]).max(0.0)) / n as f64;
                // Wilder's form, by relative strength.
                assert_close(values[i].unwrap(), 100.0 - 100.0 / (1.0 + gain / loss), 1e-10);
            }
        }
    }

    #[test]
    fn a_market_of_one_direction_is_at_the_end_of_the_scale() {
        assert_eq!(replay(Rsi::new(3), [(1.0, 1e-9); 9])[8], Some(100.0));
        assert_eq!(replay(Rsi::new(3), [(-1.0, 1e-9); 9])[8], Some(0.0));
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(replay(Rsi::new(3), [(0.0, 1e-9); 9])[8], Some(50.0));
    }
}
