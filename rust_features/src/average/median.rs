//! Rolling median.

use crate::{indicator::Indicator, rolling::Sorted};

/// `MED(x, N)`: the median of the last `N` values; of an even number the mean of the two in the middle. Warm with the `N`-th.
///
/// Input: the value, and the one that leaves the window with it (`N` bars earlier, none before).
///
/// ```
/// use candlecast_features::{average::Median, indicator::replay};
///
/// let values = replay(Median::<3>::new(), [(5.0, None), (1.0, None), (2.0, None), (3.0, Some(5.0))]);
/// assert_eq!(values, [None, None, Some(2.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Median<const N: usize> {
    values: Sorted<N>,
}

impl<const N: usize> Median<N> {
    /// A median that has seen nothing.
    pub fn new() -> Self {
        Self { values: Sorted::new() }
    }
}

impl<const N: usize> Indicator for Median<N> {
    type Input = (f64, Option<f64>);
    type Output = f64;

    #[inline]
    fn update(&mut self, (x, leaving): (f64, Option<f64>)) -> Option<f64> {
        self.values.replace(leaving, x);
        let values = self.values.full()?;
        Some((values[(N - 1) / 2] + values[N / 2]) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{ticks, walk};

    fn check<const N: usize>(xs: Vec<f64>) {
        let inputs = xs.iter().enumerate().map(|(i, x)| (*x, i.checked_sub(N).map(|old| xs[old])));
        for (i, median) in replay(Median::<N>::new(), inputs).into_iter().enumerate() {
            // The definition: as many values at or below as at or above.
            let Some(median) = median else {
                assert!(i + 1 < N);
                continue;
            };
            let window = &xs[i + 1 - N..=i];
            let below = window.iter().filter(|x| **x <= median).count();
            let above = window.iter().filter(|x| **x >= median).count();
            assert!(2 * below >= N && 2 * above >= N, "bar {i}: {median} in {window:?}");
        }
    }

    #[test]
    fn splits_the_window_in_halves_for_many_lengths() {
        check::<1>(walk(17, 200));
        check::<4>(ticks(18, 200));
        check::<7>(walk(19, 200));
        check::<96>(ticks(20, 300));
    }

    #[test]
    fn a_flat_market_has_its_price() {
        let inputs = (0..20).map(|i| (7.0, (i >= 4).then_some(7.0)));
        assert_eq!(replay(Median::<4>::new(), inputs)[19], Some(7.0));
    }
}
