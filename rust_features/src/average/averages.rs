//! Several averages of one series, side by side.

/// The averages of [`super::Ema`] over `K` lengths, of one input: the same values, several at a time. NaN before they are warm.
///
/// The lengths and the weight of the newest value for a length are given with each value: known to the compiler, they take no room.
///
/// ```
/// use candlecast_features::average::Averages;
///
/// let mut averages = Averages::<2>::new();
/// [1.0, 3.0].map(|x| averages.update(x, [2, 3], |n| 2.0 / (n + 1.0)));
/// assert_eq!(averages.values[0], 2.0);
/// assert!(averages.values[1].is_nan());
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Averages<const K: usize> {
    /// One for each length.
    pub values: [f64; K],
    /// Of the first values.
    sum: f64,
    seen: u32,
}

impl<const K: usize> Averages<K> {
    /// Averages that have seen nothing.
    pub fn new() -> Self {
        Self { values: [f64::NAN; K], sum: 0.0, seen: 0 }
    }

    /// Takes the next value.
    #[inline(always)]
    pub fn update(&mut self, x: f64, lengths: [u32; K], weight: impl Fn(f64) -> f64) {
        for (value, n) in self.values.iter_mut().zip(lengths) {
            *value += weight(f64::from(n)) * (x - *value);
        }
        if lengths.iter().any(|n| self.seen < *n) {
            self.begin(x, lengths);
        }
    }

    /// Each begins with the mean of as many values.
    #[cold]
    fn begin(&mut self, x: f64, lengths: [u32; K]) {
        self.sum += x;
        self.seen += 1;
        for (value, n) in self.values.iter_mut().zip(lengths) {
            if n == self.seen {
                *value = self.sum / f64::from(n);
            }
        }
    }
}

impl<const K: usize> Default for Averages<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        average::{Ema, Wilder},
        indicator::Indicator,
        oracle::walk,
    };

    #[test]
    fn are_those_taken_one_by_one() {
        let lengths = [1, 8, 13, 50];
        let (mut fast, mut slow) = (Averages::<4>::new(), Averages::<4>::new());
        let (mut emas, mut wilders) = (lengths.map(Ema::new), lengths.map(Wilder::new));
        for x in walk(21, 200) {
            fast.update(x, lengths, |n| 2.0 / (n + 1.0));
            slow.update(x, lengths, |n| 1.0 / n);
            for i in 0..4 {
                let known = |value: f64| Some(value).filter(|value| !value.is_nan());
                assert_eq!(known(fast.values[i]), emas[i].update(x));
                assert_eq!(known(slow.values[i]), wilders[i].update(x));
            }
        }
    }
}
