//! True range.

/// `TR` = max(h − l, |h − c₁|, |l − c₁|): the range of the bar, the gap to the close before included (Wilder 1978).
///
/// ```
/// use candlecast_features::volatility::true_range;
///
/// assert_eq!(true_range(12.0, 10.0, 11.0), 2.0);
/// assert_eq!(true_range(12.0, 10.0, 7.0), 5.0);
/// ```
#[inline]
pub fn true_range(h: f64, l: f64, previous_close: f64) -> f64 {
    (h - l).max((h - previous_close).abs()).max((l - previous_close).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_gap_in_whichever_direction() {
        assert_eq!(true_range(12.0, 10.0, 15.0), 5.0);
        assert_eq!(true_range(5.0, 5.0, 5.0), 0.0);
    }
}
