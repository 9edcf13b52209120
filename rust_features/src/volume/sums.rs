//! Sums of several quantities in one pass.

use std::hint::black_box;

/// Sums over the places 0..`N` of the `Q` quantities that `at` gives of a place. `LANES`, a power of two that divides
/// `N`, is how many additions of a quantity do not wait for one another: 8 for few quantities, 4 for many. With 8 the
/// order of the additions is that of [`crate::rolling::sum_of`].
///
/// ```
/// use candlecast_features::volume::sums_of;
///
/// assert_eq!(sums_of::<4, 2, 4>(|i| [1.0, i as f64]), [4.0, 6.0]);
/// ```
#[inline(always)]
pub fn sums_of<const N: usize, const Q: usize, const LANES: usize>(at: impl Fn(usize) -> [f64; Q]) -> [f64; Q] {
    const { assert!(LANES.is_power_of_two() && N.is_multiple_of(LANES)) }
    let mut sums = [[0.0; LANES]; Q];
    for first in (0..N).step_by(LANES) {
        for lane in 0..LANES {
            let values = at(first + lane);
            for (sums, value) in sums.iter_mut().zip(values) {
                sums[lane] += value;
            }
        }
    }
    // The compiler would rather put the first lanes of all quantities into one vector, and shuffle.
    black_box(sums).map(joined)
}

/// The lanes added, halves first.
#[inline(always)]
fn joined<const LANES: usize>(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{assert_close, walk},
        rolling::sum_of,
    };

    fn check<const N: usize>() {
        let xs: [f64; N] = walk(81, N).try_into().unwrap();
        let [sum, squares] = sums_of::<N, 2, 8>(|i| [xs[i], xs[i] * xs[i]]);
        assert_eq!(sum, sum_of(&xs, |x| x));
        assert_eq!(squares, sum_of(&xs, |x| x * x));
        let [sum, squares] = sums_of::<N, 2, 4>(|i| [xs[i], xs[i] * xs[i]]);
        assert_close(sum, sum_of(&xs, |x| x), 1e-14);
        assert_close(squares, sum_of(&xs, |x| x * x), 1e-14);
    }

    #[test]
    fn are_the_sums_one_by_one() {
        check::<8>();
        check::<48>();
        check::<96>();
        check::<200>();
    }
}
