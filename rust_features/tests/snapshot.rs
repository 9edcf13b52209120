//! A symbol as bytes: what comes back goes on bit by bit.

mod common;

use candlecast_features::{
    catalog::NEED,
    engine::{Precision, WINDOW_LEN},
    extras::OptionalInputs,
    market::{Input, Market, Settings, Verdict, Windows},
    snapshot::Unusable,
};
use common::{INTERVAL_MS, SETTINGS, closed, having_seen, lively, of, other, standing, symbol};

const BTC: &str = "BTCUSDT";

#[test]
fn what_is_restored_goes_on_bit_by_bit_from_any_moment() {
    let candles = lively(40, 1_100);
    for taken_at in [1, 2, 15, 96, 97, 500, NEED as usize, 800] {
        let mut market = having_seen(&candles[..taken_at]);
        // A conflict, to be remembered.
        market.push(&[closed(other(candles[taken_at - 1]))], i64::MAX, Windows::None);
        let snapshot = market.snapshot(symbol(BTC), INTERVAL_MS).unwrap();
        let mut elsewhere = Market::new(SETTINGS);
        assert_eq!(elsewhere.restore(&snapshot), Ok((symbol(BTC), INTERVAL_MS)));
        assert_eq!(standing(&elsewhere), standing(&market));
        assert_eq!(elsewhere.snapshot(symbol(BTC), INTERVAL_MS).unwrap(), snapshot);
        // What it was told lately is still known, and what comes next gives the same.
        for some in [&mut market, &mut elsewhere] {
            let outcome = some.push(&[closed(candles[taken_at - 1])], i64::MAX, Windows::None).outcomes[0];
            assert_eq!(outcome.verdict, Verdict::Duplicate);
        }
        let later: Vec<Input> = candles[taken_at..].iter().copied().map(closed).collect();
        let windows = [&mut market, &mut elsewhere].map(|some| {
            let mut windows = vec![0.0; later.len() * WINDOW_LEN];
            let pushed = some.push(&later, i64::MAX, Windows::F32(&mut windows));
            (pushed.outcomes, windows)
        });
        assert!(windows[0].0 == windows[1].0 && windows[0].1 == windows[1].1, "taken at {taken_at}");
        assert_eq!(
            market.snapshot(symbol(BTC), INTERVAL_MS).unwrap(),
            elsewhere.snapshot(symbol(BTC), INTERVAL_MS).unwrap()
        );
    }
}

#[test]
fn the_closes_of_the_reference_come_with_its_snapshot() {
    let candles = lively(41, 400);
    let settings = Settings { used: OptionalInputs::ALL, reference: Some(symbol(BTC)), ..SETTINGS };
    let mut market = Market::new(settings);
    let batch: Vec<Input> = candles[..300].iter().flat_map(|c| [closed(*c), of("A", *c)]).collect();
    market.push(&batch, i64::MAX, Windows::None);
    let snapshots = [BTC, "A"].map(|name| market.snapshot(symbol(name), INTERVAL_MS).unwrap());
    let mut elsewhere = Market::new(settings);
    snapshots.iter().for_each(|snapshot| assert!(elsewhere.restore(snapshot).is_ok()));
    // A symbol that begins later compares itself with what the reference was before.
    let late: Vec<Input> = candles[100..].iter().map(|c| of("B", *c)).collect();
    let next: Vec<Input> = candles[300..].iter().flat_map(|c| [closed(*c), of("A", *c)]).collect();
    for batch in [late, next] {
        for some in [&mut market, &mut elsewhere] {
            some.push(&batch, i64::MAX, Windows::None);
        }
    }
    for name in [BTC, "A", "B"] {
        let [ours, theirs] = [&market, &elsewhere].map(|some| some.snapshot(symbol(name), INTERVAL_MS).unwrap());
        assert!(ours == theirs, "{name}");
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let candles = lively(42, 700);
    let snapshot = having_seen(&candles[..600]).snapshot(symbol(BTC), INTERVAL_MS).unwrap();
    let mut market = having_seen(&candles);
    let before = standing(&market);
    for at in (0..snapshot.len()).step_by(997).chain(0..40) {
        let mut torn = snapshot.clone();
        torn[at] ^= 0x10;
        assert!(market.restore(&torn).is_err(), "byte {at}");
    }
    for len in [0, 3, 27, 28, snapshot.len() - 1] {
        assert!(matches!(market.restore(&snapshot[..len]), Err(Unusable::NoSnapshot | Unusable::Length { .. })));
    }
    assert_eq!(standing(&market), before);
}

#[test]
fn the_reference_is_named_before_those_that_are_compared_with_it() {
    let candle = lively(43, 1)[0];
    let hourly = candlecast_features::candle::Values { interval_ms: 4 * INTERVAL_MS, open_time_ms: 0, ..candle };
    let settings = Settings { used: OptionalInputs::ALL, reference: Some(symbol(BTC)), ..SETTINGS };
    let mut market = Market::new(settings);
    let batch = [of("Z", candle), of("A", candle), closed(hourly), of("A", hourly), closed(candle)];
    market.push(&batch, i64::MAX, Windows::None);
    let expected =
        [(BTC, INTERVAL_MS), (BTC, 4 * INTERVAL_MS), ("A", INTERVAL_MS), ("A", 4 * INTERVAL_MS), ("Z", INTERVAL_MS)];
    assert_eq!(market.symbols(), expected.map(|(name, interval_ms)| (symbol(name), interval_ms)));
}

#[test]
fn rows_of_half_precision_come_back_as_such_and_only_where_they_are_kept_so() {
    let candles = lively(44, 700);
    let halves = Settings { rows: Precision::Half, ..SETTINGS };
    let seen = |settings: Settings| {
        let mut market = Market::new(settings);
        candles[..650].iter().for_each(|c| drop(market.push(&[closed(*c)], i64::MAX, Windows::None)));
        market
    };
    let snapshot = |market: &Market| market.snapshot(symbol(BTC), INTERVAL_MS).unwrap();
    let (single, half) = (snapshot(&seen(SETTINGS)), snapshot(&seen(halves)));
    assert!(half.len() + 2 * WINDOW_LEN <= single.len());
    assert_eq!(Market::new(halves).restore(&single), Err(Unusable::Precision));
    assert_eq!(Market::new(SETTINGS).restore(&half), Err(Unusable::Precision));
    let mut elsewhere = Market::new(halves);
    elsewhere.restore(&half).unwrap();
    let mut market = seen(halves);
    for candle in &candles[650..] {
        for some in [&mut market, &mut elsewhere] {
            some.push(&[closed(*candle)], i64::MAX, Windows::None);
        }
    }
    assert!(snapshot(&market) == snapshot(&elsewhere));
}
