//! Simple moving average over many bars of what is never negative.

use crate::indicator::Indicator;

/// Bars in a block.
const BLOCK: usize = 16;

/// Squares of differences of prices lie between 1e-42 and 1e30: times this, single precision holds them.
const SCALE: f64 = 1_048_576.0;

/// `SMA(x, N)` of squares, for long `N`: as [`super::Sma`], at a cost that does not grow with `N` and to 6e-8 of its value. Input: the
/// absolute bar number and the value. Warm with the `N`-th.
///
/// A ring as that of [`crate::rolling::RingSums`], in single precision: where nothing cancels, that is enough.
///
/// ```
/// use candlecast_features::{average::LongSma, indicator::replay};
///
/// let values = replay(LongSma::<96>::new(), (0..96).map(|bar| (bar, 2.0)));
/// assert_eq!((values[94], values[95]), (None, Some(2.0)));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct LongSma<const N: usize> {
    seen: u32,
    open: f64,
    /// Of the whole blocks.
    middle: f64,
    /// Values in the open block, sums of rests in the others.
    ring: [f32; N],
}

impl<const N: usize> LongSma<N> {
    /// An average that has seen nothing.
    pub fn new() -> Self {
        const { assert!(BLOCK < N && N.is_multiple_of(BLOCK), "a window is made of blocks") }
        Self { seen: 0, open: 0.0, middle: 0.0, ring: [0.0; N] }
    }

    /// The open block, which ends with `place`, is full.
    fn close(&mut self, place: usize) {
        let mut rest = 0.0;
        for value in self.ring[place + 1 - BLOCK..=place].iter_mut().rev() {
            rest += f64::from(*value);
            *value = rest as f32;
        }
        let next = (place + 1) % N;
        let whole = self.ring.iter().enumerate().step_by(BLOCK).filter(|(block, _)| *block != next);
        (self.open, self.middle) = (0.0, whole.map(|(_, sum)| f64::from(*sum)).sum());
    }
}

impl<const N: usize> Default for LongSma<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Indicator for LongSma<N> {
    type Input = (u64, f64);
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, (bar, x): (u64, f64)) -> Option<f64> {
        let place = bar as usize % N;
        self.ring[place] = (SCALE * x) as f32;
        self.open += SCALE * x;
        if (place + 1).is_multiple_of(BLOCK) {
            self.close(place);
        }
        if self.seen as usize + 1 < N {
            self.seen += 1;
            return None;
        }
        let sum = self.middle + self.open + f64::from(self.ring[(place + 1) % N]);
        Some(sum * (1.0 / (SCALE * N as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    fn check<const N: usize>() {
        for scale in [1e-42, 1.0, 1e28] {
            let xs: Vec<f64> = walk(12, 400).iter().map(|x| x * scale).collect();
            let means = |start: usize| replay(LongSma::<N>::new(), (777 + start as u64..).zip(xs[start..].to_vec()));
            let all = means(0);
            for (i, value) in all.iter().enumerate() {
                assert_eq!(value.is_some(), i + 1 >= N);
                if let Some(value) = value {
                    let mean = xs[i + 1 - N..=i].iter().sum::<f64>() / N as f64;
                    assert_close(value / mean, 1.0, 6e-8);
                }
            }
            for start in 1..20 {
                assert_eq!(means(start)[N - 1..], all[start + N - 1..]);
            }
        }
    }

    #[test]
    fn is_the_plain_mean_for_many_lengths() {
        check::<32>();
        check::<96>();
        check::<192>();
    }

    #[test]
    fn a_flat_market_has_its_value() {
        assert_eq!(replay(LongSma::<96>::new(), (0..200).map(|bar| (bar, 7.0)))[199], Some(7.0));
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut xs = walk(13, 400);
        let means = |xs: &[f64]| replay(LongSma::<96>::new(), (0..).zip(xs.to_vec()));
        let calm = means(&xs);
        xs[100] = 1e30;
        let torn = means(&xs);
        assert!(torn[195] > Some(1e28) && torn[196..] == calm[196..]);
    }
}
