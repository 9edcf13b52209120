//! Candle patterns, graded by size.

use super::declare::group;
use crate::shared::{Shared, clip, exact_sign};

/// A pattern of this size that goes the way of `body`, where there is one; 0 elsewhere. Colours of candles are hard to
/// predict: no branch hangs on them.
#[inline(always)]
fn graded(x: &Shared, body: f64, is_there: bool, size: f64) -> Option<f64> {
    Some(f64::from(exact_sign(body) * i8::from(is_there)) * x.in_atr(size, 1.0).clamp(0.0, 5.0))
}

group! {
    "pattern", x;

    indicators {
        previous => x.previous?;
        body => x.c - x.o;
        body_1 => previous?.c - previous?.o;
        body_2 => x.before_previous?.c - x.before_previous?.o;
        // 1: this body goes the way of the earlier one, -1: the other way.
        way_1 => exact_sign(body?) * exact_sign(body_1?);
        way_2 => exact_sign(body?) * exact_sign(body_2?);
        // On a point bar the wicks count as none.
        wicks => if x.range <= x.ec { 0.0 } else { (x.o.min(x.c) - x.l) - (x.h - x.o.max(x.c)) };
        inside => (x.h <= previous?.h) & (x.l >= previous?.l);
        outside => (x.h >= previous?.h) & (x.l <= previous?.l);
        growth => x.range.max(1e-5 * x.c) / (previous?.h - previous?.l).max(1e-5 * x.c);
    }

    features {
        pat_pin_bar, 15, [-5, 5], "CLIP(2*(lower_wick_ratio-upper_wick_ratio)*(1-abs(body_ratio))*(h-l)/A, 5)", "hammer +, shooting star -" => clip(x.in_atr(2.0 * wicks? * (1.0 - x.body_ratio.abs()), 1.0), 5.0);
        pat_doji, 15, [0, 5], "min((1-abs(body_ratio))*(h-l)/A, 5)", "unsigned: indecision times size" => x.in_atr((1.0 - x.body_ratio.abs()) * x.range, 1.0).min(5.0);
        pat_engulfing, 15, [-5, 5], "b=c-o; if b*b[1]<0: sgn(b)*clamp(2*(abs(b)-abs(b[1]))/A,0,5) else 0" => graded(x, body?, way_1? < 0, 2.0 * (body?.abs() - body_1?.abs()))?;
        pat_star, 15, [-5, 5], "b=c-o; if b*b[2]<0: sgn(b)*clamp(3*(min(abs(b),abs(b[2]))-abs(b[1]))/A,0,5) else 0", "morning star +, evening star -" => graded(x, body?, way_2? < 0, 3.0 * (body?.abs().min(body_2?.abs()) - body_1?.abs()))?;
        pat_three_bar, 15, [-5, 5], "b=c-o; if b,b[1],b[2] all >0 or all <0: sgn(b)*clamp(3*min(abs(b),abs(b[1]),abs(b[2]))/A,0,5) else 0", "three soldiers +, three crows -" => graded(x, body?, way_1? > 0 && way_2? > 0, 3.0 * body?.abs().min(body_1?.abs()).min(body_2?.abs()))?;
        pat_inside_outside, 2, [-3, 3], "if (h<=h[1] and l>=l[1]) or (h>=h[1] and l<=l[1]): CLIP(LR((h-l)/c, (h[1]-l[1])/c), 3) else 0", "inside bar -, outside bar +"; 1.0 ln => if inside? | outside? { growth? } else { 1.0 };
    }
}
