//! Returns of a market beside those of its reference.

use crate::rolling::{LongSums, Window, sum};

/// Pairs of returns in the window.
const N: usize = 96;

/// Deviations of returns up to this count as none.
const TINY: f64 = 1e-9;

/// The moments of the newest 96 pairs of returns r of a market and rr of its reference, and of r with rr one bar before.
///
/// A bar on which the reference is missing counts for nothing: until a whole window of its closes was seen again, there is no answer.
/// The lead needs no reference on the current bar, and gives an answer on the first missing one.
///
/// ```
/// use candlecast_features::{cross::Comoments, rolling::Window};
///
/// let (mut moments, mut returns) = (Comoments::new(), Window::<97, 108>::new());
/// let mut beta = None;
/// for bar in 0..200 {
///     // The market moves twice as far as its reference.
///     let rr = if bar % 3 == 0 { 0.02 } else { -0.01 };
///     returns.push(2.0 * rr);
///     let newest = returns.last::<96>().iter();
///     let sums = [newest.clone().sum(), newest.map(|r| r * r).sum()];
///     beta = moments.update((bar, &returns, sums, Some(rr))).and_then(|moments| Some(moments.pairs?.beta()));
/// }
/// assert!((beta.unwrap() - 2.0).abs() < 1e-9);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Comoments {
    reference: Window<97, 108>,
    /// Of the rr that both windows of the reference have, of their squares, of r·rr, and of r with the rr before. Without the oldest
    /// term, which the first two do not have.
    sums: LongSums<4, 1, 5>,
    /// Newest bars without a hole in rr, this one included.
    whole: u32,
}

/// What is known after a bar.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Of r and rr.
    pub pairs: Option<Pairs>,
    /// CORR(r, rr\[1\]): the reference leads by a bar.
    pub lead: Option<f64>,
    /// Sum of the newest 16 rr.
    pub reference_16: Option<f64>,
}

/// What the window of pairs says. Population moments.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    mean: f64,
    mean_reference: f64,
    var: f64,
    var_reference: f64,
    cov: f64,
}

impl Comoments {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { reference: Window::new(), sums: LongSums::new(), whole: 0 }
    }

    /// Takes the bar's number, the returns of the market with the newest, the sum and the sum of squares of 96 of them, and the return
    /// of the reference.
    #[inline(always)]
    pub fn update<const KEEP: usize, const CAP: usize>(
        &mut self,
        (bar, returns, [total, square], rr): (u64, &Window<KEEP, CAP>, [f64; 2], Option<f64>),
    ) -> Option<Moments> {
        let whole_before = self.whole;
        self.reference.push(rr.unwrap_or(0.0));
        self.whole = if rr.is_some() { (self.whole + 1).min(N as u32) } else { 0 };
        let reference = &self.reference;
        let products = |lag| {
            let (r, rr, earlier) = (returns.lag(lag), reference.lag(lag), reference.lag(lag + 1));
            [earlier, earlier * earlier, r * rr, r * earlier]
        };
        let [[common, squares, product, product_earlier]] = self.sums.update((bar, [N - 1], products))?;
        let (r, newest) = (returns.lag(N - 1), reference.lag(0));
        let (second, oldest) = (reference.lag(N - 1), reference.lag(N));
        let mean = |sum: f64| sum * (1.0 / N as f64);
        let (m, mr, me) = (mean(total), mean(common + newest), mean(common + oldest));
        let (square, product) = (mean(square), mean(product + r * second));
        let (square_reference, square_earlier) = (mean(squares + newest * newest), mean(squares + oldest * oldest));
        let product_earlier = mean(product_earlier + r * oldest);
        let (var, var_earlier) = (square - m * m, square_earlier - me * me);
        let pairs = Pairs {
            mean: m,
            mean_reference: mr,
            var,
            var_reference: square_reference - mr * mr,
            cov: product - m * mr,
        };
        Some(Moments {
            pairs: (self.whole == N as u32).then_some(pairs),
            lead: (whole_before == N as u32).then(|| correlation(product_earlier - m * me, var, var_earlier)),
            reference_16: (self.whole >= 16).then(|| sum(self.reference.last::<16>())),
        })
    }
}

impl Default for Comoments {
    fn default() -> Self {
        Self::new()
    }
}

impl Pairs {
    /// Sum of the rr.
    pub fn sum_of_reference(&self) -> f64 {
        N as f64 * self.mean_reference
    }

    /// COV(r, rr)/VAR(rr); 0 when the reference stands still.
    pub fn beta(&self) -> f64 {
        if self.var_reference <= TINY * TINY { 0.0 } else { self.cov / self.var_reference }
    }

    /// CORR(r, rr).
    pub fn correlation(&self) -> f64 {
        correlation(self.cov, self.var, self.var_reference)
    }

    /// SD(rr), sample.
    pub fn deviation_of_reference(&self) -> f64 {
        (self.var_reference.max(0.0) * (N as f64 / (N as f64 - 1.0))).sqrt()
    }

