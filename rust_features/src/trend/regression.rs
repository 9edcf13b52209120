//! Least-squares lines through the newest values.

use std::hint::black_box;

/// The least-squares line through the newest `N` values over the bar index. Kept as sums, so that a line through more
/// values needs only the further ones.
///
/// ```
/// use candlecast_features::trend::Line;
///
/// let xs = [9.0, 1.0, 3.0, 5.0];
/// let line = Line::through(xs.last_chunk::<3>().unwrap());
/// assert_eq!((line.slope(), line.end(), line.correlation(1e-9)), (2.0, 5.0, 1.0));
/// assert_eq!(line.lengthened(&xs).slope(), -1.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line<const N: usize> {
    /// The newest value. All are counted from it: no value of a window is further from its mean than √N deviations, so
    /// little is lost when the square of the mean is taken from the squares, and a flat window has exactly nothing.
    anchor: f64,
    sums: Sums,
}

impl<const N: usize> Line<N> {
    /// Σ (i − mean of i)².
    const SQUARED_INDICES: f64 = (N * (N * N - 1)) as f64 / 12.0;
    /// How far the newest value is from the middle of the window.
    const HALF: f64 = 0.5 * (N as f64 - 1.0);

    /// The line through `xs`.
    #[inline(always)]
    pub fn through(xs: &[f64; N]) -> Self {
        const { assert!(N > 2, "two values are always on their line") }
        let anchor = xs[N - 1];
        Self { anchor, sums: Sums::of(xs, anchor, N) }
    }

    /// The line through the values before as well: `xs` are all `M` of them.
    #[inline(always)]
    pub fn lengthened<const M: usize>(self, xs: &[f64; M]) -> Line<M> {
        const { assert!(N <= M, "a longer line has more values") }
        let older = Sums::of(&xs[..M - N], self.anchor, M);
        Line { anchor: self.anchor, sums: self.sums.plus(older) }
    }

    #[inline(always)]
    fn mean(&self) -> f64 {
        self.sums.values * (1.0 / N as f64)
    }

    /// Sum of squares of the values about their mean.
    #[inline(always)]
    fn squares(&self) -> f64 {
        (self.sums.squares - self.sums.values * self.mean()).max(0.0)
    }

    /// Rise per bar.
    #[inline(always)]
    pub fn slope(&self) -> f64 {
        (Self::HALF * self.sums.values - self.sums.by_age) * (1.0 / Self::SQUARED_INDICES)
    }

    /// `LRE`: where the line ends, at the newest value.
    #[inline(always)]
    pub fn end(&self) -> f64 {
        self.anchor + (self.mean() + Self::HALF * self.slope())
    }

    /// `CORR` of the values and their index; 0 when their population deviation is at most `tiny`.
    #[inline(always)]
    pub fn correlation(&self, tiny: f64) -> f64 {
        let squares = self.squares();
        if squares <= N as f64 * (tiny * tiny) {
            return 0.0;
        }
        (self.slope() * (Self::SQUARED_INDICES / squares).sqrt()).clamp(-1.0, 1.0)
    }

    /// Where the newest value lies off the line, in standard errors of the estimate √(SSE/(N − 2)); 0 when that is at
    /// most `tiny`. `xs` are the values the line was laid through.
    #[inline(always)]
    pub fn last_residual(&self, xs: &[f64; N], tiny: f64) -> f64 {
        let (squares, slope) = (self.squares(), self.slope());
        let mut left = squares - slope * slope * Self::SQUARED_INDICES;
        // Where the line fits well, the difference is noise.
        if left < 1e-3 * squares {
            left = self.squared_residuals(xs);
        }
        let error = (left * (1.0 / (N as f64 - 2.0))).sqrt();
        let last = -(self.mean() + Self::HALF * slope);
        if error <= tiny { 0.0 } else { last / error }
    }

    /// `SSE`, from the residuals themselves.
    #[cold]
    fn squared_residuals(&self, xs: &[f64; N]) -> f64 {
        let (slope, first) = (self.slope(), self.mean() - Self::HALF * self.slope());
        let residual = |(i, x): (usize, &f64)| (x - self.anchor) - (first + i as f64 * slope);
        xs.iter().enumerate().map(residual).map(|e| e * e).sum()
    }
}

/// Sums over a stretch of values, counted from the anchor. Stretches behind one another add up.
#[derive(Clone, Copy, Debug)]
struct Sums {
    values: f64,
    squares: f64,
    /// Each value times how many bars ago it was.
    by_age: f64,
}

