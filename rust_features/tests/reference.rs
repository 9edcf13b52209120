//! The reference symbol and the other optional inputs: who sees what, and when.

mod common;

use candlecast_features::{
    candle::Values,
    catalog::{FEATURES, WIDTH},
    extras::OptionalInputs,
    market::{Input, Market, Settings, Windows},
};
use common::{SETTINGS, lively, of, reference_close, rows, symbol};

fn with_reference() -> Market {
    Market::new(Settings { used: OptionalInputs::ALL, reference: Some(symbol("REF")), ..SETTINGS })
}

/// The reference's candle of the same bar.
fn reference(values: Values) -> Input {
    let close = reference_close(&values);
    of("REF", Values { open: close, high: close, low: close, close, ..values })
}

/// Newest row after each candle of a batch.
fn push(market: &mut Market, batch: &[Input]) -> Vec<Vec<u32>> {
    let mut rows = vec![0.0; batch.len() * WIDTH];
    market.push_for_rows(batch, i64::MAX, Windows::None, &mut rows);
    rows.chunks(WIDTH).map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Newest row of a symbol after each of its candles, everything in one batch.
fn rows_of(name: &str, market: &mut Market, batch: &[Input]) -> Vec<Vec<u32>> {
    let all = push(market, batch);
    let ours = |(input, row): (&Input, Vec<u32>)| (input.symbol.unwrap() == symbol(name)).then_some(row);
    batch.iter().zip(all).filter_map(ours).collect()
}

fn cross(row: &[u32]) -> Vec<f32> {
    let is_cross = |(_, feature): &(&u32, &candlecast_features::catalog::Feature)| feature.group == "cross";
    row.iter().zip(&FEATURES).filter(is_cross).map(|(bits, _)| f32::from_bits(*bits)).collect()
}

#[test]
fn a_bar_sees_the_reference_of_its_own_time_wherever_that_stands_in_the_batch() {
    let candles = lively(30, 400);
    let expected: Vec<Vec<u32>> =
        rows(&candles).iter().map(|row| row.iter().map(|value| (*value as f32).to_bits()).collect()).collect();
    let before: Vec<Input> = candles.iter().flat_map(|c| [reference(*c), of("A", *c)]).collect();
    let behind: Vec<Input> = candles.iter().flat_map(|c| [of("A", *c), reference(*c)]).collect();
    let apart: Vec<Input> = candles.iter().map(|c| of("A", *c)).chain(candles.iter().map(|c| reference(*c))).collect();
    for batch in [before.clone(), behind, apart] {
        assert!(rows_of("A", &mut with_reference(), &batch) == expected);
    }
    // In batches of any size.
    let mut market = with_reference();
    let split: Vec<Vec<u32>> = before.chunks(14).flat_map(|part| rows_of("A", &mut market, part)).collect();
    assert!(split == expected);
}

#[test]
fn a_reference_that_comes_too_late_is_missing_and_what_follows_is_nothing_until_a_window_is_whole() {
    let candles = lively(31, 500);
    let mut market = with_reference();
    for (i, candle) in candles.iter().enumerate() {
        let batch = if i == 250 {
            // The reference arrives one batch late.
            push(&mut market, &[of("A", *candle)]).remove(0)
        } else {
            rows_of(
                "A",
                &mut market,
                &[reference(candles[i - usize::from(i == 251)]), reference(*candle), of("A", *candle)],
            )
            .remove(0)
        };
        let is_nothing = cross(&batch)[..7].iter().all(|value| *value == 0.0);
        match i {
            97..250 | 347.. => assert!(!is_nothing, "bar {i}"),
            250..347 => assert!(is_nothing, "bar {i}"),
            _ => {}
        }
    }
}

#[test]
fn the_reference_itself_has_no_reference() {
    let candles = lively(32, 300);
    let batch: Vec<Input> = candles.iter().map(|c| reference(*c)).collect();
    let rows = rows_of("REF", &mut with_reference(), &batch);
    assert!(cross(&rows[299]).iter().all(|value| *value == 0.0));
}

#[test]
fn a_gap_is_filled_with_the_reference_as_it_was_then() {
    let candles = lively(33, 300);
    let mut market = with_reference();
    let whole: Vec<Input> = candles.iter().flat_map(|c| [reference(*c), of("A", *c)]).collect();
    let missing = |i: usize| (200..203).contains(&i);
    let torn: Vec<Input> = (0..300)
        .flat_map(|i| [Some(reference(candles[i])), (!missing(i)).then(|| of("A", candles[i]))])
        .flatten()
        .collect();
    let rows = rows_of("A", &mut market, &torn);
    assert!(rows[199..] != rows_of("A", &mut with_reference(), &whole)[202..]);
    assert!(cross(&rows[296]).iter().all(|value| *value != 0.0));
    // The same, filled by hand.
    let by_hand: Vec<Input> = (0..300)
        .flat_map(|i| {
            let price = candles[199].close;
            let silence = Values {
                open: price,
                high: price,
                low: price,
                close: price,
                volume: 0.0,
                quote_volume: 0.0,
                trades: 0.0,
                taker_buy_volume: 0.0,
                ..candles[i]
            };
            [reference(candles[i]), of("A", if missing(i) { silence } else { candles[i] })]
        })
        .collect();
    assert!(rows[200..] == rows_of("A", &mut with_reference(), &by_hand)[203..]);
}

#[test]
fn a_forming_bar_sees_the_forming_reference_and_neither_stays() {
    let candles = lively(34, 301);
    let closed: Vec<Input> = candles[..300].iter().flat_map(|c| [reference(*c), of("A", *c)]).collect();
    let mut market = with_reference();
    push(&mut market, &closed);
    let now = [of("A", candles[300]), reference(candles[300])].map(|input| Input { forming: true, ..input });
    let peeked = push(&mut market, &now).remove(0);
    let alone = push(&mut market, &now[..1]).remove(0);
    assert!(cross(&alone)[..7].iter().all(|value| *value == 0.0));
    let accepted = push(&mut market, &now.map(|input| Input { forming: false, ..input })).remove(0);
    assert_eq!(peeked, accepted);
    assert_ne!(alone, accepted);
}

#[test]
fn what_is_not_in_use_is_ignored_whatever_comes() {
    let candles: Vec<Values> = (0_u32..)
        .zip(lively(35, 400))
        .map(|(i, c)| Values {
            quote_volume: c.volume * c.close * 1.0001,
            trades: f64::from(i % 50),
            taker_buy_volume: 0.3 * c.volume,
            ..c
        })
        .collect();
    let plain = |c: &Values| Values { quote_volume: f64::NAN, trades: f64::NAN, taker_buy_volume: f64::NAN, ..*c };
    let batch: Vec<Input> = candles.iter().flat_map(|c| [reference(*c), of("A", *c)]).collect();
    let without: Vec<Input> = candles.iter().map(|c| of("A", plain(c))).collect();
    let none = Settings { reference: Some(symbol("REF")), ..SETTINGS };
    let rows_without = rows_of("A", &mut Market::new(none), &without);
    assert!(rows_of("A", &mut Market::new(none), &batch) == rows_without);
    assert!(rows_of("A", &mut with_reference(), &batch) != rows_without);
    // Each of them alone makes a difference, and another feature set.
    let hashes: Vec<u64> = OptionalInputs::NAMES
        .into_iter()
        .map(|name| {
            let used = OptionalInputs::named([name]).unwrap();
            assert!(rows_of("A", &mut Market::new(Settings { used, ..none }), &batch) != rows_without, "{name}");
            candlecast_features::catalog::feature_set_hash(used)
        })
        .collect();
    assert!((0..4).all(|i| !hashes[..i].contains(&hashes[i])));
}

#[test]
fn threads_change_nothing() {
    let candles = lively(36, 400);
    let name = |k: usize| format!("S{k}");
    let settings = Settings { symbols_max: 100, used: OptionalInputs::ALL, reference: Some(symbol("S3")), ..SETTINGS };
    let batch: Vec<Input> = candles
        .iter()
        .flat_map(|c| (0..40).map(move |k| of(&name(k), Values { close: c.low + (c.close - c.low) * 0.9, ..*c })))
        .collect();
    let alone = push(&mut Market::new(settings), &batch);
    for threads in [2, 3] {
        let mut market = Market::new(Settings { threads, ..settings });
        let together: Vec<_> = batch.chunks(3_000).flat_map(|part| push(&mut market, part)).collect();
        assert!(alone == together, "{threads} threads");
    }
}
