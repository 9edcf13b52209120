//! Market structure: ranges, swings, divergences, pivot levels.

use super::declare::group;
use crate::{
    levels::{Peaks, Swings, floor_pivots},
    momentum::place,
    rolling::{Age, Lag, SignSum},
    shared::{clip, ratio},
};

/// What the peaks note: first the RSI.
const RSI: usize = 0;

/// Then the MACD line.
const MACD: usize = 1;

/// How far the newest peak is above the price; 0 when there is none.
#[inline(always)]
fn above(peaks: &Peaks<2>, price: f64) -> f64 {
    peaks.newest.map_or(0.0, |peak| peak.price - price)
}

/// How far the nearest level is.
#[inline(always)]
fn nearest(levels: &[f64], price: f64) -> f64 {
    levels.iter().map(|level| (price - level).abs()).fold(f64::MAX, f64::min)
}

group! {
    "structure", x;

    indicators {
        channel_96 => x.channel::<96>();
        since_highest: Age = Age::new() => (channel_96?.0, x.highs.last::<96>());
        since_lowest: Age = Age::new() => (channel_96?.1, x.lows.last::<96>());
        top_20: Lag<1> = Lag::new() => x.channel::<20>().0;
        bottom_20: Lag<1> = Lag::new() => x.channel::<20>().1;
        higher_lower_20: SignSum<20> = SignSum::new() => i8::from(x.h > x.previous?.h) - i8::from(x.l < x.previous?.l);

        // Peaks from before these are known have left when the features that read them are warm.
        rsi => x.rsi::<14>();
        macd => x.in_atr(x.macd_12_26, 1.0);
        highs: Swings<2> = Swings::new() => (x.h, [rsi?, macd?]);
        // The mirrored market: its peaks are the swing lows, and what falls in it rises.
        lows: Swings<2> = Swings::new() => (-x.l, [-rsi?, -macd?]);

        day => x.x96.last()?;
        pivots => floor_pivots(day?.h, day?.l, day?.c);
    }

    features {
        range_pos_96, 96, [-1, 1], "2*DIV(c-MIN(l,96), MAX(h,96)-MIN(l,96), ec, 0.5)-1" => 2.0 * place(x.c, channel_96?, x.ec) - 1.0;
        range_pos_480, 480, [-1, 1], "2*DIV(c-MIN(l,480), MAX(h,480)-MIN(l,480), ec, 0.5)-1" => 2.0 * place(x.c, x.channel::<480>(), x.ec) - 1.0;
        high_dist_96, 96, [0, 5], "CLIP((MAX(h,96)-c)/(A*sqrt(96)), 5)" => clip(x.in_atr(channel_96?.0 - x.c, 96.0), 5.0);
        low_dist_96, 96, [0, 5], "CLIP((c-MIN(l,96))/(A*sqrt(96)), 5)" => clip(x.in_atr(x.c - channel_96?.1, 96.0), 5.0);
        bars_since_high_96, 96, [-1, 1], "2*(bars since the highest h of 96 bars)/95-1", "latest bar wins ties" => 2.0 * since_highest? * (1.0 / 95.0) - 1.0;
        bars_since_low_96, 96, [-1, 1], "2*(bars since the lowest l of 96 bars)/95-1", "latest bar wins ties" => 2.0 * since_lowest? * (1.0 / 95.0) - 1.0;
        breakout_20, 21, [-5, 5], "CLIP((max(c-MAX(h,20)[1],0)-max(MIN(l,20)[1]-c,0))/A, 5)", "close beyond the previous 20-bar channel" => clip(x.in_atr((x.c - top_20?).max(0.0) - (bottom_20? - x.c).max(0.0), 1.0), 5.0);
        hh_ll_balance_20, 21, [-2, 2], "2*SMA([h>h[1]]-[l<l[1]],20)", "higher highs minus lower lows" => higher_lower_20? * (1.0 / 10.0);
        swing_structure_3, 99, [-1, 1], "(sgn(H1-H2)+sgn(L1-L2))/2; H1,H2 (L1,L2) = last two confirmed swing highs (lows), 3 bars each side, pivot not older than 95 bars", "see notation; missing pair -> that term 0" => f64::from(highs?.step() - lows?.step()) / 2.0;
        swing_high_dist_3, 99, [-5, 5], "CLIP((H1-c)/(3*A), 5)", "H1 as above" => clip(x.in_atr(above(&highs?, x.c), 9.0), 5.0);
        swing_low_dist_3, 99, [-5, 5], "CLIP((c-L1)/(3*A), 5)", "L1 as above" => clip(x.in_atr(above(&lows?, -x.c), 9.0), 5.0);
        swing_balance_96, 99, [-2, 2], "2*(sum of sgn(newer-older) over all neighbouring swing highs and over all neighbouring swing lows of the window)/(number of those pairs)", "swing counter; pivots as above" => 2.0 * ratio(f64::from(highs?.balance - lows?.balance), f64::from(highs?.pairs + lows?.pairs), 0.0, 0.0);
        rsi_divergence_3, 110, [-5, 5], "x=RSI(c,14) at the pivot bar; s=[L1<L2]*max(0,x(L1)-x(L2))-[H1>H2]*max(0,x(H2)-x(H1)); CLIP(s/10, 5)", "+ bullish, - bearish regular divergence" => clip((lows?.divergence(RSI) - highs?.divergence(RSI)) * (1.0 / 10.0), 5.0);
        macd_divergence_3, 121, [-5, 5], "as rsi_divergence_3 with x=(EMAS(c,12,14)-EMA(c,26))/A at the pivot bar; CLIP(3*s, 5)" => clip(3.0 * (lows?.divergence(MACD) - highs?.divergence(MACD)), 5.0);
        pivot_dist_x96, 191, [-5, 5], "P=(H+L+C)/3 of the last completed x96 bar; CLIP((c-P)/max(H-L,1e-5*c), 5)", "floor-trader pivot of the previous day (at 15 m)" => clip((x.c - pivots?[2]) / day?.range().max(1e-5 * x.c), 5.0);
        pivot_nearest_x96, 191, [0, 5], "min(min over {P-(H-L), 2P-H, P, 2P-L, P+(H-L)} of abs(c-level)/(2*A), 5)", "distance to the nearest of S2,S1,P,R1,R2" => (x.in_atr(nearest(&pivots?, x.c), 1.0) / 2.0).min(5.0);
        prev_high_dist_x96, 191, [-5, 5], "CLIP((H-c)/(A*sqrt(96)), 5), H of the last completed x96 bar" => clip(x.in_atr(day?.h - x.c, 96.0), 5.0);
        prev_low_dist_x96, 191, [-5, 5], "CLIP((c-L)/(A*sqrt(96)), 5), L of the last completed x96 bar" => clip(x.in_atr(x.c - day?.l, 96.0), 5.0);
    }
}
