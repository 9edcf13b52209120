//! The closes of the reference symbol, by time: what other symbols compare themselves with.

use wincode::{SchemaRead, SchemaWrite};

/// Closes remembered: how far the history of another symbol may lie behind that of the reference.
pub const REMEMBERED: usize = 4_096;

/// Closes of the reference symbol at one interval.
#[derive(Clone, Debug, SchemaRead, SchemaWrite)]
pub struct Reference {
    /// The close of bar number `b` lies at `b % REMEMBERED`; NaN where there is none.
    closes: Box<[f64]>,
    newest_bar: i64,
}

impl Reference {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { closes: vec![f64::NAN; REMEMBERED].into(), newest_bar: -1 }
    }

    /// Takes the close of bar number `bar`, before which `fills` bars are silent: they have the close before.
    pub fn push(&mut self, bar: i64, fills: u32, close: f64) {
        let before = self.closes[self.at(self.newest_bar)];
        let first_filled = bar - i64::from(fills);
        for missing in (self.newest_bar + 1).max(first_filled - REMEMBERED as i64)..first_filled {
            let at = self.at(missing);
            self.closes[at] = f64::NAN;
        }
        for filled in first_filled..bar {
            let at = self.at(filled);
            self.closes[at] = before;
        }
        let at = self.at(bar);
        self.closes[at] = close;
        self.newest_bar = bar;
    }

    /// The close of bar number `bar`.
    pub fn close(&self, bar: i64) -> Option<f64> {
        let is_remembered = (self.newest_bar - REMEMBERED as i64 + 1..=self.newest_bar).contains(&bar);
        is_remembered.then(|| self.closes[self.at(bar)]).filter(|close| !close.is_nan())
    }

    fn at(&self, bar: i64) -> usize {
        bar.rem_euclid(REMEMBERED as i64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_close_by_its_bar_and_no_other() {
        let mut reference = Reference::new();
        assert_eq!(reference.close(0), None);
        reference.push(1_000_000, 0, 5.0);
        reference.push(1_000_003, 2, 6.0);
        reference.push(1_000_013, 0, 7.0);
        let closes: Vec<_> = (999_999..1_000_015).map(|bar| reference.close(bar)).collect();
        let mut expected = vec![None, Some(5.0), Some(5.0), Some(5.0), Some(6.0)];
        expected.extend([None; 9]);
        expected.extend([Some(7.0), None]);
        assert_eq!(closes, expected);
    }

    #[test]
    fn forgets_what_is_older_than_it_remembers() {
        let mut reference = Reference::new();
        (0..5_000).for_each(|bar| reference.push(bar, 0, bar as f64 + 1.0));
        assert_eq!(reference.close(4_999), Some(5_000.0));
        assert_eq!(reference.close(5_000 - REMEMBERED as i64), Some(5_001.0 - REMEMBERED as f64));
        assert_eq!(reference.close(4_999 - REMEMBERED as i64), None);
        // A leap beyond everything remembered leaves nothing old behind.
        reference.push(50_000, 0, 1.0);
        assert!((45_000..50_000).all(|bar| reference.close(bar).is_none()));
    }
}
