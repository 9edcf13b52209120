//! The last rows of a symbol, as they were or rounded to half precision. It knows no candle and no state.

use half::{f16, slice::HalfFloatSliceExt};
use wincode::{SchemaRead, SchemaWrite};

use crate::{
    catalog::{WIDTH, WINDOW},
    engine::BARS_MAX,
    memory::{Ahead, LINE, copy, narrow, widen},
};

/// Values in a window.
pub const WINDOW_LEN: usize = WINDOW * WIDTH;

/// A row as it is served.
pub type Row = [f32; WIDTH];

/// How rows are kept: every value of the set lies within ±10, so half precision keeps three digits of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As float32: 92 KB a symbol.
    #[default]
    Single,
    /// As float16: half the memory, and a window is read in half the time. A window of float32 then holds rounded values, too.
    Half,
}

/// Where a window goes.
#[derive(Debug)]
pub enum Room<'a> {
    /// As float32.
    F32(&'a mut [f32]),
    /// As float16.
    F16(&'a mut [f16]),
}

/// The newest [`WINDOW`] rows. The row of bar `b`, counted from 0, lies at `b % WINDOW`.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
pub struct Ring {
    values: Values,
}

#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
enum Values {
    Single(Box<[f32]>),
    /// The bits of float16.
    Half(Box<[u16]>),
}

impl Ring {
    /// Nothing kept yet.
    pub fn new(precision: Precision) -> Self {
        let values = match precision {
            Precision::Single => Values::Single(vec![f32::NAN; WINDOW_LEN].into()),
            Precision::Half => Values::Half(vec![f16::NAN.to_bits(); WINDOW_LEN].into()),
        };
        Self { values }
    }

    /// How rows are kept; `None`: this is no ring, whoever wrote it.
    pub fn precision(&self) -> Option<Precision> {
        match &self.values {
            Values::Single(values) => (values.len() == WINDOW_LEN).then_some(Precision::Single),
            Values::Half(values) => (values.len() == WINDOW_LEN).then_some(Precision::Half),
        }
    }

    /// Keeps the row of a bar, in the place of the one `WINDOW` bars before.
    pub fn keep(&mut self, bar: usize, row: &Row) {
        let at = bar % WINDOW * WIDTH;
        match &mut self.values {
            Values::Single(values) => values[at..at + WIDTH].copy_from_slice(row),
            Values::Half(values) => narrow::<false>(&mut values[at..at + WIDTH], row),
        }
    }

    /// Asks for the place of a bar's row, which is written soon.
    pub fn fetch(&self, bar: usize) {
        let at = bar % WINDOW * WIDTH;
        let (place, size) = match &self.values {
            Values::Single(values) => (Ahead::of(&values[at]), size_of::<Row>()),
            Values::Half(values) => (Ahead::of(&values[at]), size_of::<Row>() / 2),
        };
        (0..size.div_ceil(LINE)).for_each(|line| place.fetch(line));
    }

    /// The rows that are kept after so many bars, oldest first, one behind the other.
    pub fn rows(&self, bars: usize) -> Vec<f32> {
        let kept = bars.min(WINDOW);
        let mut rows = Vec::with_capacity(kept * WIDTH);
        for bar in bars - kept..bars {
            let at = bar % WINDOW * WIDTH;
            match &self.values {
                Values::Single(values) => rows.extend_from_slice(&values[at..at + WIDTH]),
                Values::Half(values) => rows.extend(values[at..at + WIDTH].iter().map(|x| f16::from_bits(*x).to_f32())),
            }
        }
        rows
    }

    /// Writes the window after `bars` bars and, behind them, `newer` ones; past the caches if `FAR`. Only when they fill it.
    pub fn write<const FAR: bool>(&self, bars: usize, newer: &[Row], room: Room) {
        let oldest = (bars + newer.len()) % WINDOW;
        // What lies together: from the oldest row on, and from the first place on.
        let (first, second) =
            if oldest < bars % WINDOW { (oldest..bars % WINDOW, 0..0) } else { (oldest..WINDOW, 0..bars % WINDOW) };
        let [first, second] = [first, second].map(|rows| rows.start * WIDTH..rows.end * WIDTH);
        let newer = newer.as_flattened();
        match (&self.values, room) {
            (Values::Single(values), Room::F32(to)) => {
                lay_out(to, [&values[first], &values[second], newer], copy::<f32, FAR>);
            }
            (Values::Single(values), Room::F16(to)) => {
                lay_out(to.reinterpret_cast_mut(), [&values[first], &values[second], newer], narrow::<FAR>);
            }
            (Values::Half(values), room) => {
                let mut rounded = [0; BARS_MAX * WIDTH];
                let rounded = &mut rounded[..newer.len()];
                narrow::<false>(rounded, newer);
                let runs = [&values[first], &values[second], rounded];
                match room {
                    Room::F32(to) => lay_out(to, runs, widen::<FAR>),
                    Room::F16(to) => lay_out(to.reinterpret_cast_mut(), runs, copy::<u16, FAR>),
                }
            }
        }
    }

    /// Columns that have one value all through the window after `bars` bars and `newer` ones.
    pub fn still(&self, bars: usize, newer: &[Row], newest: &Row) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
            return unsafe { self.still_with_avx2(bars, newer, newest) };
        }
        self.count_still(bars, newer, newest)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn still_with_avx2(&self, bars: usize, newer: &[Row], newest: &Row) -> u32 {
        self.count_still(bars, newer, newest)
    }

    #[inline(always)]
    fn count_still(&self, bars: usize, newer: &[Row], newest: &Row) -> u32 {
        let kept = (bars + newer.len() - WINDOW..bars).map(|bar| bar % WINDOW * WIDTH);
        match &self.values {
            Values::Single(values) => {
                let kept = kept.map(|at| values[at..].first_chunk().expect("a row"));
                count_still(kept.chain(newer), newest, |a, b| a != b)
            }
            Values::Half(values) => {
                let half = |row: &Row| {
                    let mut bits = [0; WIDTH];
                    narrow::<false>(&mut bits, row);
                    bits
                };
                let mut rounded = [[0; WIDTH]; BARS_MAX];
                let rounded = &mut rounded[..newer.len()];
                rounded.iter_mut().zip(newer).for_each(|(to, row)| *to = half(row));
                let kept = kept.map(|at| values[at..].first_chunk().expect("a row"));
                // The two zeros are one value.
                count_still(kept.chain(&*rounded), &half(newest), |a, b| a != b && (a | b) << 1 != 0)
            }
        }
    }
}

