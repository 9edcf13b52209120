//! An average of an average of an average.

use crate::indicator::Indicator;

/// The `K` averages of which the first is the [`super::Ema`] of the input over `n` bars and each other that of the one before.
/// Each is seeded by the mean of its first `n` inputs. Warm when all are, with input `K`(n − 1) + 1.
///
/// ```
/// use candlecast_features::{average::Cascade, indicator::replay};
///
/// assert_eq!(replay(Cascade::<2>::new(2), [1.0, 3.0, 2.0]), [None, None, Some([2.0, 2.0])]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Cascade<const K: usize> {
    n: u32,
    seen: u32,
    alpha: f64,
    /// The averages; of those that are not warm, the sums.
    values: [f64; K],
}

impl<const K: usize> Cascade<K> {
    /// Averages over `n` bars.
    pub fn new(n: u32) -> Self {
        assert!(n > 0, "an average needs a length");
        Self { n, seen: 0, alpha: 2.0 / (f64::from(n) + 1.0), values: [0.0; K] }
    }

    /// A value before all are warm.
    #[cold]
    fn begin(&mut self, x: f64) -> Option<[f64; K]> {
        let mut level = x;
        for (inputs, value) in (1..=self.seen).rev().step_by(self.n as usize - 1).zip(&mut self.values) {
            if inputs > self.n {
                *value += self.alpha * (level - *value);
            } else {
                *value += level;
            }
            if inputs < self.n {
                return None;
            }
            if inputs == self.n {
                *value /= f64::from(self.n);
            }
            level = *value;
        }
        (self.seen > K as u32 * (self.n - 1)).then_some(self.values)
    }
}

impl<const K: usize> Indicator for Cascade<K> {
    type Input = f64;
    type Output = [f64; K];

    #[inline(always)]
    fn update(&mut self, x: f64) -> Option<[f64; K]> {
        if self.seen <= K as u32 * (self.n - 1) {
            self.seen += 1;
            return self.begin(x);
        }
        let mut level = x;
        for value in &mut self.values {
            *value += self.alpha * (level - *value);
            level = *value;
        }
        Some(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{average::Ema, indicator::replay, oracle::walk};

    #[test]
    fn are_those_taken_one_after_another() {
        for n in [2, 5, 15] {
            let mut emas = [n; 3].map(Ema::new);
            let xs = walk(23, 200);
            for (x, cascade) in xs.iter().zip(replay(Cascade::<3>::new(n), xs.clone())) {
                let mut level = Some(*x);
                let levels = emas.each_mut().map(|ema| {
                    level = level.and_then(|x| ema.update(x));
                    level
                });
                assert_eq!(cascade, level.map(|_| levels.map(Option::unwrap)));
            }
        }
    }
}
