//! The filters that remember: signals of a minute, correlation with open positions, realised Sharpe ratio, and the cap on
//! the qualities of a side.
//!
//! One object for serving and the backtest, fed with the forecasts of one close after the other and the candles between.
//! It knows time only as that of the candles, so a replay is judged as the days were. Within a close the best quality
//! comes first, and each signal counts for those behind it. A forecast is judged once: the same close again gets the same
//! answer.

mod positions;
mod returns;

use std::collections::{HashMap, VecDeque};

pub use positions::{Position, Positions, Side, Tally};
pub use returns::{BARS, Returns, Units};

const MINUTE_MS: i64 = 60_000;
/// Closed trades of a series from which on its Sharpe ratio is judged.
const TRADES_MIN: u64 = 30;

/// Prices of a candle; NaN of one that is not known.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Bar {
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
}

/// What limits signals.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Signals whose closes lie within a minute.
    pub signals_per_minute_max: usize,
    /// Of a signal with an open position of its side.
    pub correlation_max: f64,
    /// Of a series with `TRADES_MIN` closed trades.
    pub sharpe_min: f64,
    /// Sum of the qualities of one side's positions.
    pub score_max: f64,
    /// How long a position is held.
    pub position_bars_max: i64,
    /// Of entering and leaving, as a fraction.
    pub trade_cost: f64,
}

/// The bit of each reason.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Bits {
    pub rate: u32,
    pub correlated: u32,
    pub sharpe: u32,
    pub score: u32,
}

impl Bits {
    fn all(self) -> u32 {
        self.rate | self.correlated | self.sharpe | self.score
    }
}

/// A forecast as these filters need it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Number of its series.
    pub series: usize,
    /// Of its candle.
    pub interval_ms: i64,
    /// Of its candle.
    pub close_time_ms: i64,
    /// Of its candle; NaN where it was asked for without one.
    pub bar: Bar,
    /// One-bar return of its candle.
    pub newest: f32,
    /// None: it has no side.
    pub side: Option<Side>,
    /// 0 to 1.
    pub quality: f64,
    /// Fraction of the price.
    pub stop_loss: f64,
    /// Fraction of the price.
    pub take_profit: f64,
    /// No other filter holds it back.
    pub passes: bool,
    /// Its candle is: it is judged, but opens nothing.
    pub forming: bool,
}

/// A candle without a forecast.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Other {
    pub series: usize,
    pub close_time_ms: i64,
    pub bar: Bar,
}

/// How the newest close of a series was judged.
#[derive(Clone, Copy)]
struct Judged {
    close_ms: i64,
    bits: u32,
    /// Nothing else held it back.
    passed: bool,
}

impl Default for Judged {
    fn default() -> Self {
        Self { close_ms: i64::MIN / 2, bits: 0, passed: false }
    }
}

/// What has to be remembered of signals, positions and returns; bounded by the number of series.
pub struct Portfolio {
    limits: Limits,
    bits: Bits,
    /// Open positions and closed trades.
    pub positions: Positions,
    /// Of all series.
    pub returns: Returns,
    signals_ms: VecDeque<i64>,
    judged: Vec<Judged>,
}

impl Portfolio {
    /// Nothing is remembered yet.
    pub fn new(limits: Limits, bits: Bits) -> Self {
        Self {
            limits,
            bits,
            positions: Positions::new(limits.position_bars_max, limits.trade_cost),
            returns: Returns::default(),
            signals_ms: VecDeque::new(),
            judged: Vec::new(),
        }
    }

    /// The closes of the newest signals.
    pub fn signals_ms(&self) -> impl ExactSizeIterator<Item = i64> {
        self.signals_ms.iter().copied()
    }

    /// Take note of a signal that was given before; called in the order of closes, candles following between.
    pub fn reopen(&mut self, given: &Candidate, side: Side) {
        self.open(given, side);
    }

    /// Take note of a forecast that was judged before, with all its reasons.
    pub fn remember(&mut self, series: usize, close_ms: i64, reasons: u32) {
        let all = self.bits.all();
        grown(&mut self.judged, series);
        self.judged[series] = Judged { close_ms, bits: reasons & all, passed: reasons & !all == 0 };
    }

    /// Move positions by candles that have no forecast.
    pub fn follow(&mut self, others: &[Other]) {
        if self.positions.open.is_empty() {
            return;
        }
        let mut closes: Vec<_> = others.iter().map(|other| other.close_time_ms).collect();
        closes.sort_unstable();
        closes.dedup();
        for close_ms in closes {
            self.follow_close(others, close_ms);
        }
    }

    fn follow_close(&mut self, others: &[Other], close_ms: i64) {
        let of_close = |series| {
            others.iter().find(|other| other.close_time_ms == close_ms && other.series == series).map(|other| other.bar)
        };
        self.positions.move_all(close_ms, of_close);
    }

    /// Return for each forecast the bits of the reasons that hold it back, and open what passes everything.
    ///
    /// `before(i, k)` gives of forecast `i` the k-th of its last `BARS` returns; it is asked where bars were missing.
    /// `others` are candles of the same time that have no forecast: they move positions in the order of the closes.
    pub fn judge(&mut self, given: &[Candidate], before: impl Fn(usize, usize) -> f32, others: &[Other]) -> Vec<u32> {
        let mut bits = vec![0; given.len()];
        let mut order: Vec<usize> = (0..given.len()).collect();
        order.sort_by_key(|&i| given[i].close_time_ms);
        let mut closes: Vec<_> =
            given.iter().map(|one| one.close_time_ms).chain(others.iter().map(|other| other.close_time_ms)).collect();
        closes.sort_unstable();
        closes.dedup();
        let mut rest = &order[..];
        for close_ms in closes {
            if !others.is_empty() {
                self.follow_close(others, close_ms);
            }
            let count = rest.iter().take_while(|&&i| given[i].close_time_ms == close_ms).count();
            let (mine, later) = rest.split_at(count);
            rest = later;
            if !mine.is_empty() {
                self.judge_close(given, mine, close_ms, &before, &mut bits);
            }
        }
        bits
    }

