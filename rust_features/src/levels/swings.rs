//! Swing highs: the peaks that a market has left behind, and how they follow one another.

use crate::{indicator::Indicator, shared::exact_sign};

/// Bars on each side that a peak stands above.
const SIDE: usize = 3;

/// Bars in which a confirmed peak can lie: the 96 of the window, without the newest, where none is confirmed yet.
const BARS: u32 = 96 - SIDE as u32;

/// The newest of these bars in a set of them. Older bars are higher bits, and what is too old falls off the top.
const NEWEST: u128 = 1 << (u128::BITS - BARS);

/// Swing highs with 3 bars on each side (Williams 1995: fractals, with two): bar i is one when its price is above those
/// of the 3 bars before and at least those of the 3 bars after. It is confirmed with the third bar after, and counts
/// while it is one of the newest 96 bars. Of equal prices the first is the peak, so peaks lie at least 4 bars apart.
///
/// Input: the price, and `Q` notes of the bar, such as what an oscillator says: the peak keeps them. Swing lows are the
/// peaks of the negated prices: negation is exact. Answers from the first bar on; complete with the 99th.
///
/// ```
/// use candlecast_features::{indicator::replay, levels::Swings};
///
/// let prices = [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 3.0, 3.0, 1.0, 1.0];
/// let peaks = replay(Swings::new(), prices.map(|price| (price, [10.0 * price]))).pop().unwrap().unwrap();
/// assert_eq!((peaks.newest.unwrap().price, peaks.newest.unwrap().notes), (3.0, [30.0]));
/// assert_eq!((peaks.before.unwrap().price, peaks.step()), (2.0, 1));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Swings<const Q: usize> {
    /// Of the newest bars, oldest first.
    prices: [f64; 2 * SIDE + 1],
    notes: [[f64; Q]; SIDE + 1],
    newest: Peak<Q>,
    before: Peak<Q>,
    /// The bars that are peaks.
    peaks: u128,
    /// Of these, those that a higher peak follows. A pair of neighbours belongs to its older one: it leaves with it.
    rises: u128,
    /// Those that a lower peak follows.
    falls: u128,
    /// Peaks there are.
    count: i32,
    /// Rises minus falls.
    balance: i32,
}

/// A swing high.
#[derive(Clone, Copy, Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Peak<const Q: usize> {
    /// Its price.
    pub price: f64,
    /// What was noted of its bar.
    pub notes: [f64; Q],
}

/// The swing highs that count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks<const Q: usize> {
    /// The newest.
    pub newest: Option<Peak<Q>>,
    /// The one before it.
    pub before: Option<Peak<Q>>,
    /// Pairs of neighbours.
    pub pairs: i32,
    /// Pairs that rise minus pairs that fall.
    pub balance: i32,
}

impl<const Q: usize> Swings<Q> {
    /// No bar seen.
    pub fn new() -> Self {
        let nowhere = Peak { price: 0.0, notes: [0.0; Q] };
        Self {
            // Nothing stands above what was never seen.
            prices: [f64::INFINITY; 2 * SIDE + 1],
            notes: [[0.0; Q]; SIDE + 1],
            newest: nowhere,
            before: nowhere,
            peaks: 0,
            rises: 0,
            falls: 0,
            count: 0,
            balance: 0,
        }
    }

    /// Each bar becomes one bar older.
    #[inline(always)]
    fn age(&mut self) {
        let leaving = |bars: u128| (bars >> (u128::BITS - 1)) as i32;
        self.count -= leaving(self.peaks);
        self.balance -= leaving(self.rises) - leaving(self.falls);
        self.peaks <<= 1;
        self.rises <<= 1;
        self.falls <<= 1;
    }

    /// A bar has been confirmed as a peak.
    #[inline]
    fn add(&mut self, peak: Peak<Q>) {
        // The lowest bit is the newest peak so far; none, if there is none.
        let older = self.peaks & self.peaks.wrapping_neg();
        let sign = if older == 0 { 0 } else { exact_sign(peak.price - self.newest.price) };
        self.rises |= if sign > 0 { older } else { 0 };
        self.falls |= if sign < 0 { older } else { 0 };
        self.peaks |= NEWEST;
        self.count += 1;
        self.balance += i32::from(sign);
        (self.before, self.newest) = (self.newest, peak);
    }
}

impl<const Q: usize> Default for Swings<Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const Q: usize> Indicator for Swings<Q> {
    type Input = (f64, [f64; Q]);
    type Output = Peaks<Q>;

