//! The bid-ask spread seen in highs and lows.

use std::f64::consts::SQRT_2;

/// Spread of two bars, as a part of the price (Corwin and Schultz 2012); 0 when their estimate is negative. Input:
/// ln(h/l) of each bar and of both together.
///
/// With β the sum of the squares of the first two, γ the square of the third and k = 3 − 2√2, the paper has α = (√2β −
/// √β)/k − √(γ/k) and s = 2(e^α − 1)/(1 + e^α). As k = (√2 − 1)², α is (√2 + 1)(√β − √γ), and s is 2·tanh(α/2).
///
/// ```
/// use candlecast_features::volume::corwin_schultz;
///
/// // The range of the two is that of each: all of it is the spread.
/// assert!((corwin_schultz([0.01, 0.01], 0.01) - 0.01).abs() < 1e-6);
/// assert_eq!(corwin_schultz([0.01, 0.01], 0.02), 0.0);
/// ```
#[inline(always)]
pub fn corwin_schultz([newer, older]: [f64; 2], both: f64) -> f64 {
    let alpha = (SQRT_2 + 1.0) * ((newer * newer + older * older).sqrt() - both);
    // Half of all bars end here.
    if alpha <= 0.0 { 0.0 } else { 2.0 * libm::tanh(alpha / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Dice, assert_close};

    #[test]
    fn is_the_formula_of_the_paper() {
        let mut dice = Dice::new(85);
        for scale in [1e-6, 1e-3, 0.1, 3.0] {
            for _ in 0..500 {
                let (newer, older) = (scale * dice.unit(), scale * dice.unit());
                let both = newer.max(older) + 0.5 * scale * dice.unit();
                let (beta, gamma) = (newer * newer + older * older, both * both);
                let k = 3.0 - 2.0 * 2.0_f64.sqrt();
                let alpha = ((2.0 * beta).sqrt() - beta.sqrt()) / k - (gamma / k).sqrt();
                let expected = (2.0 * (alpha.exp() - 1.0) / (1.0 + alpha.exp())).max(0.0);
                assert_close(corwin_schultz([newer, older], both), expected, 1e-13);
            }
        }
    }

    #[test]
    fn a_flat_market_has_no_spread_and_the_widest_bar_a_finite_one() {
        assert_eq!(corwin_schultz([0.0, 0.0], 0.0), 0.0);
        assert_eq!(corwin_schultz([3_000.0, 3_000.0], 3_000.0), 2.0);
    }
}
