//! Higher timeframes: the hour, four hours and the day, at 15 minutes.

use super::declare::group;
use crate::{
    average::Sma,
    math::ln_of,
    momentum::{Channel, Rsi, chande, place},
    rolling::{Lag, Window, mean},
    shared::{clip, ratio},
    timeframe::{Bucket, Held, Scan, Timeframe},
    trend::Adx,
    volatility::population_deviation,
};

/// What the newest closes of x16 say.
#[derive(Clone, Copy, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
struct Closes {
    mean_10: f64,
    /// Chande's ratio of 10 changes: with a sign, Kaufman's efficiency.
    chande_10: f64,
    /// Of 14 changes: Cutler's RSI, from -1 to 1.
    chande_14: f64,
}

fn closes(window: &Window<15, 17>) -> Option<Closes> {
    let ratio = |closes: &[f64]| chande(closes, 1e-9 * closes[closes.len() - 1]);
    Some(Closes {
        mean_10: mean(window.last::<10>()),
        chande_10: ratio(window.last::<11>()),
        chande_14: ratio(window.last::<15>()),
    })
}

/// Means of the newest 3, 10 and 20 values.
fn means(window: &Window<20, 22>) -> Option<[f64; 3]> {
    Some([mean(window.last::<3>()), mean(window.last::<10>()), mean(window.last::<20>())])
}

/// Mean and deviation of 20 values: Bollinger's bands.
fn bands(window: &Window<20, 22>) -> Option<(f64, f64)> {
    let values = window.last::<20>();
    Some((mean(values), population_deviation(values)))
}

/// The logarithm of the newest value over the one before.
fn log_move(window: &Window<2, 3>) -> Option<f64> {
    let [before, now] = window.last::<2>();
    (!before.is_nan()).then(|| ln_of(now / before))
}

