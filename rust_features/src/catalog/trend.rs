//! Trend: strength, direction, regression lines.
//!
//! k·A is what a random walk makes in k² bars: d/(3·A) is `x.in_atr(d, 9.0)`.

use super::declare::group;
use crate::{
    math::each,
    rolling::{Age, Lag, Run, path, sum},
    shared::{Shared, clip, ratio},
    trend::{Adx, Line, ParabolicSar, SuperTrend, range},
};

/// The middle of a channel (highest, lowest).
fn middle((highest, lowest): (f64, f64)) -> f64 {
    (highest + lowest) / 2.0
}

/// How far `c` is above the larger of `a` and `b`, or (negative) below the smaller; 0 between.
fn outside(c: f64, a: f64, b: f64) -> f64 {
    (c - a.max(b)).max(0.0) - (a.min(b) - c).max(0.0)
}

/// Way over width, so that a market half way between the straightest (n) and the widest (1) has 1, as has a flat one.
fn choppiness(ranges: f64, (highest, lowest): (f64, f64), n: f64, tiny: f64) -> f64 {
    ratio(ranges * (1.0 / n.sqrt()), highest - lowest, tiny, 1.0)
}

/// |h − l₁| − |l − h₁| of 14 bars, summed.
#[inline(always)]
fn vortex_14(x: &Shared) -> f64 {
    let (h, l) = (x.highs.last::<15>(), x.lows.last::<15>());
    sum(&each::<14>(|i| (h[i + 1] - l[i]).abs() - (l[i + 1] - h[i]).abs()))
}

