//! The border: a candle is checked once, in [`Candle::new`], and trusted after. It knows no symbol and no history.

use std::ops::{Deref, RangeInclusive};

use crate::codes::codes;

/// A clock may differ from ours by this much before a candle counts as coming from the future.
pub const CLOCK_SKEW_MAX_MS: i64 = 2_000;

/// Interval lengths: one second to one week.
pub const INTERVAL_MS: RangeInclusive<i64> = 1_000..=604_800_000;

/// Prices a market can plausibly have. Far inside f64, so no sum or square of them overflows or becomes denormal.
pub const PRICE: RangeInclusive<f64> = 1e-12..=1e15;

/// Volumes (base, quote, taker, number of trades) above zero, for the same reason.
pub const AMOUNT: RangeInclusive<f64> = 1e-18..=1e24;

codes! {
    /// The field a refusal speaks of.
    Field {
        /// Name of the market.
        Symbol = "symbol",
        /// Length of the bar.
        IntervalMs = "interval_ms",
        /// Start of the bar.
        OpenTimeMs = "open_time_ms",
        /// First price.
        Open = "open",
        /// Highest price.
        High = "high",
        /// Lowest price.
        Low = "low",
        /// Last price.
        Close = "close",
        /// Base volume.
        Volume = "volume",
        /// Quote volume.
        QuoteVolume = "quote_volume",
        /// Number of trades.
        Trades = "trades",
        /// Base volume bought by takers.
        TakerBuyVolume = "taker_buy_volume",
    }
}

codes! {
    /// Why a candle was refused.
    Reason {
        /// Not 1–32 characters of `[A-Z0-9._:/-]`.
        BadSymbol = "BAD_SYMBOL",
        /// Not within [`INTERVAL_MS`].
        BadInterval = "BAD_INTERVAL",
        /// Not a multiple of the interval.
        Unaligned = "UNALIGNED",
        /// Known only later than now.
        InFuture = "IN_FUTURE",
        /// NaN or infinite.
        NotFinite = "NOT_FINITE",
        /// A price of zero or below.
        NotPositive = "NOT_POSITIVE",
        /// A volume or time below zero.
        Negative = "NEGATIVE",
        /// Finite, but no market has it: outside [`PRICE`] or [`AMOUNT`].
        OutOfRange = "OUT_OF_RANGE",
        /// Open or close above the high or below the low.
        OutsideHighLow = "OUTSIDE_HIGH_LOW",
        /// High below low.
        HighBelowLow = "HIGH_BELOW_LOW",
        /// The market holds as many symbols as it may.
        SymbolLimit = "SYMBOL_LIMIT",
    }
}

/// What was wrong, and with which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field.
    pub field: Field,
    /// The reason.
    pub reason: Reason,
}

/// A candle as it was sent, unchecked. NaN = absent, in the last three.
#[derive(Clone, Copy, Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Values {
    /// Length of the bar.
    pub interval_ms: i64,
    /// Start of the bar, UTC.
    pub open_time_ms: i64,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Base volume.
    pub volume: f64,
    /// Quote volume.
    pub quote_volume: f64,
    /// Number of trades.
    pub trades: f64,
    /// Base volume bought by takers.
    pub taker_buy_volume: f64,
}

impl Default for Values {
    /// Nothing yet: no price, no volume, the optional inputs absent. [`Candle::new`] refuses it.
    fn default() -> Self {
        let (interval_ms, open_time_ms) = (900_000, 0);
        let (open, high, low, close, volume) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (quote_volume, trades, taker_buy_volume) = (f64::NAN, f64::NAN, f64::NAN);
        Self { interval_ms, open_time_ms, open, high, low, close, volume, quote_volume, trades, taker_buy_volume }
    }
}

impl Values {
    /// When the candle is known. Saturates: an absurd time is refused later, by name.
    pub fn close_time_ms(&self) -> i64 {
        self.open_time_ms.saturating_add(self.interval_ms)
    }
}

/// A candle that was checked. Reads like its [`Values`].
#[derive(Clone, Copy, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Candle(Values);

impl Deref for Candle {
    type Target = Values;

    #[inline]
    fn deref(&self) -> &Values {
        &self.0
    }
}

