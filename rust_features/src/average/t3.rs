//! Tillson's T3.

use super::Cascade;
use crate::indicator::Indicator;

/// `T3(x, n, a)` = c₁e₆ + c₂e₅ + c₃e₄ + c₄e₃ with eₖ the k-fold EMA (Tillson 1998, as TA-Lib; a = 0.7 is usual). Each EMA is
/// seeded by the mean of its first `n` inputs. Warm with input 6(n − 1) + 1.
///
/// ```
/// use candlecast_features::{average::T3, indicator::replay};
///
/// let values = replay(T3::new(2, 0.7), [5.0; 7]);
/// assert!(values[..6].iter().all(Option::is_none));
/// assert!((values[6].unwrap() - 5.0).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct T3 {
    emas: Cascade<6>,
    /// Weights of e₃ to e₆.
    weights: [f64; 4],
}

impl T3 {
    /// An average over `n` bars with volume factor `a`.
    pub fn new(n: u32, a: f64) -> Self {
        assert!((0.0..=1.0).contains(&a), "the volume factor lies between 0 (EMA) and 1 (DEMA)");
        let (a2, a3) = (a * a, a * a * a);
        let weights = [1.0 + 3.0 * a + a3 + 3.0 * a2, -6.0 * a2 - 3.0 * a - 3.0 * a3, 3.0 * a2 + 3.0 * a3, -a3];
        Self { emas: Cascade::new(n), weights }
    }
}

impl Indicator for T3 {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, x: f64) -> Option<f64> {
        let levels = self.emas.update(x)?;
        Some(levels[2..].iter().zip(&self.weights).map(|(e, weight)| e * weight).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    /// EMA of a whole series, `None` while undefined.
    fn ema(xs: &[Option<f64>], n: usize) -> Vec<Option<f64>> {
        let first = xs.iter().position(Option::is_some).unwrap();
        let mut out = vec![None; xs.len()];
        let mut value = xs[first..first + n].iter().flatten().sum::<f64>() / n as f64;
        out[first + n - 1] = Some(value);
        for i in first + n..xs.len() {
            value += (xs[i].unwrap() - value) * 2.0 / (n as f64 + 1.0);
            out[i] = Some(value);
        }
        out
    }

    #[test]
    fn is_the_generalised_dema_taken_three_times() {
        // T3 = GD(GD(GD(x))) with GD(x) = (1 + a)·EMA(x) − a·EMA(EMA(x)), expanded: compare with the expansion by hand.
        let (n, a) = (8, 0.7_f64);
        let xs = walk(16, 200);
        let mut levels = vec![xs.iter().copied().map(Some).collect::<Vec<_>>()];
        for k in 0..6 {
            levels.push(ema(&levels[k], n));
        }
        let values = replay(T3::new(8, a), xs);
        assert!(values[..42].iter().all(Option::is_none));
        for i in 42..200 {
            let e = |k: usize| levels[k][i].unwrap();
            let expected = (1.0 + a).powi(3) * e(3) - 3.0 * a * (1.0 + a).powi(2) * e(4)
                + 3.0 * a * a * (1.0 + a) * e(5)
                - a.powi(3) * e(6);
            assert_close(values[i].unwrap(), expected, 1e-12);
        }
    }
}
