//! Momentum: oscillators and rates of change.

use super::declare::group;
use crate::{
    average::{Cascade, Ema, Sma},
    math::{each, smaller},
    momentum::{Fisher, Rsi, Streak, awesome, chande, commodity_channel, percent_rank, place, ultimate, vigor},
    rolling::{Lag, Window, extent},
    shared::{Shared, clip, exact_sign, ratio},
    timeframe::Scan,
};

/// Greatest and least of 14 values.
fn extent_14(window: &Window<14, 18>) -> Option<(f64, f64)> {
    let values = window.all();
    (!values[0].is_nan()).then(|| extent(values))
}

/// h + l + c: the typical prices, times 3.
#[inline(always)]
fn prices<const N: usize>(x: &Shared) -> [f64; N] {
    let (highs, lows, closes) = (x.highs.last::<N>(), x.lows.last::<N>(), x.closes.last::<N>());
    each(|i| highs[i] + lows[i] + closes[i])
}

/// c − min(l, c₁) of 28 bars.
#[inline(always)]
fn pressures_28(x: &Shared) -> [f64; 28] {
    let (lows, closes) = (x.lows.last::<28>(), x.closes.last::<29>());
    each(|i| closes[i + 1] - smaller(lows[i], closes[i]))
}

/// Bodies and ranges of 13 bars.
#[inline(always)]
fn bodies_and_ranges(x: &Shared) -> ([f64; 13], [f64; 13]) {
    let [o, h, l, c] = x.candles::<13>();
    (each(|i| c[i] - o[i]), each(|i| h[i] - l[i]))
}

