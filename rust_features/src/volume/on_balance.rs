//! On-balance volume: does volume agree with price?

use super::sums_of;

/// Bars of the window.
const BARS: usize = 48;

/// The line is drawn anew every so many bars.
const STEP: usize = 8;

/// On-balance volume (Granville 1963: the volume of a bar that closed higher is added, that of one that closed lower is
/// taken off) at the newest 48 bars, up to a constant. Input: the absolute bar number and the volumes with the sign of
/// the change of the close, the newest last, 0 before the first. Warm with the first.
///
/// The line is summed both ways from a bar inside the window: so nothing is felt of a bar that has left it, and a new
/// bar costs one addition. Once in 8 bars the bar to start from would leave the window; then a later one is taken. It
/// lies at absolute bar numbers, so every bit is the same from wherever a history starts.
///
/// ```
/// use candlecast_features::volume::OnBalance;
///
/// let (mut signed, mut obv) = ([0.0; 48], OnBalance::new());
/// for bar in 0..90 {
///     signed.rotate_left(1);
///     signed[47] = if bar % 2 == 0 { 3.0 } else { -1.0 };
///     let line = obv.update((bar, &signed)).unwrap();
///     assert!(bar < 47 || line[47] - line[0] == if bar % 2 == 0 { 49.0 } else { 45.0 });
/// }
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct OnBalance {
    line: [f64; BARS + STEP],
    end: usize,
}

impl OnBalance {
    /// A line without bars.
    pub fn new() -> Self {
        Self { line: [0.0; BARS + STEP], end: BARS }
    }

    /// Takes the newest bar. No [`crate::indicator::Indicator`]: what it gives is borrowed.
    #[inline(always)]
    pub fn update(&mut self, (bar, signed): (u64, &[f64; BARS])) -> Option<&[f64; BARS]> {
        if bar.is_multiple_of(STEP as u64) {
            self.draw(signed);
        } else {
            self.line[self.end] = self.line[self.end - 1] + signed[BARS - 1];
            self.end += 1;
        }
        self.line[..self.end].last_chunk()
    }

    /// Draws the whole line, from the oldest bar that will stay in the window until the next time.
    fn draw(&mut self, signed: &[f64; BARS]) {
        self.line[STEP - 1] = 0.0;
        for i in (0..STEP - 1).rev() {
            self.line[i] = self.line[i + 1] - signed[i + 1];
        }
        for i in STEP..BARS {
            self.line[i] = self.line[i - 1] + signed[i];
        }
        self.end = BARS;
    }
}

impl Default for OnBalance {
    fn default() -> Self {
        Self::new()
    }
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

    /// Lines after each bar.
    fn lines(first_bar: u64, changes: &[f64]) -> Vec<Option<[f64; BARS]>> {
        let (mut signed, mut obv) = ([0.0; BARS], OnBalance::new());
        let mut step = |(i, change): (usize, &f64)| {
            signed.rotate_left(1);
            signed[BARS - 1] = *change;
            let line = obv.update((first_bar + i as u64, &signed)).copied();
            line.filter(|_| i + 1 >= BARS)
        };
        changes.iter().enumerate().map(&mut step).collect()
    }

    fn changes(n: usize) -> Vec<f64> {
        let mut dice = Dice::new(89);
        (0..n).map(|_| 1e4 * (dice.unit() - 0.5)).collect()
    }

    #[test]
    fn is_the_running_sum_whatever_the_first_bar() {
        let changes = changes(300);
        for first_bar in [0, 1, 7, 15, 16, 1_888_889] {
            for (i, line) in lines(first_bar, &changes).into_iter().enumerate() {
                assert_eq!(line.is_some(), i + 1 >= BARS);
                let mut total = 0.0;
                for (k, obv) in line.iter().flatten().enumerate() {
                    total += if k == 0 { 0.0 } else { changes[i + 1 - BARS + k] };
                    assert_close(obv - line.unwrap()[0], total, 1e-10);
                }
            }
        }
    }

    #[test]
    fn is_bit_equal_from_every_start_and_keeps_no_residue() {
        let mut changes = changes(300);
        let whole = lines(5, &changes);
        for start in 1..40 {
            let part = lines(5 + start as u64, &changes[start..]);
            assert!(whole[start..].iter().zip(part).all(|(whole, part)| part.is_none() || part == *whole));
        }
        changes[100] = 1e24;
        // The change of the oldest bar leads into the window, not through it.
        assert_eq!(lines(5, &changes)[100 + BARS - 1..], whole[100 + BARS - 1..]);
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
