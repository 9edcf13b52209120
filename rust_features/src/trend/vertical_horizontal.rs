//! Vertical horizontal filter.

/// `VHF` of a window of values: its range over the path it went (White 1991), 0..1. n + 1 values make n changes. `flat` when the
/// path is at most `tiny`.
///
/// ```
/// use candlecast_features::trend::vertical_horizontal;
///
/// assert_eq!(vertical_horizontal(&[1.0, 4.0, 3.0], 1e-9, 0.0), 0.75);
/// ```
#[inline(always)]
pub fn vertical_horizontal(xs: &[f64], tiny: f64, flat: f64) -> f64 {
    // The range and the path in one pass: it costs less than to keep the extremes.
    let ((newer, newer_rest), (older, older_rest)) = (xs[1..].as_chunks::<4>(), xs[..xs.len() - 1].as_chunks::<4>());
    let (mut highest, mut lowest, mut path) = ([xs[0]; 4], [xs[0]; 4], [0.0; 4]);
    for (newer, older) in newer.iter().zip(older) {
        for i in 0..4 {
            (highest[i], lowest[i]) = (larger(newer[i], highest[i]), smaller(newer[i], lowest[i]));
            path[i] += (newer[i] - older[i]).abs();
        }
    }
    for (i, (newer, older)) in newer_rest.iter().zip(older_rest).enumerate() {
        (highest[i], lowest[i]) = (larger(*newer, highest[i]), smaller(*newer, lowest[i]));
        path[i] += (newer - older).abs();
    }
    let path = (path[0] + path[2]) + (path[1] + path[3]);
    let highest = larger(larger(highest[0], highest[2]), larger(highest[1], highest[3]));
    let lowest = smaller(smaller(lowest[0], lowest[2]), smaller(lowest[1], lowest[3]));
    if path <= tiny { flat } else { (highest - lowest) / path }
}

/// One instruction, where `f64::max` minds NaN.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_whites_ratio_for_many_lengths() {
        let xs = walk(74, 200);
        for n in [1, 2, 3, 4, 7, 28, 100] {
            for window in xs.windows(n + 1) {
                let path: f64 = window.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
                let highest = window.iter().copied().fold(f64::MIN, f64::max);
                let lowest = window.iter().copied().fold(f64::MAX, f64::min);
                assert_close(vertical_horizontal(window, 0.0, 0.0), (highest - lowest) / path, 1e-12);
            }
        }
    }

    #[test]
    fn a_flat_market_has_the_value_it_is_given() {
        assert_eq!(vertical_horizontal(&[7.0; 29], 7e-9, 0.35), 0.35);
    }
}
