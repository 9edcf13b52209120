//! At which prices volume was traded.

use super::sums_of;

/// Where the volume of a window lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Sum of v·(w − mean)².
    pub squares: f64,
    /// Volume traded below the price minus volume traded above it.
    pub below: f64,
}

/// The profile of `N` bars with traded prices `w` and volumes `v`, about their VWAP `mean` and around `price`; what was
/// traded within `tiny` of the price is on neither side. `N` is a multiple of 8.
///
/// ```
/// use candlecast_features::volume::{Profile, profile};
///
/// let (prices, volumes) = ([9.0, 9.0, 9.0, 10.0, 10.0, 10.0, 10.0, 13.0], [1.0; 8]);
/// let profile = profile(&prices, &volumes, 10.0, (10.0, 1e-8));
/// assert_eq!(profile, Profile { squares: 12.0, below: 2.0 });
/// ```
#[inline(always)]
pub fn profile<const N: usize>(w: &[f64; N], v: &[f64; N], mean: f64, (price, tiny): (f64, f64)) -> Profile {
    let [squares, below] = sums_of::<N, 2, 8>(|i| {
        let off_mean = w[i] - mean;
        let volume_if = |condition: bool| if condition { v[i] } else { 0.0 };
        [v[i] * (off_mean * off_mean), volume_if(w[i] < price - tiny) - volume_if(w[i] > price + tiny)]
    });
    Profile { squares, below }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, ticks, walk};

    fn check<const N: usize>() {
        let (ws, vs) = (ticks(86, 300), walk(87, 300));
        for (w, v) in ws.windows(N).zip(vs.windows(N)) {
            let (w, v): (&[f64; N], &[f64; N]) = (w.try_into().unwrap(), v.try_into().unwrap());
            let price = w[N - 1];
            let mean = w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>() / v.iter().sum::<f64>();
            let profile = profile(w, v, mean, (price, 1e-9 * price));
            let squares = w.iter().zip(v).map(|(w, v)| v * (w - mean).powi(2)).sum();
            let side = |w: &f64| if *w == price { 0.0 } else { (price - w).signum() };
            assert_close(profile.squares, squares, 1e-12);
            assert_close(profile.below, w.iter().zip(v).map(|(w, v)| v * side(w)).sum(), 1e-12);
        }
    }

    #[test]
    fn is_the_plain_sums_for_many_lengths() {
        check::<8>();
        check::<24>();
        check::<96>();
    }

    #[test]
    fn a_flat_market_lies_at_its_price() {
        assert_eq!(profile(&[0.1; 96], &[3.0; 96], 0.1, (0.1, 1e-10)), Profile { squares: 0.0, below: 0.0 });
    }
}
