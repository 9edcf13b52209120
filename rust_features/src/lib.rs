//! candlecast-features: one closed candle in, one row of features out.
//!
//! From the bottom up:
//!
//! | module | what it knows |
//! |---|---|
//! | [`math`] | numbers: logarithms, several at a time |
//! | [`indicator`] | the trait every stateful indicator has, and `replay` |
//! | [`rolling`] | windows over the last n values and what falls out of them |
//! | [`timeframe`] | the bars of higher timeframes |
//! | [`average`], [`momentum`], [`volatility`], [`trend`], [`volume`], [`statistics`], [`levels`], [`cross`] | one indicator per file |
//! | [`shared`] | what every feature group reads of a bar: prices, returns, the scales A and S |
//! | [`catalog`] | THE feature list: one line per feature, one file per group |
//! | [`candle`], [`extras`], [`symbol`] | the border: checked once, trusted after |
//! | [`engine`] | one symbol: candle in, row out, the last rows kept |
//! | [`market`] | many symbols: batches in, windows out, every candle answered |
//! | [`order_flow`] | one symbol's trades and book: the three features of the gate |
//! | [`interpretation`] | what a model's outputs mean |
//! | [`portfolio`] | signals, open positions and returns: the filters that remember |
//! | [`snapshot`] | a symbol as bytes, checked when it comes back |
//!
//! History is the live update in a loop, so training and serving cannot differ.
//!
//! ```
//! use candlecast_features::{candle::Values, catalog, market::{Input, Market, Settings, Verdict, Windows}};
//!
//! let mut market = Market::new(Settings::default());
//! let candle = Values { interval_ms: 900_000, open: 10.0, high: 12.0, low: 9.0, close: 11.0, volume: 5.0, ..Values::default() };
//! let input = Input { symbol: "BTCUSDT".parse(), values: candle, forming: false };
//!
//! let outcome = market.push(&[input], 900_000, Windows::None).outcomes[0];
//! assert_eq!(outcome.verdict, Verdict::Accepted);
//! assert_eq!(outcome.have, 1);
//!
//! let rows = market.rows("BTCUSDT".parse().unwrap(), 900_000);
//! let body_ratio = catalog::FEATURES.iter().position(|feature| feature.name == "body_ratio").unwrap();
//! assert_eq!(rows[body_ratio], 1.0 / 3.0);
//! ```

pub mod average;
pub mod candle;
pub mod catalog;
mod codes;
pub mod cross;
pub mod engine;
pub mod extras;
pub mod indicator;
pub mod interpretation;
mod jobs;
mod ledger;
pub mod levels;
pub mod market;
pub mod math;
mod memory;
pub mod momentum;
pub mod order_flow;
pub mod portfolio;
#[cfg(feature = "python")]
mod python;
mod reference;
mod ring;
pub mod rolling;
pub mod shared;
pub mod snapshot;
pub mod statistics;
pub mod symbol;
pub mod timeframe;
pub mod trend;
pub mod volatility;
pub mod volume;

#[cfg(test)]
mod oracle;
