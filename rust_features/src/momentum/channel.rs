//! Where a value lies in the channel of its last highs and lows: stochastics, Williams %R.

use crate::{indicator::Indicator, rolling::Extremes};

/// Highest high and lowest low over several lengths: `MAX(h, n)` and `MIN(l, n)` for each `n`. Each is warm with its `n`-th bar.
///
/// Input: high and low. Output per length: (highest, lowest).
///
/// ```
/// use candlecast_features::{indicator::Indicator, momentum::Channel};
///
/// let mut channel = Channel::<1, 4>::new([2]);
/// channel.update((5.0, 3.0));
/// assert_eq!(channel.update((4.0, 1.0)), Some([Some((5.0, 1.0))]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Channel<const N: usize, const CAP: usize> {
    highest: Extremes<N, CAP>,
    /// Of the negated lows.
    lowest: Extremes<N, CAP>,
}

impl<const N: usize, const CAP: usize> Channel<N, CAP> {
    /// Channels over `lengths`, ascending.
    pub fn new(lengths: [u32; N]) -> Self {
        Self { highest: Extremes::new(lengths), lowest: Extremes::new(lengths) }
    }

    /// Takes the next high and low.
    #[inline]
    pub fn push(&mut self, (h, l): (f64, f64)) {
        self.highest.push(h);
        self.lowest.push(-l);
    }

    /// (highest, lowest) of the `i`-th length.
    #[inline]
    pub fn of(&self, i: usize) -> Option<(f64, f64)> {
        Some((self.highest.maximum(i)?, -self.lowest.maximum(i)?))
    }

    /// How many bars ago those two were; the latest, on a tie.
    #[inline]
    pub fn ages(&self, i: usize) -> Option<(u32, u32)> {
        Some((self.highest.age(i)?, self.lowest.age(i)?))
    }
}

impl<const N: usize, const CAP: usize> Indicator for Channel<N, CAP> {
    type Input = (f64, f64);
    type Output = [Option<(f64, f64)>; N];

    #[inline]
    fn update(&mut self, bar: (f64, f64)) -> Option<Self::Output> {
        self.push(bar);
        Some(std::array::from_fn(|i| self.of(i)))
    }
}

/// The place of `x` in a channel (highest, lowest), 0 at the bottom and 1 at the top; ½ when the channel is no wider than `tiny`.
///
/// ```
/// assert_eq!(candlecast_features::momentum::place(4.0, (5.0, 1.0), 1e-9), 0.75);
/// ```
#[inline]
pub fn place(x: f64, (highest, lowest): (f64, f64), tiny: f64) -> f64 {
    let width = highest - lowest;
    if width <= tiny { 0.5 } else { (x - lowest) / width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::walk;

    #[test]
    fn is_the_plain_maximum_and_minimum() {
        let (highs, lows) = (walk(31, 200), walk(32, 200));
        let lengths = [3, 14, 28];
        let bars = highs.iter().copied().zip(lows.iter().copied());
        for (i, channels) in replay(Channel::<3, 32>::new(lengths), bars).into_iter().enumerate() {
            for (channel, n) in channels.unwrap().into_iter().zip(lengths) {
                let from = (i + 1).checked_sub(n as usize);
                let plain = from.map(|from| {
                    let highest = highs[from..=i].iter().copied().fold(f64::MIN, f64::max);
                    (highest, lows[from..=i].iter().copied().fold(f64::MAX, f64::min))
                });
                assert_eq!(channel, plain);
            }
        }
    }

    #[test]
    fn a_flat_channel_has_everything_in_the_middle() {
        assert_eq!(place(7.0, (7.0, 7.0), 7e-9), 0.5);
    }
}
