//! How volume goes with returns.

use super::sums_of;

/// Second moments of returns r, volumes v and signed volumes x over the same bars, about their means.
#[derive(Clone, Copy, Debug)]
pub struct Impact {
    n: f64,
    /// Mean volume.
    pub volume: f64,
    rr: f64,
    vv: f64,
    rv: f64,
    xx: f64,
    rx: f64,
}

impl Impact {
    /// The moments of `N` bars, a multiple of 4; two passes, so a small deviation of large volumes is still right.
    ///
    /// ```
    /// use candlecast_features::volume::Impact;
    ///
    /// // Each unit bought moves the price by 0.5; the mean volume is 2.
    /// let impact = Impact::of(&[1.5, -0.5, 1.0, -1.0], &[3.0, 1.0, 2.0, 2.0], &[3.0, -1.0, 2.0, -2.0]);
    /// assert!((impact.kyle_lambda() - 0.5 * 2.0).abs() < 1e-15);
    /// ```
    #[inline(always)]
    pub fn of<const N: usize>(returns: &[f64; N], volumes: &[f64; N], signed: &[f64; N]) -> Self {
        let n = N as f64;
        let [r, v, x] = sums_of::<N, 3, 4>(|i| [returns[i], volumes[i], signed[i]]).map(|sum| sum * (1.0 / n));
        let [rr, vv, rv, xx, rx] = sums_of::<N, 5, 4>(|i| {
            let (r, v, x) = (returns[i] - r, volumes[i] - v, signed[i] - x);
            [r * r, v * v, r * v, x * x, r * x]
        });
        Self { n, volume: v, rr, vv, rv, xx, rx }
    }

    /// Coefficient of variation of the volume: sample deviation over mean, 0 without volume.
    #[inline(always)]
    pub fn volume_variation(&self) -> f64 {
        if self.volume == 0.0 { 0.0 } else { (self.vv / (self.n - 1.0)).sqrt() / self.volume }
    }

    /// Slope of the return on the signed volume (Kyle 1985), per mean volume; 0 when the signed volume does not vary.
    #[inline(always)]
    pub fn kyle_lambda(&self) -> f64 {
        let tiny = 1e-9 * self.volume;
        if self.xx <= self.n * (tiny * tiny) { 0.0 } else { self.rx / self.xx * self.volume }
    }

    /// Correlation of return and volume; 0 when one of them does not vary.
    #[inline(always)]
    pub fn correlation(&self) -> f64 {
        let tiny = 1e-9 * self.volume;
        if self.rr <= self.n * 1e-18 || self.vv <= self.n * (tiny * tiny) {
            return 0.0;
        }
        (self.rv / (self.rr * self.vv).sqrt()).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    fn check<const N: usize>() {
        let returns: Vec<f64> = walk(90, 300).windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
        let volumes = walk(91, 299);
        let signed: Vec<f64> = returns.iter().zip(&volumes).map(|(r, v)| r.signum() * v).collect();
        let mean = |xs: &[f64]| xs.iter().sum::<f64>() / N as f64;
        // The mean product of the differences of all pairs: no mean, no cancellation.
        let covariance = |xs: &[f64], ys: &[f64]| {
            let pairs = (0..N).flat_map(|i| (0..N).map(move |j| (i, j)));
            pairs.map(|(i, j)| (xs[i] - xs[j]) * (ys[i] - ys[j])).sum::<f64>() / (2 * N * N) as f64
        };
        for from in (0..=299 - N).step_by(7) {
            let [r, v, x] = [&returns, &volumes, &signed].map(|xs| &xs[from..from + N]);
            let impact = Impact::of::<N>(r.try_into().unwrap(), v.try_into().unwrap(), x.try_into().unwrap());
            let sample = N as f64 / (N as f64 - 1.0);
            assert_close(impact.volume_variation(), (covariance(v, v) * sample).sqrt() / mean(v), 1e-12);
            assert_close(impact.kyle_lambda(), covariance(r, x) / covariance(x, x) * mean(v), 1e-12);
            let correlation = covariance(r, v) / (covariance(r, r) * covariance(v, v)).sqrt();
            assert_close(impact.correlation(), correlation, 1e-12);
        }
    }

    #[test]
    fn are_the_plain_moments_for_many_lengths() {
        check::<4>();
        check::<20>();
        check::<48>();
    }

    #[test]
    fn nothing_varies_in_a_flat_or_volumeless_market() {
        for (r, v) in [(0.0, 0.1), (3.2, 0.1), (0.01, 0.0), (0.0, 1e24)] {
            let impact = Impact::of(&[r; 48], &[v; 48], &[-v; 48]);
            assert!(impact.volume_variation() < 1e-15);
            assert_eq!((impact.kyle_lambda(), impact.correlation()), (0.0, 0.0));
        }
    }
}
