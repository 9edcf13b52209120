//! What every feature group reads of a bar, computed once: prices, returns, the scales A and S, the shared windows.

use std::mem::offset_of;

use crate::{
    average::Averages,
    candle::Candle,
    extras::Extras,
    math::{each, larger, ln, smaller},
    memory::within,
    momentum::strength,
    rolling::{LongMaximum, Widening, Window, sum, sum_of},
    timeframe::{Bucket, Timeframe},
    volatility::true_range,
};

/// An earlier bar.
#[derive(Clone, Copy, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Earlier {
    /// Open.
    pub o: f64,
    /// High.
    pub h: f64,
    /// Low.
    pub l: f64,
    /// Close.
    pub c: f64,
    /// Volume.
    pub v: f64,
}

impl Earlier {
    /// (h + l + c)/3.
    pub fn tp(&self) -> f64 {
        (self.h + self.l + self.c) / 3.0
    }
}

/// The channels of highs and lows that are kept.
macro_rules! channels {
    ($($n:literal),*) => {
        const CHANNELS: [u32; [$($n),*].len()] = [$($n),*];

        /// What `best` gives of the newest 9, 13, … 96 of `xs`. Lengths known to the compiler make the loops straight.
        #[inline(always)]
        fn nested(xs: &[f64; 96], best: impl Fn(f64, f64) -> f64) -> [f64; CHANNELS.len()] {
            let mut widening = Widening::new(xs, best);
            [$(widening.to($n)),*]
        }
    };
}

channels![9, 13, 14, 20, 24, 26, 28, 48, 52, 56, 96];

/// Lengths of the averages of the close, of the true range, and of gains and losses.
const EMAS: [u32; 9] = [8, 12, 13, 20, 21, 26, 50, 55, 104];
const ATRS: [u32; 5] = [7, 10, 14, 20, 28];
const RSIS: [u32; 4] = [3, 5, 14, 42];

/// The current bar and what is known around it. Names are those of the feature notation; `None` or NaN until defined.
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Shared {
    /// Bars seen since the (re)start, the current included.
    pub bars: u32,
    /// Number of the current bar since the epoch: the same in every history.
    pub bar: u64,
    /// When the current bar became known, ms UTC.
    pub close_time_ms: i64,
    /// Open.
    pub o: f64,
    /// High.
    pub h: f64,
    /// Low.
    pub l: f64,
    /// Close.
    pub c: f64,
    /// Base volume.
    pub v: f64,
    /// What may be absent.
    pub extras: Extras,
    /// h − l.
    pub range: f64,
    /// (h + l)/2.
    pub hl2: f64,
    /// (h + l + c)/3.
    pub tp: f64,
    /// Traded price of the bar: quote volume over volume, the typical price when there is none.
    pub w: f64,
    /// Turnover: w·v.
    pub turn: f64,
    /// Zero threshold of any price difference: 1e-9·c.
    pub ec: f64,
    /// (c − o)/(h − l), 0 on a point bar.
    pub body_ratio: f64,
    /// ln(h / l).
    pub ln_hl: f64,
    /// ln(c / o).
    pub ln_co: f64,
    /// ln(h/c)·ln(h/o) + ln(l/c)·ln(l/o): the bar's term of Rogers and Satchell.
    pub rogers_satchell: f64,
    /// The bar before.
    pub previous: Option<Earlier>,
    /// The bar before that.
    pub before_previous: Option<Earlier>,
    /// c − c\[1\].
    pub dc: Option<f64>,
    /// ln(c / c\[1\]).
    pub r: Option<f64>,
    /// ln(o / c\[1\]).
    pub ln_oc_1: Option<f64>,
    /// True range.
    pub tr: Option<f64>,
    /// The price scale A: ATR(14), at least 1e-5·c.
    pub a: f64,
    /// The return scale S: sample deviation of 96 returns, at least 1e-5.
    pub s: f64,
    /// SMA(c, 5).
    pub sma_5: f64,
    /// SMA(c, 10).
    pub sma_10: f64,
    /// SMA(c, 20).
    pub sma_20: f64,
    /// SMA(c, 50).
    pub sma_50: f64,
    /// SMA(c, 100).
    pub sma_100: f64,
    /// SMA(c, 200).
    pub sma_200: f64,
    /// The MACD line: EMAS(c, 12, 14) − EMA(c, 26).
    pub macd_12_26: f64,
    /// Sum and sum of squares of the newest 96 returns.
    pub return_sums_96: [f64; 2],
    /// The newest closes.
    pub closes: Window<201, 216>,
    /// The newest log closes, `p`.
    pub log_closes: Window<481, 496>,
    /// The newest returns, `r`.
    pub returns: Window<194, 208>,
    /// The newest opens.
    pub opens: Window<13, 20>,
    /// The newest highs.
    pub highs: Window<96, 108>,
    /// The newest lows.
    pub lows: Window<96, 108>,
    /// The newest traded prices, `w`.
    pub traded_prices: Window<96, 108>,
    /// The newest volumes.
    pub volumes: Window<481, 496>,
    /// The newest true ranges.
    pub true_ranges: Window<97, 108>,
    /// Bars of 96 bars: days, at 15 minutes.
    pub x96: Timeframe<96>,
    highest: [f64; CHANNELS.len()],
    lowest: [f64; CHANNELS.len()],
    highest_480: LongMaximum,
    /// Of the negated lows.
    lowest_480: LongMaximum,
    channel_480: (f64, f64),
    emas: Averages<{ EMAS.len() }>,
    late_ema_12: Averages<1>,
    true_range_averages: Averages<{ ATRS.len() }>,
    gains: Averages<{ RSIS.len() }>,
    losses: Averages<{ RSIS.len() }>,
    strengths: [f64; RSIS.len()],
    /// 1/c.
    pub per_c: f64,
    /// 1/A and 1/S; NaN until they are defined.
    per_a: f64,
    per_s: f64,
}

