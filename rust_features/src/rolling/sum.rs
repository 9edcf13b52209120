//! Sums over a slice, recomputed every bar in a fixed order. They keep no residue of what has left.

use super::Window;
use crate::indicator::Indicator;

/// Sum of `f(x)` over `xs`.
///
/// Eight accumulators, combined in a fixed order: fast because the additions are independent, and bit-equal on every
/// machine and from every start because the order depends on nothing but the length.
#[inline(always)]
pub fn sum_of(xs: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = xs.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for i in 0..8 {
            lanes[i] += f(chunk[i]);
        }
    }
    let (chunks, rest) = rest.as_chunks::<4>();
    for chunk in chunks {
        for i in 0..4 {
            lanes[i] += f(chunk[i]);
        }
    }
    joined(lanes) + rest.iter().fold(0.0, |total, x| total + f(*x))
}

/// Sum of `f(x, y)` over the pairs of two equally long slices, in the order of [`sum_of`].
#[inline(always)]
pub fn sum_of_pairs(xs: &[f64], ys: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    assert_eq!(xs.len(), ys.len(), "pairs have two sides");
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<8>(), ys.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..8 {
            lanes[i] += f(x[i], y[i]);
        }
    }
    let ((xs, x_rest), (ys, y_rest)) = (x_rest.as_chunks::<4>(), y_rest.as_chunks::<4>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..4 {
            lanes[i] += f(x[i], y[i]);
        }
    }
    joined(lanes) + x_rest.iter().zip(y_rest).fold(0.0, |total, (x, y)| total + f(*x, *y))
}

/// The lanes added, in the one order.
#[inline(always)]
pub fn joined([a, b, c, d, e, f, g, h]: [f64; 8]) -> f64 {
    // Seen as four numbers at once, the loops before stay four numbers wide.
    let [a, b, c, d] = std::hint::black_box([a + e, b + f, c + g, d + h]);
    (a + c) + (b + d)
}

/// The way a series went: the sum of the sizes of its changes.
///
/// ```
/// assert_eq!(candlecast_features::rolling::path(&[1.0, 4.0, 3.0]), 4.0);
/// ```
#[inline(always)]
pub fn path(xs: &[f64]) -> f64 {
    sum_of_pairs(&xs[1..], &xs[..xs.len() - 1], |newer, older| (newer - older).abs())
}

/// Sum of `xs`.
///
/// ```
/// assert_eq!(candlecast_features::rolling::sum(&[1.0, 2.0, 3.0]), 6.0);
/// ```
#[inline(always)]
pub fn sum(xs: &[f64]) -> f64 {
    sum_of(xs, |x| x)
}

/// Mean of `xs`.
///
/// ```
/// assert_eq!(candlecast_features::rolling::mean(&[1.0, 2.0, 6.0]), 3.0);
/// ```
#[inline(always)]
pub fn mean(xs: &[f64]) -> f64 {
    sum(xs) / xs.len() as f64
}

/// Sum of the last `N` inputs. Warm with the `N`-th.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Sum};
///
/// assert_eq!(replay(Sum::<2, 4>::new(), [1.0, 2.0, 5.0]), [None, Some(3.0), Some(7.0)]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Sum<const N: usize, const CAP: usize> {
    window: Window<N, CAP>,
}

impl<const N: usize, const CAP: usize> Sum<N, CAP> {
    /// A sum that has seen nothing.
    pub fn new() -> Self {
        Self { window: Window::new() }
    }
}

impl<const N: usize, const CAP: usize> Indicator for Sum<N, CAP> {
    type Input = f64;
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, x: f64) -> Option<f64> {
        self.window.push(x);
        let xs = self.window.all();
        (!xs[0].is_nan()).then(|| sum(xs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_plain_sum_for_every_length() {
        let xs = walk(1, 300);
        for n in 1..=200 {
            assert_close(sum(&xs[..n]), xs[..n].iter().sum(), 1e-12);
            assert_close(sum_of(&xs[..n], |x| x * x), xs[..n].iter().map(|x| x * x).sum(), 1e-12);
            let products = xs[..n].iter().zip(&xs[1..]).map(|(x, y)| x * y);
            assert_close(sum_of_pairs(&xs[..n], &xs[1..=n], |x, y| x * y), products.sum(), 1e-12);
            assert_close(path(&xs[..=n]), (1..=n).map(|i| (xs[i] - xs[i - 1]).abs()).sum(), 1e-12);
        }
    }

    #[test]
    fn a_huge_value_leaves_no_residue() {
        let mut sum = Sum::<5, 9>::new();
        let after: Vec<_> = [1e300, 0.1, 0.2, 0.3, 0.4, 0.5].into_iter().map(|x| sum.update(x)).collect();
        assert_eq!(after[5], Some(super::sum(&[0.1, 0.2, 0.3, 0.4, 0.5])));
    }
}