impl Candle {
    /// Checks a candle as of `now_ms`. A closed candle must be over by now, a forming one must have begun.
    ///
    /// ```
    /// use candlecast_features::candle::{Candle, Field, Reason, Values};
    ///
    /// let good = Values { open: 10.0, high: 12.0, low: 9.0, close: 11.0, ..Values::default() };
    /// assert_eq!(Candle::new(good, false, 900_000).unwrap().close, 11.0);
    ///
    /// let refusal = Candle::new(Values { high: 10.5, ..good }, false, 900_000).unwrap_err();
    /// assert_eq!((refusal.field, refusal.reason), (Field::Close, Reason::OutsideHighLow));
    /// ```
    pub fn new(values: Values, forming: bool, now_ms: i64) -> Result<Self, Refusal> {
        check_times(&values, forming, now_ms)?;
        let prices = [
            (Field::Open, values.open),
            (Field::High, values.high),
            (Field::Low, values.low),
            (Field::Close, values.close),
        ];
        for (field, price) in prices {
            refuse(!price.is_finite(), field, Reason::NotFinite)?;
            refuse(price <= 0.0, field, Reason::NotPositive)?;
            refuse(!PRICE.contains(&price), field, Reason::OutOfRange)?;
        }
        refuse(values.high < values.low, Field::High, Reason::HighBelowLow)?;
        for (field, price) in [prices[0], prices[3]] {
            refuse(!(values.low..=values.high).contains(&price), field, Reason::OutsideHighLow)?;
        }
        Ok(Self(Values {
            volume: amount(Field::Volume, values.volume)?,
            quote_volume: optional(Field::QuoteVolume, values.quote_volume)?,
            trades: optional(Field::Trades, values.trades)?,
            taker_buy_volume: optional(Field::TakerBuyVolume, values.taker_buy_volume)?,
            ..values
        }))
    }

    /// The candle of a bar in which nothing was traded: what fills a gap after `self`.
    pub fn followed_by_silence(&self) -> Self {
        let price = self.close;
        Self(Values {
            interval_ms: self.interval_ms,
            open_time_ms: self.close_time_ms(),
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0.0,
            quote_volume: 0.0,
            trades: 0.0,
            taker_buy_volume: 0.0,
        })
    }
}

fn refuse(wrong: bool, field: Field, reason: Reason) -> Result<(), Refusal> {
    if wrong { Err(Refusal { field, reason }) } else { Ok(()) }
}

fn check_times(values: &Values, forming: bool, now_ms: i64) -> Result<(), Refusal> {
    refuse(!INTERVAL_MS.contains(&values.interval_ms), Field::IntervalMs, Reason::BadInterval)?;
    refuse(values.open_time_ms < 0, Field::OpenTimeMs, Reason::Negative)?;
    refuse(values.open_time_ms % values.interval_ms != 0, Field::OpenTimeMs, Reason::Unaligned)?;
    let known_at = if forming { values.open_time_ms } else { values.close_time_ms() };
    refuse(known_at > now_ms.saturating_add(CLOCK_SKEW_MAX_MS), Field::OpenTimeMs, Reason::InFuture)
}

/// A volume: zero or plausible.
fn amount(field: Field, value: f64) -> Result<f64, Refusal> {
    refuse(!value.is_finite(), field, Reason::NotFinite)?;
    refuse(value < 0.0, field, Reason::Negative)?;
    refuse(value > 0.0 && !AMOUNT.contains(&value), field, Reason::OutOfRange)?;
    // -0.0 is 0.0: one candle must have one digest.
    Ok(value + 0.0)
}

