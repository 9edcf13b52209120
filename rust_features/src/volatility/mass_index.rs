//! Mass index.

use crate::{average::Ema, indicator::Indicator, rolling::RingSums};

/// `SUM(e/EMA(e, 9), 25)` with e = EMA(h − l, 9) (Dorsey 1992); a term is 1 when its denominator is at most `tiny`. 25 is neutral.
/// Input: the absolute bar number, h − l, `tiny`. Warm with the 41st.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::MassIndex};
///
/// let values = replay(MassIndex::new(), (0..41).map(|bar| (bar, 2.0, 1e-9)));
/// assert_eq!((values[39], values[40]), (None, Some(25.0)));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct MassIndex {
    once: Ema,
    twice: Ema,
    sum: RingSums<1, 25, 5>,
}

impl MassIndex {
    /// An index that has seen nothing.
    pub fn new() -> Self {
        Self { once: Ema::new(9), twice: Ema::new(9), sum: RingSums::new() }
    }
}

impl Default for MassIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl Indicator for MassIndex {
    type Input = (u64, f64, f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (bar, range, tiny): (u64, f64, f64)) -> Option<f64> {
        let once = self.once.update(range)?;
        let twice = self.twice.update(once)?;
        let term = if twice <= tiny { 1.0 } else { once / twice };
        let [sum] = self.sum.update((bar, [term]))?;
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn ema_9(xs: &[f64]) -> Vec<f64> {
        let mut values = vec![xs[..9].iter().sum::<f64>() / 9.0];
        for x in &xs[9..] {
            values.push(0.2 * x + 0.8 * values[values.len() - 1]);
        }
        values
    }

    #[test]
    fn is_dorseys_sum_of_ratios() {
        let xs = walk(62, 200);
        let values = replay(MassIndex::new(), (7..).zip(&xs).map(|(bar, x)| (bar, *x, 1e-9)));
        let once = ema_9(&xs);
        let ratios: Vec<f64> = once[8..].iter().zip(ema_9(&once)).map(|(once, twice)| once / twice).collect();
        assert!(values[..40].iter().all(Option::is_none));
        for (i, terms) in ratios.windows(25).enumerate() {
            assert_close(values[i + 40].unwrap(), terms.iter().sum(), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_neutral() {
        assert_eq!(replay(MassIndex::new(), (0..60).map(|bar| (bar, 0.0, 1e-9)))[59], Some(25.0));
    }
}
