//! The largest fall and the largest rise within a window.

use super::Fold;
use crate::math::larger;

/// Highest, lowest, largest fall and largest rise of a run of values; a fall goes from a value to a later one.
///
/// ```
/// use candlecast_features::statistics::{Excursions, Fold};
///
/// let run = [7.0, 4.0, 6.0].into_iter().fold(Excursions::of(5.0), |run, x| run.then(Excursions::of(x), 1));
/// assert_eq!((run.fall, run.rise), (3.0, 2.0));
/// ```
#[derive(Clone, Copy, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Excursions {
    highest: f64,
    lowest: f64,
    /// Largest fall, at least 0.
    pub fall: f64,
    /// Largest rise, at least 0.
    pub rise: f64,
}

impl Fold for Excursions {
    #[inline(always)]
    fn of(x: f64) -> Self {
        Self { highest: x, lowest: x, fall: 0.0, rise: 0.0 }
    }

    #[inline(always)]
    fn then(self, later: Self, _: usize) -> Self {
        Self {
            highest: larger(self.highest, later.highest),
            lowest: -larger(-self.lowest, -later.lowest),
            fall: larger(larger(self.fall, later.fall), self.highest - later.lowest),
            rise: larger(larger(self.rise, later.rise), later.highest - self.lowest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{ticks, walk},
        rolling::Window,
        statistics::Folded,
    };

    fn check<const WHOLE: usize>(xs: &[f64], first_bar: u64) {
        let n = 16 * (WHOLE + 1);
        let (mut window, mut folded) = (Window::<96, 128>::new(), Folded::<Excursions, WHOLE>::new());
        for (i, x) in xs.iter().enumerate() {
            window.push(*x);
            let excursions = folded.update((first_bar + i as u64, |lag| window.lag(lag)));
            assert_eq!(excursions.is_some(), i + 1 >= n);
            let Some(excursions) = excursions else { continue };
            // All pairs, an earlier and a later one.
            let xs = &xs[i + 1 - n..=i];
            let moves = || (0..n).flat_map(|j| (0..=j).map(move |i| xs[j] - xs[i]));
            assert_eq!(excursions.rise, moves().fold(0.0, f64::max));
            assert_eq!(excursions.fall, moves().map(|d| -d).fold(0.0, f64::max));
        }
    }

    #[test]
    fn are_those_of_all_pairs_for_many_lengths_whatever_the_first_bar() {
        for first_bar in [0, 1, 14, 15, 1_888_889] {
            check::<1>(&walk(104, 200), first_bar);
            check::<5>(&walk(105, 250), first_bar);
            check::<5>(&ticks(106, 250), first_bar);
        }
    }

    #[test]
    fn one_direction_has_no_excursion_against_it() {
        check::<5>(&(0..120).map(f64::from).collect::<Vec<_>>(), 7);
        check::<5>(&(0..120).map(|i| -f64::from(i)).collect::<Vec<_>>(), 7);
        check::<5>(&[7.0; 120], 7);
    }
}