impl Shared {
    /// What hardly any bar touches.
    pub(crate) const RARELY: &[(usize, usize)] = &[
        within(offset_of!(Self, log_closes), Window::<481, 496>::between_oldest_and_newest::<49>()),
        within(offset_of!(Self, volumes), Window::<481, 496>::between_oldest_and_newest::<192>()),
        within(offset_of!(Self, highest_480), LongMaximum::RARELY),
        within(offset_of!(Self, lowest_480), LongMaximum::RARELY),
    ];

    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bar.
    #[inline(always)]
    pub fn update(&mut self, candle: &Candle, extras: Extras) {
        self.before_previous = self.previous;
        let earlier = Earlier { o: self.o, h: self.h, l: self.l, c: self.c, v: self.v };
        self.previous = (self.bars > 0).then_some(earlier);
        self.bars += 1;
        self.bar = (candle.open_time_ms / candle.interval_ms) as u64;
        self.close_time_ms = candle.close_time_ms();
        (self.o, self.h, self.l, self.c) = (candle.open, candle.high, candle.low, candle.close);
        (self.v, self.extras) = (candle.volume, extras);
        self.prices();
        self.channels();
        self.logarithms();
        self.averages();
        self.scales();
    }

    /// What is known of the bar alone, and of the prices before it.
    #[inline(always)]
    fn prices(&mut self) {
        self.ec = 1e-9 * self.c;
        self.per_c = 1.0 / self.c;
        self.range = self.h - self.l;
        self.hl2 = (self.h + self.l) / 2.0;
        self.tp = (self.h + self.l + self.c) / 3.0;
        let paid = self.extras.quote_volume.filter(|quote| *quote > 0.0 && self.v > 0.0);
        self.w = paid.map_or(self.tp, |quote| quote / self.v).clamp(self.l, self.h);
        self.turn = self.w * self.v;
        self.body_ratio = ratio(self.c - self.o, self.range, self.ec, 0.0);
        self.closes.push(self.c);
        self.opens.push(self.o);
        self.highs.push(self.h);
        self.lows.push(self.l);
        self.traded_prices.push(self.w);
        self.volumes.push(self.v);
        self.x96.push(self.bar, Bucket { o: self.o, h: self.h, l: self.l, c: self.c });
    }

