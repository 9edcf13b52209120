//! What holds for every row of every market.

mod common;

use candlecast_features::{
    candle::{Candle, Values},
    catalog::{FEATURES, State, WIDTH},
    extras::{Extras, OptionalInputs},
};
use common::{advance, at, bits, following, lively, reference_close, rows};

/// Markets that break careless arithmetic.
fn hard_markets() -> Vec<(&'static str, Vec<Values>)> {
    let n = 900;
    let lively_at = |scale: f64| {
        let mut candles = lively(1, n);
        for candle in &mut candles {
            for price in [&mut candle.open, &mut candle.high, &mut candle.low, &mut candle.close] {
                *price *= scale;
            }
        }
        candles
    };
    vec![
        ("lively", lively(2, n)),
        ("flat", following(n, |_| 0.1, 0.0)),
        ("volumeless", following(n, |i| 100.0 + (i as f64 * 0.1).sin(), 0.0)),
        ("straight up", following(n, |i| 1.0 + i as f64 * 0.01, 5.0)),
        ("straight down", following(n, |i| 1_000.0 - i as f64, 5.0)),
        ("up 25 times a bar, then flat", following(n, |i| 1e-12 * 25_f64.powi(i.min(18) as i32), 5.0)),
        ("one tick up and down", following(n, |i| 100.0 + 0.01 * (i % 2) as f64, 5.0)),
        ("jump by ten", following(n, |i| if i < 500 { 3.0 } else { 30.0 }, 5.0)),
        ("fall to a billionth", following(n, |i| if i < 500 { 1e6 } else { 1e-3 }, 5.0)),
        ("one print of 1e12", following(n, |i| if i == 300 { 1e12 } else { 100.0 + (i % 3) as f64 }, 5.0)),
        ("prices of 1e-8", lively_at(1e-10)),
        ("prices of 1e6", lively_at(1e4)),
        ("a move of a billionth", following(n, |i| 1e6 + 1e-3 * (i % 5) as f64, 5.0)),
        ("the edges of the range", following(n, |i| if i % 2 == 0 { 1e-12 } else { 1e15 }, 1e24)),
        ("point bars", (0..n).map(|i| at(i, [100.0 + (i % 7) as f64; 4], 1.0)).collect()),
    ]
}

#[test]
fn a_value_is_nan_exactly_until_its_warm_up_and_in_its_range_ever_after() {
    for (market, candles) in hard_markets() {
        for (i, row) in rows(&candles).iter().enumerate() {
            for (value, feature) in row.iter().zip(&FEATURES) {
                let is_warm = i + 1 >= feature.warmup_bars as usize;
                assert_eq!(value.is_nan(), !is_warm, "{market}, bar {i}: {} = {value}", feature.name);
                // The stated range of the vortex is no bound: |h − l₁| may exceed TR by the range of the bar before, which may be
                // a jump. It is held within float16 alone.
                let slack = if feature.name == "vortex_14" { 6e4 } else { 1e-9 };
                let (low, high) = (feature.low - slack, feature.high + slack);
                assert!(!is_warm || (low..=high).contains(value), "{market}, bar {i}: {} = {value}", feature.name);
            }
        }
    }
}

#[test]
fn a_row_knows_nothing_of_the_future() {
    let candles = lively(3, 800);
    let whole = rows(&candles);
    let mut other = candles.clone();
    for candle in &mut other[650..] {
        candle.close = candle.low;
        candle.open = candle.high;
    }
    for (row, truncated) in whole.iter().zip(rows(&candles[..650])) {
        assert_eq!(bits(row), bits(&truncated));
    }
    for (row, with_other_future) in whole[..650].iter().zip(rows(&other)) {
        assert_eq!(bits(row), bits(&with_other_future));
    }
}

