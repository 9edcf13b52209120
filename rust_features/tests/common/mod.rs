//! Markets for the tests, seeded so that a failure repeats.

// Each test file is a crate of its own and uses its share of this.
#![allow(dead_code)]

#[path = "../../src/oracle.rs"]
pub mod oracle;

use candlecast_features::{
    candle::{Candle, Values},
    catalog::{FEATURES, State, WIDTH},
    engine::Precision,
    extras::{Extras, OptionalInputs},
    market::{Input, Market, Outcome, Settings, Status, Verdict, Windows},
    symbol::Symbol,
};
use oracle::Dice;

pub const INTERVAL_MS: i64 = 900_000;
/// 2024-01-03 06:45 UTC: in the middle of every block, bucket and week.
pub const START_MS: i64 = 1_704_264_300_000;

/// A small market without optional inputs.
pub const SETTINGS: Settings = Settings {
    symbols_max: 10,
    conflicts_max: 3,
    used: OptionalInputs { quote_volume: false, trades: false, taker_buy_volume: false, reference: false },
    reference: None,
    threads: 1,
    rows: Precision::Single,
};

/// `n` candles of a lively market: trends, gaps, point bars, flat and volumeless stretches, prices on a grid, optional inputs with
/// holes.
pub fn lively(seed: u64, n: usize) -> Vec<Values> {
    let mut dice = Dice::new(seed);
    let mut price: f64 = 100.0;
    let tick = |x: f64| (x * 100.0).round().max(1.0) / 100.0;
    let mut candle = |i: usize| {
        let quiet = (i / 40) % 9 == 8;
        let step = |dice: &mut Dice| if quiet { 0.0 } else { 0.01 * (dice.unit() + dice.unit() - 1.0) };
        let open = if dice.below(10) == 0 { tick(price * (1.0 + step(&mut dice))) } else { tick(price) };
        price = (open * (1.0 + step(&mut dice))).clamp(1.0, 10_000.0);
        let close = tick(price);
        let is_point = dice.below(12) == 0;
        let wick = |dice: &mut Dice| if quiet || is_point { 0.0 } else { tick(0.004 * price * dice.unit()) };
        let (open, high, low) = if is_point {
            (close, close, close)
        } else {
            (open, tick(open.max(close) + wick(&mut dice)), tick(open.min(close) - wick(&mut dice)))
        };
        let volume = if quiet { 0.0 } else { (1e4 * dice.unit()).round() };
        let mut sometimes = |x: f64| if dice.below(40) == 0 { f64::NAN } else { x };
        Values {
            quote_volume: sometimes(volume * (low + 0.3 * (high - low))),
            trades: sometimes((volume / 10.0).ceil()),
            taker_buy_volume: sometimes(volume * ((i % 11) as f64) / 10.0),
            ..at(i, [open, high, low, close], volume)
        }
    };
    (0..n).map(&mut candle).collect()
}

/// `n` candles whose close follows `price`, open at the close before.
pub fn following(n: usize, price: impl Fn(usize) -> f64, volume: f64) -> Vec<Values> {
    let candle = |i: usize| {
        let (open, close) = (price(i.saturating_sub(1)), price(i));
        at(i, [open, open.max(close), open.min(close), close], volume)
    };
    (0..n).map(candle).collect()
}

/// Candle `i` with the given open, high, low and close.
pub fn at(i: usize, [open, high, low, close]: [f64; 4], volume: f64) -> Values {
    let open_time_ms = START_MS + i as i64 * INTERVAL_MS;
    Values { interval_ms: INTERVAL_MS, open_time_ms, open, high, low, close, volume, ..Values::default() }
}

/// Rows in f64, one per candle, without optional inputs.
pub fn plain_rows(candles: &[Values]) -> Vec<[f64; WIDTH]> {
    let mut state = State::new();
    let mut row = |values: &Values| {
        state.update(&Candle::new(*values, false, i64::MAX).expect("a good candle"), Extras::default())
    };
    candles.iter().map(&mut row).collect()
}

/// Rows in f64, one per candle, with every optional input.
pub fn rows(candles: &[Values]) -> Vec<[f64; WIDTH]> {
    let mut state = Box::<State>::default();
    candles.iter().map(|values| advance(&mut state, values)).collect()
}

/// The row after one more candle, with every optional input.
pub fn advance(state: &mut State, values: &Values) -> [f64; WIDTH] {
    let candle = Candle::new(*values, false, i64::MAX).expect("a good candle");
    state.update(&candle, Extras::of(values, Some(reference_close(values)), OptionalInputs::ALL))
}

/// The close of another market at the same time: related, but not the same.
pub fn reference_close(values: &Values) -> f64 {
    let mut dice = Dice::new(values.close.to_bits() ^ values.volume.to_bits());
    1_000.0 * values.close.powf(0.7) * (1.0 + 0.01 * dice.unit())
}

/// Bits of a row: NaN equals NaN, and nothing else is nearly equal.
pub fn bits(row: &[f64; WIDTH]) -> [u64; WIDTH] {
    row.map(f64::to_bits)
}

/// The column of a feature.
pub fn column(name: &str) -> usize {
    FEATURES.iter().position(|feature| feature.name == name).expect("a feature of the catalogue")
}

/// A name, parsed.
pub fn symbol(name: &str) -> Symbol {
    name.parse().expect("a good name")
}

/// A closed candle of BTCUSDT.
pub fn closed(values: Values) -> Input {
    Input { symbol: "BTCUSDT".parse(), values, forming: false }
}

/// The same bar, not over yet.
pub fn forming(values: Values) -> Input {
    Input { forming: true, ..closed(values) }
}

/// A closed candle of another symbol.
pub fn of(name: &str, values: Values) -> Input {
    Input { symbol: name.parse(), ..closed(values) }
}

/// One candle, no window wanted.
pub fn push(market: &mut Market, input: Input) -> Outcome {
    market.push(&[input], i64::MAX, Windows::None).outcomes[0]
}

/// A market that has seen these candles of BTCUSDT.
pub fn having_seen(candles: &[Values]) -> Market {
    let mut market = Market::new(SETTINGS);
    let batch: Vec<Input> = candles.iter().copied().map(closed).collect();
    assert!(market.push(&batch, i64::MAX, Windows::None).outcomes.iter().all(|o| o.verdict == Verdict::Accepted));
    market
}

/// Everything the market says of BTCUSDT, bit by bit.
pub fn standing(market: &Market) -> (Vec<u32>, Status) {
    let bits = market.rows(symbol("BTCUSDT"), INTERVAL_MS).into_iter().map(f32::to_bits).collect();
    (bits, status(market))
}

/// Where BTCUSDT stands.
pub fn status(market: &Market) -> Status {
    market.status(symbol("BTCUSDT"), INTERVAL_MS, START_MS)
}

/// The same candle with other values.
pub fn other(values: Values) -> Values {
    Values { volume: values.volume + 1.0, ..values }
}
