//! The last one-bar returns of every series, and how they go together: rings by absolute bar number.
//!
//! A series' newest return comes with each of its rows; where bars are missing before it, its window says all 96.

use super::grown;

/// Returns that are correlated.
pub const BARS: usize = 96;
/// Kept of a series: two of them may be up to `RING - BARS` bars apart.
const RING: usize = 128;
const APART_BARS_MAX: i64 = (RING - BARS) as i64;
/// A series that stands still, up to rounding, goes with none.
const LENGTH_MIN: f64 = 1e-6;

/// Returns less their mean, with length 1; zeros where the series stands still, and before the first bar.
type Unit = [f64; BARS];

struct Kept {
    /// Number of the newest bar: its close divided by its interval.
    newest: i64,
    /// Number of the bar from which on all are known.
    since: i64,
    interval_ms: i64,
    ring: [f32; RING],
}

/// The returns of all series.
#[derive(Default)]
pub struct Returns {
    kept: Vec<Option<Box<Kept>>>,
}

impl Returns {
    /// Take the newest return of a series; a bar that is not newer than its last changes nothing.
    ///
    /// `before` gives its last `BARS` returns by age from the oldest on, the newest included.
    pub fn take(&mut self, series: usize, bar: i64, interval_ms: i64, newest: f32, before: impl Fn(usize) -> f32) {
        grown(&mut self.kept, series);
        let none = || Box::new(Kept { newest: i64::MIN / 2, since: 0, interval_ms, ring: [0.0; RING] });
        let kept = self.kept[series].get_or_insert_with(none);
        kept.interval_ms = interval_ms;
        if bar <= kept.newest {
            return;
        }
        if kept.newest == bar - 1 {
            kept.ring[slot(bar)] = newest;
        } else {
            let oldest = bar - (BARS - 1) as i64;
            for k in 0..BARS {
                kept.ring[slot(oldest + k as i64)] = before(k);
            }
            if kept.newest < oldest - 1 {
                kept.since = oldest;
            }
        }
        kept.newest = bar;
        kept.since = kept.since.max(bar - (RING - 1) as i64);
    }

    /// Return the correlation of two series over the last `BARS` bars that both have; NaN where there is none.
    ///
    /// They are up to `RING - BARS` fewer where one of two that are apart is not known for so long.
    /// Those of another interval are not compared, nor those more than `RING - BARS` bars apart. One goes with itself.
    pub fn correlation(&self, a: usize, b: usize, of_a: &mut Units, of_b: &mut Units) -> f64 {
        if a == b {
            return 1.0;
        }
        let (Some(first), Some(second)) = (self.of(a), self.of(b)) else { return f64::NAN };
        let apart = (first.newest - second.newest).abs();
        if first.interval_ms != second.interval_ms || apart > APART_BARS_MAX {
            return f64::NAN;
        }
        let end = first.newest.min(second.newest);
        let bars = (end - first.since.max(second.since) + 1).clamp(0, BARS as i64) as usize;
        of_a.at(end, bars, first).iter().zip(of_b.at(end, bars, second)).map(|(x, y)| x * y).sum()
    }

    fn of(&self, series: usize) -> Option<&Kept> {
        self.kept.get(series)?.as_deref()
    }
}

fn slot(bar: i64) -> usize {
    bar.rem_euclid(RING as i64) as usize
}

/// A series' returns up to the bar that was asked for last; to be dropped when a return comes.
#[derive(Default)]
pub struct Units(Option<(i64, usize, Box<Unit>)>);

impl Units {
    fn at(&mut self, end: i64, bars: usize, kept: &Kept) -> &Unit {
        if !matches!(&self.0, Some((of, over, _)) if (*of, *over) == (end, bars)) {
            self.0 = None;
        }
        &self.0.get_or_insert_with(|| (end, bars, Box::new(kept.unit(end, bars)))).2
    }
}

impl Kept {
    fn unit(&self, end: i64, bars: usize) -> Unit {
        let mut unit: Unit = [0.0; BARS];
        let known = &mut unit[BARS - bars..];
        for (k, x) in known.iter_mut().enumerate() {
            *x = f64::from(self.ring[slot(end - (bars - 1 - k) as i64)]);
        }
        let mean = known.iter().sum::<f64>() / bars as f64;
        known.iter_mut().for_each(|x| *x -= mean);
        let length = known.iter().map(|x| *x * *x).sum::<f64>().sqrt();
        let scale = if length > LENGTH_MIN { 1.0 / length } else { 0.0 };
        known.iter_mut().for_each(|x| *x *= scale);
        unit
    }
}
