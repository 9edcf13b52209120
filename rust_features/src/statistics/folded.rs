//! Aggregates over long windows that are not sums: two aggregates side by side give that of both.

use crate::memory::part;

/// Values in a block.
const BLOCK: usize = 16;

/// Bars for which the rests of a block are made at a time.
const STEP: usize = 8;

/// What is known of a run of values.
pub trait Fold: Copy {
    /// Of one value.
    fn of(x: f64) -> Self;
    /// Of this run and the `later` one that follows it, of `n` values.
    fn then(self, later: Self, n: usize) -> Self;
}

/// The aggregate `T` of the last 16·(`WHOLE` + 1) values, as [`crate::rolling::LongSums`] keeps sums: what is left
/// of an old block, `WHOLE` blocks or what is complete of them, and the open block; two or three foldings a bar. Blocks
/// lie at absolute bar numbers.
///
/// It keeps no values: the caller says what the value was `lag` bars ago (NaN: before the first).
///
/// ```
/// use candlecast_features::{rolling::Window, statistics::{Fold, Folded}};
///
/// #[derive(Clone, Copy)]
/// struct Highest(f64);
///
/// impl Fold for Highest {
///     fn of(x: f64) -> Self {
///         Self(x)
///     }
///     fn then(self, later: Self, _: usize) -> Self {
///         Self(self.0.max(later.0))
///     }
/// }
///
/// let (mut window, mut highest) = (Window::<32, 64>::new(), Folded::<Highest, 1>::new());
/// for bar in 1_000..1_100 {
///     window.push(-(bar as f64));
///     let value = highest.update((bar, |lag| window.lag(lag)));
///     assert_eq!(value.map(|highest| highest.0), (bar >= 1_031).then_some(31.0 - bar as f64));
/// }
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Folded<T, const WHOLE: usize> {
    seen: u32,
    /// Where the next block goes.
    next: u32,
    open: T,
    /// Of the whole blocks.
    middle: T,
    /// Of what is left of the old block, now and in the next bars.
    rests: [T; STEP],
    blocks: [T; WHOLE],
}

impl<T: Fold, const WHOLE: usize> Folded<T, WHOLE> {
    const N: usize = BLOCK * (WHOLE + 1);

    /// The blocks are read when one is full.
    pub(crate) const RARELY: (usize, usize) = part!(blocks: [T; WHOLE]);

    /// Has seen nothing.
    pub fn new() -> Self {
        let none = T::of(0.0);
        Self { seen: 0, next: 0, open: none, middle: none, rests: [none; STEP], blocks: [none; WHOLE] }
    }

    /// Takes the newest value. `bar` is its absolute number; `at(lag)` gives the value `lag` bars before, for any `lag`
    /// in the window.
    #[inline(always)]
    pub fn update(&mut self, (bar, at): (u64, impl Fn(usize) -> f64)) -> Option<T> {
        let (newest, in_block) = (T::of(at(0)), bar as usize % BLOCK);
        self.open = if in_block == 0 || self.seen == 0 { newest } else { self.open.then(newest, 1) };
        self.seen = (self.seen + 1).min(Self::N as u32);
        let in_open = (in_block + 1) % BLOCK;
        if in_open == 0 {
            self.close();
        }
        if in_open.is_multiple_of(STEP) {
            self.turn(in_open, at);
        }
        if (self.seen as usize) < Self::N {
            return None;
        }
        let older = self.rests[in_open % STEP].then(self.middle, BLOCK * WHOLE);
        Some(if in_open == 0 { older } else { older.then(self.open, in_open) })
    }

    /// A block is complete, and another one begins to leave.
    fn close(&mut self) {
        self.blocks[self.next as usize] = self.open;
        self.next = (self.next + 1) % WHOLE as u32;
        let (newer, older) = self.blocks.split_at(self.next as usize);
        let whole = older.iter().chain(newer).copied();
        self.middle = whole.reduce(|all, block| all.then(block, BLOCK)).expect("there are whole blocks");
    }

    /// What will be left of the old block in this bar and the next ones.
    #[inline(always)]
    fn turn(&mut self, in_open: usize, at: impl Fn(usize) -> f64) {
        let first = in_open + BLOCK * WHOLE;
        let mut rest = T::of(at(first));
        for lag in first + 1..Self::N {
            if let Some(run) = self.rests.get_mut(Self::N - lag) {
                *run = rest;
            }
            rest = T::of(at(lag)).then(rest, lag - first);
        }
        self.rests[0] = rest;
    }
}

impl<T: Fold, const WHOLE: usize> Default for Folded<T, WHOLE> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folding is not commutative: the order shows.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Run {
        first: f64,
        last: f64,
        n: usize,
        is_unbroken: bool,
    }

    impl Fold for Run {
        fn of(x: f64) -> Self {
            Self { first: x, last: x, n: 1, is_unbroken: true }
        }

        fn then(self, later: Self, n: usize) -> Self {
            let follows = self.last + 1.0 == later.first && later.n == n;
            let is_unbroken = self.is_unbroken && later.is_unbroken && follows;
            Self { first: self.first, last: later.last, n: self.n + later.n, is_unbroken }
        }
    }

    fn check<const WHOLE: usize>() {
        for first_bar in (0..17).chain([1_888_889]) {
            let mut folded = Folded::<Run, WHOLE>::new();
            for i in 0_usize..1_000 {
                let at = |lag: usize| i.checked_sub(lag).map_or(f64::NAN, |earlier| earlier as f64);
                let n = 16 * (WHOLE + 1);
                let expected =
                    (i + 1).checked_sub(n).map(|from| Run { first: from as f64, last: i as f64, n, is_unbroken: true });
                assert_eq!(folded.update((first_bar + i as u64, at)), expected);
            }
        }
    }

    #[test]
    fn folds_the_window_in_order_for_many_lengths_whatever_the_first_bar() {
        check::<1>();
        check::<2>();
        check::<5>();
        check::<29>();
    }
}