/// Columns that remember more than the bars of their warm-up: an average without an end, a state machine, or a long run in them.
/// Every other column depends on those bars alone.
const RECURSIVE: &[&str] = &[
    "high_change_atr",
    "low_change_atr",
    "close_streak",
    "sma_dist_5",
    "sma_dist_20",
    "sma_dist_100",
    "ema_dist_50",
    "hma_dist_16",
    "kama_dist_10",
    "kama_slope_10_5",
    "t3_dist_8",
    "ema_spread_z_8_21",
    "ema_spread_z_21_55",
    "sma_slope_20_5",
    "ema_accel_20_4",
    "ma_ribbon_width",
    "ema_cross_age_8_21",
    "sma_cross_age_20_100",
    "rsi_5",
    "rsi_14",
    "rsi_42",
    "rsi_slope_14_5",
    "stoch_rsi_14_14_3",
    "ppo_12_26",
    "macd_hist_12_26_9",
    "macd_hist_48_104_36",
    "trix_15",
    "ao_5_34",
    "ac_5_34_5",
    "tsi_25_13",
    "fisher_10",
    "connors_rsi_3_2_100",
    "bull_power_13",
    "bear_power_13",
    "dpo_20",
    "smi_13_25_2",
    "natr_14",
    "atr_ratio_7_28",
    "atr_ratio_14_96",
    "ewma_vol_ratio_94",
    "tr_ratio_14",
    "natr_rank_192",
    "donchian_width_20",
    "keltner_pos_20",
    "squeeze_ratio_20",
    "squeeze_age_20",
    "squeeze_mom_20",
    "rvi_dorsey_14",
    "mass_index_25",
    "adx_14",
    "adx_slope_14_5",
    "di_diff_14",
    "di_sum_14",
    "psar_dist",
    "psar_age",
    "supertrend_dist_10_3",
    "supertrend_age_10_3",
    "ichimoku_tk_9_26",
    "ichimoku_kijun_dist_26",
    "ichimoku_cloud_dist",
    "ichimoku_cloud_thick",
    "ichimoku_lead_thick",
    "linreg_slope_96",
    "pvo_12_26",
    "adosc_3_10",
    "force_index_13",
    "vwma_gap_20",
    "vwap_dist_x96",
    "corwin_schultz_20",
    "high_dist_96",
    "low_dist_96",
    "breakout_20",
    "swing_high_dist_3",
    "swing_low_dist_3",
    "rsi_divergence_3",
    "macd_divergence_3",
    "pivot_nearest_x96",
    "prev_high_dist_x96",
    "prev_low_dist_x96",
    "x4_rsi_14",
    "x4_adx_14",
    "x96_open_dist",
    "pat_pin_bar",
    "pat_doji",
    "pat_engulfing",
    "pat_star",
    "pat_three_bar",
];

fn is_windowed(name: &str) -> bool {
    !RECURSIVE.contains(&name)
}

#[test]
fn windowed_columns_are_bit_equal_from_every_start_once_warm() {
    let candles = lively(4, 800);
    let whole = rows(&candles);
    for start in [1, 2, 7, 15, 16, 33, 100, 150] {
        let part = rows(&candles[start..]);
        for (i, (whole, part)) in whole[start..].iter().zip(&part).enumerate() {
            for (j, feature) in FEATURES.iter().enumerate().filter(|(_, feature)| is_windowed(feature.name)) {
                if i + 1 >= feature.warmup_bars as usize {
                    assert_eq!(whole[j].to_bits(), part[j].to_bits(), "start {start}, bar {i}: {}", feature.name);
                }
            }
        }
    }
}

