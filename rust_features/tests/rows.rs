//! What holds for every row of every market.

mod common;

use candlecast_features::catalog::{FEATURES, WIDTH};
use common::{at, bits, column, following, lively, rows};

/// Markets that break careless arithmetic.
fn hard_markets() -> Vec<(&'static str, Vec<candlecast_features::candle::Values>)> {
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
                let (low, high) = (feature.low - 1e-9, feature.high + 1e-9);
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

/// Columns that depend on the bars of their warm-up alone: no EMA, no Wilder average, no state machine.
const WINDOWED: &[&str] = &[
    "vret_1",
    "vret_4",
    "vret_8",
    "vret_16",
    "vret_48",
    "vret_96",
    "vret_192",
    "vret_480",
    "vret_1_lag_1",
    "vret_1_lag_2",
    "vret_1_lag_5",
    "vret_1_lag_10",
    "logret_1_pct",
    "logret_16_pct",
    "body_ratio",
    "upper_wick_ratio",
    "lower_wick_ratio",
    "bar_overlap",
    "up_down_balance_20",
    "body_share_10",
    "wick_balance_10",
    "median_dist_96",
    "wma_z_60",
    "sma_spread_10_50",
    "sma_spread_50_200",
    "sma_slope_100_20",
    "ma_ribbon_align",
    "ma_slope_align",
    "above_sma_frac_50",
    "sma_cross_count_20_48",
    "stoch_k_14_3",
    "stoch_kd_14_3_3",
    "williams_r_28",
    "cci_20",
    "cci_60",
    "cmo_20",
    "ultosc_7_14_28",
    "mom_accel_16",
    "rvgi_10",
    "bop_14",
    "tod_sin",
    "tod_cos",
    "dow_sin",
    "dow_cos",
    "funding_sin",
    "funding_cos",
    "session_asia",
    "session_europe",
    "session_us",
    "weekend",
];

#[test]
fn windowed_columns_are_bit_equal_from_every_start_once_warm() {
    let candles = lively(4, 800);
    let whole = rows(&candles);
    for start in [1, 2, 7, 15, 16, 33, 100, 150] {
        let part = rows(&candles[start..]);
        for (i, (whole, part)) in whole[start..].iter().zip(&part).enumerate() {
            for name in WINDOWED {
                let j = column(name);
                if i + 1 >= FEATURES[j].warmup_bars as usize {
                    assert_eq!(whole[j].to_bits(), part[j].to_bits(), "start {start}, bar {i}: {name}");
                }
            }
        }
    }
}

#[test]
fn a_print_of_1e12_is_wholly_forgotten_once_it_has_left_the_window() {
    let calm = lively(5, 900);
    let mut torn = calm.clone();
    (torn[200].high, torn[200].close) = (1e12, 1e12);
    let (calm, torn) = (rows(&calm), rows(&torn));
    let seen = |j: usize| (200..900).any(|i| calm[i][j].to_bits() != torn[i][j].to_bits());
    for name in WINDOWED {
        let j = column(name);
        let forgotten = 200 + FEATURES[j].warmup_bars as usize;
        for i in (0..200).chain(forgotten..900) {
            assert_eq!(calm[i][j].to_bits(), torn[i][j].to_bits(), "bar {i}: {name}");
        }
        let is_clock = FEATURES[j].group == "time";
        assert_eq!(seen(j), !is_clock, "{name}");
    }
}

#[test]
fn nothing_drifts() {
    // The same week of candles over and over: the windowed columns repeat bit by bit, the others settle.
    let week = 672 * 2;
    let base = lively(6, week);
    let endless: Vec<_> = (0..week * 60)
        .map(|i| {
            let mut candle = base[i % week];
            candle.open_time_ms = base[0].open_time_ms + i as i64 * candle.interval_ms;
            candle
        })
        .collect();
    let rows = rows(&endless);
    let (early, late): (&[f64; WIDTH], _) = (&rows[week * 3 - 1], rows.last().unwrap());
    for (j, feature) in FEATURES.iter().enumerate() {
        if WINDOWED.contains(&feature.name) {
            assert_eq!(early[j].to_bits(), late[j].to_bits(), "{}", feature.name);
        } else {
            assert!((early[j] - late[j]).abs() < 1e-9, "{}: {} then {}", feature.name, early[j], late[j]);
        }
    }
}
