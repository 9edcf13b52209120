//! What one new candle costs. Times on a shared machine are worth their ratios: compare with `replayed`, the row of the same
//! candle computed from its history, as a server without state must.

use std::time::Instant;

use candlecast_features::{
    candle::{Candle, Refusal, Values},
    catalog::{NEED, State},
    engine::{Engine, Precision, Room, TOGETHER_MAX, WINDOW_LEN},
    extras::{Extras, OptionalInputs},
    market::{Input, Market, Settings, Windows},
    symbol::Symbol,
};
use divan::{Bencher, black_box, counter::ItemsCount};

fn main() {
    println!("state of a symbol, without its rows: {} bytes", size_of::<State>());
    let (median, worst) = on_a_monotone_trend();
    println!("on a monotone trend: median {median} ns, worst single update {worst} ns, {:.2} times", worst / median);
    divan::main();
}

/// Median and worst of single updates on a rise without end, after a fall as long. Of each update the best of many rounds counts:
/// what is left is the core's own, not its neighbours'.
fn on_a_monotone_trend() -> (f64, f64) {
    const ROUNDS: usize = 200;
    let trend = |i: usize| {
        let close = 1_000.0 + (i as f64 - 2_000.0).abs();
        Values { open: close, high: close + 0.5, low: close - 0.5, close, ..values(i) }
    };
    let candles: Vec<Candle> =
        (0..4_000).map(|i| Candle::new(trend(i), false, i64::MAX).expect("a good candle")).collect();
    let (before, ahead) = candles.split_at(1_900);
    let mut start = Engine::new(Precision::Single);
    before.iter().for_each(|candle| start.update(candle, extras(candle)));
    let mut best = vec![f64::MAX; ahead.len()];
    for _ in 0..ROUNDS {
        let mut engine = start.clone();
        for (candle, best) in ahead.iter().zip(&mut best) {
            let began = Instant::now();
            engine.update(black_box(candle), extras(candle));
            *best = best.min(began.elapsed().as_nanos() as f64);
        }
    }
    best.sort_by(f64::total_cmp);
    (best[best.len() / 2], best[best.len() - 1])
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

fn warm(candles: &[Candle], precision: Precision) -> Engine {
    let mut engine = Engine::new(precision);
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
    let engine = warm(before, Precision::Single);
    bencher.counter(ItemsCount::new(ahead.len())).with_inputs(|| engine.clone()).bench_local_refs(|engine| {
        for candle in black_box(ahead) {
            engine.update(candle, extras(candle));
        }
    });
}

/// A thousand symbols in turn, as the market moves them: a bar closes everywhere.
#[divan::bench]
fn round_robin(bencher: Bencher) {
    let candles = candles(NEED as usize + 5_000);
    let mut engines: Vec<Box<Engine>> = (0..SYMBOLS).map(|_| Box::new(warm(&candles, Precision::Single))).collect();
    let mut ahead = candles[NEED as usize..].iter();
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let candle = black_box(ahead.next().expect("enough candles"));
        let mut rest = engines.as_mut_slice();
        while !rest.is_empty() {
            let (now, after) = rest.split_at_mut(TOGETHER_MAX.min(rest.len()));
            let next: Vec<&Engine> = after.iter().take(TOGETHER_MAX).map(|engine| &**engine).collect();
            let mut now: Vec<&mut Engine> = now.iter_mut().map(|engine| &mut **engine).collect();
            let bars = [(*candle, extras(candle)); TOGETHER_MAX];
            Engine::update_each(&mut now, &bars, &next);
            rest = after;
        }
    });
}

/// The same one by one.
#[divan::bench]
fn round_robin_alone(bencher: Bencher) {
    let candles = candles(NEED as usize + 5_000);
    let mut engines: Vec<Box<Engine>> = (0..SYMBOLS).map(|_| Box::new(warm(&candles, Precision::Single))).collect();
    let mut ahead = candles[NEED as usize..].iter();
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let candle = black_box(ahead.next().expect("enough candles"));
        for engine in &mut engines {
            engine.update(candle, extras(candle));
        }
    });
}

/// A market of a thousand READY symbols, and the candles that come next.
fn market(threads: usize) -> (Market, Vec<Result<Symbol, Refusal>>) {
    let settings = Settings { used: OptionalInputs::ALL, reference: "S0".parse().ok(), threads, ..Settings::default() };
    let (mut market, symbols) =
        (Market::new(settings), (0..SYMBOLS).map(|i| format!("S{i}").parse()).collect::<Vec<_>>());
    for i in 0..NEED as usize {
        market.push(&batch(&symbols, i), i64::MAX, Windows::None);
    }
    (market, symbols)
}

