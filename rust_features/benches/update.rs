//! What one new candle costs. Times on a shared machine are worth their ratios: compare with `replayed`, the row of the same
//! candle computed from its history, as a server without state must.

use candlecast_features::{
    candle::{Candle, Values},
    catalog::NEED,
    engine::{Engine, WINDOW_LEN},
    extras::{Extras, OptionalInputs},
    market::{Input, Market, Settings, Windows},
};
use divan::{Bencher, black_box, counter::ItemsCount};

fn main() {
    println!("state of a symbol, without its rows: {} bytes", size_of::<candlecast_features::catalog::State>());
    divan::main();
}

const INTERVAL_MS: i64 = 900_000;
const SYMBOLS: usize = 1_000;

/// Candle `i` of an endless, lively market.
fn values(i: usize) -> Values {
    let price =
        |i: usize| 100.0 + 10.0 * (i as f64 * 0.011).sin() + 2.0 * (i as f64 * 0.37).sin() + (i % 7) as f64 * 0.05;
    let (open, close) = (price(i), price(i + 1));
    Values {
        interval_ms: INTERVAL_MS,
        open_time_ms: i as i64 * INTERVAL_MS,
        open,
        high: open.max(close) + 0.1,
        low: open.min(close) - 0.1,
        close,
        volume: 1_000.0 + (i % 97) as f64,
        quote_volume: (1_000.0 + (i % 97) as f64) * (open + close) / 2.0,
        trades: 100.0 + (i % 31) as f64,
        taker_buy_volume: 500.0 + (i % 89) as f64,
    }
}

fn candles(n: usize) -> Vec<Candle> {
    (0..n).map(|i| Candle::new(values(i), false, i64::MAX).expect("a good candle")).collect()
}

/// With every optional input: all columns have work to do.
fn extras(candle: &Candle) -> Extras {
    Extras::of(candle, Some(50.0 * candle.high), OptionalInputs::ALL)
}

fn warm(candles: &[Candle]) -> Engine {
    let mut engine = Engine::new();
    for candle in &candles[..NEED as usize] {
        engine.update(candle, extras(candle));
    }
    engine
}

/// One symbol, everything in cache.
#[divan::bench]
fn hot(bencher: Bencher) {
    let candles = candles(NEED as usize + 4_096);
    let (before, ahead) = candles.split_at(NEED as usize);
    let engine = warm(before);
    bencher.counter(ItemsCount::new(ahead.len())).with_inputs(|| engine.clone()).bench_local_refs(|engine| {
        for candle in black_box(ahead) {
            engine.update(candle, extras(candle));
        }
    });
}

/// A thousand symbols in turn: a bar closes everywhere.
#[divan::bench]
fn round_robin(bencher: Bencher) {
    let candles = candles(NEED as usize + 5_000);
    let mut engines: Vec<Box<Engine>> = (0..SYMBOLS).map(|_| Box::new(warm(&candles))).collect();
    let mut ahead = candles[NEED as usize..].iter();
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let candle = black_box(ahead.next().expect("enough candles"));
        for engine in &mut engines {
            engine.update(candle, extras(candle));
        }
    });
}

/// The same through the door of the market: check, look up, update, copy and hash the window.
#[divan::bench]
fn market_push(bencher: Bencher) {
    let mut market = Market::new(Settings::default());
    let mut windows = vec![0.0; SYMBOLS * WINDOW_LEN];
    let symbols: Vec<_> = (0..SYMBOLS).map(|i| format!("S{i}").parse()).collect();
    let batch = |i: usize| -> Vec<Input> {
        symbols.iter().map(|symbol| Input { symbol: *symbol, values: values(i), forming: false }).collect()
    };
    for i in 0..NEED as usize {
        market.push(&batch(i), i64::MAX, Windows::None);
    }
    let mut next = NEED as usize;
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let pushed = market.push(&batch(next), i64::MAX, Windows::F32(&mut windows));
        assert_eq!(pushed.ready, SYMBOLS);
        next += 1;
    });
}

/// The baseline: the newest row from the candles it needs.
#[divan::bench]
fn replayed(bencher: Bencher) {
    let candles = candles(NEED as usize);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| *warm(black_box(&candles)).newest());
}
