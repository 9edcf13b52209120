//! What one trade costs, its features read after it; one core. Asked for: 5 million trades a second.

use candlecast_features::order_flow::{
    OrderFlow, Quote,
    flows::{Batch, OrderFlows},
    prices::Trade,
};
use candlecast_features::symbol::Symbol;
use divan::{Bencher, black_box, counter::ItemsCount};

fn main() {
    divan::main();
}

const TRADES: usize = 100_000;
const STALE_MS: i64 = 5_000;
/// One trade every so many ms: windows of 30 s are full of 600 trades.
const PAUSE_MS: i64 = 20;

fn trade(i: usize) -> Trade {
    let step = ((i * 2_654_435_761) >> 7) % 11;
    Trade { ts: i as i64 * PAUSE_MS, id: i as i64, price: 100.0 + step as f64 * 0.1, qty: 0.5 + (i % 5) as f64 }
}

fn quote(i: usize) -> Quote {
    Quote { ts: i as i64 * PAUSE_MS, bid: 99.9, bid_size: 1.0 + (i % 7) as f64, ask: 100.1, ask_size: 2.0 }
}

/// One symbol, a quote every tenth trade.
#[divan::bench]
fn one_symbol(bencher: Bencher) {
    let trades: Vec<Trade> = (0..TRADES).map(trade).collect();
    bencher.counter(ItemsCount::new(TRADES)).with_inputs(|| OrderFlow::new(STALE_MS)).bench_local_refs(|flow| {
        for (i, trade) in trades.iter().enumerate() {
            if i % 10 == 0 {
                flow.quote(quote(i));
            }
            flow.trade(*trade);
            black_box(flow.newest().columns());
        }
    });
}

/// A thousand symbols in turn, batches of a hundred trades: their states come from memory each time.
#[divan::bench]
fn many_symbols(bencher: Bencher) {
    const SYMBOLS: usize = 1_000;
    const BATCH: usize = 100;
    let symbols: Vec<Symbol> = (0..SYMBOLS).map(|i| format!("S{i}").parse().expect("a name")).collect();
    let mut flows = OrderFlows::new(SYMBOLS, STALE_MS);
    let mut at = 0;
    bencher.counter(ItemsCount::new(SYMBOLS * BATCH)).bench_local(|| {
        let trades: Vec<Trade> = (at..at + BATCH).map(trade).collect();
        let quotes = [quote(at)];
        at += BATCH;
        for symbol in &symbols {
            let batch = Batch { trades: &trades, quotes: &quotes, ..Batch::default() };
            black_box(flows.push(*symbol, batch).expect("room"));
        }
    });
}