    /// SD(r − rr), sample.
    pub fn deviation_of_difference(&self) -> f64 {
        let var = self.var - 2.0 * self.cov + self.var_reference;
        (var.max(0.0) * (N as f64 / (N as f64 - 1.0))).sqrt()
    }

    /// The residual of (r, rr) from the least-squares line of the window, in standard errors of estimate (n − 2).
    pub fn residual(&self, r: f64, rr: f64) -> f64 {
        let beta = self.beta();
        let error = (r - self.mean) - beta * (rr - self.mean_reference);
        let see = (N as f64 * (self.var - beta * self.cov).max(0.0) / (N as f64 - 2.0)).sqrt();
        if see <= TINY { 0.0 } else { error / see }
    }
}

/// 0 when one of the two stands still.
fn correlation(cov: f64, var_x: f64, var_y: f64) -> f64 {
    if var_x <= TINY * TINY || var_y <= TINY * TINY { 0.0 } else { (cov / (var_x * var_y).sqrt()).clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    fn returns(seed: u64) -> Vec<f64> {
        walk(seed, 301).windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect()
    }

    fn mean(xs: impl ExactSizeIterator<Item = f64>) -> f64 {
        let n = xs.len() as f64;
        xs.sum::<f64>() / n
    }

    fn cov(xs: &[f64], ys: &[f64]) -> f64 {
        let (mx, my) = (mean(xs.iter().copied()), mean(ys.iter().copied()));
        mean(xs.iter().zip(ys).map(|(x, y)| (x - mx) * (y - my)))
    }

    /// Answers to r and rr, both with a hole where rr is `None`.
    fn answers(rs: &[f64], rrs: &[Option<f64>]) -> Vec<Moments> {
        let (mut moments, mut window) = (Comoments::new(), Window::<97, 108>::new());
        let mut step = |(i, r): (usize, &f64)| {
            window.push(*r);
            let newest = window.last::<96>().iter();
            let sums = [newest.clone().sum(), newest.map(|r| r * r).sum()];
            moments.update((777 + i as u64, &window, sums, rrs[i])).unwrap()
        };
        rs.iter().enumerate().map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_moments() {
        let rs = returns(70);
        let rrs: Vec<f64> = returns(71).iter().zip(&rs).map(|(a, b)| 0.5 * a + 0.3 * b).collect();
        let answers = answers(&rs, &rrs.iter().copied().map(Some).collect::<Vec<_>>());
        assert!(answers[..95].iter().all(|moments| moments.pairs.is_none()));
        for i in 96..300 {
            let (x, y, e) = (&rs[i - 95..=i], &rrs[i - 95..=i], &rrs[i - 96..i]);
            let Moments { pairs, lead, reference_16 } = answers[i];
            let pairs = pairs.unwrap();
            let beta = cov(x, y) / cov(y, y);
            assert_close(pairs.beta(), beta, 1e-9);
            assert_close(pairs.sum_of_reference(), y.iter().sum(), 1e-14);
            assert_close(reference_16.unwrap(), y[80..].iter().sum(), 1e-14);
            assert_close(pairs.correlation(), cov(x, y) / (cov(x, x) * cov(y, y)).sqrt(), 1e-9);
            assert_close(lead.unwrap(), cov(x, e) / (cov(x, x) * cov(e, e)).sqrt(), 1e-9);
            let difference: Vec<f64> = x.iter().zip(y).map(|(x, y)| x - y).collect();
            assert_close(pairs.deviation_of_difference(), (cov(&difference, &difference) * 96.0 / 95.0).sqrt(), 1e-9);
            let alpha = mean(x.iter().copied()) - beta * mean(y.iter().copied());
            let sse: f64 = x.iter().zip(y).map(|(x, y)| (x - alpha - beta * y).powi(2)).sum();
            assert_close(pairs.residual(rs[i], rrs[i]), (rs[i] - alpha - beta * rrs[i]) / (sse / 94.0).sqrt(), 1e-8);
        }
    }

    #[test]
    fn a_hole_silences_until_the_window_is_whole_again() {
        let mut rrs: Vec<Option<f64>> = returns(72).into_iter().map(Some).collect();
        rrs[150] = None;
        let answers = answers(&returns(73), &rrs);
        for (i, answer) in answers.into_iter().enumerate().skip(100) {
            let Moments { pairs, lead, .. } = answer;
            assert_eq!(pairs.is_none(), (150..246).contains(&i), "bar {i}");
            assert_eq!(lead.is_none(), (151..247).contains(&i), "bar {i}");
        }
    }

    #[test]
    fn a_reference_that_stands_still_says_nothing() {
        let Moments { pairs, lead, .. } = answers(&returns(74), &[Some(0.0); 300])[299];
        let pairs = pairs.unwrap();
        assert_eq!((pairs.beta(), pairs.correlation(), lead), (0.0, 0.0, Some(0.0)));
        let still = answers(&[0.0; 300], &[Some(0.0); 300])[299].pairs.unwrap();
        assert_eq!(still.residual(0.0, 0.0), 0.0);
    }
}
