//! Skewness and kurtosis of the last returns.

use super::is_drift;
use crate::{
    memory::within,
    rolling::{LongSums, Window, mean, sum_of},
};

/// The shape of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// Mean.
    pub mean: f64,
    /// Population variance, m2.
    pub variance: f64,
    /// Third moment about the mean, m3.
    pub third: f64,
    /// Fourth moment about the mean, m4.
    pub fourth: f64,
    n: f64,
}

impl Shape {
    /// The shape of `xs`, by two passes.
    #[inline(never)]
    pub fn of(xs: &[f64]) -> Self {
        let (n, mean) = (xs.len() as f64, mean(xs));
        let moment = |power: i32| sum_of(xs, |x| (x - mean).powi(power)) / n;
        Self { mean, variance: moment(2), third: moment(3), fourth: moment(4), n }
    }

    /// The shape from the sums of the first four powers.
    #[inline(always)]
    fn of_sums([s1, s2, s3, s4]: [f64; 4], n: f64) -> Self {
        let per_n = 1.0 / n;
        let (m1, m2, m3, m4) = (s1 * per_n, s2 * per_n, s3 * per_n, s4 * per_n);
        let square = m1 * m1;
        let third = m3 - m1 * (3.0 * m2 - 2.0 * square);
        let fourth = m4 - m1 * (4.0 * m3 - m1 * (6.0 * m2 - 3.0 * square));
        Self { mean: m1, variance: m2 - square, third, fourth, n }
    }

    /// `G1`: adjusted Fisher–Pearson skewness, as pandas; 0 when m2 is at most 1e-18.
    #[inline(always)]
    pub fn skewness(&self) -> f64 {
        let (n, per_variance) = (self.n, self.per_variance());
        (n * (n - 1.0)).sqrt() / (n - 2.0) * self.third * per_variance * per_variance.sqrt()
    }

    /// `G2`: unbiased excess kurtosis, as pandas; 0 when m2 is at most 1e-18.
    #[inline(always)]
    pub fn kurtosis(&self) -> f64 {
        let (n, per_variance) = (self.n, self.per_variance());
        let excess = (n + 1.0) * (self.fourth * per_variance * per_variance - 3.0) + 6.0;
        if per_variance == 0.0 { 0.0 } else { (n - 1.0) / ((n - 2.0) * (n - 3.0)) * excess }
    }

    #[inline(always)]
    fn per_variance(&self) -> f64 {
        if self.variance <= 1e-18 { 0.0 } else { 1.0 / self.variance }
    }
}

/// What `asinh` of each value is the logarithm of. For values above −100: further down it cancels.
#[inline(always)]
pub fn asinh_arguments<const N: usize>(mut xs: [f64; N]) -> [f64; N] {
    for x in &mut xs {
        *x += (*x * *x + 1.0).sqrt();
    }
    xs
}

/// The [`Shape`] of the last `LENGTHS[i]` returns, for `L` lengths of at least 16. Each is right with as many returns; before,
/// it says nothing.
///
/// From the sums of four powers: returns lie around 0, so nothing cancels. Where they do not, in a market that only
/// drifts, two passes over the window give the same, exactly. Input: absolute bar number, the window of returns and the
/// lengths. `BLOCKS` as [`LongSums`].
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::Moments};
///
/// let (mut returns, mut moments) = (Window::<16, 24>::new(), Moments::<1, 1>::new());
/// let mut shape = Default::default();
/// for bar in 0..16 {
///     returns.push(if bar % 4 == 0 { 3.0 } else { -1.0 });
///     [shape] = moments.update((bar, &returns, [16])).unwrap();
/// }
/// assert_eq!([shape.mean, shape.variance, shape.third, shape.fourth], [0.0, 3.0, 6.0, 21.0]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Moments<const L: usize, const BLOCKS: usize> {
    powers: LongSums<4, L, BLOCKS>,
}

