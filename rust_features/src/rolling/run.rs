//! For how long a sign has held.

use crate::indicator::Indicator;

/// `RUN(s, cap)`: the sign times the number of consecutive bars, the current included, that had it; at most `cap`.
///
/// ```
/// use candlecast_features::{indicator::replay, rolling::Run};
///
/// let runs = replay(Run::new(3), [1, 1, -1, 0, 1, 1, 1, 1]);
/// let runs: Vec<f64> = runs.into_iter().flatten().collect();
/// assert_eq!(runs, [1.0, 2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 3.0]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Run {
    cap: u32,
    sign: i8,
    bars: u32,
}

impl Run {
    /// A run that has seen nothing.
    pub fn new(cap: u32) -> Self {
        assert!(cap > 0, "a run must be able to grow");
        Self { cap, sign: 0, bars: 0 }
    }
}

impl Indicator for Run {
    type Input = i8;
    type Output = f64;

    #[inline]
    fn update(&mut self, sign: i8) -> Option<f64> {
        self.bars = if sign == self.sign { (self.bars + 1).min(self.cap) } else { 1 };
        self.sign = sign;
        Some(f64::from(sign) * f64::from(self.bars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::signs;

    #[test]
    fn counts_back_to_the_last_other_sign() {
        let all = signs(4, 400);
        for cap in [1, 3, 48] {
            for (i, run) in replay(Run::new(cap), all.clone()).into_iter().enumerate() {
                let same = all[..=i].iter().rev().take_while(|s| **s == all[i]).count();
                assert_eq!(run, Some(f64::from(all[i]) * (same.min(cap as usize) as f64)));
            }
        }
    }
}
