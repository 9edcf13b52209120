//! What comes with a candle and may be absent, and which of it a market uses.

use crate::candle::Values;

/// The optional inputs in use. A part of the feature-set hash: what a model was trained without must not reach it later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalInputs {
    /// The candle's quote volume.
    pub quote_volume: bool,
    /// The candle's number of trades.
    pub trades: bool,
    /// The candle's base volume bought by takers.
    pub taker_buy_volume: bool,
    /// The close of the reference symbol.
    pub reference: bool,
}

impl OptionalInputs {
    /// Every one.
    pub const ALL: Self = Self { quote_volume: true, trades: true, taker_buy_volume: true, reference: true };

    /// The public names, in their order.
    pub const NAMES: [&str; 4] = ["quote_volume", "trades", "taker_buy_volume", "reference"];

    /// Those of the given names; the first unknown name otherwise.
    ///
    /// ```
    /// use candlecast_features::extras::OptionalInputs;
    ///
    /// assert!(OptionalInputs::named(["trades"]).unwrap().trades);
    /// assert_eq!(OptionalInputs::named(["moon"]), Err("moon"));
    /// ```
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut used = Self::default();
        for name in names {
            *match name {
                "quote_volume" => &mut used.quote_volume,
                "trades" => &mut used.trades,
                "taker_buy_volume" => &mut used.taker_buy_volume,
                "reference" => &mut used.reference,
                _ => return Err(name),
            } = true;
        }
        Ok(used)
    }

    /// The names of those in use.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let used = [self.quote_volume, self.trades, self.taker_buy_volume, self.reference];
        Self::NAMES.into_iter().zip(used).filter_map(|(name, used)| used.then_some(name))
    }
}

/// The optional inputs of one bar. `None`: absent, or not in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Extras {
    /// Quote volume.
    pub quote_volume: Option<f64>,
    /// Number of trades.
    pub trades: Option<f64>,
    /// Base volume bought by takers.
    pub taker_buy_volume: Option<f64>,
    /// Close of the reference symbol's bar of the same time.
    pub reference_close: Option<f64>,
}

impl Extras {
    /// What is present and in use.
    pub fn of(candle: &Values, reference_close: Option<f64>, used: OptionalInputs) -> Self {
        let present = |value: f64, used: bool| (used && !value.is_nan()).then_some(value);
        Self {
            quote_volume: present(candle.quote_volume, used.quote_volume),
            trades: present(candle.trades, used.trades),
            taker_buy_volume: present(candle.taker_buy_volume, used.taker_buy_volume),
            reference_close: reference_close.filter(|_| used.reference),
        }
    }
}
