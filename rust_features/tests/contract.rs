//! Every line of the table "what comes in, what happens", at the door of the market.

mod common;

use candlecast_features::{
    candle::{Field, Reason, Refusal, Values},
    catalog::{NEED, WIDTH, WINDOW},
    engine::WINDOW_LEN,
    market::{Market, State, Verdict, Windows},
};
use common::{INTERVAL_MS, SETTINGS, closed, having_seen, lively, of, other, push, standing, status, symbol};

#[test]
fn the_next_expected_candle_moves_the_state_by_one_row() {
    let candles = lively(1, 3);
    let mut market = having_seen(&candles[..2]);
    let outcome = push(&mut market, closed(candles[2]));
    assert_eq!((outcome.verdict, outcome.state, outcome.have), (Verdict::Accepted, State::Warming, 3));
    assert_eq!((outcome.close, outcome.open_time_ms), (candles[2].close, candles[2].open_time_ms));
    assert_eq!(market.rows(symbol("BTCUSDT"), INTERVAL_MS).len(), 3 * WIDTH);
}

#[test]
fn the_same_candle_again_is_a_duplicate_and_changes_nothing() {
    let candles = lively(2, 300);
    let mut market = having_seen(&candles);
    let before = standing(&market);
    for candle in &candles[300 - 96..] {
        let outcome = push(&mut market, closed(*candle));
        assert_eq!((outcome.verdict, outcome.have), (Verdict::Duplicate, 300));
        assert_eq!(outcome.open_time_ms, candles[299].open_time_ms);
    }
    assert_eq!(standing(&market), before);
}

#[test]
fn a_volume_of_minus_zero_is_a_volume_of_zero() {
    let candle = Values { volume: 0.0, ..lively(20, 1)[0] };
    let mut market = having_seen(&[candle]);
    let again = Values { volume: -0.0, ..candle };
    assert_eq!(push(&mut market, closed(again)).verdict, Verdict::Duplicate);
}

#[test]
fn a_closed_candle_with_other_values_is_a_conflict_counted_and_changes_nothing() {
    let candles = lively(3, 300);
    let mut market = having_seen(&candles);
    let before = standing(&market).0;
    for (i, back) in [1, 96].into_iter().enumerate() {
        let outcome = push(&mut market, closed(other(candles[300 - back])));
        assert_eq!((outcome.verdict, outcome.have), (Verdict::Conflict, 300));
        assert_eq!(status(&market).conflicts, i as u64 + 1);
    }
    // An optional input that appears or goes is another value, too.
    let outcome = push(&mut market, closed(Values { trades: 7.0, ..candles[299] }));
    assert_eq!(outcome.verdict, Verdict::Conflict);
    assert_eq!(standing(&market).0, before);
}

#[test]
fn a_candle_older_than_what_is_remembered_is_late_and_changes_nothing() {
    let candles = lively(4, 300);
    let mut market = having_seen(&candles[1..]);
    let before = standing(&market);
    for late in [candles[0], candles[100], other(candles[300 - 97])] {
        assert_eq!(push(&mut market, closed(late)).verdict, Verdict::Late);
    }
    assert_eq!(standing(&market), before);
}

#[test]
fn a_gap_of_up_to_four_is_filled_with_silence_and_flagged_while_in_the_window() {
    for missing in 1..=4 {
        let candles = lively(5, 300);
        let mut market = having_seen(&candles[..100]);
        let mut filled = candles[..100].to_vec();
        for candle in &candles[100..100 + missing] {
            let price = candles[99].close;
            filled.push(Values {
                open: price,
                high: price,
                low: price,
                close: price,
                volume: 0.0,
                quote_volume: 0.0,
                trades: 0.0,
                taker_buy_volume: 0.0,
                ..*candle
            });
        }
        for (i, candle) in candles[100 + missing..].iter().enumerate() {
            let outcome = push(&mut market, closed(*candle));
            assert_eq!((outcome.verdict, outcome.have as usize), (Verdict::Accepted, 100 + missing + i + 1));
            // The newest filled bar is one of the 96 rows until 95 more have come.
            assert_eq!(outcome.gap_filled, i < WINDOW - 1, "{missing} missing, candle {i} after");
        }
        let whole = having_seen(&[&filled, &candles[100 + missing..]].concat());
        assert_eq!(standing(&market).0, standing(&whole).0);
        // What was filled was never sent: a late original is late, not a contradiction.
        let mut market = having_seen(&candles[..100]);
        push(&mut market, closed(candles[100 + missing]));
        assert_eq!(push(&mut market, closed(candles[100])).verdict, Verdict::Late);
        assert_eq!(push(&mut market, closed(candles[99])).verdict, Verdict::Duplicate);
    }
}

#[test]
fn a_gap_of_five_or_more_starts_the_symbol_anew() {
    for missing in [5, 6, 95, 1_000] {
        let candles = lively(6, 2_000);
        let mut market = having_seen(&candles[..NEED as usize]);
        assert_eq!(status(&market).have, NEED);
        let next = NEED as usize + missing;
        let outcome = push(&mut market, closed(candles[next]));
        assert_eq!((outcome.verdict, outcome.state, outcome.have), (Verdict::Accepted, State::Warming, 1));
        assert!(!outcome.gap_filled);
        for candle in &candles[next + 1..next + 100] {
            push(&mut market, closed(*candle));
        }
        assert_eq!(standing(&market).0, standing(&having_seen(&candles[next..next + 100])).0);
    }
}

