//! Windows, peeks, batches and limits of the market.

mod common;

use std::collections::BTreeMap;

use candlecast_features::{
    candle::{Field, Reason, Refusal, Values},
    catalog::{NEED, WIDTH, WINDOW},
    engine::{Precision, WINDOW_LEN},
    market::{Input, Market, Outcome, Pushed, Settings, State, Verdict, Windows},
    symbol::Symbol,
};
use common::{
    INTERVAL_MS, SETTINGS, closed, forming, having_seen, lively, of, oracle::Dice, other, plain_rows, push, standing,
    symbol,
};

#[test]
fn a_forming_candle_gives_the_row_it_would_close_with_and_moves_nothing() {
    let candles = lively(11, 800);
    let need = NEED as usize;
    for missing in [0, 3] {
        let mut market = having_seen(&candles[..need]);
        let before = standing(&market);
        let next = need + missing;
        let (mut peeked, mut accepted) = (vec![0.0; WINDOW_LEN], vec![0.0; WINDOW_LEN]);
        for _ in 0..2 {
            // A forming candle changes from peek to peek; none of it stays.
            market.push(&[forming(other(candles[next]))], i64::MAX, Windows::F32(&mut peeked));
            let outcome = market.push(&[forming(candles[next])], i64::MAX, Windows::F32(&mut peeked)).outcomes[0];
            assert_eq!((outcome.verdict, outcome.state, outcome.window), (Verdict::Peeked, State::Ready, Some(0)));
            assert_eq!(outcome.close, candles[next].close);
            assert_eq!(standing(&market), before);
        }
        let peek = market.push(&[forming(candles[next])], i64::MAX, Windows::F32(&mut peeked)).outcomes[0];
        let close = market.push(&[closed(candles[next])], i64::MAX, Windows::F32(&mut accepted)).outcomes[0];
        assert_eq!(Outcome { verdict: Verdict::Accepted, ..peek }, close);
        assert_eq!(peeked, accepted);
    }
}

#[test]
fn a_forming_candle_of_the_past_is_late_and_one_of_nobody_or_far_ahead_starts_from_nothing() {
    let candles = lively(12, 800);
    let mut market = having_seen(&candles[..NEED as usize]);
    let before = standing(&market);
    assert_eq!(push(&mut market, forming(candles[NEED as usize - 1])).verdict, Verdict::Late);
    for input in [forming(candles[NEED as usize + 5]), Input { symbol: "NEW".parse(), ..forming(candles[0]) }] {
        let mut window = vec![0.0; WINDOW_LEN];
        let outcome = market.push(&[input], i64::MAX, Windows::F32(&mut window)).outcomes[0];
        assert_eq!((outcome.verdict, outcome.state, outcome.have), (Verdict::Peeked, State::Warming, 1));
        assert_eq!(outcome.window, None);
    }
    assert_eq!(standing(&market), before);
    assert_eq!(market.symbols().len(), 1);
}

#[test]
fn a_symbol_is_ready_when_its_window_is_complete() {
    let candles = lively(13, 1_000);
    let expected = plain_rows(&candles);
    let mut market = Market::new(SETTINGS);
    let mut window = vec![0.0; WINDOW_LEN];
    for (i, candle) in candles.iter().enumerate() {
        let outcome = market.push(&[closed(*candle)], i64::MAX, Windows::F32(&mut window)).outcomes[0];
        let is_ready = i + 1 >= NEED as usize;
        assert_eq!(outcome.state == State::Ready, is_ready);
        assert_eq!((outcome.window.is_some(), outcome.features_hash != 0), (is_ready, is_ready));
        if is_ready {
            assert_eq!(window, market.rows(symbol("BTCUSDT"), INTERVAL_MS));
            for (row, expected) in window.chunks_exact(WIDTH).zip(&expected[i + 1 - WINDOW..=i]) {
                assert_eq!(row, expected.map(|value| value as f32));
            }
        }
    }
}

