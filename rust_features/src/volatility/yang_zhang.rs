//! Volatility from open, high, low and close, gaps included.

use crate::{indicator::Indicator, memory::within, rolling::RingSums};

/// Weight of the variance from open to close: the one with the least error for 96 bars.
const K: f64 = 0.34 / (1.34 + 97.0 / 95.0);

/// Variance of Yang and Zhang (2000) over 96 bars: var(ln o/c₁) + k·var(ln c/o) + (1 − k)·mean of Rogers and Satchell's term, sample
/// variances. Input: the absolute bar number; ln(o/c₁), ln(c/o) and the term of the bar; the sum of the returns ln(c/c₁) over the
/// window. Warm with the 96th bar.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::YangZhang};
///
/// // No gaps, and every bar the same: what is left is the term.
/// let values = replay(YangZhang::new(), (0..96).map(|bar| (bar, [0.0, 0.5, 1.0], 48.0)));
/// assert!((values[95].unwrap() - (1.0 - 0.34 / (1.34 + 97.0 / 95.0))).abs() < 1e-14);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct YangZhang {
    sums: RingSums<2, 96, 16>,
}

impl YangZhang {
    pub(crate) const RARELY: (usize, usize) = within(std::mem::offset_of!(Self, sums), RingSums::<2, 96, 16>::RARELY);

    /// A variance that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for YangZhang {
    type Input = (u64, [f64; 3], f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (bar, [gap, body, term], returns): (u64, [f64; 3], f64)) -> Option<f64> {
        // All that is summed before it is squared is the bodies and the gaps, and a gap is the return less the body.
        let linear = (gap * gap + K * (body * body)) * (1.0 / 95.0) + (1.0 - K) / 96.0 * term;
        let [linear, bodies] = self.sums.update((bar, [linear, body]))?;
        let gaps = returns - bodies;
        Some((linear - (gaps * gaps + K * (bodies * bodies)) * (1.0 / (95.0 * 96.0))).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};
    use crate::volatility::sample_deviation;

    #[test]
    fn is_the_formula_of_yang_and_zhang() {
        let parts = [72, 73, 74].map(|seed| walk(seed, 300).into_iter().map(|x| x / 100.0 - 1.0).collect::<Vec<_>>());
        let window = |part: usize, i: usize| (i + 1).checked_sub(96).map(|from| &parts[part][from..=i]);
        let sum = |part: usize, i: usize| window(part, i).map_or(f64::NAN, |xs| xs.iter().sum::<f64>());
        let bars = (0..300).map(|i| {
            let returns = sum(0, i) + sum(1, i);
            (1_000 + i as u64, [parts[0][i], parts[1][i], parts[2][i]], returns)
        });
        for (i, value) in replay(YangZhang::new(), bars).into_iter().enumerate() {
            assert_eq!(value.is_some(), i >= 95);
            let Some(value) = value else { continue };
            let variance = |part: usize| sample_deviation(window(part, i).unwrap()).powi(2);
            let expected = variance(0) + K * variance(1) + (1.0 - K) * sum(2, i) / 96.0;
            assert_close(value, expected.max(0.0), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_has_none() {
        assert_eq!(replay(YangZhang::new(), (0..96).map(|bar| (bar, [0.0; 3], 0.0)))[95], Some(0.0));
    }
}
