//! Where a value lies in the channel of its last highs and lows: stochastics, Williams %R.

use crate::{
    indicator::Indicator,
    rolling::{Window, extent},
};

/// `MAX(h, N)` and `MIN(l, N)` of a series nobody else keeps. Input: high and low. Warm with the `N`-th.
///
/// ```
/// use candlecast_features::{indicator::Indicator, momentum::Channel};
///
/// let mut channel = Channel::<2, 3>::new();
/// channel.update((5.0, 3.0));
/// assert_eq!(channel.update((4.0, 1.0)), Some((5.0, 1.0)));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Channel<const N: usize, const CAP: usize> {
    highs: Window<N, CAP>,
    lows: Window<N, CAP>,
}

impl<const N: usize, const CAP: usize> Channel<N, CAP> {
    /// A channel that has seen nothing.
    pub fn new() -> Self {
        Self { highs: Window::new(), lows: Window::new() }
    }
}

impl<const N: usize, const CAP: usize> Indicator for Channel<N, CAP> {
    type Input = (f64, f64);
    type Output = (f64, f64);

    #[inline]
    fn update(&mut self, (h, l): (f64, f64)) -> Option<(f64, f64)> {
        self.highs.push(h);
        self.lows.push(l);
        let (highs, lows) = (self.highs.all(), self.lows.all());
        (!highs[0].is_nan()).then(|| (extent(highs).0, extent(lows).1))
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

    fn check<const N: usize, const CAP: usize>() {
        let (highs, lows) = (walk(31, 200), walk(32, 200));
        let bars = highs.iter().copied().zip(lows.iter().copied());
        for (i, channel) in replay(Channel::<N, CAP>::new(), bars).into_iter().enumerate() {
            let plain = (i + 1).checked_sub(N).map(|from| {
                let highest = highs[from..=i].iter().copied().fold(f64::MIN, f64::max);
                (highest, lows[from..=i].iter().copied().fold(f64::MAX, f64::min))
            });
            assert_eq!(channel, plain);
        }
    }

    #[test]
    fn is_the_plain_maximum_and_minimum() {
        check::<3, 5>();
        check::<14, 18>();
        check::<28, 32>();
    }

    #[test]
    fn a_flat_channel_has_everything_in_the_middle() {
        assert_eq!(place(7.0, (7.0, 7.0), 7e-9), 0.5);
    }
}
