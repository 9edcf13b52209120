//! Up and down streaks.

use crate::indicator::Indicator;

/// Bars in a row with the same sign, signed; 0 on a bar without one (Connors 2012). Unlike [`crate::rolling::Run`] it has no cap.
/// Input: the sign of the change. Warm with the first.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Streak};
///
/// let streaks: Vec<f64> = replay(Streak::new(), [1, 1, -1, -1, 0, 1]).into_iter().flatten().collect();
/// assert_eq!(streaks, [1.0, 2.0, -1.0, -2.0, 0.0, 1.0]);
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Streak {
    length: f64,
}

impl Streak {
    /// No streak yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Streak {
    type Input = i8;
    type Output = f64;

    #[inline]
    fn update(&mut self, sign: i8) -> Option<f64> {
        self.length = match sign {
            1 => self.length.max(0.0) + 1.0,
            -1 => self.length.min(0.0) - 1.0,
            _ => 0.0,
        };
        Some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::signs;

    #[test]
    fn counts_back_to_the_last_other_sign() {
        let all = signs(37, 300);
        for (i, streak) in replay(Streak::new(), all.clone()).into_iter().enumerate() {
            let same = all[..=i].iter().rev().take_while(|s| **s == all[i]).count();
            assert_eq!(streak, Some(f64::from(all[i]) * same as f64));
        }
    }
}