/// An amount that may be absent, under the one NaN.
fn optional(field: Field, value: f64) -> Result<f64, Refusal> {
    if value.is_nan() { Ok(f64::NAN) } else { amount(field, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Values = Values {
        interval_ms: 900_000,
        open_time_ms: 1_700_000_100_000,
        open: 10.0,
        high: 12.0,
        low: 9.0,
        close: 11.0,
        volume: 3.0,
        quote_volume: 31.0,
        trades: 7.0,
        taker_buy_volume: 1.5,
    };
    const NOW: i64 = 1_700_001_000_000;

    fn refusal(values: Values) -> (Field, Reason) {
        let refusal = Candle::new(values, false, NOW).expect_err("must be refused");
        (refusal.field, refusal.reason)
    }

    /// Sets one field by its public name.
    fn with(field: Field, x: f64) -> Values {
        let mut values = GOOD;
        *match field {
            Field::Open => &mut values.open,
            Field::High => &mut values.high,
            Field::Low => &mut values.low,
            Field::Close => &mut values.close,
            Field::Volume => &mut values.volume,
            Field::QuoteVolume => &mut values.quote_volume,
            Field::Trades => &mut values.trades,
            Field::TakerBuyVolume => &mut values.taker_buy_volume,
            Field::Symbol | Field::IntervalMs | Field::OpenTimeMs => unreachable!("not a number"),
        } = x;
        values
    }

    #[test]
    fn a_good_candle_is_taken_as_it_is() {
        assert_eq!(*Candle::new(GOOD, false, NOW).unwrap(), GOOD);
    }

    #[test]
    fn impossible_prices_are_refused_with_their_field() {
        for field in [Field::Open, Field::High, Field::Low, Field::Close] {
            for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(refusal(with(field, x)), (field, Reason::NotFinite));
            }
            for x in [0.0, -0.0, -1.0] {
                assert_eq!(refusal(with(field, x)), (field, Reason::NotPositive));
            }
            for x in [1e300, f64::MIN_POSITIVE, 5e-324] {
                assert_eq!(refusal(with(field, x)), (field, Reason::OutOfRange));
            }
        }
    }

    #[test]
    fn impossible_volumes_are_refused_with_their_field() {
        for field in [Field::Volume, Field::QuoteVolume, Field::Trades, Field::TakerBuyVolume] {
            assert_eq!(refusal(with(field, f64::INFINITY)), (field, Reason::NotFinite));
            assert_eq!(refusal(with(field, -1.0)), (field, Reason::Negative));
            assert_eq!(refusal(with(field, 1e300)), (field, Reason::OutOfRange));
            assert_eq!(refusal(with(field, 5e-324)), (field, Reason::OutOfRange));
            assert!(Candle::new(with(field, 0.0), false, NOW).is_ok());
        }
        assert_eq!(refusal(with(Field::Volume, f64::NAN)), (Field::Volume, Reason::NotFinite));
    }

    #[test]
    fn absent_optional_inputs_are_fine() {
        for field in [Field::QuoteVolume, Field::Trades, Field::TakerBuyVolume] {
            assert!(Candle::new(with(field, f64::NAN), false, NOW).is_ok());
        }
    }

    #[test]
    fn prices_outside_high_and_low_are_refused() {
        assert_eq!(refusal(with(Field::High, 8.0)), (Field::High, Reason::HighBelowLow));
        assert_eq!(refusal(with(Field::Open, 12.5)), (Field::Open, Reason::OutsideHighLow));
        assert_eq!(refusal(with(Field::Close, 8.5)), (Field::Close, Reason::OutsideHighLow));
    }

    #[test]
    fn times_are_refused_when_negative_unaligned_or_ahead() {
        let at = |open_time_ms| Values { open_time_ms, ..GOOD };
        assert_eq!(refusal(at(-900_000)), (Field::OpenTimeMs, Reason::Negative));
        assert_eq!(refusal(at(1)), (Field::OpenTimeMs, Reason::Unaligned));
        assert_eq!(refusal(at(GOOD.open_time_ms + 900_000)), (Field::OpenTimeMs, Reason::InFuture));
        assert_eq!(refusal(at(i64::MAX - i64::MAX % 900_000)), (Field::OpenTimeMs, Reason::InFuture));
    }

    #[test]
    fn a_clock_two_seconds_ahead_is_believed_and_no_more() {
        let closes_at = GOOD.close_time_ms();
        assert!(Candle::new(GOOD, false, closes_at - 2_000).is_ok());
        assert!(Candle::new(GOOD, false, closes_at - 2_001).is_err());
        assert!(Candle::new(GOOD, true, GOOD.open_time_ms - 2_000).is_ok());
        assert!(Candle::new(GOOD, true, GOOD.open_time_ms - 2_001).is_err());
    }

    #[test]
    fn intervals_outside_a_second_and_a_week_are_refused() {
        for interval_ms in [i64::MIN, -1, 0, 999, 604_800_001, i64::MAX] {
            assert_eq!(refusal(Values { interval_ms, ..GOOD }), (Field::IntervalMs, Reason::BadInterval));
        }
    }

    #[test]
    fn silence_is_flat_at_the_previous_close() {
        let silence = Candle::new(GOOD, false, NOW).unwrap().followed_by_silence();
        assert_eq!(silence.open_time_ms, GOOD.open_time_ms + GOOD.interval_ms);
        assert_eq!([silence.open, silence.high, silence.low, silence.close], [11.0; 4]);
        assert_eq!([silence.volume, silence.quote_volume, silence.trades, silence.taker_buy_volume], [0.0; 4]);
    }
}