#[test]
fn newest_windows_are_for_symbols_with_complete_rows() {
    let candles = lively(15, 700);
    let mut market = having_seen(&candles);
    push(&mut market, of("WARMING", candles[0]));
    let ask = |now_ms| {
        let bad = "no symbol".parse::<Symbol>();
        let keys = ["WARMING".parse(), bad, "COLD".parse(), "BTCUSDT".parse()].map(|symbol| (symbol, INTERVAL_MS));
        let mut windows = vec![0.0; keys.len() * WINDOW_LEN];
        (market.windows(&keys, now_ms, Windows::F32(&mut windows)), windows)
    };
    let closed_at = candles[699].close_time_ms();
    let (Pushed { outcomes, ready }, windows) = ask(closed_at);
    assert_eq!(ready, 1);
    assert_eq!(outcomes.iter().map(|o| o.window).collect::<Vec<_>>(), [None, None, None, Some(0)]);
    assert_eq!(outcomes[1].verdict, Verdict::Refused);
    assert_eq!((outcomes[2].verdict, outcomes[2].state), (Verdict::Duplicate, State::Cold));
    assert_eq!(windows[..WINDOW_LEN], market.rows(symbol("BTCUSDT"), INTERVAL_MS));
    let (stale, _) = ask(closed_at + 3 * INTERVAL_MS);
    assert_eq!((stale.ready, stale.outcomes[3].state), (1, State::Stale));
}

#[test]
fn a_full_market_refuses_new_symbols_and_serves_the_old() {
    let candles = lively(16, 2);
    let mut market = Market::new(Settings { symbols_max: 2, ..SETTINGS });
    for name in ["A", "B"] {
        assert_eq!(push(&mut market, of(name, candles[0])).verdict, Verdict::Accepted);
    }
    let refusal = Refusal { field: Field::Symbol, reason: Reason::SymbolLimit };
    assert_eq!(push(&mut market, of("C", candles[0])).refusal, Some(refusal));
    assert_eq!(push(&mut market, of("A", candles[1])).verdict, Verdict::Accepted);
    // The interval is part of the name.
    let faster = Values { interval_ms: 60_000, ..candles[0] };
    assert_eq!(push(&mut market, of("A", faster)).refusal, Some(refusal));
}

#[test]
fn windows_lie_without_holes_in_the_order_of_the_batch() {
    let candles = lively(17, 800);
    let need = NEED as usize;
    let mut market = Market::new(SETTINGS);
    for candle in &candles[..need - 1] {
        market.push(&[of("A", *candle), of("B", *candle)], i64::MAX, Windows::None);
    }
    let batch = [of("NEW", candles[0]), of("B", candles[need - 1]), of("bad", candles[0]), of("A", candles[need - 1])];
    let mut windows = vec![7.0; 5 * WINDOW_LEN];
    let pushed = market.push(&batch, i64::MAX, Windows::F32(&mut windows));
    assert_eq!(pushed.outcomes.iter().map(|o| o.window).collect::<Vec<_>>(), [None, Some(0), None, Some(1)]);
    assert_eq!(pushed.ready, 2);
    assert_eq!(windows[..WINDOW_LEN], windows[WINDOW_LEN..2 * WINDOW_LEN]);
    assert!(windows[2 * WINDOW_LEN..].iter().all(|untouched| *untouched == 7.0));
}

#[test]
fn history_is_the_live_update_in_a_loop_however_it_is_split() {
    let candles = lively(18, 900);
    let (mut at_once, mut windows) = (Market::new(SETTINGS), vec![0.0; 900 * WINDOW_LEN]);
    let batch: Vec<Input> = candles.iter().copied().map(closed).collect();
    let whole = at_once.push(&batch, i64::MAX, Windows::F32(&mut windows));
    let mut dice = Dice::new(19);
    let (mut split, mut done, mut ready) = (Market::new(SETTINGS), 0, 0);
    while done < candles.len() {
        let n = (1 + dice.below(40) as usize).min(candles.len() - done);
        let mut part = vec![0.0; n * WINDOW_LEN];
        let pushed = split.push(&batch[done..done + n], i64::MAX, Windows::F32(&mut part));
        for (one, all) in pushed.outcomes.iter().zip(&whole.outcomes[done..]) {
            let window = one.window.map(|window| window + ready);
            assert_eq!(Outcome { window, ..*one }, *all);
        }
        let from = ready * WINDOW_LEN;
        assert_eq!(part[..pushed.ready * WINDOW_LEN], windows[from..from + pushed.ready * WINDOW_LEN]);
        (done, ready) = (done + n, ready + pushed.ready);
    }
    assert_eq!(standing(&at_once), standing(&split));
}

