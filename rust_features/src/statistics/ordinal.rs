//! Ordinal patterns: in which order three closes lie.

use super::entropy;
use crate::indicator::Indicator;

/// Patterns in a window.
const N: usize = 96;

/// Permutation entropy of order 3 over 96 patterns, from 0 (one pattern) to 1 (all six as often) (Bandt and Pompe
/// 2002). On a tie the earlier value counts as the smaller. Input: the last three values, oldest first. Warm with the
/// 96th.
///
/// ```
/// use candlecast_features::{indicator::replay, statistics::OrdinalPatterns};
///
/// let rising = (0..96).map(|i| [i, i + 1, i + 2].map(f64::from));
/// assert_eq!(replay(OrdinalPatterns::new(), rising)[95], Some(0.0));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct OrdinalPatterns {
    /// The newest patterns: triples of comparisons.
    patterns: [u8; N],
    at: u32,
    is_full: bool,
    /// How often each is among them, a byte for each: one word, nothing to wait for.
    counts: u64,
}

impl OrdinalPatterns {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self { patterns: [0; N], at: 0, is_full: false, counts: 0 }
    }
}

impl Default for OrdinalPatterns {
    fn default() -> Self {
        Self::new()
    }
}

impl Indicator for OrdinalPatterns {
    type Input = [f64; 3];
    type Output = f64;

    #[inline(always)]
    fn update(&mut self, [a, b, c]: [f64; 3]) -> Option<f64> {
        let pattern = u8::from(a <= b) | u8::from(b <= c) << 1 | u8::from(a <= c) << 2;
        let old = std::mem::replace(&mut self.patterns[self.at as usize], pattern);
        self.counts += 1 << (8 * pattern);
        self.counts -= u64::from(self.is_full) << (8 * old);
        self.at += 1;
        if self.at == N as u32 {
            (self.at, self.is_full) = (0, true);
        }
        // a ≤ b ≤ c < a and a > b > c ≥ a cannot be.
        let [down, fall_high, rise_low, _, _, fall_low, rise_high, up] = self.counts.to_le_bytes().map(usize::from);
        self.is_full.then(|| entropy([down, fall_high, rise_low, fall_low, rise_high, up]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        indicator::replay,
        oracle::{assert_close, ticks, walk},
    };
    use std::collections::HashMap;

    #[test]
    fn is_the_entropy_of_the_sorted_orders() {
        for xs in [walk(95, 400), ticks(96, 400)] {
            let triples = || xs.windows(3).map(|w| [w[0], w[1], w[2]]);
            let order = |triple: [f64; 3]| {
                let mut places = [0, 1, 2];
                // Stable: of equals the earlier comes first.
                places.sort_by(|i, j| triple[*i].total_cmp(&triple[*j]));
                places
            };
            let orders: Vec<[usize; 3]> = triples().map(order).collect();
            for (i, value) in replay(OrdinalPatterns::new(), triples()).into_iter().enumerate() {
                assert_eq!(value.is_some(), i >= 95);
                let Some(value) = value else { continue };
                let mut counts = HashMap::new();
                orders[i - 95..=i].iter().for_each(|order| *counts.entry(*order).or_insert(0.0) += 1.0 / 96.0);
                assert_close(value, -counts.values().map(|q| q * f64::ln(*q)).sum::<f64>() / 6.0_f64.ln(), 1e-13);
            }
        }
    }

    #[test]
    fn a_flat_market_has_one_pattern() {
        assert_eq!(replay(OrdinalPatterns::new(), [[7.0; 3]; 100])[99], Some(0.0));
    }
}
