//! THE feature list. One file per group, one line per feature; names, count, order, warm-up and hash follow from it.
//!
//! A line reads `name, warm-up bars, [low, high], "formula", "convention" => value`. Formula and convention are the words of the
//! specification; the value is a Rust expression in which `?` means *not warm yet*. What windows say before they are
//! full means nothing, and is masked: only an average without an end must not be fed with it (`x.since(bar)?`). To add a feature, add
//! its line where it belongs in the order, and, if it needs an indicator nobody has, one line in the group's `indicators`.

mod declare;

mod candle;
mod cross;
mod ma;
mod momentum;
mod mtf;
mod pattern;
mod stats;
mod structure;
mod time;
mod trend;
mod volatility;
mod volume;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    candle::Candle,
    extras::{Extras, OptionalInputs},
    math::{each, larger, ln, smaller},
    memory::{Ahead, LINE, mark},
    shared::Shared,
};

/// The name of the feature set.
pub const FEATURE_SET: &str = "v1";

/// Rows in a window.
pub const WINDOW: usize = 96;

/// One column of the feature set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// Its name, unique.
    pub name: &'static str,
    /// The group it belongs to.
    pub group: &'static str,
    /// What it is, in the notation of the specification.
    pub formula: &'static str,
    /// The convention that settles what the formula leaves open; empty when nothing is.
    pub convention: &'static str,
    /// Bars after which it has a value. Before: NaN. After: never NaN.
    pub warmup_bars: u32,
    /// Least possible value.
    pub low: f64,
    /// Greatest possible value.
    pub high: f64,
    /// Version of the formula: a model trained on another one is refused.
    pub version: u32,
    /// Not 0: the value is this often the logarithm of what the line gives, clipped to the range.
    ln: f64,
}

declare::catalog! { candle, ma, momentum, volatility, trend, volume, stats, structure, mtf, cross, time, pattern }

/// Columns that end in a logarithm; of each how often it is taken, and its range.
const LOGARITHMS: ([usize; LOGARITHM_COUNT], [[f64; LOGARITHM_COUNT]; 3]) = {
    let (mut columns, mut numbers, mut at, mut i) = ([0; LOGARITHM_COUNT], [[0.0; LOGARITHM_COUNT]; 3], 0, 0);
    while i < WIDTH {
        if FEATURES[i].ln != 0.0 {
            columns[at] = i;
            (numbers[0][at], numbers[1][at], numbers[2][at]) = (FEATURES[i].ln, FEATURES[i].low, FEATURES[i].high);
            at += 1;
        }
        i += 1;
    }
    (columns, numbers)
};

const LOGARITHM_COUNT: usize = count_logarithms();

const fn count_logarithms() -> usize {
    let (mut count, mut i) = (0, 0);
    while i < WIDTH {
        count += (FEATURES[i].ln != 0.0) as usize;
        i += 1;
    }
    count
}

/// Finishes the columns that end in a logarithm, all at once.
#[inline(always)]
fn take_logarithms(row: &mut [f64; WIDTH]) {
    const COLUMNS: [usize; LOGARITHM_COUNT] = LOGARITHMS.0;
    const OFTEN: [f64; LOGARITHM_COUNT] = LOGARITHMS.1[0];
    const LOW: [f64; LOGARITHM_COUNT] = LOGARITHMS.1[1];
    const HIGH: [f64; LOGARITHM_COUNT] = LOGARITHMS.1[2];
    let mut values: [f64; LOGARITHM_COUNT] = each(|i| row[COLUMNS[i]]);
    for value in &mut values {
        // What is not warm may have no logarithm. It is masked.
        *value = if *value > 0.0 { *value } else { 1.0 };
    }
    let logarithms = ln(values);
    for i in 0..LOGARITHM_COUNT {
        values[i] = smaller(larger(OFTEN[i] * logarithms[i], LOW[i]), HIGH[i]);
    }
    for i in 0..LOGARITHM_COUNT {
        row[COLUMNS[i]] = values[i];
    }
}

const STATE_LINES: usize = size_of::<State>().div_ceil(LINE);

/// Asks for the share of a state that comes with a column: with all columns, for all of it but what is rarely touched.
#[inline(always)]
fn fetch_share(state: Ahead, column: usize) {
    const SHARE: usize = STATE_LINES.div_ceil(WIDTH);
    let mine = column * SHARE..((column + 1) * SHARE).min(STATE_LINES);
    mine.filter(|line| !RARE[*line]).for_each(|line| state.fetch(line));
}

/// Bars until every feature has a value.
pub const WARMUP_BARS: u32 = {
    let (mut longest, mut i) = (0, 0);
    while i < WIDTH {
        if FEATURES[i].warmup_bars > longest {
            longest = FEATURES[i].warmup_bars;
        }
        i += 1;
    }
    longest
};

/// Bars until a whole window has values: a symbol is READY.
pub const NEED: u32 = WARMUP_BARS + WINDOW as u32 - 1;

/// What a model was trained on and must be served with: the ordered features, their versions, the optional inputs in use.
pub fn feature_set_hash(used: OptionalInputs) -> u64 {
    let lines = FEATURES.iter().map(|feature| format!("{}:{}\n", feature.name, feature.version));
    let optional = format!("optional:{}", used.names().collect::<Vec<_>>().join(","));
    let text = lines.chain([optional]).collect::<String>();
    xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ranges_are_ranges() {
        for (i, feature) in FEATURES.iter().enumerate() {
            assert!(FEATURES[..i].iter().all(|earlier| earlier.name != feature.name), "{} twice", feature.name);
            assert!(feature.low < feature.high, "{}", feature.name);
            assert!(feature.warmup_bars >= 1, "{}", feature.name);
            assert!(!feature.formula.is_empty(), "{}", feature.name);
        }
    }
}