    /// Highest highs and lowest lows.
    #[inline(always)]
    fn channels(&mut self) {
        self.highest = nested(self.highs.last(), larger);
        self.lowest = nested(self.lows.last(), smaller);
        let (highest, lowest) = (self.highest[CHANNELS.len() - 1], self.lowest[CHANNELS.len() - 1]);
        let highest_480 = self.highest_480.update((self.bar, |lag| self.highs.lag(lag), highest));
        let lowest_480 = self.lowest_480.update((self.bar, |lag| -self.lows.lag(lag), -lowest));
        self.channel_480 = (highest_480, -lowest_480);
    }

    #[inline(always)]
    fn logarithms(&mut self) {
        let (o, h, l, c) = (self.o, self.h, self.l, self.c);
        let c_1 = self.previous.map_or(c, |previous| previous.c);
        // r is not the difference of two logarithms: that loses digits when prices are large and returns small.
        let [p, r, oc_1, hl, co, hc, ho, lc, lo] = ln([c, c / c_1, o / c_1, h / l, c / o, h / c, h / o, l / c, l / o]);
        self.log_closes.push(p);
        (self.ln_hl, self.ln_co, self.rogers_satchell) = (hl, co, hc * ho + lc * lo);
        if self.previous.is_some() {
            self.returns.push(r);
            (self.r, self.ln_oc_1) = (Some(r), Some(oc_1));
        }
    }

    #[inline(always)]
    fn averages(&mut self) {
        let closes = self.closes.last::<200>();
        let between = |from: usize, to: usize| sum(&closes[200 - to..200 - from]);
        let sum_5 = between(0, 5);
        let sum_10 = sum_5 + between(5, 10);
        let sum_20 = sum_10 + between(10, 20);
        let sum_50 = sum_20 + between(20, 50);
        let sum_100 = sum_50 + between(50, 100);
        let sum_200 = sum_100 + between(100, 200);
        (self.sma_5, self.sma_10, self.sma_20) = (sum_5 * (1.0 / 5.0), sum_10 * (1.0 / 10.0), sum_20 * (1.0 / 20.0));
        (self.sma_50, self.sma_100, self.sma_200) =
            (sum_50 * (1.0 / 50.0), sum_100 * (1.0 / 100.0), sum_200 * (1.0 / 200.0));
        self.emas.update(self.c, EMAS, |n| 2.0 / (n + 1.0));
        if self.bars > 14 {
            self.late_ema_12.update(self.c, [12], |n| 2.0 / (n + 1.0));
        }
        self.macd_12_26 = self.late_ema_12.values[0] - self.ema::<26>();
    }

    /// What compares the bar with the one before, and the two scales built on it.
    #[inline(always)]
    fn scales(&mut self) {
        let Some(previous) = self.previous else { return };
        let (dc, tr) = (self.c - previous.c, true_range(self.h, self.l, previous.c));
        self.true_ranges.push(tr);
        (self.dc, self.tr) = (Some(dc), Some(tr));
        self.gains.update(larger(dc, 0.0), RSIS, |n| 1.0 / n);
        self.losses.update(larger(-dc, 0.0), RSIS, |n| 1.0 / n);
        self.strengths = each(|i| strength(self.gains.values[i], self.losses.values[i], self.ec));
        self.true_range_averages.update(tr, ATRS, |n| 1.0 / n);
        self.a = larger(1e-5 * self.c, self.atr::<14>());
        let returns = self.returns.last::<96>();
        let [sum, squares] = [sum(returns), sum_of(returns, |r| r * r)];
        self.return_sums_96 = [sum, squares];
        self.s = larger((larger(squares - sum * sum * (1.0 / 96.0), 0.0) * (1.0 / 95.0)).sqrt(), 1e-5);
        (self.per_a, self.per_s) = (1.0 / self.a, 1.0 / self.s);
    }

