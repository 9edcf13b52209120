//! How long ago a value was.

/// How many bars ago the extreme of a window was; of equal ones the newest counts. Input: the extreme, and the window, the newest
/// last. Answers at once.
///
/// An extreme mostly stays where it was, or is the newest value: only when it has left is the window searched.
///
/// ```
/// use candlecast_features::rolling::Age;
///
/// let mut age = Age::new();
/// assert_eq!(age.update((3.0, &[1.0, 3.0, 2.0])), Some(1.0));
/// assert_eq!(age.update((3.0, &[3.0, 2.0, 2.0])), Some(2.0));
/// assert_eq!(age.update((2.0, &[2.0, 2.0, 1.0])), Some(1.0));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Age {
    bars: u32,
}

impl Age {
    /// Knows of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the extreme and the window of the bar.
    #[inline(always)]
    pub fn update<const N: usize>(&mut self, (x, xs): (f64, &[f64; N])) -> Option<f64> {
        let older = self.bars + 1;
        self.bars = if xs[N - 1] == x {
            0
        } else if (older as usize) < N && xs[N - 1 - older as usize] == x {
            older
        } else {
            search(x, xs)
        };
        Some(f64::from(self.bars))
    }
}

#[cold]
fn search(x: f64, xs: &[f64]) -> u32 {
    xs.iter().rev().position(|y| *y == x).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    fn check<const N: usize>(xs: &[f64]) {
        let (mut highest, mut lowest) = (Age::new(), Age::new());
        for window in xs.windows(N) {
            let extremes = [f64::max, f64::min].map(|best| window.iter().copied().reduce(best).unwrap());
            let latest = extremes.map(|x| window.iter().rev().position(|y| *y == x).map(|age| age as f64));
            let window: &[f64; N] = window.try_into().unwrap();
            assert_eq!([highest.update((extremes[0], window)), lowest.update((extremes[1], window))], latest);
        }
    }

    #[test]
    fn is_that_of_the_newest_extreme_for_many_lengths() {
        for xs in [walk(7, 500), ticks(8, 1_000), (0..200).map(f64::from).collect(), vec![3.0; 200]] {
            check::<1>(&xs);
            check::<26>(&xs);
            check::<96>(&xs);
        }
    }
}
