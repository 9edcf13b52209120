//! What every stateful indicator is: one value in, perhaps one value out. It knows no candle and no catalogue.

/// An indicator fed one input per bar.
///
/// `None` means *not warm yet*, never *no value this time*: once an indicator has answered, it answers for ever. That
/// makes nesting a matter of `?`, and an outer indicator is seeded on the first defined values of the inner one.
///
/// ```
/// use candlecast_features::{average::Ema, indicator::Indicator};
///
/// let (mut inner, mut outer) = (Ema::new(2), Ema::new(2));
/// let mut double = |x| outer.update(inner.update(x)?);
/// assert_eq!([double(1.0), double(3.0), double(2.0)], [None, None, Some(2.0)]);
/// ```
pub trait Indicator {
    /// What one bar brings.
    type Input;
    /// What one bar yields once warm.
    type Output;

    /// Takes the next bar.
    fn update(&mut self, input: Self::Input) -> Option<Self::Output>;
}

/// Feeds `inputs` one by one: history is the live update in a loop.
///
/// ```
/// use candlecast_features::{average::Ema, indicator::replay};
///
/// assert_eq!(replay(Ema::new(2), [1.0, 3.0, 2.0]), [None, Some(2.0), Some(2.0)]);
/// ```
pub fn replay<I: Indicator>(mut indicator: I, inputs: impl IntoIterator<Item = I::Input>) -> Vec<Option<I::Output>> {
    inputs.into_iter().map(|input| indicator.update(input)).collect()
}
