//! Floor-trader pivots.

/// S2, S1, P, R1, R2 of a completed bar: P = (h + l + c)/3, S1 = 2P − h, R1 = 2P − l, S2 and R2 one range below and
/// above P (the classic levels of pit traders; the bar is usually the previous day).
///
/// ```
/// use candlecast_features::levels::floor_pivots;
///
/// assert_eq!(floor_pivots(14.0, 10.0, 12.0), [8.0, 10.0, 12.0, 14.0, 16.0]);
/// ```
#[inline(always)]
pub fn floor_pivots(h: f64, l: f64, c: f64) -> [f64; 5] {
    let p = (h + l + c) / 3.0;
    [p - (h - l), 2.0 * p - h, p, 2.0 * p - l, p + (h - l)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Dice, assert_close};

    #[test]
    fn lie_around_the_pivot_in_order() {
        let mut dice = Dice::new(63);
        for _ in 0..1_000 {
            let (l, range, place) = (100.0 * dice.unit(), 10.0 * dice.unit(), dice.unit());
            let (h, c) = (l + range, l + place * range);
            let levels = floor_pivots(h, l, c);
            assert!(levels.is_sorted());
            // The pivot splits the range in the shares 1 : 2 at the ends; its mirror images are S1 and R1.
            assert_close(levels[2], l + range * (1.0 + place) / 3.0, 1e-12);
            assert_close(levels[1] + h, 2.0 * levels[2], 1e-12);
            assert_close(levels[3] + l, 2.0 * levels[2], 1e-12);
            assert_close(levels[4] - levels[0], 2.0 * range, 1e-12);
        }
    }

    #[test]
    fn are_one_in_a_flat_market() {
        assert_eq!(floor_pivots(7.0, 7.0, 7.0), [7.0; 5]);
    }
}
