//! Volatility: how far prices move, and how that compares with before.

use std::f64::consts::{FRAC_PI_2, LN_2};

use super::declare::group;
use crate::{
    rolling::{Lag, LongSums, RingSums, Run, sum, sum_of},
    shared::{Shared, clip, ratio},
    volatility::{
        MassIndex, Rank, RelativeVolatility, RiskMetrics, SameSlot, SqueezeMomentum, YangZhang,
        mean_and_sample_deviation, population_deviation,
    },
    volume::{Kept, sums_of},
};

/// What `LV` of the square root takes half the logarithm of.
fn log_variance(variance: f64) -> f64 {
    variance.max(1e-10) * (1.0 / (0.004 * 0.004))
}

/// What `LR` of the square roots takes half the logarithm of.
fn variance_ratio(a: f64, b: f64) -> f64 {
    a.max(1e-10) / b.max(1e-10)
}

/// The return of an earlier bar. Old ones are made of the log closes, which go back further.
#[inline(always)]
fn earlier_return(x: &Shared, lag: usize) -> f64 {
    if lag < 96 { x.returns.lag(lag) } else { x.log_closes.lag(lag) - x.log_closes.lag(lag + 1) }
}

/// |r|·|r₁| and the true range of an earlier bar.
#[inline(always)]
fn pair_and_true_range(x: &Shared, lag: usize) -> [f64; 2] {
    [(x.returns.lag(lag) * x.returns.lag(lag + 1)).abs(), x.true_ranges.lag(lag)]
}

