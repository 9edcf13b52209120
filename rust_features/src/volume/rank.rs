//! The place of the newest value among the last ones.

/// `PRANK` of the newest of `N` values with exact ties: (how many are less − how many are greater)/(N − 1), from −1
/// (the least) to 1 (the greatest). That is twice the percent rank of the `N − 1` others, a tie counting half, minus 1.
///
/// ```
/// assert_eq!(candlecast_features::volume::rank(&[1.0, 2.0, 4.0, 3.0, 3.0]), 0.25);
/// ```
#[inline(always)]
pub fn rank<const N: usize>(xs: &[f64; N]) -> f64 {
    let x = xs[N - 1];
    let ahead = xs.iter().map(|y| i64::from(*y < x) - i64::from(*y > x)).sum::<i64>();
    ahead as f64 / (N - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, ticks};

    fn check<const N: usize>() {
        for xs in ticks(82, 500).windows(N) {
            let xs: &[f64; N] = xs.try_into().unwrap();
            let count = |is: fn(&f64, &f64) -> bool| xs.iter().filter(|y| is(y, &xs[N - 1])).count() as f64;
            let (below, tied) = (count(f64::lt), count(f64::eq));
            assert_close(rank(xs), 2.0 * (below + 0.5 * (tied - 1.0)) / (N as f64 - 1.0) - 1.0, 1e-12);
        }
    }

    #[test]
    fn counts_ties_half_for_many_lengths() {
        check::<2>();
        check::<5>();
        check::<48>();
        check::<192>();
    }

    #[test]
    fn a_flat_market_is_in_the_middle() {
        assert_eq!(rank(&[0.1; 192]), 0.0);
    }
}
