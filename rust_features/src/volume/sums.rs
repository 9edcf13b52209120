//! Sums of several quantities in one pass.

use crate::rolling::joined;

/// Sums over the places 0..`N` of the `Q` quantities that `at` gives of a place, each in the order of [`crate::rolling::sum_of`].
///
/// ```
/// use candlecast_features::volume::sums_of;
///
/// assert_eq!(sums_of::<4, 2>(|i| [1.0, i as f64]), [4.0, 6.0]);
/// ```
#[inline(always)]
pub fn sums_of<const N: usize, const Q: usize>(at: impl Fn(usize) -> [f64; Q]) -> [f64; Q] {
    let mut lanes = [[0.0; 8]; Q];
    for chunk in 0..N / 8 {
        for lane in 0..8 {
            let values = at(8 * chunk + lane);
            for q in 0..Q {
                lanes[q][lane] += values[q];
            }
        }
    }
    let mut rest = [0.0; Q];
    for i in N / 8 * 8..N {
        let values = at(i);
        for q in 0..Q {
            rest[q] += values[q];
        }
    }
    let mut sums = lanes.map(joined);
    for q in 0..Q {
        sums[q] += rest[q];
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::walk, rolling::sum_of};

    fn check<const N: usize>() {
        let xs: [f64; N] = walk(81, N).try_into().unwrap();
        let [sum, squares] = sums_of::<N, 2>(|i| [xs[i], xs[i] * xs[i]]);
        assert_eq!(sum, sum_of(&xs, |x| x));
        assert_eq!(squares, sum_of(&xs, |x| x * x));
    }

    #[test]
    fn are_the_sums_one_by_one() {
        check::<1>();
        check::<8>();
        check::<20>();
        check::<48>();
        check::<96>();
    }
}