impl Sums {
    /// Of `xs`, the oldest of the newest `n` values.
    #[inline(always)]
    fn of(xs: &[f64], anchor: f64, n: usize) -> Self {
        let (chunks, rest) = xs.as_chunks::<4>();
        let mut ages = [1.0, 2.0, 3.0, 4.0].map(|i| n as f64 - i);
        let (mut values, mut squares, mut by_age) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        for chunk in chunks {
            for i in 0..4 {
                let d = chunk[i] - anchor;
                values[i] += d;
                squares[i] += d * d;
                by_age[i] += ages[i] * d;
                ages[i] -= 4.0;
            }
        }
        for i in 0..rest.len() {
            let d = rest[i] - anchor;
            values[i] += d;
            squares[i] += d * d;
            by_age[i] += ages[i] * d;
        }
        Self { values: joined(values), squares: joined(squares), by_age: joined(by_age) }
    }

    #[inline(always)]
    fn plus(self, older: Self) -> Self {
        Self {
            values: self.values + older.values,
            squares: self.squares + older.squares,
            by_age: self.by_age + older.by_age,
        }
    }
}

/// The lanes added, in the one order.
#[inline(always)]
fn joined(lanes: [f64; 4]) -> f64 {
    // Else the compiler pairs the lanes of different sums, at twice the time.
    let [a, b, c, d] = black_box(lanes);
    (a + c) + (b + d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    /// Slope, end, correlation, and the last residual in standard errors, by the textbook.
    fn naive(xs: &[f64]) -> [f64; 4] {
        let n = xs.len() as f64;
        let (mean, middle) = (xs.iter().sum::<f64>() / n, (n - 1.0) / 2.0);
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            xs.iter().enumerate().map(|(i, x)| f(i as f64 - middle, x - mean)).sum()
        };
        let (tt, tx, xx) = (sum(&|t, _| t * t), sum(&|t, x| t * x), sum(&|_, x| x * x));
        let slope = tx / tt;
        let sse = sum(&|t, x| (x - slope * t).powi(2));
        let end = mean + slope * middle;
        [slope, end, tx / (tt * xx).sqrt(), (xs[xs.len() - 1] - end) / (sse / (n - 2.0)).sqrt()]
    }

    /// A line through N values, and the one through M that it is lengthened to, at every bar.
    fn check<const N: usize, const M: usize>(xs: &[f64], tolerance: f64) {
        for window in xs.windows(M) {
            let (all, newest) = (window.try_into().unwrap(), window.last_chunk().unwrap());
            let short = Line::<N>::through(newest);
            let long = short.lengthened::<M>(all);
            compare(short, newest, tolerance);
            compare(long, all, tolerance);
        }
    }

    #[track_caller]
    fn compare<const N: usize>(line: Line<N>, xs: &[f64; N], tolerance: f64) {
        let [slope, end, correlation, residual] = naive(xs);
        let largest = xs.iter().copied().fold(1.0, f64::max);
        assert_close(line.slope() / largest, slope / largest, tolerance);
        assert_close(line.end() / largest, end / largest, tolerance);
        assert_close(line.correlation(0.0), correlation, tolerance);
        assert_close(line.last_residual(xs, 0.0), residual, tolerance);
    }

    #[test]
    fn are_the_lines_of_the_textbook_for_many_lengths() {
        let xs = walk(77, 300);
        check::<3, 5>(&xs, 1e-9);
        check::<20, 48>(&xs, 1e-10);
        check::<48, 96>(&xs, 1e-10);
        check::<6, 31>(&xs, 1e-10);
    }

    #[test]
    fn survive_a_print_a_billion_times_the_rest_as_it_comes_and_goes() {
        let mut xs = walk(78, 300);
        xs[150] = 1e12;
        check::<20, 48>(&xs, 1e-10);
        check::<48, 96>(&xs, 1e-10);
    }

    #[test]
    fn survive_a_level_a_billion_times_the_deviation() {
        let small: [f64; 96] = walk(79, 96).try_into().unwrap();
        let large = small.map(|x| 1e6 + 1e-5 * x);
        let line = Line::through(&large);
        let [slope, _, correlation, residual] = naive(&small);
        assert_close(line.slope() * 1e5, slope, 1e-6);
        assert_close(line.correlation(0.0), correlation, 1e-6);
        assert_close(line.last_residual(&large, 0.0), residual, 1e-5);
    }

    #[test]
    fn a_straight_line_has_no_residual() {
        let straight: [f64; 48] = std::array::from_fn(|i| 1.0 + 0.01 * i as f64);
        let line = Line::through(&straight);
        assert_close(line.correlation(1e-9), 1.0, 1e-12);
        assert_eq!(line.last_residual(&straight, 1e-12), 0.0);
    }

    #[test]
    fn a_flat_market_has_neither_slope_nor_correlation_nor_residual() {
        let line = Line::through(&[0.1; 48]);
        assert_eq!((line.slope(), line.end(), line.correlation(1e-10)), (0.0, 0.1, 0.0));
        assert_eq!(line.last_residual(&[0.1; 48], 1e-10), 0.0);
    }
}