#[test]
fn a_malformed_candle_is_refused_by_field_and_reason_and_touches_nothing_else() {
    let candles = lively(7, 200);
    let bad = |i: usize| match i % 8 {
        0 => (Values { open: f64::NAN, ..candles[i] }, Field::Open, Reason::NotFinite),
        1 => (Values { close: f64::INFINITY, ..candles[i] }, Field::Close, Reason::NotFinite),
        2 => (Values { low: 0.0, ..candles[i] }, Field::Low, Reason::NotPositive),
        3 => (Values { high: 1e-9, ..candles[i] }, Field::High, Reason::HighBelowLow),
        4 => (Values { volume: -1.0, ..candles[i] }, Field::Volume, Reason::Negative),
        5 => (Values { open_time_ms: 1, ..candles[i] }, Field::OpenTimeMs, Reason::Unaligned),
        6 => (Values { taker_buy_volume: f64::NEG_INFINITY, ..candles[i] }, Field::TakerBuyVolume, Reason::NotFinite),
        _ => (Values { high: 1e300, ..candles[i] }, Field::High, Reason::OutOfRange),
    };
    let mut market = Market::new(SETTINGS);
    for (i, candle) in candles.iter().enumerate() {
        let (values, field, reason) = bad(i);
        let batch = [closed(values), of("ETHUSDT", values), closed(*candle), of("SOLUSDT", *candle)];
        let outcomes = market.push(&batch, i64::MAX, Windows::None).outcomes;
        for refused in &outcomes[..2] {
            assert_eq!((refused.verdict, refused.refusal), (Verdict::Refused, Some(Refusal { field, reason })));
        }
        assert_eq!((outcomes[0].have, outcomes[1].have, outcomes[1].state), (i as u32, 0, State::Cold));
        assert!(outcomes[2..].iter().all(|good| good.verdict == Verdict::Accepted && good.refusal.is_none()));
    }
    assert_eq!(standing(&market).0, standing(&having_seen(&candles)).0);
    assert_eq!(market.symbols().len(), 2);
}

#[test]
fn a_candle_more_than_two_seconds_ahead_is_refused() {
    let candle = lively(8, 1)[0];
    let refusal = Refusal { field: Field::OpenTimeMs, reason: Reason::InFuture };
    let mut market = Market::new(SETTINGS);
    let at = |market: &mut Market, now_ms| market.push(&[closed(candle)], now_ms, Windows::None).outcomes[0];
    assert_eq!(at(&mut market, candle.close_time_ms() - 2_001).refusal, Some(refusal));
    assert_eq!(at(&mut market, candle.close_time_ms() - 2_000).verdict, Verdict::Accepted);
}

#[test]
fn three_conflicts_within_96_candles_quarantine_until_96_pass_without_one() {
    let candles = lively(9, 1_000);
    let need = NEED as usize;
    let mut market = having_seen(&candles[..need]);
    let conflict = |market: &mut Market, i: usize| {
        let outcome = push(market, closed(other(candles[i])));
        assert_eq!(outcome.verdict, Verdict::Conflict);
        outcome.state
    };
    assert_eq!(conflict(&mut market, need - 1), State::Ready);
    assert_eq!(conflict(&mut market, need - 1), State::Ready);
    assert_eq!(conflict(&mut market, need - 1), State::Quarantined);
    // The state still moves, row by row, and a window is still written.
    let mut windows = vec![0.0; WINDOW_LEN];
    for (i, candle) in candles[need..need + 50].iter().enumerate() {
        let pushed = market.push(&[closed(*candle)], i64::MAX, Windows::F32(&mut windows));
        assert_eq!((pushed.outcomes[0].state, pushed.ready), (State::Quarantined, 1));
        assert_eq!(pushed.outcomes[0].have as usize, need + i + 1);
    }
    // One more conflict starts the count again.
    assert_eq!(conflict(&mut market, need + 49), State::Quarantined);
    for (i, candle) in candles[need + 50..need + 150].iter().enumerate() {
        let expected = if i < 95 { State::Quarantined } else { State::Ready };
        assert_eq!(push(&mut market, closed(*candle)).state, expected, "{i} candles after the conflict");
    }
    assert_eq!(standing(&market).0, standing(&having_seen(&candles[..need + 150])).0);
}

#[test]
fn conflicts_quarantine_when_the_first_and_third_are_at_most_96_candles_apart() {
    for (apart, expected) in [(48, State::Quarantined), (49, State::Warming)] {
        let mut market = Market::new(SETTINGS);
        for (i, candle) in lively(10, 3 * apart).iter().enumerate() {
            push(&mut market, closed(*candle));
            if (i + 1) % apart == 0 {
                push(&mut market, closed(other(*candle)));
            }
        }
        let status = status(&market);
        assert_eq!((status.conflicts, status.state), (3, expected), "{apart} candles apart");
    }
}

#[test]
fn a_symbol_is_stale_after_two_intervals_and_cold_when_never_seen() {
    let candles = lively(14, 700);
    let market = having_seen(&candles);
    let at = |now_ms| market.status(symbol("BTCUSDT"), INTERVAL_MS, now_ms);
    let closed_at = candles[699].close_time_ms();
    assert_eq!(at(closed_at + 2 * INTERVAL_MS).state, State::Ready);
    assert_eq!(at(closed_at + 2 * INTERVAL_MS + 1).state, State::Stale);
    assert_eq!(at(closed_at).newest_open_time_ms, Some(candles[699].open_time_ms));
    for (name, interval_ms) in [("ETHUSDT", INTERVAL_MS), ("BTCUSDT", 60_000)] {
        let status = market.status(symbol(name), interval_ms, closed_at);
        assert_eq!((status.state, status.have, status.newest_open_time_ms), (State::Cold, 0, None));
    }
}
