//! Average directional index and the two directional indicators it is made of.

use super::WilderSum;
use crate::{average::Wilder, indicator::Indicator, volatility::true_range};

/// `ADX(n)` with `PDI` and `MDI` (Wilder 1978, as TA-Lib). +DM is the rise of the high where it exceeds the fall of the
/// low, −DM the other way round; both are 0 on a tie within `tiny`. PDI, MDI = 100·WSUM(DM)/WSUM(TR), 0 when that
/// denominator is at most `tiny`; DX = 100·|PDI − MDI|/(PDI + MDI), 0 when theirs is at most 1e-9; ADX = RMA(DX, n).
///
/// Input: (high, low, close) of the bar, and `tiny`. It remembers the bar before, so that it can be fed the bars of any
/// timeframe. PDI and MDI are warm with bar n + 1, ADX with bar 2n.
///
/// ```
/// use candlecast_features::{indicator::replay, trend::Adx};
///
/// // Always up: all movement has one direction.
/// let bars = (1..=4).map(|i| ((f64::from(i), f64::from(i) - 1.0, f64::from(i)), 1e-9));
/// let last = replay(Adx::new(2), bars)[3].unwrap();
/// assert_eq!((last.pdi, last.mdi, last.adx), (100.0, 0.0, Some(100.0)));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Adx {
    previous: Option<(f64, f64, f64)>,
    /// Of +DM, −DM and TR.
    sums: WilderSum<3>,
    average: Wilder,
}

/// What [`Adx`] says of a bar: 0..100 each.
#[derive(Clone, Copy, Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Directional {
    /// Plus directional indicator, +DI.
    pub pdi: f64,
    /// Minus directional indicator, −DI.
    pub mdi: f64,
    /// Average directional index.
    pub adx: Option<f64>,
}

impl Adx {
    /// An index over `n` bars.
    pub fn new(n: u32) -> Self {
        Self { previous: None, sums: WilderSum::new(n), average: Wilder::new(n) }
    }
}

impl Indicator for Adx {
    type Input = ((f64, f64, f64), f64);
    type Output = Directional;

    #[inline(always)]
    fn update(&mut self, ((h, l, c), tiny): Self::Input) -> Option<Directional> {
        let (h_1, l_1, c_1) = self.previous.replace((h, l, c))?;
        let (up, down) = (h - h_1, l_1 - l);
        let [plus, minus] = [(up, down), (down, up)].map(|(this, other)| moved(this, other, tiny));
        let [plus, minus, range] = self.sums.update([plus, minus, true_range(h, l, c_1)])?;
        let per_range = if range <= tiny { 0.0 } else { 100.0 / range };
        let (pdi, mdi) = (plus * per_range, minus * per_range);
        let dx = if pdi + mdi <= 1e-9 { 0.0 } else { 100.0 * (pdi - mdi).abs() / (pdi + mdi) };
        Some(Directional { pdi, mdi, adx: self.average.update(dx) })
    }
}

/// Directional movement: `this` way, where it went further than the `other`.
#[inline(always)]
fn moved(this: f64, other: f64, tiny: f64) -> f64 {
    if (this > 0.0) & (this - other > tiny) { this } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{Dice, assert_close, ticks};

    type Bar = (f64, f64, f64);

    /// Bars on a coarse grid, ties included.
    fn bars(seed: u64, n: usize) -> Vec<Bar> {
        let mut dice = Dice::new(seed);
        let wick = |dice: &mut Dice| dice.below(3) as f64;
        ticks(seed, n).into_iter().map(|c| (c + wick(&mut dice), c - wick(&mut dice), c)).collect()
    }

    fn run(n: usize, bars: &[Bar]) -> Vec<Option<Directional>> {
        replay(Adx::new(n as u32), bars.iter().map(|bar| (*bar, 1e-9 * bar.2)))
    }

    /// `WSUM` of x, from x\[1\] on; `None` where undefined.
    fn wilder_sum(xs: &[f64], n: usize) -> Vec<Option<f64>> {
        let mut sums = vec![None; xs.len()];
        let mut sum: f64 = xs[1..n].iter().sum();
        for i in n..xs.len() {
            sum = sum - sum / n as f64 + xs[i];
            sums[i] = Some(sum);
        }
        sums
    }

    #[test]
    fn is_wilders_definition_for_many_lengths() {
        let bars = bars(72, 300);
        let of_pairs = |f: &dyn Fn(Bar, Bar) -> f64| -> Vec<f64> {
            [0.0].into_iter().chain(bars.windows(2).map(|pair| f(pair[0], pair[1]))).collect()
        };
        let plus = of_pairs(&|before, now| {
            let (up, down) = (now.0 - before.0, before.1 - now.1);
            if up > down { up.max(0.0) } else { 0.0 }
        });
        let minus = of_pairs(&|before, now| {
            let (up, down) = (now.0 - before.0, before.1 - now.1);
            if down > up { down.max(0.0) } else { 0.0 }
        });
        let ranges = of_pairs(&|before, now| now.0.max(before.2) - now.1.min(before.2));
        for n in [2, 5, 14] {
            let [plus, minus, ranges] = [&plus, &minus, &ranges].map(|xs| wilder_sum(xs, n));
            let (values, mut dxs, mut adx) = (run(n, &bars), Vec::new(), 0.0);
            for (i, value) in values.into_iter().enumerate() {
                assert_eq!(value.is_some(), i >= n);
                let Some(value) = value else { continue };
                let share = |sums: &[Option<f64>]| 100.0 * sums[i].unwrap() / ranges[i].unwrap();
                let (pdi, mdi) = (share(&plus), share(&minus));
                assert_close(value.pdi, pdi, 1e-11);
                assert_close(value.mdi, mdi, 1e-11);
                dxs.push(100.0 * (pdi - mdi).abs() / (pdi + mdi));
                let seed = dxs.iter().sum::<f64>() / n as f64;
                adx = if dxs.len() <= n { seed } else { adx + (dxs[dxs.len() - 1] - adx) / n as f64 };
                assert_eq!(value.adx.is_some(), i >= 2 * n - 1);
                assert_close(value.adx.unwrap_or(adx), adx, 1e-11);
            }
        }
    }

    #[test]
    fn a_tie_has_no_direction() {
        // An outside bar, the same on both sides but for rounding.
        let bars = [(10.0, 9.0, 9.5), (10.1, 8.9, 9.5)];
        let value = run(1, &bars)[1].unwrap();
        assert_eq!((value.pdi, value.mdi, value.adx), (0.0, 0.0, Some(0.0)));
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        let value = run(14, &[(7.0, 7.0, 7.0); 60])[59].unwrap();
        assert_eq!((value.pdi, value.mdi, value.adx), (0.0, 0.0, Some(0.0)));
    }
}
