//! Moving averages: distance to them, their spread, slope and order.

use super::declare::group;
use crate::{
    average::{Hull, Kama, LongSma, Median, T3, weighted_mean},
    rolling::{Lag, Run, SignSum, extent},
    shared::{Shared, clip, ratio},
    volatility::population_deviation,
};

/// SMA(c, n) for n = 10, 20, 50, 100, 200.
fn ribbon(x: &Shared) -> [f64; 5] {
    [x.sma_10, x.sma_20, x.sma_50, x.sma_100, x.sma_200]
}

/// Sum of the signs of all differences, the shorter average minus the longer.
#[inline(always)]
fn order(x: &Shared, [a, b, c, d, e]: [f64; 5]) -> f64 {
    let above = |x_1: f64, longer: &[f64]| longer.iter().map(|x_2| x.sign(x_1 - x_2)).sum::<i8>();
    f64::from(above(a, &[b, c, d, e]) + above(b, &[c, d, e]) + above(c, &[d, e]) + above(d, &[e]))
}

/// Greatest minus least.
#[inline(always)]
fn width(ribbon: [f64; 5]) -> f64 {
    let (most, least) = extent(&ribbon);
    most - least
}

group! {
    "ma", x;

    indicators {
        ribbon => ribbon(x);
        median_96: Median<96> = Median::new() => &x.closes;
        hull_16: Hull = Hull::new() => *x.closes.last();
        kama_10: Kama = Kama::new() => { x.since(10)?; (*x.closes.last(), x.ec) };
        t3_8: T3 = T3::new(8, 0.7) => x.c;

        spread_8_21 => x.ema::<8>() - x.ema::<21>();
        spread_21_55 => x.ema::<21>() - x.ema::<55>();
        square_8_21: LongSma<96> = LongSma::new() => (x.bar, spread_8_21? * spread_8_21?);
        square_21_55: LongSma<192> = LongSma::new() => (x.bar, spread_21_55? * spread_21_55?);

        kama_10_lag_5: Lag<5> = Lag::new() => kama_10?;
        ema_20_lag_4: Lag<4> = Lag::new() => x.ema::<20>();
        ema_20_lag_8: Lag<8> = Lag::new() => x.ema::<20>();
        sma_20_lag_5: Lag<5> = Lag::new() => x.sma_20;
        sma_100_lag_20: Lag<20> = Lag::new() => x.sma_100;
        sma_10_lag_4: Lag<4> = Lag::new() => x.sma_10;
        sma_20_lag_4: Lag<4> = Lag::new() => x.sma_20;
        sma_50_lag_4: Lag<4> = Lag::new() => x.sma_50;
        sma_100_lag_4: Lag<4> = Lag::new() => x.sma_100;
        sma_200_lag_4: Lag<4> = Lag::new() => x.sma_200;
        ribbon_lag_4 => [sma_10_lag_4?, sma_20_lag_4?, sma_50_lag_4?, sma_100_lag_4?, sma_200_lag_4?];

        ema_run: Run = Run::new(48) => x.sign(spread_8_21?);
        sma_run: Run = Run::new(96) => x.sign(x.sma_20 - x.sma_100);
        above_sma_50: SignSum<50> = SignSum::new() => x.sign(x.c - x.sma_50);
        side_of_sma_20 => f64::from(x.sign(x.c - x.sma_20));
        side_of_sma_20_lag_1: Lag<1> = Lag::new() => side_of_sma_20?;
        crosses_of_sma_20: SignSum<48> = SignSum::new() => i8::from(side_of_sma_20? * side_of_sma_20_lag_1? < 0.0);
    }

    features {
        sma_dist_5, 15, [-5, 5], "CLIP((c-SMA(c,5))/(A*sqrt(5)), 5)" => clip(x.in_atr(x.c - x.sma_5, 5.0), 5.0);
        sma_dist_20, 20, [-5, 5], "CLIP((c-SMA(c,20))/(A*sqrt(20)), 5)" => clip(x.in_atr(x.c - x.sma_20, 20.0), 5.0);
        sma_dist_100, 100, [-5, 5], "CLIP((c-SMA(c,100))/(A*sqrt(100)), 5)" => clip(x.in_atr(x.c - x.sma_100, 100.0), 5.0);
        ema_dist_50, 50, [-5, 5], "CLIP((c-EMA(c,50))/(A*sqrt(50)), 5)", "EMA seeded by SMA of bars 0..49" => clip(x.in_atr(x.c - x.ema::<50>(), 50.0), 5.0);
        median_dist_96, 97, [-5, 5], "CLIP((c-MED(c,96))/(c*S*sqrt(96)), 5)", "MED = mean of the 2 middle order statistics" => clip(x.in_price_vol(x.c - median_96?, 96.0), 5.0);
        wma_z_60, 60, [-5, 5], "CLIP(DIV(c-WMA(c,60), PSD(c,60), ec, 0), 5)", "WMA weights 1..60, newest 60; population std" =>
            clip(ratio(x.c - weighted_mean(x.closes.last::<60>()), population_deviation(x.closes.last::<60>()), x.ec, 0.0), 5.0);
        hma_dist_16, 19, [-5, 5], "CLIP((c-WMA(2*WMA(c,8)-WMA(c,16),4))/A, 5)", "Hull MA 16" => clip(x.in_atr(x.c - hull_16?, 1.0), 5.0);
        kama_dist_10, 15, [-5, 5], "CLIP((c-KAMA(c,10))/(A*sqrt(10)), 5)", "TA-Lib KAMA: fast 2, slow 30; previous value at bar 10 is c at bar 9; ER=min(1,abs(c-c[10])/SUM(abs(dc),10)); ER=1 if SUM<=ec" => clip(x.in_atr(x.c - kama_10?, 10.0), 5.0);
        kama_slope_10_5, 16, [-5, 5], "CLIP((KAMA(c,10)-KAMA(c,10)[5])/A, 5)", "as kama_dist_10" => clip(x.in_atr(kama_10? - kama_10_lag_5?, 1.0), 5.0);
        t3_dist_8, 43, [-5, 5], "CLIP((c-T3(c,8,0.7))/(A*sqrt(8)), 5)", "Tillson T3 = c1*e6+c2*e5+c3*e4+c4*e3, e_k = EMA(e_{k-1},8), a=0.7: c1=-a^3, c2=3a^2+3a^3, c3=-6a^2-3a-3a^3, c4=1+3a+a^3+3a^2; each EMA seeded by SMA of its first 8 inputs" => clip(x.in_atr(x.c - t3_8?, 8.0), 5.0);
        sma_spread_10_50, 97, [-5, 5], "CLIP(2*(SMA(c,10)-SMA(c,50))/(c*S*sqrt(50)), 5)" => clip(2.0 * x.in_price_vol(x.sma_10 - x.sma_50, 50.0), 5.0);
        sma_spread_50_200, 200, [-5, 5], "CLIP(2*(SMA(c,50)-SMA(c,200))/(c*S*sqrt(200)), 5)" => clip(2.0 * x.in_price_vol(x.sma_50 - x.sma_200, 200.0), 5.0);
        ema_spread_z_8_21, 116, [-5, 5], "d=EMA(c,8)-EMA(c,21); CLIP(DIV(d, sqrt(SMA(d^2,96)), ec, 0), 5)", "both EMAs seeded from bar 0" => clip(ratio(spread_8_21?, square_8_21?.sqrt(), x.ec, 0.0), 5.0);
        ema_spread_z_21_55, 246, [-5, 5], "d=EMA(c,21)-EMA(c,55); CLIP(DIV(d, sqrt(SMA(d^2,192)), ec, 0), 5)", "both EMAs seeded from bar 0" => clip(ratio(spread_21_55?, square_21_55?.sqrt(), x.ec, 0.0), 5.0);
        sma_slope_20_5, 25, [-5, 5], "CLIP((SMA(c,20)-SMA(c,20)[5])/A, 5)" => clip(x.in_atr(x.sma_20 - sma_20_lag_5?, 1.0), 5.0);
        sma_slope_100_20, 120, [-5, 5], "CLIP((SMA(c,100)-SMA(c,100)[20])/(2*c*S), 5)" => clip(x.in_price_vol(x.sma_100 - sma_100_lag_20?, 1.0) / 2.0, 5.0);
        ema_accel_20_4, 28, [-5, 5], "e=EMA(c,20); CLIP(2*(e-2*e[4]+e[8])/A, 5)" => clip(2.0 * x.in_atr(x.ema::<20>() - 2.0 * ema_20_lag_4? + ema_20_lag_8?, 1.0), 5.0);
        ma_ribbon_align, 200, [-1, 1], "(1/10)*sum over pairs i<j of (10,20,50,100,200) of SGNT(SMA(c,i)-SMA(c,j))", "SGNT tolerance ec" => order(x, ribbon?) * (1.0 / 10.0);
        ma_ribbon_width, 200, [0, 5], "m=(SMA(c,n)), n in {10,20,50,100,200}; CLIP((max m - min m)/(5*A), 5)" => clip(x.in_atr(width(ribbon?), 1.0) * (1.0 / 5.0), 5.0);
        ma_slope_align, 204, [-1, 1], "(1/5)*sum over n in {10,20,50,100,200} of SGNT(SMA(c,n)-SMA(c,n)[4])", "SGNT tolerance ec" =>
            f64::from(ribbon?.iter().zip(&ribbon_lag_4?).map(|(now, before)| x.sign(now - before)).sum::<i8>()) * (1.0 / 5.0);
        ema_cross_age_8_21, 21, [-2, 2], "RUN(SGNT(EMA(c,8)-EMA(c,21)), 48)/24", "signed age of the current cross state; first bar of a state counts 1" => ema_run? * (1.0 / 24.0);
        sma_cross_age_20_100, 100, [-2, 2], "RUN(SGNT(SMA(c,20)-SMA(c,100)), 96)/48", "as above" => sma_run? * (1.0 / 48.0);
        above_sma_frac_50, 99, [-1, 1], "SMA(SGNT(c-SMA(c,50)),50)" => above_sma_50? * (1.0 / 50.0);
        sma_cross_count_20_48, 68, [-2, 10], "s=SGNT(c-SMA(c,20)); SUM([s*s[1]<0],48)/4-2", "a move through an exact 0 is not counted" => crosses_of_sma_20? / 4.0 - 2.0;
    }
}
