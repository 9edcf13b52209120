//! Awesome oscillator.

use crate::{
    indicator::Indicator,
    rolling::{Window, nested_sums},
};

/// `AO` = SMA(x, 5) − SMA(x, 34), x the middle of the bar (Williams 1998). Warm with the thirty-fourth.
///
/// ```
/// use candlecast_features::{indicator::replay, momentum::Awesome};
///
/// // On a straight line the two averages are 29/2 bars apart.
/// assert_eq!(replay(Awesome::new(), (0..34).map(f64::from))[33], Some(14.5));
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Awesome {
    middles: Window<34, 48>,
}

impl Awesome {
    /// An oscillator that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Indicator for Awesome {
    type Input = f64;
    type Output = f64;

    #[inline]
    fn update(&mut self, middle: f64) -> Option<f64> {
        self.middles.push(middle);
        let [sum_5, sum_34] = nested_sums(&self.middles, [5, 34]);
        Some(sum_5? / 5.0 - sum_34? / 34.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{assert_close, walk};

    #[test]
    fn is_the_difference_of_the_plain_means() {
        let xs = walk(40, 200);
        let values = replay(Awesome::new(), xs.clone());
        assert!(values[..33].iter().all(Option::is_none));
        for i in 33..200 {
            let mean = |n: usize| xs[i + 1 - n..=i].iter().sum::<f64>() / n as f64;
            assert_close(values[i].unwrap(), mean(5) - mean(34), 1e-12);
        }
    }

    #[test]
    fn a_flat_market_is_at_zero() {
        assert_eq!(replay(Awesome::new(), [7.0; 40])[39], Some(0.0));
    }
}