    #[inline(always)]
    fn update(&mut self, (price, notes): (f64, [f64; Q])) -> Option<Peaks<Q>> {
        self.prices.copy_within(1.., 0);
        self.prices[2 * SIDE] = price;
        self.notes.copy_within(1.., 0);
        self.notes[SIDE] = notes;
        self.age();
        let [a, b, c, x, d, e, f] = self.prices;
        if (x > a) & (x > b) & (x > c) & (x >= d) & (x >= e) & (x >= f) {
            self.add(Peak { price: x, notes: self.notes[0] });
        }
        Some(Peaks {
            newest: (self.count > 0).then_some(self.newest),
            before: (self.count > 1).then_some(self.before),
            pairs: (self.count - 1).max(0),
            balance: self.balance,
        })
    }
}

impl<const Q: usize> Peaks<Q> {
    /// Whether the newest is higher (1) or lower (−1) than the one before; 0 when they are equal or there are not two.
    #[inline]
    pub fn step(&self) -> i8 {
        self.newest.zip(self.before).map_or(0, |(newest, before)| exact_sign(newest.price - before.price))
    }

    /// Divergence: by how much note `i` is lower at the newest peak than at the one before, when the peak itself is
    /// higher; else 0.
    #[inline]
    pub fn divergence(&self, i: usize) -> f64 {
        let weakening = |(newest, before): (Peak<Q>, Peak<Q>)| {
            if newest.price > before.price { (before.notes[i] - newest.notes[i]).max(0.0) } else { 0.0 }
        };
        self.newest.zip(self.before).map_or(0.0, weakening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::replay;
    use crate::oracle::{ticks, walk};

    /// The definition: the peaks among all bars of the window, and their neighbours.
    fn naive(prices: &[f64], t: usize) -> Peaks<1> {
        let is_peak = |i: &usize| {
            let (x, around) = (prices[*i], |j: usize| prices[j]);
            (i - 3..*i).map(around).all(|before| x > before) && (i + 1..=i + 3).map(around).all(|after| x >= after)
        };
        let peaks: Vec<usize> = (t.saturating_sub(95).max(3)..=t.saturating_sub(3)).filter(is_peak).collect();
        let at = |back: usize| {
            let i = *peaks.get(peaks.len().checked_sub(back)?)?;
            Some(Peak { price: prices[i], notes: [i as f64] })
        };
        let balance = peaks.windows(2).map(|pair| i32::from(exact_sign(prices[pair[1]] - prices[pair[0]]))).sum();
        Peaks { newest: at(1), before: at(2), pairs: peaks.windows(2).count() as i32, balance }
    }

    /// Peaks after each bar; the note is the number of the bar.
    fn peaks(prices: &[f64], first: usize) -> Vec<Peaks<1>> {
        let inputs = prices.iter().enumerate().skip(first).map(|(i, price)| (*price, [i as f64]));
        replay(Swings::new(), inputs).into_iter().flatten().collect()
    }

    /// Peaks as close together as they can be, each higher than the last; then long slopes without one.
    fn crowded() -> Vec<f64> {
        let teeth = (0..200).map(|i| f64::from(i / 4) + if i % 4 == 0 { 10.0 } else { 0.0 });
        let slope = (0..120).map(|i| 60.0 - f64::from(i) / 4.0);
        teeth.clone().chain(slope).chain(teeth).collect()
    }

    #[test]
    fn are_the_peaks_of_the_window_bar_by_bar() {
        for prices in [walk(64, 1_000), ticks(65, 2_000), crowded()] {
            for (t, peaks) in peaks(&prices, 0).into_iter().enumerate() {
                assert_eq!(peaks, naive(&prices, t), "bar {t}");
            }
        }
    }

    #[test]
    fn are_the_same_from_every_start_once_99_bars_were_seen() {
        let prices = crowded();
        let whole = peaks(&prices, 0);
        for start in 1..150 {
            assert_eq!(peaks(&prices, start)[98..], whole[start + 98..], "start {start}");
        }
    }

    #[test]
    fn at_most_24_fit_in_a_window() {
        let most = peaks(&crowded(), 0).into_iter().map(|peaks| peaks.pairs).max();
        assert_eq!(most, Some(23));
    }

    #[test]
    fn a_flat_market_has_none() {
        let last = peaks(&[7.0; 200], 0)[199];
        assert_eq!(last, Peaks { newest: None, before: None, pairs: 0, balance: 0 });
        assert_eq!((last.step(), last.divergence(0)), (0, 0.0));
    }

    #[test]
    fn diverge_when_a_higher_peak_has_a_lower_note() {
        let peak = |price, note| Some(Peak { price, notes: [note] });
        let of = |newest, before| Peaks { newest, before, pairs: 1, balance: 0 }.divergence(0);
        assert_eq!(of(peak(11.0, 60.0), peak(10.0, 75.0)), 15.0);
        assert_eq!(of(peak(11.0, 80.0), peak(10.0, 75.0)), 0.0);
        assert_eq!(of(peak(10.0, 60.0), peak(10.0, 75.0)), 0.0);
        assert_eq!(of(peak(11.0, 60.0), None), 0.0);
    }
}
