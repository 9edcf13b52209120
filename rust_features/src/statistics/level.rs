//! Mean and deviation of a series that lies far from 0.

use super::Fold;

/// Sums over `N` values of their distances from the first: the first is one of them, so a deviation of a billionth of
/// the level is still right.
///
/// ```
/// use candlecast_features::statistics::{Fold, Level};
///
/// let level = [1e9 + 2.0, 1e9 + 4.0].into_iter().fold(Level::<3>::of(1e9), |level, x| level.then(Level::of(x), 1));
/// assert_eq!((level.distance(1e9 + 5.0), level.sample_variance()), (3.0, 4.0));
/// ```
#[derive(Clone, Copy, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Level<const N: usize> {
    anchor: f64,
    sum: f64,
    squares: f64,
}

impl<const N: usize> Level<N> {
    const PER_N: f64 = 1.0 / N as f64;

    /// How far `x` lies above the mean.
    #[inline(always)]
    pub fn distance(&self, x: f64) -> f64 {
        x - self.anchor - self.sum * Self::PER_N
    }

    /// Sum of squares about the mean.
    #[inline(always)]
    pub fn squares_about_mean(&self) -> f64 {
        (self.squares - self.sum * self.sum * Self::PER_N).max(0.0)
    }

    /// Sample variance (ddof 1).
    #[inline(always)]
    pub fn sample_variance(&self) -> f64 {
        self.squares_about_mean() * const { 1.0 / (N - 1) as f64 }
    }
}

impl<const N: usize> Fold for Level<N> {
    #[inline(always)]
    fn of(x: f64) -> Self {
        Self { anchor: x, sum: 0.0, squares: 0.0 }
    }

    /// Measured from the anchor of the earlier.
    #[inline(always)]
    fn then(self, later: Self, n: usize) -> Self {
        let shift = later.anchor - self.anchor;
        let all = n as f64 * shift;
        Self {
            anchor: self.anchor,
            sum: self.sum + (later.sum + all),
            squares: self.squares + (later.squares + shift * (2.0 * later.sum + all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{assert_close, walk},
        rolling::Window,
        statistics::Folded,
    };

    fn check<const N: usize, const WHOLE: usize>(xs: &[f64], first_bar: u64) {
        let (mut window, mut levels) = (Window::<480, 600>::new(), Folded::<Level<N>, WHOLE>::new());
        for (i, x) in xs.iter().enumerate() {
            window.push(*x);
            let level = levels.update((first_bar + i as u64, |lag| window.lag(lag)));
            assert_eq!(level.is_some(), i + 1 >= N);
            let Some(level) = level else { continue };
            let xs = &xs[i + 1 - N..=i];
            let mean = xs.iter().sum::<f64>() / N as f64;
            let squares: f64 = xs.iter().map(|x| (x - mean).powi(2)).sum();
            assert_close(level.distance(*x), x - mean, 1e-11);
            assert_close(level.squares_about_mean() / squares, 1.0, 1e-10);
        }
    }

    #[test]
    fn has_the_plain_moments_for_many_lengths_whatever_the_first_bar() {
        let xs: Vec<f64> = walk(101, 700);
        for first_bar in [0, 1, 14, 15, 16, 1_888_889] {
            check::<32, 1>(&xs, first_bar);
            check::<96, 5>(&xs, first_bar);
            check::<480, 29>(&xs, first_bar);
        }
    }

    #[test]
    fn survives_a_level_a_billion_times_the_deviation() {
        let small = walk(102, 600);
        let (mut window, mut levels) = (Window::<96, 128>::new(), Folded::<Level<96>, 5>::new());
        let (mut far_window, mut far_levels) = (Window::<96, 128>::new(), Folded::<Level<96>, 5>::new());
        for (bar, x) in small.iter().enumerate() {
            // On the grid of numbers near 2^40, so that nothing is lost before.
            let x = (x * 4_096.0).round() / 4_096.0;
            window.push(x);
            far_window.push(1_099_511_627_776.0 + x);
            let near = levels.update((bar as u64, |lag| window.lag(lag)));
            let far = far_levels.update((bar as u64, |lag| far_window.lag(lag)));
            if let (Some(near), Some(far)) = (near, far) {
                assert_eq!(near.squares_about_mean(), far.squares_about_mean());
            }
        }
    }

    #[test]
    fn is_bit_equal_from_every_start_and_forgets_what_has_left() {
        let levels = |first_bar: usize, xs: &[f64]| -> Vec<Option<[u64; 2]>> {
            let (mut window, mut levels) = (Window::<96, 128>::new(), Folded::<Level<96>, 5>::new());
            let mut step = |(bar, x): (usize, &f64)| {
                window.push(*x);
                let level = levels.update((bar as u64, |lag| window.lag(lag)));
                level.map(|level| [level.distance(*x).to_bits(), level.squares_about_mean().to_bits()])
            };
            (first_bar..).zip(xs).map(&mut step).collect()
        };
        let mut xs = walk(103, 400);
        let whole = levels(5, &xs);
        for start in 1..40 {
            for (whole, part) in whole[start..].iter().zip(levels(5 + start, &xs[start..])) {
                assert!(part.is_none() || part == *whole);
            }
        }
        xs[200] = 1e12;
        let torn = levels(5, &xs);
        assert_ne!(torn[295], whole[295]);
        assert_eq!(torn[296..], whole[296..]);
    }

    #[test]
    fn a_flat_series_does_not_deviate() {
        let mut levels = Folded::<Level<96>, 5>::new();
        let last =
            (0..200).map(|bar| levels.update((bar, |lag| if bar >= lag as u64 { 27.6 } else { f64::NAN }))).last();
        assert_eq!(last.flatten().map(|level| (level.distance(27.6), level.sample_variance())), Some((0.0, 0.0)));
    }
}
