//! How evenly counts are spread.

/// Most counted.
const MOST: usize = 96;

/// k·ln k. ln k − ln(k − 1) = 2·artanh(1/(2k − 1)), a short series.
const TERMS: [f64; MOST + 1] = {
    let (mut terms, mut ln, mut k) = ([0.0; MOST + 1], 0.0, 2);
    while k <= MOST {
        let s = 1.0 / (2 * k - 1) as f64;
        let (mut sum, mut power, mut odd) = (0.0, s, 1);
        while odd < 40 {
            sum += power / odd as f64;
            power *= s * s;
            odd += 2;
        }
        ln += 2.0 * sum;
        terms[k] = k as f64 * ln;
        k += 1;
    }
    terms
};

/// Shannon's entropy of `N` counts of 96, −Σ q·ln q with q = count/96, over the greatest possible, ln N.
///
/// ```
/// use candlecast_features::statistics::entropy;
///
/// assert_eq!(entropy([0, 96, 0]), 0.0);
/// assert!((entropy([48, 48, 0, 0]) - 0.5).abs() < 1e-12);
/// ```
#[inline(always)]
pub fn entropy<const N: usize>(counts: [usize; N]) -> f64 {
    let sum = counts.iter().fold(0.0, |sum, count| sum + TERMS[*count]);
    (TERMS[MOST] - sum) * const { (N as f64) / (MOST as f64 * TERMS[N]) }
}

/// [`entropy`] of 96 returns, binned at ±¼, ±¾ and ±1½ deviations, the upper edge of a bin belonging to it; the mean is
/// not removed.
///
/// ```
/// use candlecast_features::statistics::entropy_of_returns;
///
/// let two_bins = std::array::from_fn(|i| if i % 2 == 0 { 1.0 } else { -1.0 });
/// assert!((entropy_of_returns(&two_bins, 1.0) - 2.0_f64.ln() / 7.0_f64.ln()).abs() < 1e-12);
/// ```
#[inline(always)]
pub fn entropy_of_returns(returns: &[f64; MOST], deviation: f64) -> f64 {
    let edges = [-1.5, -0.75, -0.25, 0.25, 0.75, 1.5].map(|edge| edge * deviation);
    let mut above = [0_u64; 6];
    for r in returns {
        for (above, edge) in above.iter_mut().zip(edges) {
            *above += u64::from(*r > edge);
        }
    }
    let [a, b, c, d, e, f] = above.map(|count| count as usize);
    entropy([MOST - a, a - b, b - c, c - d, d - e, e - f, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{Dice, assert_close},
        statistics::samples::{returns, tied_returns},
    };

    fn naive(counts: &[usize]) -> f64 {
        let q = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / 96.0);
        -q.map(|q| q * q.ln()).sum::<f64>() / (counts.len() as f64).ln()
    }

    #[test]
    fn is_shannons() {
        let mut dice = Dice::new(92);
        for _ in 0..1_000 {
            let mut counts = [0; 6];
            (0..96).for_each(|_| counts[(dice.below(6) * dice.below(6) / 5) as usize] += 1);
            assert_close(entropy(counts), naive(&counts), 1e-13);
        }
    }

    #[test]
    fn of_returns_counts_the_edges_strictly_below() {
        for xs in [returns(93, 300), tied_returns(94, 300)] {
            for window in xs.windows(96) {
                // A deviation that is itself a return puts values on an edge.
                for deviation in [0.005, 4.0 * window[0].abs(), window[1].abs() / 1.5] {
                    let mut counts = [0; 7];
                    for r in window {
                        let edges = [-1.5, -0.75, -0.25, 0.25, 0.75, 1.5];
                        counts[edges.iter().filter(|edge| **edge * deviation < *r).count()] += 1;
                    }
                    assert_close(entropy_of_returns(window.try_into().unwrap(), deviation), naive(&counts), 1e-13);
                }
            }
        }
    }

    #[test]
    fn one_bin_has_none() {
        assert_eq!(entropy_of_returns(&[0.0; 96], 0.1), 0.0);
    }
}
