//! Rolling maxima over several lengths from one monotonic deque.

use crate::indicator::Indicator;

/// Maxima of the last `lengths[i]` inputs. Each is warm with its `lengths[i]`-th input.
///
/// One deque of candidates, newest last, values falling: whoever is followed by a larger value can never be a maximum again.
/// Each length has a cursor to its own first candidate. `CAP` is a power of two and above the longest length. Minima are
/// maxima of the negated series: negation is exact.
///
/// ```
/// use candlecast_features::{indicator::Indicator, rolling::Extremes};
///
/// let mut highest = Extremes::<2, 4>::new([2, 3]);
/// [4.0, 1.0].map(|x| highest.update(x));
/// assert_eq!(highest.update(2.0), Some([Some(2.0), Some(4.0)]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Extremes<const N: usize, const CAP: usize> {
    lengths: [u32; N],
    heads: [u32; N],
    tail: u32,
    seen: u32,
    values: [f64; CAP],
    bars: [u32; CAP],
}

impl<const N: usize, const CAP: usize> Extremes<N, CAP> {
    /// Maxima over `lengths`, ascending.
    pub fn new(lengths: [u32; N]) -> Self {
        const { assert!(CAP.is_power_of_two()) }
        assert!(lengths.is_sorted() && lengths[0] > 0 && (lengths[N - 1] as usize) < CAP);
        Self { lengths, heads: [0; N], tail: 0, seen: 0, values: [0.0; CAP], bars: [0; CAP] }
    }

    /// Takes the next input.
    #[inline]
    pub fn push(&mut self, x: f64) {
        let at = |position: u32| position as usize % CAP;
        // The longest length has the oldest first candidate. On a tie the latest wins.
        let oldest = self.heads[N - 1];
        while self.tail > oldest && self.values[at(self.tail - 1)] <= x {
            self.tail -= 1;
        }
        self.values[at(self.tail)] = x;
        self.bars[at(self.tail)] = self.seen;
        for (head, n) in self.heads.iter_mut().zip(self.lengths) {
            *head = (*head).min(self.tail);
            while self.bars[at(*head)] + n <= self.seen {
                *head += 1;
            }
        }
        self.tail += 1;
        self.seen += 1;
    }

    /// The maximum of the last `lengths[i]` inputs.
    #[inline]
    pub fn maximum(&self, i: usize) -> Option<f64> {
        (self.seen >= self.lengths[i]).then(|| self.values[self.heads[i] as usize % CAP])
    }

    /// How many inputs ago that maximum was; the latest, if several are equal.
    #[inline]
    pub fn age(&self, i: usize) -> Option<u32> {
        (self.seen >= self.lengths[i]).then(|| self.seen - 1 - self.bars[self.heads[i] as usize % CAP])
    }
}

impl<const N: usize, const CAP: usize> Indicator for Extremes<N, CAP> {
    type Input = f64;
    type Output = [Option<f64>; N];

    #[inline]
    fn update(&mut self, x: f64) -> Option<[Option<f64>; N]> {
        self.push(x);
        Some(std::array::from_fn(|i| self.maximum(i)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{ticks, walk};

    fn check(xs: Vec<f64>) {
        let lengths = [1, 2, 5, 13, 28];
        for (i, maxima) in replay(Extremes::<5, 32>::new(lengths), xs.clone()).into_iter().enumerate() {
            for (maximum, n) in maxima.unwrap().into_iter().zip(lengths) {
                let window = (i + 1).checked_sub(n as usize).map(|from| &xs[from..=i]);
                let plain = window.map(|w| w.iter().copied().fold(f64::MIN, f64::max));
                assert_eq!(maximum, plain, "bar {i}, length {n}");
            }
        }
    }

    #[test]
    fn are_the_plain_maxima() {
        check(walk(7, 500));
        check(ticks(8, 500));
    }

    #[test]
    fn know_how_long_ago_the_latest_maximum_was() {
        let xs = ticks(9, 500);
        let mut highest = Extremes::<2, 32>::new([5, 26]);
        for i in 0..xs.len() {
            highest.push(xs[i]);
            for (k, n) in [5, 26].into_iter().enumerate() {
                let window = (i + 1).checked_sub(n).map(|from| &xs[from..=i]);
                let latest = window.map(|w| {
                    let maximum = w.iter().copied().fold(f64::MIN, f64::max);
                    w.iter().rev().position(|x| *x == maximum).unwrap() as u32
                });
                assert_eq!(highest.age(k), latest, "bar {i}, length {n}");
            }
        }
    }

    #[test]
    fn survive_long_falls_and_rises_and_flats() {
        check((0..200).map(f64::from).collect());
        check((0..200).map(|i| -f64::from(i)).collect());
        check(vec![3.0; 200]);
    }
}
