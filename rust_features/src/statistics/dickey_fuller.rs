//! Dickey–Fuller test: does a walk return to its mean.

use super::{Folded, Level};
use crate::rolling::{Window, mean, sum_of_pairs};

/// Steps in a window.
const N: usize = 96;

/// What counts as nothing: 96 squares of 1e-9.
const TINY: f64 = 96e-18;

/// What stands for t where it is not defined: about the mean of a random walk's.
const UNDECIDED: f64 = -1.5;

/// Student's t of the slope of the 96 steps p − p\[1\] on p\[1\], with a constant; the standard error has n − 2 degrees
/// of freedom (Dickey and Fuller 1979). About −1.5 on average for a random walk, lower where p returns to its mean;
/// −1.5 when Sxx, Syy or the sum of squared residuals is at most 96e-18.
///
/// From the squares of the window a bar ago and the ends of this one: with u = p less its mean, u₁(u − u₁) = (u² − u₁²
/// − (u − u₁)²)/2, and summed up all u² cancel but the newest and the oldest. Where the line fits all but exactly, two
/// passes over the window decide.
///
/// Input: absolute bar number, the window of points, and the sum of the 96 squared steps. Warm with the 97th point.
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::DickeyFuller};
///
/// // Up and down in turn: it returns at once, the line fits exactly, and there is no t.
/// let (mut points, mut test) = (Window::<97, 128>::new(), DickeyFuller::new());
/// let values = (0..100).map(|bar| {
///     points.push((bar % 2) as f64);
///     test.update((bar, &points, 96.0))
/// });
/// assert_eq!(values.last().unwrap(), Some(-1.5));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct DickeyFuller {
    levels: Folded<Level<N>, 5>,
    before: Option<Level<N>>,
}

impl DickeyFuller {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self { levels: Folded::new(), before: None }
    }

    /// Takes the newest point.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, points, squares): (u64, &Window<KEEP, CAP>, f64),
    ) -> Option<f64> {
        let level = self.levels.update((bar, |lag| points.lag(lag)));
        let level = std::mem::replace(&mut self.before, level)?;
        let (newest, oldest) = (level.distance(points.lag(0)), level.distance(points.lag(N)));
        let way = newest - oldest;
        let xx = level.squares_about_mean();
        let xy = 0.5 * (way * (newest + oldest) - squares);
        let yy = squares - way * way * const { 1.0 / N as f64 };
        // Residuals that have cancelled are no residuals.
        if xx * yy - xy * xy > 1e-9 * xx * squares || xx <= TINY {
            return Some(t(xx, xy, yy, xx * yy - xy * xy));
        }
        Some(by_definition(points.last()))
    }
}

impl Default for DickeyFuller {
    fn default() -> Self {
        Self::new()
    }
}

/// `determinant` is Sxx times the sum of squared residuals.
#[inline(always)]
fn t(xx: f64, xy: f64, yy: f64, determinant: f64) -> f64 {
    let t = xy * ((N - 2) as f64 / determinant).sqrt();
    if xx <= TINY || yy <= TINY || determinant <= TINY * xx { UNDECIDED } else { t }
}

/// The same by two passes.
#[cold]
#[inline(never)]
fn by_definition(points: &[f64; N + 1]) -> f64 {
    let (before, after) = (&points[..N], &points[1..]);
    let (x_mean, y_mean) = (mean(before), (points[N] - points[0]) / N as f64);
    let sum = |f: &dyn Fn(f64, f64) -> f64| sum_of_pairs(before, after, |p, next| f(p - x_mean, next - p - y_mean));
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    let slope = xy / xx;
    t(xx, xy, yy, xx * sum(&|x, y| (y - slope * x) * (y - slope * x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::log_closes};

    fn check(points: &[f64], tolerance: f64) {
        let (mut window, mut test) = (Window::<97, 128>::new(), DickeyFuller::new());
        for (i, p) in points.iter().enumerate() {
            window.push(*p);
            let squares = window.last::<97>().windows(2).map(|p| (p[1] - p[0]).powi(2)).sum();
            let value = test.update((777 + i as u64, &window, squares));
            assert_eq!(value.is_some(), i >= 96);
            if let Some(value) = value {
                assert_close(value, naive(&points[i - 96..=i]), tolerance);
            }
        }
    }

    /// The regression, residual by residual.
    fn naive(points: &[f64]) -> f64 {
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.windows(2).map(|p| (p[0], p[1] - p[0])).unzip();
        let mean = |xs: &[f64]| xs.iter().sum::<f64>() / 96.0;
        let (x_mean, y_mean) = (mean(&xs), mean(&ys));
        let xx: f64 = xs.iter().map(|x| (x - x_mean).powi(2)).sum();
        let yy: f64 = ys.iter().map(|y| (y - y_mean).powi(2)).sum();
        let slope = xs.iter().zip(&ys).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / xx;
        let residual = |(x, y): (&f64, &f64)| y - y_mean - slope * (x - x_mean);
        let residuals: f64 = xs.iter().zip(&ys).map(|pair| residual(pair).powi(2)).sum();
        let t = slope / (residuals / 94.0 / xx).sqrt();
        if xx <= 96e-18 || yy <= 96e-18 || residuals <= 96e-18 { -1.5 } else { t }
    }

    #[test]
    fn is_the_regression() {
        check(&log_closes(107, 500), 1e-10);
        // Far from 0, small steps, a jump.
        check(&log_closes(108, 500).iter().map(|p| 26.0 + 0.01 * p).collect::<Vec<_>>(), 1e-7);
        let jump = |(i, p): (usize, &f64)| if i < 250 { *p } else { p + 27.0 };
        check(&log_closes(109, 500).iter().enumerate().map(jump).collect::<Vec<_>>(), 1e-10);
        let drift = |(i, p): (usize, &f64)| p + 0.3 * i as f64;
        check(&log_closes(110, 500).iter().enumerate().map(drift).collect::<Vec<_>>(), 1e-9);
    }

    #[test]
    fn is_undecided_where_the_line_fits_exactly_and_where_nothing_moves() {
        for size in [1e-4, 0.1, 62.0] {
            check(&(0..200).map(|i| f64::from(i % 2) * size).collect::<Vec<_>>(), 0.0);
        }
        check(&[27.6; 200], 0.0);
        let still_then_up = (0..200).map(|i| if i < 150 { 1.0 } else { 1.1 });
        check(&still_then_up.collect::<Vec<_>>(), 1e-10);
    }
}