    /// `EMA(c, N)`. `N` is one of the lengths that are kept, here as below.
    #[inline(always)]
    pub fn ema<const N: u32>(&self) -> f64 {
        self.emas.values[const { place_of(EMAS, N) }]
    }

    /// `RMA(TR, N)`.
    #[inline(always)]
    pub fn atr<const N: u32>(&self) -> f64 {
        self.true_range_averages.values[const { place_of(ATRS, N) }]
    }

    /// `RSI(c, N)`.
    #[inline(always)]
    pub fn rsi<const N: u32>(&self) -> f64 {
        self.strengths[const { place_of(RSIS, N) }]
    }

    /// (`MAX(h, N)`, `MIN(l, N)`).
    #[inline(always)]
    pub fn channel<const N: u32>(&self) -> (f64, f64) {
        if N as usize == LongMaximum::LENGTH {
            self.channel_480
        } else {
            let i = const { place_of(CHANNELS, N) };
            (self.highest[i], self.lowest[i])
        }
    }

    /// Opens, highs, lows and closes of the newest `N` bars, oldest first.
    #[inline(always)]
    pub fn candles<const N: usize>(&self) -> [&[f64; N]; 4] {
        [self.opens.last(), self.highs.last(), self.lows.last(), self.closes.last()]
    }

    /// (h + l)/2 of the newest `N` bars, oldest first.
    #[inline(always)]
    pub fn middles<const N: usize>(&self) -> [f64; N] {
        let (highs, lows) = (self.highs.last::<N>(), self.lows.last::<N>());
        each(|i| (highs[i] + lows[i]) / 2.0)
    }

    /// A price move over `bars` bars in the ATRs a random walk would make: d / (A·√bars).
    #[inline]
    pub fn in_atr(&self, d: f64, bars: f64) -> f64 {
        d * self.per_a * (1.0 / bars.sqrt())
    }

    /// A log move over `bars` bars in the volatility of a random walk: d / (S·√bars).
    #[inline]
    pub fn in_vol(&self, d: f64, bars: f64) -> f64 {
        d * self.per_s * (1.0 / bars.sqrt())
    }

    /// A price move over `bars` bars in the volatility of a random walk: d / (c·S·√bars).
    #[inline]
    pub fn in_price_vol(&self, d: f64, bars: f64) -> f64 {
        self.in_vol(d * self.per_c, bars)
    }

    /// ln(c / c\[n\]).
    #[inline]
    pub fn log_move(&self, n: usize) -> f64 {
        self.log_closes.lag(0) - self.log_closes.lag(n)
    }

    /// `SGNT`: the sign of a computed price difference, 0 within `ec`. Rounding noise decides no sign.
    #[inline]
    pub fn sign(&self, d: f64) -> i8 {
        i8::from(d > self.ec) - i8::from(d < -self.ec)
    }

    /// `Some` from bar `start` (counted from 0) on: what an average is fed from there.
    #[inline]
    pub fn since(&self, start: u32) -> Option<()> {
        (self.bars > start).then_some(())
    }
}

/// Where what is kept of `n` bars lies.
const fn place_of<const K: usize>(lengths: [u32; K], n: u32) -> usize {
    let mut i = 0;
    while i < K && lengths[i] != n {
        i += 1;
    }
    assert!(i < K || n as usize == LongMaximum::LENGTH, "nothing of this length is kept");
    i
}

/// `DIV(a, b, tiny, z)`: `z` where the denominator is at most `tiny`.
#[inline]
pub fn ratio(a: f64, b: f64, tiny: f64, z: f64) -> f64 {
    if b <= tiny { z } else { a / b }
}

/// `CLIP(x, a)`: within −a..a.
#[inline]
pub fn clip(x: f64, a: f64) -> f64 {
    x.clamp(-a, a)
}

/// −1, 0 or 1.
#[inline]
pub fn exact_sign(x: f64) -> i8 {
    i8::from(x > 0.0) - i8::from(x < 0.0)
}
