//! The mean of a quantity in the same slot of earlier periods.

use crate::{indicator::Indicator, memory::part};

/// Bars in a period: a day, at 15 minutes.
const PERIOD: usize = 96;
/// Periods remembered.
const PERIODS: usize = 5;

/// `(x₉₆ + x₁₉₂ + x₂₈₈ + x₃₈₄ + x₄₈₀)/5`: what was usual at this time of the day. Input: the absolute bar number and x.
/// Warm with the 481st; x itself is not yet in it. It keeps 24 bits of each x, the mean of positive x is as good.
///
/// ```
/// use candlecast_features::{indicator::replay, volatility::SameSlot};
///
/// let means = replay(SameSlot::new(), (0..481).map(|bar| (bar, bar as f64)));
/// assert_eq!((means[479], means[480]), (None, Some(480.0 - 3.0 * 96.0)));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct SameSlot {
    seen: usize,
    /// The values of a slot lie together, so a bar touches one place. They are added in the order of the absolute
    /// periods.
    slots: [[f32; PERIODS]; PERIOD],
}

impl SameSlot {
    /// A bar touches one slot.
    pub(crate) const RARELY: (usize, usize) = part!(slots: [[f32; PERIODS]; PERIOD]);

    /// A mean that has seen nothing.
    pub fn new() -> Self {
        Self { seen: 0, slots: [[0.0; PERIODS]; PERIOD] }
    }
}

impl Default for SameSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl Indicator for SameSlot {
    type Input = (u64, f64);
    type Output = f64;

    #[inline]
    fn update(&mut self, (bar, x): (u64, f64)) -> Option<f64> {
        let (period, slot) = (bar / PERIOD as u64, bar % PERIOD as u64);
        let values = &mut self.slots[slot as usize];
        let sum = values.iter().map(|x| f64::from(*x)).sum::<f64>();
        values[(period % PERIODS as u64) as usize] = x as f32;
        if self.seen < PERIOD * PERIODS {
            self.seen += 1;
            return None;
        }
        Some(sum * (1.0 / PERIODS as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_mean_of_the_five_days_before_bit_equal_from_every_start() {
        let xs = walk(69, 900);
        let means = |start: usize| replay(SameSlot::new(), (77 + start as u64..).zip(xs[start..].iter().copied()));
        let all = means(0);
        for (i, mean) in all.iter().enumerate() {
            assert_eq!(mean.is_some(), i >= 480);
            if let Some(mean) = mean {
                assert_close(*mean, (1..=5).map(|day| xs[i - 96 * day]).sum::<f64>() / 5.0, 6e-8);
            }
        }
        for start in [1, 50, 96, 200] {
            assert_eq!(means(start)[480..], all[start + 480..]);
        }
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut xs = walk(70, 700);
        xs[3] = 1e30;
        let means = replay(SameSlot::new(), (0..).zip(xs));
        assert!(means[483] > Some(1e29) && means[484..].iter().all(|mean| *mean < Some(1e3)));
    }
}
