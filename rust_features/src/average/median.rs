//! Rolling median.

use crate::rolling::{Sorted, Window};

/// `MED(x, N)`: the median of the last `N` values; of an even number the mean of the two in the middle. Warm with the `N`-th.
///
/// Input: the window of the values, in which more than `N` are kept.
///
/// ```
/// use candlecast_features::{average::Median, rolling::Window};
///
/// let (mut window, mut median) = (Window::<4, 5>::new(), Median::<3>::new());
/// let medians = [5.0, 1.0, 2.0, 3.0].map(|x| {
///     window.push(x);
///     median.update(&window)
/// });
/// assert_eq!(medians, [None, None, Some(2.0), Some(2.0)]);
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

    /// Takes the newest value of the window.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(&mut self, window: &Window<KEEP, CAP>) -> Option<f64> {
        self.values.update(window);
        Some((self.values.at(window, (N - 1) / 2)? + self.values.at(window, N / 2)?) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    fn medians<const N: usize>(xs: &[f64]) -> Vec<Option<f64>> {
        let (mut window, mut median) = (Window::<97, 108>::new(), Median::<N>::new());
        let mut step = |x: &f64| {
            window.push(*x);
            median.update(&window)
        };
        xs.iter().map(&mut step).collect()
    }

    fn check<const N: usize>(xs: Vec<f64>) {
        for (i, median) in medians::<N>(&xs).into_iter().enumerate() {
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
        assert_eq!(medians::<4>(&[7.0; 20])[19], Some(7.0));
    }
}