/// Candle `i` of every symbol.
fn batch(symbols: &[Result<Symbol, Refusal>], i: usize) -> Vec<Input> {
    symbols.iter().map(|symbol| Input { symbol: *symbol, values: values(i), forming: false }).collect()
}

/// A thousand symbols through the door of the market: check, look up, update. No windows.
#[divan::bench(args = [1, 2])]
fn market_push(bencher: Bencher, threads: usize) {
    let (mut market, symbols) = market(threads);
    let mut next = NEED as usize;
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        market.push(&batch(&symbols, next), i64::MAX, Windows::None);
        next += 1;
    });
}

/// The same, and every window copied and hashed.
#[divan::bench(args = [1, 2])]
fn market_push_windows(bencher: Bencher, threads: usize) {
    let (mut market, symbols) = market(threads);
    let mut windows = vec![0.0; SYMBOLS * WINDOW_LEN];
    let mut next = NEED as usize;
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let pushed = market.push(&batch(&symbols, next), i64::MAX, Windows::F32(&mut windows));
        assert_eq!(pushed.ready, SYMBOLS);
        next += 1;
    });
}

/// How rows are kept, as it is called elsewhere.
const RINGS: [&str; 2] = ["f32", "f16"];

fn precision(ring: &str) -> Precision {
    if ring == "f16" { Precision::Half } else { Precision::Single }
}

/// The newest window of a thousand symbols in turn: cold, because as much as a thousand went by since the last time.
#[divan::bench(args = RINGS)]
fn window_f32_of_ring(bencher: Bencher, ring: &str) {
    let engines = engines(precision(ring));
    let mut window = vec![0.0; WINDOW_LEN];
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        engines.iter().for_each(|engine| engine.write_window(Room::F32(&mut window)));
    });
}

/// The same as float16.
#[divan::bench(args = RINGS)]
fn window_f16_of_ring(bencher: Bencher, ring: &str) {
    let engines = engines(precision(ring));
    let mut window = vec![half::f16::ZERO; WINDOW_LEN];
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        engines.iter().for_each(|engine| engine.write_window(Room::F16(&mut window)));
    });
}

/// Every window into a place of its own, as cold as where it comes from.
#[divan::bench]
fn windows_f32_far(bencher: Bencher) {
    let engines = engines(Precision::Single);
    let mut windows = vec![0.0; SYMBOLS * WINDOW_LEN];
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let places = windows.chunks_exact_mut(WINDOW_LEN);
        engines.iter().zip(places).for_each(|(engine, place)| engine.write_window_far(Room::F32(place)));
    });
}

/// The same as float16.
#[divan::bench]
fn windows_f16_far(bencher: Bencher) {
    let engines = engines(Precision::Single);
    let mut windows = vec![half::f16::ZERO; SYMBOLS * WINDOW_LEN];
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let places = windows.chunks_exact_mut(WINDOW_LEN);
        engines.iter().zip(places).for_each(|(engine, place)| engine.write_window_far(Room::F16(place)));
    });
}

/// The least a cold window can cost: its bytes, copied.
#[divan::bench]
fn windows_copied(bencher: Bencher) {
    let (from, mut to) = (vec![1.0_f32; SYMBOLS * WINDOW_LEN], vec![0.0; SYMBOLS * WINDOW_LEN]);
    bencher.counter(ItemsCount::new(SYMBOLS)).bench_local(|| {
        let places = to.chunks_exact_mut(WINDOW_LEN).zip(from.chunks_exact(WINDOW_LEN));
        places.for_each(|(to, from)| black_box(to).copy_from_slice(black_box(from)));
    });
}

fn engines(precision: Precision) -> Vec<Box<Engine>> {
    let candles = candles(NEED as usize);
    (0..SYMBOLS).map(|_| Box::new(warm(&candles, precision))).collect()
}

/// One symbol to bytes, checksum included.
#[divan::bench]
fn snapshot(bencher: Bencher) {
    let (market, symbols) = market(1);
    let symbol = symbols[1].expect("a good name");
    let mut bytes = Vec::new();
    bencher.bench_local(|| market.snapshot_into(symbol, INTERVAL_MS, &mut bytes));
}

/// One symbol back from bytes, checksum included.
#[divan::bench]
fn restore(bencher: Bencher) {
    let (mut market, symbols) = market(1);
    let snapshot = market.snapshot(symbols[1].expect("a good name"), INTERVAL_MS).expect("a known symbol");
    bencher.bench_local(|| market.restore(&snapshot));
}

/// The baseline: the newest row from the candles it needs.
#[divan::bench]
fn replayed(bencher: Bencher) {
    let candles = candles(NEED as usize);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| *warm(black_box(&candles), Precision::Single).newest());
}
