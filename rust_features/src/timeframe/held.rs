//! An indicator of a slower series: between two of its inputs it stands still.

use crate::indicator::Indicator;

/// Feeds `I` when there is an input and repeats its last output when there is none.
///
/// ```
/// use candlecast_features::{average::Ema, indicator::{Indicator, replay}, timeframe::Held};
///
/// let values = replay(Held::new(Ema::new(2)), [Some(1.0), None, Some(3.0), None]);
/// assert_eq!(values, [None, None, Some(2.0), Some(2.0)]);
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Held<I: Indicator, O = <I as Indicator>::Output> {
    indicator: I,
    output: Option<O>,
}

impl<I: Indicator> Held<I> {
    /// Holds what `indicator` gives.
    pub fn new(indicator: I) -> Self {
        Self { indicator, output: None }
    }
}

impl<I: Indicator<Output: Copy>> Indicator for Held<I> {
    type Input = Option<I::Input>;
    type Output = I::Output;

    #[inline]
    fn update(&mut self, input: Option<I::Input>) -> Option<I::Output> {
        if let Some(input) = input {
            self.output = self.indicator.update(input);
        }
        self.output
    }
}