group! {
    "momentum", x;

    indicators {
        rsi_14 => x.rsi::<14>();
        rsi_14_lag_5: Lag<5> = Lag::new() => rsi_14?;
        rsi_channel: Scan<(f64, f64), 14, 18> = Scan::new() => (rsi_14?, extent_14 as fn(&_) -> _);
        stoch_rsi: Sma<3, 5> = Sma::new() => 2.0 * place(rsi_14?, rsi_channel?, 1e-6) - 1.0;

        channel_13 => { x.since(12)?; x.channel::<13>() };
        slow_k: Sma<3, 5> = Sma::new() => 100.0 * place(x.c, x.channel::<14>(), x.ec);
        slow_d: Sma<3, 5> = Sma::new() => slow_k?;
        off_middle: Ema = Ema::new(25) => x.c - (channel_13?.0 + channel_13?.1) / 2.0;
        off_middle_smooth: Ema = Ema::new(2) => off_middle?;
        channel_width: Ema = Ema::new(25) => channel_13?.0 - channel_13?.1;
        channel_width_smooth: Ema = Ema::new(2) => channel_width?;
        fisher_10: Fisher = Fisher::new() => { x.since(9)?; (x.middles(), x.ec) };

        late_ema_48: Ema = Ema::new(48) => { x.since(56)?; x.c };
        macd_12_26 => { x.since(25)?; x.macd_12_26 };
        macd_48_104 => late_ema_48? - x.ema::<104>();
        signal_9: Ema = Ema::new(9) => macd_12_26?;
        signal_36: Ema = Ema::new(36) => macd_48_104?;
        trix: Cascade<3> = Cascade::new(15) => x.c;
        trix_3 => trix?[2];
        trix_3_lag_1: Lag<1> = Lag::new() => trix_3?;
        move_25: Ema = Ema::new(25) => x.dc?;
        move_13: Ema = Ema::new(13) => move_25?;
        path_25: Ema = Ema::new(25) => x.dc?.abs();
        path_13: Ema = Ema::new(13) => path_25?;

        ultimate => ultimate(&pressures_28(x), x.true_ranges.last(), x.ec);
        awesome => awesome(&x.middles());
        awesome_5: Sma<5, 8> = Sma::new() => awesome?;
        vigor_10 => { let (bodies, ranges) = bodies_and_ranges(x); vigor(&bodies, &ranges, x.ec) };
        power_14: Sma<14, 18> = Sma::new() => x.body_ratio;

        streak: Streak = Streak::new() => exact_sign(x.dc?);
        streak_lag_1: Lag<1> = Lag::new() => streak?;
        streak_rsi: Rsi = Rsi::new(2) => { x.since(2)?; (streak? - streak_lag_1?, 1e-9) };
        rank_100 => percent_rank(&x.returns.last::<101>()[..100], x.r?, 1e-12);
    }

    features {
        rsi_5, 6, [-2, 2], "(RSI(c,5)-50)/25", "Wilder: RMA of gains and of losses of dc, n=5" => (x.rsi::<5>() - 50.0) * (1.0 / 25.0);
        rsi_14, 15, [-2, 2], "(RSI(c,14)-50)/25", "Wilder" => (rsi_14? - 50.0) * (1.0 / 25.0);
        rsi_42, 43, [-4, 4], "(RSI(c,42)-50)/12.5", "Wilder" => (x.rsi::<42>() - 50.0) * (1.0 / 12.5);
        rsi_slope_14_5, 20, [-4, 4], "(RSI(c,14)-RSI(c,14)[5])/25", "Wilder" => (rsi_14? - rsi_14_lag_5?) * (1.0 / 25.0);
        stoch_rsi_14_14_3, 30, [-1, 1], "q=RSI(c,14); SMA(2*DIV(q-MIN(q,14), MAX(q,14)-MIN(q,14), 1e-6, 0.5)-1, 3)", "%D of StochRSI" => stoch_rsi?;
        stoch_k_14_3, 16, [-1, 1], "K=SMA(100*DIV(c-MIN(l,14), MAX(h,14)-MIN(l,14), ec, 0.5),3); (K-50)/50", "slow %K" => (slow_k? - 50.0) * (1.0 / 50.0);
        stoch_kd_14_3_3, 18, [-6, 6], "K as stoch_k_14_3; (K-SMA(K,3))/12.5", "slow %K minus slow %D" => (slow_k? - slow_d?) * (1.0 / 12.5);
        williams_r_28, 28, [-1, 1], "2*DIV(c-MIN(l,28), MAX(h,28)-MIN(l,28), ec, 0.5)-1", "= (WILLR+50)/50" => 2.0 * place(x.c, x.channel::<28>(), x.ec) - 1.0;
        ppo_12_26, 26, [-5, 5], "CLIP(100*(EMA(c,12)-EMA(c,26))/EMA(c,26), 5)", "PPO in percent; both EMAs fed from bar 0 (TA-Lib PPO, matype 1; its MACD seeds the fast EMA later, see macd_hist)" => clip(100.0 * (x.ema::<12>() - x.ema::<26>()) / x.ema::<26>(), 5.0);
        macd_hist_12_26_9, 34, [-5, 5], "m=EMAS(c,12,14)-EMA(c,26); CLIP(3*(m-EMA(m,9))/A, 5)", "TA-Lib MACD seeding; signal EMA seeded by SMA of the first 9 m" => clip(3.0 * x.in_atr(macd_12_26? - signal_9?, 1.0), 5.0);
        macd_hist_48_104_36, 139, [-5, 5], "m=EMAS(c,48,56)-EMA(c,104); CLIP(2*(m-EMA(m,36))/(c*S), 5)", "MACD of 4x longer periods" => clip(2.0 * x.in_price_vol(macd_48_104? - signal_36?, 1.0), 5.0);
        cci_20, 20, [-5, 5], "m=SMA(tp,20); CLIP(DIV(tp-m, 0.015*mean(abs(tp_i-m), i in window), ec, 0)/100, 5)", "mean absolute deviation about the current SMA" => clip(commodity_channel(&prices::<20>(x), 3.0 * x.ec) * (1.0 / 100.0), 5.0);
        cci_60, 60, [-5, 5], "as cci_20 with n=60", "as cci_20" => clip(commodity_channel(&prices::<60>(x), 3.0 * x.ec) * (1.0 / 100.0), 5.0);
        cmo_20, 21, [-2, 2], "U=SUM(max(dc,0),20), D=SUM(max(-dc,0),20); 2*DIV(U-D, U+D, ec, 0)", "Chande's plain sums (TA-Lib CMO is Wilder smoothed = 2*RSI-100, deliberately not used)" => 2.0 * chande(x.closes.last::<21>(), x.ec);
        trix_15, 44, [-5, 5], "e=EMA(EMA(EMA(c,15),15),15); CLIP(1000*(e/e[1]-1), 5)", "10*TRIX" => clip(1000.0 * (trix_3? / trix_3_lag_1? - 1.0), 5.0);
        ultosc_7_14_28, 29, [-2, 2], "BP=c-min(l,c[1]); a_n=DIV(SUM(BP,n),SUM(TR,n),ec,0.5); (100*(4*a_7+2*a_14+a_28)/7-50)/25", "Williams' Ultimate Oscillator" => (ultimate? - 50.0) * (1.0 / 25.0);
        ao_5_34, 34, [-5, 5], "AO=SMA(hl2,5)-SMA(hl2,34); CLIP(AO/(2*A), 5)", "Awesome Oscillator" => clip(x.in_atr(awesome?, 1.0) / 2.0, 5.0);
        ac_5_34_5, 38, [-5, 5], "CLIP(1.5*(AO-SMA(AO,5))/A, 5)", "Accelerator of ao_5_34" => clip(1.5 * x.in_atr(awesome? - awesome_5?, 1.0), 5.0);
        tsi_25_13, 38, [-3, 3], "3*DIV(EMA(EMA(dc,25),13), EMA(EMA(abs(dc),25),13), ec, 0)", "Blau TSI; EMAs start at bar 1 (first dc)" => 3.0 * ratio(move_13?, path_13?, x.ec, 0.0);
        fisher_10, 10, [-3.81, 3.81], "q=DIV(hl2-MIN(hl2,10), MAX(hl2,10)-MIN(hl2,10), ec, 0.5); a=clamp(0.66*(q-0.5)+0.67*a[1], -0.999, 0.999); f=0.5*ln((1+a)/(1-a))+0.5*f[1]; f/2", "Ehlers Fisher transform; a=f=0 before bar 9" => fisher_10? / 2.0;
        connors_rsi_3_2_100, 102, [-2, 2], "((RSI(c,3)+RSI(streak,2)+PR)/3-50)/25; streak: 0 at bar 0, max(streak[1],0)+1 if c>c[1], min(streak[1],0)-1 if c<c[1], else 0; PR=#{r_i<r-1e-12}+0.5*#{abs(r_i-r)<=1e-12} over the 100 returns BEFORE the current one", "Wilder RSIs; the streak series is fed to its RSI from bar 1 on, tiny = 1e-9; ties count half" => ((x.rsi::<3>() + streak_rsi? + rank_100?) * (1.0 / 3.0) - 50.0) * (1.0 / 25.0);
        mom_accel_16, 97, [-8, 8], "CLIP((ln c-2*ln c[16]+ln c[32])/(S*sqrt(32)), 8)", "last 16-bar return minus the one before" => clip(x.in_vol(x.log_move(16) - (x.log_move(32) - x.log_move(16)), 32.0), 8.0);
        rvgi_10, 13, [-3, 3], "sym(x)=(x+2*x[1]+2*x[2]+x[3])/6; 3*DIV(SMA(sym(c-o),10), SMA(sym(h-l),10), ec, 0)", "Relative Vigor Index (Ehlers), without signal line" => 3.0 * vigor_10?;
        bull_power_13, 15, [-5, 5], "CLIP((h-EMA(c,13))/(2*A), 5)", "Elder" => clip(x.in_atr(x.h - x.ema::<13>(), 1.0) / 2.0, 5.0);
        bear_power_13, 15, [-5, 5], "CLIP((l-EMA(c,13))/(2*A), 5)", "Elder" => clip(x.in_atr(x.l - x.ema::<13>(), 1.0) / 2.0, 5.0);
        dpo_20, 20, [-5, 5], "CLIP(2*(c[11]-SMA(c,20))/(A*sqrt(20)), 5)", "causal Detrended Price Oscillator, shift n/2+1" => clip(2.0 * x.in_atr(x.closes.lag(11) - x.sma_20, 20.0), 5.0);
        bop_14, 14, [-3, 3], "3*SMA(body_ratio,14)", "Balance of Power, smoothed" => 3.0 * power_14?;
        smi_13_25_2, 38, [-3, 3], "M=(MAX(h,13)+MIN(l,13))/2; 3*DIV(EMA(EMA(c-M,25),2), EMA(EMA(MAX(h,13)-MIN(l,13),25),2)/2, ec, 0)", "Blau Stochastic Momentum Index" => 3.0 * ratio(off_middle_smooth?, channel_width_smooth? / 2.0, x.ec, 0.0);
    }
}