#[test]
fn a_print_of_1e12_is_wholly_forgotten_once_it_has_left_the_window() {
    let calm = lively(5, 1_000);
    let mut torn = calm.clone();
    // Up to the sky in price and volume, with the last bar of an x16 bucket, and to the ground a little later.
    let print = &mut torn[212];
    (print.high, print.close, print.volume) = (1e12, 1e12, 1e20);
    (print.quote_volume, print.trades, print.taker_buy_volume) = (1e23, 1e9, 1e19);
    (torn[219].low, torn[219].close) = (1e-9, 1e-9);
    let (calm, torn) = (rows(&calm), rows(&torn));
    for (j, feature) in FEATURES.iter().enumerate().filter(|(_, feature)| is_windowed(feature.name)) {
        let forgotten = 219 + feature.warmup_bars as usize;
        for i in (0..212).chain(forgotten..1_000) {
            assert_eq!(calm[i][j].to_bits(), torn[i][j].to_bits(), "bar {i}: {}", feature.name);
        }
        let is_seen = (212..1_000).any(|i| calm[i][j].to_bits() != torn[i][j].to_bits());
        assert_eq!(is_seen, feature.group != "time", "{}", feature.name);
    }
}

#[test]
fn nothing_drifts_in_a_million_candles() {
    // The same fortnight of candles over and over: the windowed columns repeat bit by bit, the others settle.
    let fortnight = 672 * 2;
    let base = lively(6, fortnight);
    let (mut state, mut early) = (Box::<State>::default(), [0.0; WIDTH]);
    for i in 0..fortnight * 745 {
        let mut candle = base[i % fortnight];
        candle.open_time_ms = base[0].open_time_ms + i as i64 * candle.interval_ms;
        let row = advance(&mut state, &candle);
        if i + 1 == fortnight * 3 {
            early = row;
        } else if i + 1 == fortnight * 745 {
            for (j, feature) in FEATURES.iter().enumerate() {
                let (before, after) = (early[j], row[j]);
                if is_windowed(feature.name) {
                    assert_eq!(before.to_bits(), after.to_bits(), "{}", feature.name);
                } else {
                    assert!((before - after).abs() < 1e-9, "{}: {before} then {after}", feature.name);
                }
            }
        }
    }
}

#[test]
fn the_units_of_price_and_volume_change_nothing() {
    let candles = lively(7, 900);
    let expected = rows(&candles);
    for (price, volume) in [(7.3, 1.0), (1.0, 0.37), (1e-8, 1e6), (1e4, 1e-6)] {
        let scaled: Vec<Values> = candles
            .iter()
            .map(|c| Values {
                open: c.open * price,
                high: c.high * price,
                low: c.low * price,
                close: c.close * price,
                volume: c.volume * volume,
                quote_volume: c.quote_volume * price * volume,
                taker_buy_volume: c.taker_buy_volume * volume,
                ..*c
            })
            .collect();
        let mut state = Box::<State>::default();
        for ((i, values), (original, expected)) in scaled.iter().enumerate().zip(candles.iter().zip(&expected)) {
            let candle = Candle::new(*values, false, i64::MAX).expect("a good candle");
            // The reference has a unit of its own.
            let reference = Some(1e-3 * reference_close(original));
            let row = state.update(&candle, Extras::of(values, reference, OptionalInputs::ALL));
            for (j, feature) in FEATURES.iter().enumerate() {
                let difference = (row[j] - expected[j]).abs();
                let is_same = row[j].is_nan() && expected[j].is_nan() || difference < 1e-6;
                assert!(is_same, "×{price}, ×{volume}, bar {i}: {} = {}, not {}", feature.name, row[j], expected[j]);
            }
        }
    }
}

#[test]
fn every_processor_gives_the_same_bits() {
    // What is compiled for any processor and what is compiled for AVX2, where there is one.
    let (mut best, mut any) = (Box::<State>::default(), Box::<State>::default());
    for values in lively(8, 1_500) {
        let candle = Candle::new(values, false, i64::MAX).expect("a good candle");
        let extras = Extras::of(&values, Some(reference_close(&values)), OptionalInputs::ALL);
        assert_eq!(bits(&best.update(&candle, extras)), bits(&any.update_on_any_processor(&candle, extras)));
    }
}
