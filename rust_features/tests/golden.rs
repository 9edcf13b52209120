//! The columns we have, against rows computed elsewhere from the same candles. The data lie beside the repository; a checkout
//! without them has no cases.

mod common;

use std::{fs, path::PathBuf};

use candlecast_features::{
    candle::{Candle, Values},
    catalog::{FEATURES, State},
    extras::{Extras, OptionalInputs},
};

fn golden() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "shared", "golden"].iter().collect()
}

fn candles(name: &str, interval_ms: i64) -> Vec<(Values, Option<f64>)> {
    let text = fs::read_to_string(golden().join(name).with_extension("csv")).expect("a golden input has its candles");
    let candle = |line: &str| {
        let (open_time, numbers) = line.split_once(',').expect("columns");
        let numbers: Vec<f64> = numbers.split(',').map(|x| x.parse().expect("a number")).collect();
        let [open, high, low, close, volume, quote_volume, trades, taker_buy_volume, reference_close] = numbers[..]
        else {
            panic!("ten columns, not {line:?}");
        };
        let open_time_ms = open_time.parse().expect("a time");
        let values = Values {
            interval_ms,
            open_time_ms,
            open,
            high,
            low,
            close,
            volume,
            quote_volume,
            trades,
            taker_buy_volume,
        };
        (values, Some(reference_close).filter(|close| !close.is_nan()))
    };
    text.lines().skip(1).map(candle).collect()
}

/// Columns of series that are kept to 24 bits: positive values, or values up to 1, of which only ratios of sums count.
const OF_24_BITS: &[&str] = &[
    "ema_spread_z_8_21",
    "ema_spread_z_21_55",
    "range_pos_480",
    "parkinson_8",
    "garman_klass_48",
    "rs_park_ratio_20",
    "gk_cc_ratio_48",
    "tr_tod_ratio_5",
    "cmf_20",
    "mfi_14",
    "amihud_ratio_16_336",
    "corwin_schultz_20",
    "vpin_50",
    "bvc_imbalance_10",
    "taker_imbalance_20",
    "trade_size_ratio_96",
];

#[test]
fn agrees_with_the_golden_rows() {
    let Ok(names) = fs::read_to_string(golden().join("names.txt")) else { return };
    let names: Vec<&str> = names.lines().collect();
    for (name, interval_ms) in [("normal_15m", 900_000), ("stress_15m", 900_000), ("plain_5m", 300_000)] {
        let bytes = fs::read(golden().join(name).with_extension("f64")).expect("a golden input has its rows");
        let expected: Vec<f64> = bytes.as_chunks().0.iter().map(|x| f64::from_le_bytes(*x)).collect();
        let mut state = State::new();
        // The agreement asked for is 1e-6; in f64 it is closer.
        let (mut worst, mut worst_of_24_bits) = ((0.0, ""), (0.0, ""));
        for ((values, reference), expected) in
            candles(name, interval_ms).into_iter().zip(expected.chunks_exact(names.len()))
        {
            let candle = Candle::new(values, false, i64::MAX).expect("a good candle");
            let row = state.update(&candle, Extras::of(&values, reference, OptionalInputs::ALL));
            for (value, feature) in row.iter().zip(&FEATURES) {
                let expected = expected[names.iter().position(|name| *name == feature.name).expect("a known name")];
                assert_eq!(value.is_nan(), expected.is_nan(), "{name}: {}", feature.name);
                let error = if value.is_nan() { 0.0 } else { (value - expected).abs() };
                let worst = if OF_24_BITS.contains(&feature.name) { &mut worst_of_24_bits } else { &mut worst };
                if error > worst.0 {
                    *worst = (error, feature.name);
                }
            }
        }
        for ((error, column), most) in [(worst, 1e-8), (worst_of_24_bits, 1.5e-7)] {
            println!("{name}: worst error {error:e} in {column}");
            assert!(error <= most, "{name}: {column} is off by {error:e}");
        }
    }
}
