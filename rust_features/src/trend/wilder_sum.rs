//! Wilder's sum: a moving average of his, n times as large.

use crate::indicator::Indicator;

/// `WSUM(x, n)` of `Q` series: `s = s − s/n + x`, after the plain sum of the first `n` − 1 inputs (Wilder 1978, as
/// TA-Lib's directional movement). Warm with the `n`-th.
///
/// ```
/// use candlecast_features::{indicator::replay, trend::WilderSum};
///
/// assert_eq!(replay(WilderSum::new(2), [[4.0], [1.0], [0.0]]), [None, Some([3.0]), Some([1.5])]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct WilderSum<const Q: usize> {
    n: u32,
    seen: u32,
    keep: f64,
    sums: [f64; Q],
}

impl<const Q: usize> WilderSum<Q> {
    /// Sums over `n` bars.
    pub fn new(n: u32) -> Self {
        assert!(n > 0, "a sum needs a length");
        Self { n, seen: 0, keep: 1.0 - 1.0 / f64::from(n), sums: [0.0; Q] }
    }
}

impl<const Q: usize> Indicator for WilderSum<Q> {
    type Input = [f64; Q];
    type Output = [f64; Q];

    #[inline(always)]
    fn update(&mut self, xs: [f64; Q]) -> Option<[f64; Q]> {
        self.seen = (self.seen + 1).min(self.n);
        let is_warm = self.seen == self.n;
        let keep = if is_warm { self.keep } else { 1.0 };
        for (sum, x) in self.sums.iter_mut().zip(xs) {
            *sum = *sum * keep + x;
        }
        is_warm.then_some(self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn are_wilders_recursion_for_many_lengths() {
        let (xs, ys) = (walk(70, 200), walk(71, 200));
        for n in [1, 2, 5, 14, 28] {
            let sums = replay(WilderSum::new(n as u32), xs.iter().zip(&ys).map(|(x, y)| [*x, *y]));
            assert!(sums[..n - 1].iter().all(Option::is_none));
            for (q, xs) in [&xs, &ys].into_iter().enumerate() {
                let mut expected: f64 = xs[..n - 1].iter().sum();
                for i in n - 1..xs.len() {
                    expected = expected - expected / n as f64 + xs[i];
                    assert_close(sums[i].unwrap()[q], expected, 1e-12);
                }
            }
        }
    }

    #[test]
    fn nothing_sums_to_nothing() {
        assert_eq!(replay(WilderSum::new(3), [[0.0]; 9])[8], Some([0.0]));
    }
}
