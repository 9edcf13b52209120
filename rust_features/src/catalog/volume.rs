//! Volume: how much, on which side, at which price.

use super::declare::group;
use crate::{
    average::Ema,
    math::{each, ln_of},
    rolling::{Lag, LongSums, RingSums, Run, sum, sum_of, sum_of_pairs},
    shared::{Shared, clip, ratio},
    statistics::quantile_rank,
    volume::{
        Chaikin, Impact, Kept, SessionVwap, bulk_imbalance, close_location, corwin_schultz, on_balance,
        on_balance_correlation, profile, sums_of,
    },
};

/// 1/x, and 0 for 0: what is divided by an absent volume is 0.
#[inline(always)]
fn per(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// `VLR` before its logarithm: a/m, kept off zero.
#[inline(always)]
fn volume_ratio(a: f64, m: f64) -> f64 {
    if m == 0.0 { 1.0 } else { (a + 0.01 * m) / (1.01 * m) }
}

/// The volume against the mean of the same slot of the five periods of 96 bars before, kept off zero by `m`.
#[inline(always)]
fn same_slot_ratio(x: &Shared, m: f64) -> f64 {
    let [a, b, c, d, e] = [96, 192, 288, 384, 480].map(|lag| x.volumes.lag(lag));
    let before = (a + b + c + d + e) * (1.0 / 5.0);
    if m == 0.0 { 1.0 } else { (x.v + 0.01 * m) / (before + 0.01 * m) }
}

/// What is summed over 96 bars: volume, turnover, signed volume, the return of a bar with less volume than the one
/// before, and volume and number of trades of the bars that have trades.
#[inline(always)]
fn of_day(x: &Shared, trades: &Kept<96, 104>, lag: usize) -> [f64; 6] {
    let (v, c, trades) = (x.volumes.lag(lag), x.closes.lag(lag), trades.lag(lag));
    let turnover = x.traded_prices.lag(lag) * v;
    let (c_1, v_1) = (x.closes.lag(lag + 1), x.volumes.lag(lag + 1));
    let quieter = if v < v_1 { x.returns.lag(lag) } else { 0.0 };
    let of_trades = if trades > 0.0 { v } else { 0.0 };
    [v, turnover, signed(c - c_1, v), quieter, of_trades, trades]
}

/// The absolute return of an earlier bar.
#[inline(always)]
fn step(x: &Shared, lag: usize) -> [f64; 1] {
    [(x.log_closes.lag(lag) - x.log_closes.lag(lag + 1)).abs()]
}

/// Turnovers are kept in this, so that the greatest sum fits into an `f32` and the least turnover is not denormal.
const TURNOVER_UNIT: f64 = 128.0;

/// The volumes of 48 bars with the sign of the change of the close; 0 before the second bar.
#[inline(always)]
fn signed_volumes(x: &Shared) -> [f64; 48] {
    let (closes, volumes) = (x.closes.last::<49>(), x.volumes.last::<48>());
    each(|i| signed(closes[i + 1] - closes[i], volumes[i]))
}

/// A volume with the sign of the change of the close.
#[inline(always)]
fn signed(dc: f64, v: f64) -> f64 {
    if dc > 0.0 {
        v
    } else if dc < 0.0 {
        -v
    } else {
        0.0
    }
}

/// Absolute return per turnover, newest bars over many bars; 1 when there is no move or no turnover to speak of.
#[inline(always)]
fn illiquidity_ratio([path, turnover]: [f64; 2], [long_path, long_turnover]: [f64; 2]) -> f64 {
    let is_void = path <= 1e-9 || long_path <= 1e-9 || turnover == 0.0 || long_turnover == 0.0;
    if is_void { 1.0 } else { path * long_turnover / (turnover * long_path) }
}

/// Standard score of the close among the traded prices of a day.
#[inline(always)]
fn vwap_score(x: &Shared, vwap: f64, squares: f64, per_volume: f64) -> f64 {
    let deviation = (squares * per_volume).sqrt();
    if per_volume == 0.0 { 0.0 } else { ratio(x.c - vwap, deviation, x.ec, 0.0) }
}

/// Stands for the imbalance of takers where it is not known: none is beyond ±1.
const UNKNOWN: f64 = 2.0;

/// Volume bought less volume sold by takers, and their sum, over the bars where it is known. Input: their ratio.
#[inline(always)]
fn taker_sums(imbalances: &[f64; 20], volumes: &[f64; 20]) -> [f64; 2] {
    let known = |imbalance: f64, x: f64| if imbalance == UNKNOWN { 0.0 } else { x };
    [
        sum_of_pairs(imbalances, volumes, |imbalance, v| known(imbalance, imbalance * v)),
        sum_of_pairs(imbalances, volumes, known),
    ]
}

group! {
    "volume", x;

    indicators {
        previous => x.previous?;

        // Series that are kept. They come first: what was just written is slow to read.
        trades => x.extras.trades.filter(|trades| *trades > 0.0 && x.v > 0.0).unwrap_or(0.0);
        trades_96: Kept<96, 104> = Kept::new() => trades?;
        taker_imbalance => x.extras.taker_buy_volume.map(|bought| ratio(2.0 * bought.clamp(0.0, x.v) - x.v, x.v, 0.0, 0.0));
        taker_imbalance_20: Kept<20, 24> = Kept::new() => taker_imbalance?.unwrap_or(UNKNOWN);
        turnover_336: RingSums<1, 336, 16, f32> = RingSums::new() => (x.bar, [x.turn / TURNOVER_UNIT]);
        signed_48 => signed_volumes(x);
        location => close_location([x.h, x.l, x.c], x.ec);
        location_20: Kept<20, 24> = Kept::new() => location?;
        typical_price_1 => (previous?.h + previous?.l + previous?.c) * (1.0 / 3.0);
        signed_price => f64::from(x.sign(x.tp - typical_price_1?)) * x.tp;
        signed_price_14: Kept<14, 18> = Kept::new() => signed_price?;
        flow_14 => { let (prices, v) = (signed_price_14?.last::<14>(), x.volumes.last::<14>()); sums_of::<14, 2, 2>(|i| [prices[i] * v[i], prices[i].abs() * v[i]]) };
        bulk_50: Kept<50, 56> = Kept::new() => bulk_imbalance(x.in_vol(x.r?, 1.0));
        ln_hl_1: Lag<1> = Lag::new() => x.ln_hl;
        ln_hl_of_both => ln_of(x.h.max(previous?.h) / x.l.min(previous?.l));
        spread_20: Kept<20, 24> = Kept::new() => corwin_schultz([x.ln_hl, ln_hl_1?], ln_hl_of_both?);

        volume_4 => sum(x.volumes.last::<4>());
        volume_10 => volume_4? + sum(&x.volumes.last::<10>()[..6]);
        volume_20 => volume_10? + sum(&x.volumes.last::<20>()[..10]);
        per_volume_10 => per(volume_10?);
        per_volume_20 => per(volume_20?);
        volumes_480: LongSums<1, 1, 29> = LongSums::new() => (x.bar, [480], |lag| [x.volumes.lag(lag)]);
        volume_480 => volumes_480?[0][0];
        mean_volume_481 => (volume_480? + x.volumes.lag(480)) * (1.0 / 481.0);
        silence: Run = Run::new(96) => if x.v > 0.0 { 1 } else { -1 };
        is_dead => silence? <= -f64::from(x.bars.min(96));
        volume_ema_12: Ema = Ema::new(12) => x.v;
        volume_ema_26: Ema = Ema::new(26) => x.v;
        volume_ema_13: Ema = Ema::new(13) => { previous?; x.v };
        force_13: Ema = Ema::new(13) => x.dc? * x.v;
        chaikin: Chaikin = Chaikin::new() => location? * x.v;

        off_sma_20 => { let sma = x.sma_20; sum_of_pairs(x.closes.last::<20>(), x.volumes.last::<20>(), |c, v| (c - sma) * v) };
        session: SessionVwap = SessionVwap::new() => (x.x96.seen(), x.turn, x.v);
        off_session => { let (turnover, volume) = session?; if volume == 0.0 { 0.0 } else { x.c - turnover / volume } };
        day: LongSums<6, 1, 5> = LongSums::new() => { let trades = trades_96?; (x.bar, [96], #[inline(always)] move |lag| of_day(x, trades, lag)) };
        sums_96 => day?[0];
        per_volume_96 => per(sums_96?[0]);
        vwap_96 => sums_96?[1] * per_volume_96?;
        profile_96 => profile(x.traded_prices.last::<96>(), x.volumes.last::<96>(), vwap_96?, (x.c, x.ec));

        path_336: LongSums<1, 1, 20> = LongSums::new() => (x.bar, [336], |lag| step(x, lag));
        path_16 => sum_of(x.returns.last::<16>(), f64::abs);
        turnover_16 => sum_of_pairs(x.traded_prices.last::<16>(), x.volumes.last::<16>(), |w, v| w * v);

        impact_48 => Impact::of(x.returns.last::<48>(), x.volumes.last::<48>(), signed_48.as_ref()?);
        volume_50 => 48.0 * impact_48?.volume + x.volumes.lag(48) + x.volumes.lag(49);
        taker_20 => taker_sums(&taker_imbalance_20?.last::<20>(), x.volumes.last::<20>());
    }

    features {
        volume_ratio_1_96, 96, [-4.62, 4.56], "VLR(v, SMA(v,96))", "VLR(a,m)=ln((a+0.01m)/(1.01m))"; 1 ln => volume_ratio(x.v, sums_96?[0] * (1.0 / 96.0));
        volume_ratio_4_48, 48, [-4.62, 2.48], "VLR(SMA(v,4), SMA(v,48))"; 1 ln => volume_ratio(volume_4? / 4.0, impact_48?.volume);
        volume_ratio_48_480, 480, [-4.62, 2.3], "VLR(SMA(v,48), SMA(v,480))"; 1 ln => volume_ratio(impact_48?.volume, volume_480? * (1.0 / 480.0));
        volume_rank_192, 192, [-1, 1], "PRANK(v,192,0)", "exact ties count half" => quantile_rank(x.volumes.last::<192>(), x.v, 0.0);
        volume_tod_ratio_5, 481, [-5, 5], "m=SMA(v,481); b=(v[96]+v[192]+v[288]+v[384]+v[480])/5; CLIP(ln((v+0.01m)/(b+0.01m)), 5)", "same slot of the previous 5 periods of 96 bars"; 1 ln => same_slot_ratio(x, mean_volume_481?);
        pvo_12_26, 26, [-2, 5], "CLIP(2*(EMA(v,12)-EMA(v,26))/EMA(v,26), 5)", "2*PPO of volume, as a fraction; both EMAs fed from bar 0" => if is_dead? { 0.0 } else { clip(2.0 * (volume_ema_12? - volume_ema_26?) / volume_ema_26?, 5.0) };
        volume_cv_48, 48, [0, 6.93], "DIV(SD(v,48), SMA(v,48), 0, 0)", "sample std" => impact_48?.volume_variation();
        obv_flow_20, 21, [-2, 2], "2*DIV(SUM(sgn(dc)*v,20), SUM(v,20), 0, 0)", "20-bar OBV change over traded volume" => 2.0 * sum(&signed_48.as_ref()?[28..]) * per_volume_20?;
        obv_flow_96, 97, [-4, 4], "4*DIV(SUM(sgn(dc)*v,96), SUM(v,96), 0, 0)", "96-bar OBV change over traded volume" => 4.0 * sums_96?[2] * per_volume_96?;
        obv_price_corr_48, 48, [-1, 1], "Pearson of c_i and O_i over 48 bars, O = running sum of sgn(dc)*v inside the window (O of the oldest bar = 0)", "price/OBV agreement; low or negative = divergence" => on_balance_correlation(x.closes.last::<48>(), &on_balance(signed_48.as_ref()?), (x.ec, 48e-12 * impact_48?.volume));
        cmf_20, 20, [-3, 3], "MFM=DIV((c-l)-(h-c), h-l, ec, 0); 3*DIV(SUM(MFM*v,20), SUM(v,20), 0, 0)", "Chaikin Money Flow" => 3.0 * sum_of_pairs(&location_20?.last::<20>(), x.volumes.last::<20>(), |location, v| location * v) * per_volume_20?;
        adosc_3_10, 20, [-5, 5], "d3=(1/2)*(d3[1]+m), d10=(9/11)*(d10[1]+m), m=MFM*v, d3=d10=0 at bar 0; CLIP(DIV(d10-d3, SMA(v,20), 0, 0), 5)", "d10-d3 = EMA3(AD)-EMA10(AD) without the AD line" => clip(20.0 * chaikin? * per_volume_20?, 5.0);
        mfi_14, 15, [-2, 2], "P=SUM(tp*v*[tp-tp[1]>ec],14), N=SUM(tp*v*[tp[1]-tp>ec],14); (100*DIV(P,P+N,0,0.5)-50)/25", "MFI; unchanged tp contributes nothing" => 2.0 * ratio(flow_14?[0], flow_14?[1], 0.0, 0.0);
        force_index_13, 15, [-5, 5], "CLIP(3*EMA(dc*v,13)/(A*EMA(v,13)), 5)", "Elder; both EMAs are fed from bar 1" => if is_dead? { 0.0 } else { clip(3.0 * x.in_atr(ratio(force_13?, volume_ema_13?, 0.0, 0.0), 1.0), 5.0) };
        nvi_96, 97, [-8, 8], "CLIP(SUM(r*[v<v[1]],96)/(S*sqrt(96)), 8)", "Negative Volume Index return over 96 bars" => clip(x.in_vol(sums_96?[3], 96.0), 8.0);
        vwma_gap_20, 20, [-5, 5], "CLIP(2*(SUM(c*v,20)/SUM(v,20)-SMA(c,20))/A, 5)", "VWMA minus SMA" => clip(2.0 * x.in_atr(off_sma_20? * per_volume_20?, 1.0), 5.0);
        vwap_z_96, 96, [-5, 5], "m=SUM(w*v,96)/SUM(v,96); CLIP(DIV(c-m, sqrt(SUM(v*(w-m)^2,96)/SUM(v,96)), ec, 0), 5)", "rolling VWAP in volume-weighted std; w = traded price of the bar" => clip(vwap_score(x, vwap_96?, profile_96?.squares, per_volume_96?), 5.0);
        vwap_dist_x96, 96, [-5, 5], "VWAP since the start of the running x96 bucket, j+1 bars so far; CLIP((c-VWAP)/(A*sqrt(j+1)), 5)", "session (day at 15 m) VWAP; NaN-masked until every phase is known" => clip(x.in_atr(off_session?, f64::from(x.x96.seen())), 5.0);
        volume_above_frac_96, 96, [-1, 1], "DIV(SUM(v_i*(-SGNT(w_i-c)),96), SUM(v,96), 0, 0), SGNT tolerance ec of the current c", "+1: all volume of 96 bars traded below the current close" => profile_96?.below * per_volume_96?;
        amihud_ratio_16_336, 337, [-5, 5], "CLIP(ln((SUM(abs(r),16)/SUM(turn,16))/(SUM(abs(r),336)/SUM(turn,336))), 5)", "aggregate Amihud illiquidity, short over long window"; 1 ln => illiquidity_ratio([path_16?, turnover_16?], [path_336?[0][0], TURNOVER_UNIT * turnover_336?[0]]);
        kyle_lambda_48, 97, [-5, 5], "x=sgn(dc)*v; lambda=COV(r,x,48)/VAR(x,48) (population); CLIP(2*lambda*SMA(v,48)/S, 5)", "regression slope with intercept, in S per average bar volume" => clip(2.0 * x.in_vol(impact_48?.kyle_lambda(), 1.0), 5.0);
        corwin_schultz_20, 21, [0, 5], "b=ln(h/l)^2+ln(h[1]/l[1])^2; g=ln(max(h,h[1])/min(l,l[1]))^2; k=3-2*sqrt(2); a=(sqrt(2b)-sqrt(b))/k-sqrt(g/k); s=max(2(e^a-1)/(1+e^a),0); CLIP(4*SMA(s,20)/max(ATR14/c,1e-5), 5)", "high-low spread estimate in units of NATR" => clip(4.0 * x.in_atr(sum(&spread_20?.last::<20>()) * (1.0 / 20.0) * x.c, 1.0), 5.0);
        vpin_50, 146, [-2.5, 2.5], "q=2*PHI(r/S)-1; 5*(DIV(SUM(v*abs(q),50), SUM(v,50), 0, 0.5)-0.5)", "VPIN with time bars and bulk volume classification; q uses S of its own bar" => 5.0 * (ratio(sum_of_pairs(&bulk_50?.last::<50>(), x.volumes.last::<50>(), |q, v| v * q.abs()), volume_50?, 0.0, 0.5) - 0.5);
        bvc_imbalance_10, 106, [-2, 2], "2*DIV(SUM(v*q,10), SUM(v,10), 0, 0), q as vpin_50", "signed bulk volume imbalance" => 2.0 * sum_of_pairs(&bulk_50?.last::<10>(), x.volumes.last::<10>(), |q, v| v * q) * per_volume_10?;
        taker_imbalance_1, 1, [-2, 2], "2*DIV(2*tb-v, v, 0, 0), tb=clamp(taker_buy_volume,0,v)" => 2.0 * taker_imbalance?.unwrap_or(0.0);
        taker_imbalance_20, 20, [-5, 5], "5*DIV(SUM(2*tb-v,20), SUM(v,20), 0, 0), both sums only over bars that have taker_buy_volume" => 5.0 * ratio(taker_20?[0], taker_20?[1], 0.0, 0.0);
        trade_size_ratio_96, 96, [-5, 5], "CLIP(2*ln((v/trades)/(SUM(v,96)/SUM(trades,96))), 5), sums over bars with trades>0 and v>0", "average trade size against its day"; 2 ln => if trades? == 0.0 { 1.0 } else { x.v * sums_96?[5] / (trades? * sums_96?[4]) };
        corr_ret_volume_48, 49, [-2, 2], "2*CORR(r, v, 48), tiny 1e-9 for r and 1e-9*SMA(v,48) for v" => 2.0 * impact_48?.correlation();
    }
}