    /// Judge the forecasts at `mine`, all of one close.
    fn judge_close(
        &mut self,
        given: &[Candidate],
        mine: &[usize],
        close_ms: i64,
        before: &impl Fn(usize, usize) -> f32,
        bits: &mut [u32],
    ) {
        let (mut fresh, mut closed) = (Vec::with_capacity(mine.len()), Vec::with_capacity(mine.len()));
        for &i in mine {
            let one = &given[i];
            grown(&mut self.judged, one.series);
            let judged = self.judged[one.series];
            // One that was held back anyway and passes now, said by another version of the model, is judged like a new one.
            if judged.close_ms == close_ms && (judged.passed || !one.passes) {
                bits[i] = judged.bits;
                continue;
            }
            fresh.push(i);
            if !one.forming {
                closed.push(i);
            }
        }
        for &i in &closed {
            let one = &given[i];
            let bar = close_ms.div_euclid(one.interval_ms);
            self.returns.take(one.series, bar, one.interval_ms, one.newest, |k| before(i, k));
        }
        let of_series = |series| closed.iter().find(|&&i| given[i].series == series).map(|&i| given[i].bar);
        self.positions.move_all(close_ms, of_series);
        let firsts = firsts(given, &fresh);
        let mut sides: Vec<usize> = fresh
            .iter()
            .zip(&firsts)
            .filter(|(i, first)| i == first && given[**i].side.is_some())
            .map(|(i, _)| *i)
            .collect();
        sides.sort_by(|&a, &b| given[b].quality.total_cmp(&given[a].quality));
        self.judge_sides(given, &sides, close_ms, bits);
        for (&i, &first) in fresh.iter().zip(&firsts) {
            bits[i] = bits[first];
        }
        for &i in &closed {
            let judged = &mut self.judged[given[i].series];
            if close_ms >= judged.close_ms {
                *judged = Judged { close_ms, bits: bits[i], passed: given[i].passes };
            }
        }
    }

    /// Judge forecasts with a side, the best first.
    fn judge_sides(&mut self, given: &[Candidate], sides: &[usize], close_ms: i64, bits: &mut [u32]) {
        let within = |ms: &&i64| close_ms - MINUTE_MS < **ms && **ms <= close_ms;
        let given_ms = self.signals_ms.iter().filter(within).count();
        let mut left = self.limits.signals_per_minute_max.saturating_sub(given_ms);
        let mut units: Vec<Units> = Vec::new(); // of the open positions
        for &i in sides {
            let (one, Some(side)) = (&given[i], given[i].side) else { continue };
            units.resize_with(self.positions.open.len(), Units::default);
            let mut held_back = self.against(one, side, &mut units);
            if one.passes && held_back == 0 {
                if left == 0 {
                    held_back = self.bits.rate;
                } else if !one.forming {
                    if self.open(one, side) {
                        units.clear(); // another position went, and their order is another
                    }
                    left -= 1;
                }
            }
            bits[i] = held_back;
        }
    }

    /// Return what closed trades and open positions say against a forecast.
    fn against(&self, one: &Candidate, side: Side, units: &mut [Units]) -> u32 {
        let (limits, mut bits) = (self.limits, 0);
        let tally = self.positions.tally(one.series);
        if tally.trades >= TRADES_MIN && tally.sharpe() < limits.sharpe_min {
            bits |= self.bits.sharpe;
        }
        let same = || self.positions.open.iter().filter(|held| held.side == side);
        if one.quality + same().map(|held| held.quality).sum::<f64>() > limits.score_max {
            bits |= self.bits.score;
        }
        let mut mine = Units::default();
        let mut held = self.positions.open.iter().zip(units).filter(|(held, _)| held.side == side);
        if held.any(|(held, theirs)| {
            self.returns.correlation(held.series, one.series, theirs, &mut mine) > limits.correlation_max
        }) {
            bits |= self.bits.correlated;
        }
        bits
    }

    /// Open a position; say whether one of the other side went.
    fn open(&mut self, given: &Candidate, side: Side) -> bool {
        let kept_max = (4 * self.limits.signals_per_minute_max).max(64);
        if self.signals_ms.len() == kept_max {
            self.signals_ms.pop_front();
        }
        self.signals_ms.push_back(given.close_time_ms);
        let position = Position {
            series: given.series,
            side,
            quality: given.quality,
            signal_ms: given.close_time_ms,
            until_ms: 0,
            entry: f64::NAN,
            mark: given.bar.close,
            stop_loss: given.stop_loss,
            take_profit: given.take_profit,
        };
        self.positions.enter(position, given.interval_ms)
    }
}

/// Return for each of `fresh` the first one of its candle: one sent twice is judged once.
fn firsts(given: &[Candidate], fresh: &[usize]) -> Vec<usize> {
    if fresh.len() < 2 {
        return fresh.to_vec();
    }
    let mut seen = HashMap::with_capacity(fresh.len());
    fresh.iter().map(|&i| *seen.entry((given[i].series, given[i].forming)).or_insert(i)).collect()
}

/// Have a place for a series.
fn grown<T: Default>(places: &mut Vec<T>, series: usize) {
    if series >= places.len() {
        places.resize_with((series + 1).max(2 * places.len()), T::default);
    }
}
