//! What one new candle costs. Times on a shared machine are worth their ratios: compare with `replayed`, the row of the same
//! candle computed from its history, as a server without state must.

use candlecast_features::{
    candle::{Candle, Values},
    catalog::NEED,
    engine::{Engine, WINDOW_LEN},
    extras::Extras,
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
        ..Values::default()
    }
}

fn candles(n: usize) -> Vec<Candle> {
    (0..n).map(|i| Candle::new(values(i), false, i64::MAX).expect("a good candle")).collect()
}

fn warm(candles: &[Candle]) -> Engine {
    let mut engine = Engine::new();
    for candle in &candles[..NEED as usize] {
        engine.update(candle, Extras::default());
    }
    engine
}

/// One symbol, everything in cache.
#[divan::bench]
fn hot(bencher: Bencher) {
    let candles = candles(4_096);
    let mut engine = warm(&candles);
    bencher.counter(ItemsCount::new(candles.len())).bench_local(|| {
        for candle in black_box(&candles) {
            engine.update(candle, Extras::default());
        }
    });
}

/// A thousand symbols in turn: a bar closes everywhere.
#[divan::bench]
fn round_robin(bencher: Bencher) {
    let candles = candles(4_096);
    let mut engines: Vec<Engine> = (0..SYMBOLS).map(|_| warm(&candles)).collect();
    let mut next = 0;
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        for engine in &mut engines {
            engine.update(black_box(&candles[next % candles.len()]), Extras::default());
        }
        next += 1;
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