#[inline(always)]
fn count_still<'a, T: Copy + 'a>(
    rows: impl Iterator<Item = &'a [T; WIDTH]>,
    newest: &[T; WIDTH],
    differ: impl Fn(T, T) -> bool,
) -> u32 {
    let mut moved = [0_u32; WIDTH];
    for row in rows {
        for (moved, (a, b)) in moved.iter_mut().zip(row.iter().zip(newest)) {
            *moved |= u32::from(differ(*a, *b));
        }
    }
    WIDTH as u32 - moved.iter().sum::<u32>()
}

/// Puts the runs behind one another.
fn lay_out<T, U>(mut to: &mut [T], runs: [&[U]; 3], put: impl Fn(&mut [T], &[U])) {
    for run in runs {
        let (here, rest) = to.split_at_mut(run.len());
        put(here, run);
        to = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row `i` of some, each value of which can be told from the others and is no float16.
    fn row(i: usize) -> Row {
        std::array::from_fn(|column| (i as f32 + 1.0) * 0.003 + column as f32 * 0.01)
    }

    fn half(x: f32) -> f16 {
        f16::from_f32(x)
    }

    #[test]
    fn counts_columns_that_stand_still_in_all_of_the_window_and_nowhere_else() {
        for precision in [Precision::Single, Precision::Half] {
            let mut ring = Ring::new(precision);
            for bar in 0..200 {
                // Column 0 never moves, column 1 did until bar 100, column 2 is one zero or the other, the rest moves.
                let mut row = row(bar);
                (row[0], row[1], row[2]) = (0.5, bar.min(100) as f32, [0.0, -0.0][bar % 2]);
                ring.keep(bar, &row);
                if bar >= WINDOW {
                    let expected = if bar >= 100 + WINDOW - 1 { 3 } else { 2 };
                    assert_eq!(ring.still(bar + 1, &[], &row), expected, "bar {bar}");
                    assert_eq!(ring.still(bar, &[row], &row), expected, "bar {bar}, peeked");
                }
            }
        }
    }

    #[test]
    fn gives_back_the_newest_rows_oldest_first_in_either_precision_and_either_room() {
        let mut rings = [Ring::new(Precision::Single), Ring::new(Precision::Half)];
        for bars in 1..=2 * WINDOW + 3 {
            rings.iter_mut().for_each(|ring| ring.keep(bars - 1, &row(bars - 1)));
            let kept: Vec<f32> = (bars - bars.min(WINDOW)..bars).flat_map(row).collect();
            assert_eq!(rings[0].rows(bars), kept);
            assert_eq!(rings[1].rows(bars), kept.iter().map(|x| half(*x).to_f32()).collect::<Vec<_>>());
            for newer in [0, 1, BARS_MAX] {
                if bars + newer < WINDOW {
                    continue;
                }
                let rows: Vec<Row> = (bars..bars + newer).map(row).collect();
                assert!(rings.iter().all(|ring| ring.still(bars, &rows, &row(bars + newer - 1)) == 0));
                let window: Vec<f32> = (bars + newer - WINDOW..bars + newer).flat_map(row).collect();
                let halves: Vec<f16> = window.iter().map(|x| half(*x)).collect();
                let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
                for (ring, expected) in rings.iter().zip([window, wide]) {
                    let (mut single, mut narrow) = (vec![0.0; WINDOW_LEN], vec![f16::ZERO; WINDOW_LEN]);
                    ring.write::<false>(bars, &rows, Room::F32(&mut single));
                    ring.write::<true>(bars, &rows, Room::F16(&mut narrow));
                    assert_eq!((&single, &narrow), (&expected, &halves), "bars {bars}, newer {newer}");
                    ring.write::<true>(bars, &rows, Room::F32(&mut single));
                    ring.write::<false>(bars, &rows, Room::F16(&mut narrow));
                    assert_eq!((&single, &narrow), (&expected, &halves), "bars {bars}, newer {newer}");
                }
            }
        }
    }
}