group! {
    "volatility", x;

    indicators {
        floor => 1e-5 * x.c;
        natr => x.a * x.per_c;
        a_lag_1: Lag<1> = Lag::new() => x.a;
        natr_rank: Rank<192> = Rank::new(1e-12) => natr?;
        tr_48 => mean_and_sample_deviation(x.true_ranges.last::<48>());
        usual_tr: SameSlot = SameSlot::new() => (x.bar, x.tr? * x.per_c);

        // Variances per bar: of returns, and of what else a bar tells.
        rv_8 => sum_of(x.returns.last::<8>(), |r| r * r) / 8.0;
        rv_16 => sum_of(x.returns.last::<16>(), |r| r * r) / 16.0;
        // Squares, and squares with the sign of the return.
        squares_48 => { let returns = x.returns.last::<48>(); sums_of::<48, 2, 8>(|i| [returns[i] * returns[i], returns[i] * returns[i].abs()]) };
        rv_48 => squares_48?[0] * (1.0 / 48.0);
        squares: LongSums<1, 2, 29> = LongSums::new() => (x.bar, [336, 480], |lag| [earlier_return(x, lag) * earlier_return(x, lag)]);
        rv_336 => squares?[0][0] * (1.0 / 336.0);
        rv_480 => squares?[1][0] * (1.0 / 480.0);
        ewma: RiskMetrics = RiskMetrics::new() => { x.since(96)?; (x.r?, x.return_sums_96[1] * (1.0 / 96.0)) };
        // 96 returns make 95 pairs. The true range of the oldest bar is added to those of the other 95.
        sums_95: LongSums<2, 1, 5> = LongSums::new() => (x.bar, [95], |lag| pair_and_true_range(x, lag));
        bipower_96 => FRAC_PI_2 * (96.0 * (1.0 / 95.0)) * sums_95?[0][0];
        true_ranges_96 => sums_95?[0][1] + x.true_ranges.lag(95);
        ln_hl_squared => x.ln_hl * x.ln_hl;
        ranges: Kept<20, 24> = Kept::new() => ln_hl_squared?;
        rogers_satchell: Kept<20, 24> = Kept::new() => x.rogers_satchell;
        rogers_satchell_20 => sum(&rogers_satchell?.last::<20>()) * (1.0 / 20.0);
        range_48: RingSums<1, 48, 16, f32> = RingSums::new() => (x.bar, [0.5 * ln_hl_squared? - (2.0 * LN_2 - 1.0) * x.ln_co * x.ln_co]);
        parkinson_8 => sum(&ranges?.last::<8>()) * (1.0 / (8.0 * 4.0 * LN_2));
        parkinson_20 => sum(&ranges?.last::<20>()) * (1.0 / (20.0 * 4.0 * LN_2));
        garman_klass_48 => range_48?[0] * (1.0 / 48.0);
        yang_zhang_96: YangZhang = YangZhang::new() => (x.bar, [x.ln_oc_1?, x.ln_co, x.rogers_satchell], x.return_sums_96[0]);

        channel_20 => x.channel::<20>();
        deviation_20 => population_deviation(x.closes.last::<20>());
        band_rank: Rank<96> = Rank::new(1e-12) => (4.0 * deviation_20? / x.sma_20).max(1e-5);
        squeeze_age: Run = Run::new(48) => i8::from(2.0 * deviation_20? + x.ec < 1.5 * x.atr::<20>());
        squeeze_momentum: SqueezeMomentum = SqueezeMomentum::new() => (x.c, channel_20?, x.sma_20);
        relative_volatility: RelativeVolatility = RelativeVolatility::new(14) => { x.since(9)?; (population_deviation(x.closes.last::<10>()), x.dc?, x.ec) };
        mass_25: MassIndex = MassIndex::new() => (x.bar, x.range, x.ec);
    }

    features {
        natr_14, 15, [-6, 6], "LV(ATR14/c)", "Wilder ATR: seed = mean of TR at bars 1..14"; 1.0 ln => natr? * (1.0 / 0.004);
        atr_ratio_7_28, 29, [-5, 5], "CLIP(2*LR(RMA(TR,7)/c, RMA(TR,28)/c), 5)", "Wilder"; 2.0 ln => x.atr::<7>().max(floor?) / x.atr::<28>().max(floor?);
        atr_ratio_14_96, 97, [-5, 5], "CLIP(2*LR(ATR14/c, SMA(TR,96)/c), 5)"; 2.0 ln => x.a / (true_ranges_96? * (1.0 / 96.0)).max(floor?);
        rv_16, 17, [-6, 6], "LV(RV(16)), RV(n)=sqrt(SUM(r^2,n)/n)", "zero-mean realised volatility"; 0.5 ln => log_variance(rv_16?);
        rv_ratio_8_48, 49, [-5, 5], "CLIP(1.5*LR(RV(8), RV(48)), 5)"; 0.75 ln => variance_ratio(rv_8?, rv_48?);
        rv_ratio_48_336, 337, [-5, 5], "CLIP(1.5*LR(RV(48), RV(336)), 5)"; 0.75 ln => variance_ratio(rv_48?, rv_336?);
        rv_480, 481, [-6, 6], "LV(RV(480))"; 0.5 ln => log_variance(rv_480?);
        parkinson_8, 8, [-6, 6], "LV(sqrt(SMA(ln(h/l)^2,8)/(4 ln 2)))"; 0.5 ln => log_variance(parkinson_8?);
        garman_klass_48, 48, [-6, 6], "LV(sqrt(SMA(0.5*ln(h/l)^2-(2 ln 2-1)*ln(c/o)^2,48)))", "per-bar term is never negative"; 0.5 ln => log_variance(garman_klass_48?);
        rs_park_ratio_20, 20, [-5, 5], "CLIP(5*LR(sqrt(max(SMA(ln(h/c)*ln(h/o)+ln(l/c)*ln(l/o),20),0)), sqrt(SMA(ln(h/l)^2,20)/(4 ln 2))), 5)", "Rogers-Satchell over Parkinson: below 0 = directional bars"; 2.5 ln => variance_ratio(rogers_satchell_20?, parkinson_20?);
        yang_zhang_96, 97, [-6, 6], "k=0.34/(1.34+97/95); LV(sqrt(max(SD(ln(o/c[1]),96)^2+k*SD(ln(c/o),96)^2+(1-k)*SMA(RS,96),0))), RS=ln(h/c)*ln(h/o)+ln(l/c)*ln(l/o)", "sample variances; 96 bars t-95..t"; 0.5 ln => log_variance(yang_zhang_96?);
        gk_cc_ratio_48, 49, [-5, 5], "CLIP(4*LR(GK48, RV(48)), 5)", "GK48 = sqrt term of garman_klass_48; above 0 = noise inside bars"; 2.0 ln => variance_ratio(garman_klass_48?, rv_48?);
        ewma_vol_ratio_94, 97, [-5, 5], "s=0.94*s[1]+0.06*r^2; CLIP(2*ln(max(sqrt(s),1e-5)/S), 5)", "RiskMetrics; s at bar 96 = mean of r^2 over bars 1..96"; 1.0 ln => ewma?.max(1e-10) / (x.s * x.s);
        jump_share_96, 97, [0, 4], "RV2=SUM(r^2,96); BV=(pi/2)*(96/95)*sum of abs(r_i)*abs(r_{i-1}) over the 95 adjacent pairs inside the window; 4*max(0,1-DIV(BV,RV2,1e-18,1))", "Barndorff-Nielsen & Shephard" => 4.0 * (1.0 - ratio(bipower_96?, x.return_sums_96[1], 1e-18, 1.0)).max(0.0);
        semivar_balance_48, 49, [-2, 2], "2*DIV(SUM(r^2*[r>0],48)-SUM(r^2*[r<0],48), SUM(r^2,48), 1e-18, 0)", "signed semivariance share" => 2.0 * ratio(squares_48?[1], squares_48?[0], 1e-18, 0.0);
        tr_cv_48, 49, [-1.8, 5], "CLIP(3*(DIV(SD(TR,48), SMA(TR,48), ec, 0.6)-0.6), 5)", "coefficient of variation, sample std" => clip(3.0 * (ratio(tr_48?.1, tr_48?.0, x.ec, 0.6) - 0.6), 5.0);
        tr_ratio_14, 16, [-1, 5], "CLIP(TR/A[1]-1, 5)", "range expansion against the previous bar's A" => clip(x.tr? / a_lag_1? - 1.0, 5.0);
        tr_tod_ratio_5, 482, [-4, 4], "q=TR/c; CLIP(LR(q, (q[96]+q[192]+q[288]+q[384]+q[480])/5), 4)", "same slot of the previous 5 periods of 96 bars (time of day at 15 m)"; 1.0 ln => (x.tr? * x.per_c).max(1e-5) / usual_tr?.max(1e-5);
        natr_rank_192, 206, [-1, 1], "PRANK(max(ATR14/c,1e-5),192,1e-12)", "mid-rank" => natr_rank?;
        bb_pctb_20, 20, [-2.18, 2.18], "DIV(c-SMA(c,20), 2*PSD(c,20), ec, 0)", "centred %b: -1 lower band, +1 upper band; population std (TA-Lib)" => ratio(x.c - x.sma_20, 2.0 * deviation_20?, x.ec, 0.0);
        donchian_width_20, 20, [0, 5], "CLIP((MAX(h,20)-MIN(l,20))/(A*sqrt(20)), 5)" => clip(x.in_atr(channel_20?.0 - channel_20?.1, 20.0), 5.0);
        bb_width_rank_96, 115, [-1, 1], "PRANK(max(4*PSD(c,20)/SMA(c,20),1e-5),96,1e-12)", "Bollinger bandwidth rank" => band_rank?;
        keltner_pos_20, 20, [-5, 5], "CLIP((c-EMA(c,20))/(2*max(RMA(TR,10),1e-5*c)), 5)", "Keltner 20, 10, 2: +-1 = channel" => clip((x.c - x.ema::<20>()) / (2.0 * x.atr::<10>().max(floor?)), 5.0);
        squeeze_ratio_20, 21, [-5, 5], "CLIP(2*LR(2*PSD(c,20)/c, 1.5*RMA(TR,20)/c), 5)", "Bollinger half width over Keltner half width (1.5 ATR20); below 0 = squeeze"; 2.0 ln => (2.0 * deviation_20?).max(floor?) / (1.5 * x.atr::<20>()).max(floor?);
        squeeze_age_20, 21, [0, 4], "on=[2*PSD(c,20)+ec < 1.5*RMA(TR,20)]; RUN(on,48)/12", "bars the squeeze has been on" => squeeze_age? * (1.0 / 12.0);
        squeeze_mom_20, 39, [-5, 5], "y=c-((MAX(h,20)+MIN(l,20))/2+SMA(c,20))/2; CLIP(LRE(y,20)/(2*A), 5)", "TTM squeeze momentum; each y uses its own bar's window" => clip(x.in_atr(squeeze_momentum?, 1.0) / 2.0, 5.0);
        rvi_dorsey_14, 23, [-2, 2], "s=PSD(c,10); U=s*[c>c[1]], D=s*[c<c[1]]; (100*DIV(RMA(U,14), RMA(U,14)+RMA(D,14), ec, 0.5)-50)/25", "Dorsey Relative Volatility Index; RMA seeds over bars 9..22" => (relative_volatility? - 50.0) * (1.0 / 25.0);
        mass_index_25, 41, [-5, 5], "e=EMA(h-l,9); CLIP(SUM(DIV(e, EMA(e,9), ec, 1),25)-25, 5)", "Dorsey Mass Index minus its neutral 25" => clip(mass_25? - 25.0, 5.0);
    }
}