group! {
    "mtf", x;

    indicators {
        bar => Bucket { o: x.o, h: x.h, l: x.l, c: x.c };

        x4: Timeframe<4> = Timeframe::new() => (x.bar, bar?);
        x4_new => x4?.completed();
        x4_close_lag_1: Held<Lag<1>> = Held::new(Lag::new()) => x4_new?.map(|new| new.c);
        x4_rsi_14: Held<Rsi> = Held::new(Rsi::new(14)) =>
            x4_new?.zip(x4_close_lag_1.filter(|c| !c.is_nan())).map(|(new, before)| (new.c - before, 1e-9 * new.c));
        x4_bands_20: Held<Scan<(f64, f64), 20, 22>> = Held::new(Scan::new()) => x4_new?.map(|new| (new.c, bands as fn(&_) -> _));
        x4_channel_14: Held<Channel<14, 16>> = Held::new(Channel::new()) => x4_new?.map(|new| (new.h, new.l));
        x4_slow_k: Held<Sma<3, 4>> = Held::new(Sma::new()) =>
            x4_new?.zip(x4_channel_14).map(|(new, channel)| 2.0 * place(new.c, channel, 1e-9 * new.c) - 1.0);
        x4_adx_14: Held<Adx> = Held::new(Adx::new(14)) => x4_new?.map(|new| ((new.h, new.l, new.c), 1e-9 * new.c));

        x16: Timeframe<16> = Timeframe::new() => (x.bar, bar?);
        x16_new => x16?.completed();
        x16_last => x16?.last()?;
        x16_now => x16?.running();
        x16_closes: Held<Scan<Closes, 15, 17>> = Held::new(Scan::new()) => x16_new?.map(|new| (new.c, closes as fn(&_) -> _));
        x16_ranges: Held<Scan<[f64; 3], 20, 22>> = Held::new(Scan::new()) => x16_new?.map(|new| (new.range(), means as fn(&_) -> _));
        x16_range_3 => x16_ranges?[0].max(1e-5 * x.c);
        x16_range_10 => x16_ranges?[1].max(1e-5 * x.c);
        x16_range_20 => x16_ranges?[2].max(1e-5 * x.c);

        x96_new => x.x96.completed();
        x96_last => x.x96.last()?;
        x96_now => x.x96.running();
        x96_move: Held<Scan<f64, 2, 3>> = Held::new(Scan::new()) => x96_new?.map(|new| (new.c, log_move as fn(&_) -> _));
        x96_sma_5: Held<Sma<5, 6>> = Held::new(Sma::new()) => x96_new?.map(|new| new.c);
        x96_ranges_5: Held<Sma<5, 6>> = Held::new(Sma::new()) => x96_new?.map(Bucket::range);
        x96_range_5 => x96_ranges_5?.max(1e-5 * x.c);
    }

    features {
        x4_rsi_14, 63, [-2, 2], "(RSI(C4,14)-50)/25 on completed x4 closes", "Wilder" => (x4_rsi_14? - 50.0) * (1.0 / 25.0);
        x4_bb_pctb_20, 83, [-5, 5], "CLIP(DIV(c-SMA(C4,20), 2*PSD(C4,20), ec, 0), 5)", "current close against bands of completed x4 closes" => clip(ratio(x.c - x4_bands_20?.0, 2.0 * x4_bands_20?.1, x.ec, 0.0), 5.0);
        x4_stoch_k_14_3, 67, [-1, 1], "SMA(2*DIV(C4-MIN(L4,14), MAX(H4,14)-MIN(L4,14), 1e-9*C4, 0.5)-1, 3) on completed x4 bars", "slow %K" => x4_slow_k?;
        x4_adx_14, 115, [-1.67, 5], "(ADX(14)-25)/15 on completed x4 bars", "TA-Lib seeding" => (x4_adx_14?.adx? - 25.0) * (1.0 / 15.0);
        x16_rsi_14, 255, [-2, 2], "U,D = sums of the last 14 positive / negative changes of completed x16 closes; (100*DIV(U,U+D,1e-9*C16,0.5)-50)/25", "Cutler RSI (plain sums: finite memory)" => 2.0 * x16_closes?.chande_14;
        x16_sma_dist_10, 175, [-5, 5], "CLIP(2*(c-SMA(C16,10))/(max(SMA(H16-L16,10),1e-5*c)*sqrt(10)), 5)", "current close, completed x16 bars" => clip(2.0 * (x.c - x16_closes?.mean_10) / (x16_range_10? * 10_f64.sqrt()), 5.0);
        x16_er_10, 191, [-2, 2], "2*DIV(C16-C16[10], SUM(abs(C16-C16[1]),10), 1e-9*C16, 0)", "signed efficiency of completed x16 closes" => 2.0 * x16_closes?.chande_10;
        x16_prev_body, 31, [-1, 1], "DIV(C16-O16, H16-L16, 1e-9*C16, 0) of the last completed x16 bar" => ratio(x16_last?.c - x16_last?.o, x16_last?.range(), 1e-9 * x16_last?.c, 0.0);
        x16_run_pos, 16, [-1, 1], "2*DIV(c-Lr, Hr-Lr, ec, 0.5)-1, Hr,Lr = high, low of the running x16 bucket up to this bar" => 2.0 * place(x.c, (x16_now?.h, x16_now?.l), x.ec) - 1.0;
        x16_range_ratio_3_20, 335, [-5, 5], "CLIP(2*LR(SMA(H16-L16,3)/c, SMA(H16-L16,20)/c), 5)", "completed x16 bars"; 2.0 ln => x16_range_3? / x16_range_20?;
        x96_ret_1, 287, [-8, 8], "CLIP(ln(C96/C96[1])/(S*sqrt(96)), 8), last two completed x96 closes", "previous day's return" => clip(x.in_vol(x96_move?, 96.0), 8.0);
        x96_sma_dist_5, 575, [-5, 5], "CLIP((c-SMA(C96,5))/max(SMA(H96-L96,5),1e-5*c), 5)" => clip((x.c - x96_sma_5?) / x96_range_5?, 5.0);
        x96_range_ratio_5, 575, [-5, 5], "CLIP(2*LR((H96-L96)/c, max(SMA(H96-L96,5),1e-5*c)/c), 5)", "last completed day against the mean of the last 5 (incl. it)"; 2.0 ln => x96_last?.range().max(1e-5 * x.c) / x96_range_5?;
        x96_run_pos, 96, [-1, 1], "2*DIV(c-Lr, Hr-Lr, ec, 0.5)-1 in the running x96 bucket" => 2.0 * place(x.c, (x96_now?.h, x96_now?.l), x.ec) - 1.0;
        x96_open_dist, 96, [-5, 5], "CLIP((c-Or)/(A*sqrt(j+1)), 5), Or = open of the running x96 bucket, j+1 bars so far" => clip(x.in_atr(x.c - x96_now?.o, f64::from(x.x96.seen())), 5.0);
        x96_run_range_5, 575, [0, 5], "CLIP((Hr-Lr)/max(SMA(H96-L96,5),1e-5*c), 5)", "running range against completed days" => clip(x96_now?.range() / x96_range_5?, 5.0);
    }
}
