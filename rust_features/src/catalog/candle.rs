//! The candle itself: returns, shape of the bar, streaks.

use super::declare::group;
use crate::{
    math::each,
    rolling::{Run, SignSum, sum},
    shared::{Shared, clip, exact_sign, ratio},
};

/// Sum of what `of` says of the open, high, low and close of the newest 10 bars.
#[inline(always)]
fn sum_10(x: &Shared, of: impl Fn([f64; 4]) -> f64) -> f64 {
    let [o, h, l, c] = x.candles::<10>();
    sum(&each::<10>(|i| of([o[i], h[i], l[i], c[i]])))
}

group! {
    "candle", x;

    indicators {
        previous => x.previous?;
        upper_wick => x.h - x.o.max(x.c);
        lower_wick => x.o.min(x.c) - x.l;
        streak: Run = Run::new(10) => exact_sign(x.dc?);
        up_down_20: SignSum<20> = SignSum::new() => exact_sign(x.dc?);
        ranges_10 => sum_10(x, |[_, h, l, _]| h - l);
        bodies_10 => sum_10(x, |[o, _, _, c]| (c - o).abs());
        wicks_10 => sum_10(x, |[o, h, l, c]| { let (top, bottom) = if o > c { (o, c) } else { (c, o) }; (bottom - l) - (h - top) });
    }

    features {
        vret_1, 97, [-8, 8], "CLIP(ln(c/c[1])/S, 8)", "S = max(SD(r,96),1e-5), sample std" => clip(x.in_vol(x.r?, 1.0), 8.0);
        vret_4, 97, [-8, 8], "CLIP(ln(c/c[4])/(S*sqrt(4)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(4), 4.0), 8.0);
        vret_8, 97, [-8, 8], "CLIP(ln(c/c[8])/(S*sqrt(8)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(8), 8.0), 8.0);
        vret_16, 97, [-8, 8], "CLIP(ln(c/c[16])/(S*sqrt(16)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(16), 16.0), 8.0);
        vret_48, 97, [-8, 8], "CLIP(ln(c/c[48])/(S*sqrt(48)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(48), 48.0), 8.0);
        vret_96, 97, [-8, 8], "CLIP(ln(c/c[96])/(S*sqrt(96)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(96), 96.0), 8.0);
        vret_192, 193, [-8, 8], "CLIP(ln(c/c[192])/(S*sqrt(192)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(192), 192.0), 8.0);
        vret_480, 481, [-8, 8], "CLIP(ln(c/c[480])/(S*sqrt(480)), 8)", "as vret_1" => clip(x.in_vol(x.log_move(480), 480.0), 8.0);
        vret_1_lag_1, 97, [-8, 8], "CLIP(r[1]/S, 8)", "lagged 1-bar return in units of the CURRENT S" => clip(x.in_vol(x.returns.lag(1), 1.0), 8.0);
        vret_1_lag_2, 97, [-8, 8], "CLIP(r[2]/S, 8)", "current S" => clip(x.in_vol(x.returns.lag(2), 1.0), 8.0);
        vret_1_lag_5, 97, [-8, 8], "CLIP(r[5]/S, 8)", "current S" => clip(x.in_vol(x.returns.lag(5), 1.0), 8.0);
        vret_1_lag_10, 97, [-8, 8], "CLIP(r[10]/S, 8)", "current S" => clip(x.in_vol(x.returns.lag(10), 1.0), 8.0);
        logret_1_pct, 2, [-10, 10], "CLIP(100*ln(c/c[1]), 10)", "unscaled log return, percent" => clip(100.0 * x.r?, 10.0);
        logret_16_pct, 17, [-10, 10], "CLIP(25*ln(c/c[16]), 10)", "percent / sqrt(16)" => clip(25.0 * x.log_move(16), 10.0);
        body_ratio, 1, [-1, 1], "DIV(c-o, h-l, ec, 0)", "single bar" => x.body_ratio;
        upper_wick_ratio, 1, [0, 1], "DIV(h-max(o,c), h-l, ec, 0)", "single bar" => ratio(upper_wick?, x.range, x.ec, 0.0);
        lower_wick_ratio, 1, [0, 1], "DIV(min(o,c)-l, h-l, ec, 0)", "single bar" => ratio(lower_wick?, x.range, x.ec, 0.0);
        high_change_atr, 15, [-5, 5], "CLIP((h-h[1])/A, 5)", "A includes the current bar" => clip(x.in_atr(x.h - previous?.h, 1.0), 5.0);
        low_change_atr, 15, [-5, 5], "CLIP((l-l[1])/A, 5)", "as above" => clip(x.in_atr(x.l - previous?.l, 1.0), 5.0);
        bar_overlap, 2, [-1, 1], "DIV(min(h,h[1])-max(l,l[1]), max(h,h[1])-min(l,l[1]), ec, 0)", "negative = gap between the two bars" =>
            ratio(x.h.min(previous?.h) - x.l.max(previous?.l), x.h.max(previous?.h) - x.l.min(previous?.l), x.ec, 0.0);
        close_streak, 2, [-2, 2], "RUN(sgn(c-c[1]), 10)/5", "exact comparison of closes; sign 0 gives 0" => streak? * (1.0 / 5.0);
        up_down_balance_20, 21, [-2, 2], "2*SMA(sgn(c-c[1]),20)", "exact comparison" => up_down_20? * (1.0 / 10.0);
        body_share_10, 10, [-2, 2], "4*(DIV(SUM(abs(c-o),10), SUM(h-l,10), ec, 0.5)-0.5)", "ratio of sums" => 4.0 * (ratio(bodies_10?, ranges_10?, x.ec, 0.5) - 0.5);
        wick_balance_10, 10, [-3, 3], "3*DIV(SUM((min(o,c)-l)-(h-max(o,c)),10), SUM(h-l,10), ec, 0)", "positive = lower wicks dominate" => 3.0 * ratio(wicks_10?, ranges_10?, x.ec, 0.0);
    }
}