impl<const L: usize, const BLOCKS: usize> Moments<L, BLOCKS> {
    pub(crate) const RARELY: (usize, usize) =
        within(std::mem::offset_of!(Self, powers), LongSums::<4, L, BLOCKS>::RARELY);

    /// Moments that have seen nothing.
    pub fn new() -> Self {
        Self { powers: LongSums::new() }
    }

    /// Takes the newest return.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, returns, lengths): (u64, &Window<KEEP, CAP>, [usize; L]),
    ) -> Option<[Shape; L]> {
        let powers = |lag| {
            let r = returns.lag(lag);
            [r, r * r, r * r * r, (r * r) * (r * r)]
        };
        let sums = self.powers.update((bar, lengths, powers))?;
        let mut shapes = [Shape::default(); L];
        for i in 0..L {
            shapes[i] = Shape::of_sums(sums[i], lengths[i] as f64);
            if is_drift(shapes[i].mean, shapes[i].variance) {
                shapes[i] = Shape::of(&returns.all()[KEEP - lengths[i]..]);
            }
        }
        Some(shapes)
    }
}

impl<const L: usize, const BLOCKS: usize> Default for Moments<L, BLOCKS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::assert_close, statistics::samples::returns};

    fn check(xs: &[f64], tolerance: f64) {
        let (mut window, mut moments) = (Window::<192, 300>::new(), Moments::<3, 11>::new());
        for (i, x) in xs.iter().enumerate() {
            window.push(*x);
            let shapes = moments.update((777 + i as u64, &window, [16, 48, 192])).unwrap();
            for (shape, n) in shapes.into_iter().zip([16, 48, 192]) {
                if let Some(from) = (i + 1).checked_sub(n) {
                    compare(shape, &xs[from..=i], tolerance);
                }
            }
        }
    }

    /// The definitions of pandas, about the mean.
    fn compare(shape: Shape, xs: &[f64], tolerance: f64) {
        let n = xs.len() as f64;
        let mean = xs.iter().sum::<f64>() / n;
        let [m2, m3, m4] = [2, 3, 4].map(|power| xs.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n);
        let skewness = (n * (n - 1.0)).sqrt() / (n - 2.0) * m3 / m2.powf(1.5);
        let kurtosis = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * (m4 / (m2 * m2) - 3.0) + 6.0);
        assert_close(shape.skewness(), skewness, tolerance);
        assert_close(shape.kurtosis(), kurtosis, tolerance);
    }

    #[test]
    fn are_those_of_pandas_for_many_lengths() {
        let xs = returns(70, 500);
        check(&xs, 1e-12);
    }

    #[test]
    fn survive_a_jump_and_a_drift() {
        let mut xs = returns(71, 500);
        xs[250] = 2.3;
        check(&xs, 1e-12);
        let drifting: Vec<f64> = returns(72, 500).iter().map(|r| 0.02 + 1e-3 * r).collect();
        check(&drifting, 1e-10);
        let drifting: Vec<f64> = returns(73, 500).iter().map(|r| 0.1 + r).collect();
        check(&drifting, 1e-10);
    }

    #[test]
    fn asinh_is_the_logarithm_of_its_argument() {
        for x in [-30.0, -2.1, -1e-3, 1e-9, 0.5, 190.0] {
            let [argument] = asinh_arguments([x]);
            assert!((argument.ln() - x.asinh()).abs() < 1e-12);
        }
    }

    #[test]
    fn a_flat_market_has_no_shape() {
        let (mut window, mut moments) = (Window::<48, 64>::new(), Moments::<1, 2>::new());
        let last = (0..60).map(|bar| {
            window.push(0.0);
            moments.update((bar, &window, [48]))
        });
        let [shape] = last.last().unwrap().unwrap();
        assert_eq!((shape.skewness(), shape.kurtosis()), (0.0, 0.0));
        assert_eq!(asinh_arguments([0.0]), [1.0]);
    }
}