/// What the table says, written again as plainly as possible: candles by time, no ring, no digest.
#[derive(Default)]
struct Plain {
    sent: BTreeMap<i64, Values>,
}

impl Plain {
    fn receive(&mut self, candle: Values) -> Verdict {
        let Some((newest, _)) = self.sent.last_key_value() else { return self.accept(candle) };
        let age = newest - candle.open_time_ms;
        match self.sent.get(&candle.open_time_ms) {
            _ if age < 0 => self.accept(candle),
            Some(known) if age < 96 * INTERVAL_MS && is_same(known, &candle) => Verdict::Duplicate,
            Some(_) if age < 96 * INTERVAL_MS => Verdict::Conflict,
            _ => Verdict::Late,
        }
    }

    fn accept(&mut self, candle: Values) -> Verdict {
        self.sent.insert(candle.open_time_ms, candle);
        Verdict::Accepted
    }
}

/// Equal, with an absent input equal to an absent input.
fn is_same(a: &Values, b: &Values) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

#[test]
fn any_order_of_candles_gets_the_verdicts_of_the_plain_rules() {
    for seed in 0..30 {
        let mut dice = Dice::new(100 + seed);
        let candles = lively(seed, 4_000);
        let (mut market, mut plain, mut newest) =
            (Market::new(Settings { conflicts_max: 1_000_000, ..SETTINGS }), Plain::default(), 0);
        for _ in 0..600 {
            // Mostly ahead, with gaps of every size; sometimes back, as it was or altered.
            let at = match dice.below(20) {
                0..=10 => newest + 1,
                11..=13 => newest + 1 + dice.below(8) as usize,
                14 if dice.below(10) == 0 => newest + dice.below(150) as usize,
                _ => newest.saturating_sub(dice.below(130) as usize),
            };
            let candle = if dice.below(8) == 0 { other(candles[at]) } else { candles[at] };
            assert_eq!(push(&mut market, closed(candle)).verdict, plain.receive(candle), "seed {seed}, candle {at}");
            newest = newest.max(at);
        }
    }
}

#[test]
fn half_the_memory_gives_the_same_windows_rounded_and_the_same_newest_row() {
    let candles = lively(60, 760);
    let mut exact = Market::new(SETTINGS);
    let mut half = Market::new(Settings { rows: Precision::Half, ..SETTINGS });
    for (i, candle) in candles.iter().enumerate() {
        let peeked = Input { forming: true, ..closed(*candle) };
        for input in [peeked, closed(*candle)] {
            let (mut theirs, mut ours) = (vec![0.0; WINDOW_LEN], vec![0.0; WINDOW_LEN]);
            let (mut row, mut our_row) = ([0.0; WIDTH], [0.0; WIDTH]);
            let mut narrow = vec![half::f16::ZERO; WINDOW_LEN];
            let expected = exact.push_for_rows(&[input], i64::MAX, Windows::F32(&mut theirs), &mut row);
            let pushed = half.push_for_rows(&[input], i64::MAX, Windows::F32(&mut ours), &mut our_row);
            assert_eq!(pushed.ready, expected.ready);
            assert_eq!(row.map(f32::to_bits), our_row.map(f32::to_bits), "candle {i}");
            assert_eq!(pushed.outcomes[0].features_hash, expected.outcomes[0].features_hash);
            if pushed.ready == 1 {
                let rounded: Vec<f32> = theirs.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
                assert_eq!(ours, rounded, "candle {i}");
                half.windows(&[(Ok(symbol("BTCUSDT")), INTERVAL_MS)], 0, Windows::F16(&mut narrow));
                if !input.forming {
                    assert!(narrow.iter().zip(&rounded).all(|(a, b)| a.to_f32() == *b), "candle {i}");
                }
                let still = |windows: &[f32]| {
                    (0..WIDTH).filter(|c| windows.chunks(WIDTH).all(|row| row[*c] == windows[*c])).count() as u32
                };
                assert_eq!(expected.outcomes[0].still, still(&theirs), "candle {i}");
                assert_eq!(pushed.outcomes[0].still, still(&ours), "candle {i}");
            }
        }
    }
}
