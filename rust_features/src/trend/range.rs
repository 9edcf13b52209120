//! The range of a series.

use std::hint::black_box;

use crate::math::{larger, smaller};

/// Largest minus smallest of a window of values.
///
/// A pass over a short window costs less than keeping its extremes from bar to bar.
///
/// ```
/// assert_eq!(candlecast_features::trend::range(&[1.0, 4.0, 3.0]), 3.0);
/// ```
#[inline(always)]
pub fn range(xs: &[f64]) -> f64 {
    let (chunks, rest) = xs.as_chunks::<4>();
    let (mut highest, mut lowest) = ([xs[xs.len() - 1]; 4], [xs[xs.len() - 1]; 4]);
    for chunk in chunks {
        for i in 0..4 {
            highest[i] = larger(chunk[i], highest[i]);
            lowest[i] = smaller(chunk[i], lowest[i]);
        }
    }
    for i in 0..rest.len() {
        highest[i] = larger(rest[i], highest[i]);
        lowest[i] = smaller(rest[i], lowest[i]);
    }
    // Else the compiler pairs the lanes of the two, at twice the time.
    let ([a, b, c, d], [e, f, g, h]) = black_box((highest, lowest));
    larger(larger(a, c), larger(b, d)) - smaller(smaller(e, g), smaller(f, h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn is_the_plain_range_for_many_lengths() {
        let xs = walk(74, 200);
        for n in [1, 2, 3, 4, 5, 7, 29, 100] {
            for window in xs.windows(n) {
                let highest = window.iter().copied().fold(f64::MIN, f64::max);
                let lowest = window.iter().copied().fold(f64::MAX, f64::min);
                assert_eq!(range(window), highest - lowest);
            }
        }
    }

    #[test]
    fn a_flat_market_has_none() {
        assert_eq!(range(&[7.0; 29]), 0.0);
    }
}