group! {
    "trend", x;

    indicators {
        directional_14: Adx = Adx::new(14) => ((x.h, x.l, x.c), x.ec);
        adx => directional_14?.adx?;
        adx_lag_5: Lag<5> = Lag::new() => adx?;
        sar: ParabolicSar = ParabolicSar::new() => (x.h, x.l);
        sar_run: Run = Run::new(48) => x.sign(x.c - sar?);
        super_trend: SuperTrend = SuperTrend::new(3.0) => { x.since(10)?; (x.atr::<10>(), x.hl2, x.c) };
        super_trend_run: Run = Run::new(96) => super_trend?.1;

        tenkan => middle(x.channel::<9>());
        kijun => middle(x.channel::<26>());
        span_a => (tenkan? + kijun?) / 2.0;
        span_b => middle(x.channel::<52>());
        span_a_lag_26: Lag<26> = Lag::new() => span_a?;
        span_b_lag_26: Lag<26> = Lag::new() => span_b?;
        since_highest: Age = Age::new() => (x.channel::<26>().0, x.highs.last::<26>());
        since_lowest: Age = Age::new() => (x.channel::<26>().1, x.lows.last::<26>());

        path_10 => path(x.closes.last::<11>());
        path_28 => path(x.closes.last::<29>());
        path_48 => path_28? + path(&x.closes.last::<49>()[..21]);
        line_20 => Line::through(x.closes.last::<20>());
        line_48 => line_20?.lengthened(x.closes.last::<48>());
        line_96 => line_48?.lengthened(x.closes.last::<96>());
        vortex_14 => vortex_14(x);
        ranges_14 => sum(x.true_ranges.last::<14>());
        ranges_56 => sum(x.true_ranges.last::<56>());
    }

    features {
        adx_14, 28, [-1.67, 5], "(ADX(14)-25)/15", "TA-Lib: WSUM for TR,+DM,-DM, DX at bars 14..27, ADX seeded by their mean, then Wilder" => (adx? - 25.0) * (1.0 / 15.0);
        adx_slope_14_5, 33, [-5, 5], "CLIP((ADX(14)-ADX(14)[5])/5, 5)", "as adx_14" => clip((adx? - adx_lag_5?) * 0.2, 5.0);
        di_diff_14, 15, [-6.67, 6.67], "(PDI(14)-MDI(14))/15", "TA-Lib PLUS_DI / MINUS_DI" => (directional_14?.pdi - directional_14?.mdi) * (1.0 / 15.0);
        di_sum_14, 15, [-5, 5], "CLIP((PDI(14)+MDI(14)-45)/10, 5)", "as above" => clip((directional_14?.pdi + directional_14?.mdi - 45.0) * 0.1, 5.0);
        psar_dist, 97, [-5, 5], "CLIP((c-SAR)/(2*A), 5)", "TA-Lib SAR(0.02,0.2) computed from bar 1, output withheld until bar 96 (start dependence)" => clip(x.in_atr(x.c - sar?, 4.0), 5.0);
        psar_age, 97, [-4, 4], "RUN(SGNT(c-SAR),48)/12", "as psar_dist" => sar_run? * (1.0 / 12.0);
        supertrend_dist_10_3, 97, [-5, 5], "CLIP((c-ST)/(3*A), 5)", "SuperTrend(10,3) on RMA(TR,10), algorithm in notation; output withheld until bar 96" => clip(x.in_atr(x.c - super_trend?.0, 9.0), 5.0);
        supertrend_age_10_3, 97, [-2, 2], "RUN(direction,96)/48", "as above; direction in {-1,0,+1}" => super_trend_run? * (1.0 / 48.0);
        ichimoku_tk_9_26, 26, [-5, 5], "MID(n)=(MAX(h,n)+MIN(l,n))/2; CLIP((MID(9)-MID(26))/(2*A), 5)", "Tenkan - Kijun" => clip(x.in_atr(tenkan? - kijun?, 4.0), 5.0);
        ichimoku_kijun_dist_26, 26, [-5, 5], "CLIP((c-MID(26))/(3*A), 5)" => clip(x.in_atr(x.c - kijun?, 9.0), 5.0);
        ichimoku_cloud_dist, 78, [-5, 5], "sa=(MID(9)+MID(26))/2, sb=MID(52); cloud of bar t = sa[26], sb[26]; CLIP((max(c-max(sa[26],sb[26]),0)-max(min(sa[26],sb[26])-c,0))/(5*A), 5)", "0 inside the cloud; causal (spans computed 26 bars earlier)" => clip(x.in_atr(outside(x.c, span_a_lag_26?, span_b_lag_26?), 25.0), 5.0);
        ichimoku_cloud_thick, 78, [-5, 5], "CLIP((sa[26]-sb[26])/(3*A), 5)", "signed thickness of the current cloud" => clip(x.in_atr(span_a_lag_26? - span_b_lag_26?, 9.0), 5.0);
        ichimoku_lead_thick, 52, [-5, 5], "CLIP((sa-sb)/(3*A), 5)", "signed thickness of the cloud drawn 26 bars ahead" => clip(x.in_atr(span_a? - span_b?, 9.0), 5.0);
        aroon_up_25, 26, [-1, 1], "1-2*(bars since the highest h of the last 26 bars)/25", "latest bar wins ties" => 1.0 - 0.08 * since_highest?;
        aroon_down_25, 26, [-1, 1], "1-2*(bars since the lowest l of the last 26 bars)/25", "latest bar wins ties" => 1.0 - 0.08 * since_lowest?;
        linreg_slope_20, 97, [-5, 5], "CLIP(b*20/(c*S*sqrt(20)), 5), b = OLS slope of c on bar index over 20 bars" => clip(x.in_price_vol(line_20?.slope() * 20.0, 20.0), 5.0);
        linreg_slope_96, 96, [-5, 5], "CLIP(b*sqrt(96)/A, 5), b = OLS slope over 96 bars" => clip(x.in_atr(line_96?.slope() * 96.0, 96.0), 5.0);
        linreg_corr_20, 20, [-1, 1], "CORR(c, bar index, 20)", "signed R; R2 = square" => line_20?.correlation(x.ec);
        linreg_corr_96, 96, [-1, 1], "CORR(c, bar index, 96)", "signed R" => line_96?.correlation(x.ec);
        linreg_resid_z_48, 48, [-5, 5], "CLIP(DIV(c-LRE(c,48), sqrt(SSE/46), ec, 0), 5)", "last point against its own regression line, standard error of estimate with n-2" => clip(line_48?.last_residual(x.closes.last::<48>(), x.ec), 5.0);
        er_10, 11, [-1.2, 2.8], "4*(DIV(abs(c-c[10]), SUM(abs(dc),10), ec, 0)-0.3)", "Kaufman efficiency ratio" => 4.0 * (ratio((x.c - x.closes.lag(10)).abs(), path_10?, x.ec, 0.0) - 0.3);
        er_48, 49, [-1.2, 6.8], "8*(DIV(abs(c-c[48]), SUM(abs(dc),48), ec, 0)-0.15)", "Kaufman efficiency ratio" => 8.0 * (ratio((x.c - x.closes.lag(48)).abs(), path_48?, x.ec, 0.0) - 0.15);
        // No bound follows from the formula: the range of the bar before the window counts above the line only. This one is float16's.
        vortex_14, 15, [-6, 6], "3*DIV(SUM(abs(h-l[1]),14)-SUM(abs(l-h[1]),14), SUM(TR,14), ec, 0)", "VI+ minus VI-" => clip(3.0 * ratio(vortex_14?, ranges_14?, x.ec, 0.0), 6e4);
        choppiness_14, 15, [-5, 5], "x=DIV(SUM(TR,14), MAX(h,14)-MIN(l,14), ec, sqrt(14)); CLIP((log10(x)/log10(14)-0.5)/0.1, 5)", "Dreiss choppiness index, centred at 50"; 3.789231816899512 ln => choppiness(ranges_14?, x.channel::<14>(), 14.0, x.ec);
        choppiness_56, 57, [-5, 5], "as choppiness_14 with n=56"; 2.4842549839846915 ln => choppiness(ranges_56?, x.channel::<56>(), 56.0, x.ec);
        vhf_28, 29, [-1.75, 3.25], "5*(DIV(MAX(c,29)-MIN(c,29), SUM(abs(dc),28), ec, 0.35)-0.35)", "Vertical Horizontal Filter on 28 changes (29 closes)" => 5.0 * (ratio(range(x.closes.last::<29>()), path_28?, x.ec, 0.35) - 0.35);
    }
}
