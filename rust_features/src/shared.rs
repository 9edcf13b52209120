//! What every feature group reads of a bar, computed once: prices, returns, the scales A and S, the shared windows.

use crate::{
    average::Wilder,
    candle::Candle,
    indicator::Indicator,
    rolling::{Blocks, Window, nested_sums},
    volatility::{sample_deviation, true_range},
};

/// Open, high, low and close of a bar.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prices {
    /// Open.
    pub o: f64,
    /// High.
    pub h: f64,
    /// Low.
    pub l: f64,
    /// Close.
    pub c: f64,
}

/// The current bar and what is known around it. Names are those of the feature notation; `None` until defined.
#[derive(Clone, Debug)]
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
    /// h − l.
    pub range: f64,
    /// (h + l)/2.
    pub hl2: f64,
    /// (h + l + c)/3.
    pub tp: f64,
    /// Zero threshold of any price difference: 1e-9·c.
    pub ec: f64,
    /// The bar before.
    pub previous: Option<Prices>,
    /// c − c\[1\].
    pub dc: Option<f64>,
    /// ln(c / c\[1\]).
    pub r: Option<f64>,
    /// True range.
    pub tr: Option<f64>,
    /// (c − o)/(h − l), 0 on a point bar.
    pub body_ratio: f64,
    /// SMA(c, 5).
    pub sma_5: Option<f64>,
    /// SMA(c, 10).
    pub sma_10: Option<f64>,
    /// SMA(c, 20).
    pub sma_20: Option<f64>,
    /// SMA(c, 50).
    pub sma_50: Option<f64>,
    /// SMA(c, 100).
    pub sma_100: Option<f64>,
    /// SMA(c, 200).
    pub sma_200: Option<f64>,
    /// The newest closes.
    pub closes: Window<201, 256>,
    /// The newest typical prices, `tp`.
    pub typical_prices: Window<60, 80>,
    /// The newest log closes, `p`.
    pub log_closes: Window<481, 544>,
    /// The newest returns, `r`.
    pub returns: Window<101, 128>,
    close_blocks: Blocks,
    atr: Wilder,
    per_a: Option<f64>,
    per_s: Option<f64>,
}

impl Shared {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            bars: 0,
            bar: 0,
            close_time_ms: 0,
            o: 0.0,
            h: 0.0,
            l: 0.0,
            c: 0.0,
            range: 0.0,
            hl2: 0.0,
            tp: 0.0,
            ec: 0.0,
            previous: None,
            dc: None,
            r: None,
            tr: None,
            body_ratio: 0.0,
            sma_5: None,
            sma_10: None,
            sma_20: None,
            sma_50: None,
            sma_100: None,
            sma_200: None,
            closes: Window::new(),
            typical_prices: Window::new(),
            log_closes: Window::new(),
            returns: Window::new(),
            close_blocks: Blocks::new(),
            atr: Wilder::new(14),
            per_a: None,
            per_s: None,
        }
    }

    /// Takes the next bar.
    #[inline]
    pub fn update(&mut self, candle: &Candle) {
        self.previous = (self.bars > 0).then_some(Prices { o: self.o, h: self.h, l: self.l, c: self.c });
        self.bars += 1;
        self.bar = (candle.open_time_ms / candle.interval_ms) as u64;
        self.close_time_ms = candle.close_time_ms();
        (self.o, self.h, self.l, self.c) = (candle.open, candle.high, candle.low, candle.close);
        self.ec = 1e-9 * self.c;
        self.range = self.h - self.l;
        self.hl2 = (self.h + self.l) / 2.0;
        self.tp = (self.h + self.l + self.c) / 3.0;
        self.body_ratio = ratio(self.c - self.o, self.range, self.ec, 0.0);
        self.closes.push(self.c);
        self.close_blocks.push(self.bar, self.c);
        self.typical_prices.push(self.tp);
        self.log_closes.push(self.c.ln());
        self.averages();
        self.changes();
    }

    fn averages(&mut self) {
        let [sum_5, sum_10, sum_20] = nested_sums(&self.closes, [5, 10, 20]);
        let long_sum = |n| self.close_blocks.sum_of(&self.closes, n, |c| c);
        let (sum_50, sum_100, sum_200) = (long_sum(50), long_sum(100), long_sum(200));
        self.sma_5 = sum_5.map(|sum| sum / 5.0);
        self.sma_10 = sum_10.map(|sum| sum / 10.0);
        self.sma_20 = sum_20.map(|sum| sum / 20.0);
        self.sma_50 = sum_50.map(|sum| sum / 50.0);
        self.sma_100 = sum_100.map(|sum| sum / 100.0);
        self.sma_200 = sum_200.map(|sum| sum / 200.0);
    }

    /// What compares the bar with the one before, and the two scales built on it.
    fn changes(&mut self) {
        let Some(previous) = self.previous else { return };
        let tr = true_range(self.h, self.l, previous.c);
        // Not the difference of two logarithms: that loses digits when prices are large and returns small.
        let r = (self.c / previous.c).ln();
        self.returns.push(r);
        (self.dc, self.r, self.tr) = (Some(self.c - previous.c), Some(r), Some(tr));
        self.per_a = self.atr.update(tr).map(|atr| 1.0 / atr.max(1e-5 * self.c));
        self.per_s = self.returns.last::<96>().map(|rs| 1.0 / sample_deviation(rs).max(1e-5));
    }

    /// A price move over `bars` bars in the ATRs a random walk would make: d / (A·√bars).
    #[inline]
    pub fn in_atr(&self, d: f64, bars: f64) -> Option<f64> {
        Some(d * self.per_a? * (1.0 / bars.sqrt()))
    }

    /// A log move over `bars` bars in the volatility of a random walk: d / (S·√bars).
    #[inline]
    pub fn in_vol(&self, d: f64, bars: f64) -> Option<f64> {
        Some(d * self.per_s? * (1.0 / bars.sqrt()))
    }

    /// A price move over `bars` bars in the volatility of a random walk: d / (c·S·√bars).
    #[inline]
    pub fn in_price_vol(&self, d: f64, bars: f64) -> Option<f64> {
        self.in_vol(d / self.c, bars)
    }

    /// ln(c / c\[n\]).
    #[inline]
    pub fn log_move(&self, n: usize) -> Option<f64> {
        Some(self.log_closes.lag(0)? - self.log_closes.lag(n)?)
    }

    /// `SGNT`: the sign of a computed price difference, 0 within `ec`. Rounding noise decides no sign.
    #[inline]
    pub fn sign(&self, d: f64) -> i8 {
        if d.abs() <= self.ec { 0 } else { exact_sign(d) }
    }

    /// The close, from bar `start` (counted from 0) on: what `EMAS` is fed.
    #[inline]
    pub fn close_from(&self, start: u32) -> Option<f64> {
        (self.bars > start).then_some(self.c)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
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
