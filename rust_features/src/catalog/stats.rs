//! Statistics of returns and log closes: shape, memory, tails, roughness.

use super::declare::group;
use crate::{
    rolling::{Lag, mean},
    shared::{Shared, clip, ratio},
    statistics::{
        Autocorrelation, DickeyFuller, Excursions, Folded, Increments, Level, Moments, OrdinalPatterns, Smallest,
        asinh_arguments, entropy_of_returns, folds_of_dimension, quantile_rank, scaling_of_increments, variance_ratio,
    },
    volatility::sample_deviation,
};

/// The 5 % quantile of 192 values, from the 11 smallest: position 0.05·191.
fn quantile([.., tenth, eleventh]: [f64; 11]) -> f64 {
    tenth + 0.55 * (eleventh - tenth)
}

/// SD(r, 96), without the floor of S.
fn deviation(x: &Shared) -> f64 {
    let [sum, squares] = x.return_sums_96;
    let variance = (squares - sum * sum * (1.0 / 96.0)) * (1.0 / 95.0);
    // Where returns hardly vary about their mean, the sums cancel.
    if variance < 1e-6 * squares { sample_deviation(x.returns.last::<96>()) } else { variance.sqrt() }
}

group! {
    "stats", x;

    indicators {
        moments: Moments<2, 11> = Moments::new() => (x.bar, &x.returns, [48, 192]);
        shape_192 => moments?[1];
        skewness_and_kurtosis => {
            let [short, long] = moments?;
            asinh_arguments([short.skewness(), long.skewness(), short.kurtosis(), long.kurtosis()])
        };
        memory: Autocorrelation = Autocorrelation::new() => (x.bar, &x.returns, x.return_sums_96);
        increments: Increments = Increments::new() => (x.bar, &x.log_closes);
        reversion: DickeyFuller = DickeyFuller::new() => (x.bar, &x.log_closes, x.return_sums_96[1]);
        level_480: Folded<Level<480>, 29> = Folded::new() => (x.bar, |lag| x.log_closes.lag(lag));
        excursions_96: Folded<Excursions, 5> = Folded::new() => (x.bar, |lag| x.log_closes.lag(lag));

        range_24 => x.channel::<24>();
        width_24 => range_24?.0 - range_24?.1;
        width_24_lag_24: Lag<24> = Lag::new() => width_24?;
        range_48 => x.channel::<48>();
        patterns: OrdinalPatterns = OrdinalPatterns::new() => *x.closes.last::<3>();

        deviation_96 => deviation(x);
        lowest_5_of_96: Smallest<5, 12> = Smallest::new() =>
            (x.r?, x.returns.lag(96), x.returns.last::<96>().iter().copied());
        lowest_11: Smallest<11, 24> = Smallest::new() =>
            (x.r?, x.returns.lag(192), x.returns.last::<192>().iter().copied());
        // Of the negated returns.
        highest_11: Smallest<11, 24> = Smallest::new() =>
            (-x.r?, -x.returns.lag(192), x.returns.last::<192>().iter().map(|r| -r));
        quantile_5 => quantile(lowest_11?);
        quantile_95 => -quantile(highest_11?);
    }

    features {
        skew_48, 49, [-3.4, 3.4], "asinh(G1(r,48))", "adjusted Fisher-Pearson skewness (pandas skew)"; 1.0 ln => skewness_and_kurtosis?[0];
        skew_192, 193, [-3.4, 3.4], "asinh(G1(r,192))", "as above"; 1.0 ln => skewness_and_kurtosis?[1];
        kurt_48, 49, [-1.5, 5], "asinh(G2(r,48))", "unbiased excess kurtosis (pandas kurt)"; 1.0 ln => skewness_and_kurtosis?[2];
        kurt_192, 193, [-1.5, 6], "asinh(G2(r,192))", "as above"; 1.0 ln => skewness_and_kurtosis?[3];
        autocorr_1_96, 98, [-9.8, 9.8], "sqrt(96)*CORR(r, r[1], 96)", "Pearson of 96 pairs, t-scaled" => 96.0_f64.sqrt() * memory?[0];
        autocorr_2_96, 99, [-9.8, 9.8], "sqrt(96)*CORR(r, r[2], 96)", "as above" => 96.0_f64.sqrt() * memory?[1];
        autocorr_4_96, 101, [-9.8, 9.8], "sqrt(96)*CORR(r, r[4], 96)", "as above" => 96.0_f64.sqrt() * memory?[2];
        absret_autocorr_1_96, 98, [-5, 5], "5*CORR(abs(r), abs(r)[1], 96)", "volatility clustering" => 5.0 * memory?[3];
        leverage_corr_96, 98, [-9.8, 9.8], "sqrt(96)*CORR(r[1], abs(r), 96)", "return then volatility (leverage effect)" => 96.0_f64.sqrt() * memory?[4];
        variance_ratio_4_192, 193, [-8, 8], "CLIP((VR(4)-1)/sqrt(2*7*3/(3*4*192)), 8)", "Lo-MacKinlay overlapping, unbiased: n=192 returns, p=ln c, mu=mean r, Va=SUM((r-mu)^2)/(n-1), Vc=SUM_{j=q..n}((p_j-p_{j-q}-q*mu)^2)/m, m=q(n-q+1)(1-q/n), VR=Vc/Va; divided by its iid standard error" => clip(variance_ratio::<4>(x.log_closes.last(), increments?[2], &shape_192?), 8.0);
        variance_ratio_16_192, 193, [-8, 8], "CLIP((VR(16)-1)/sqrt(2*31*15/(3*16*192)), 8)", "as above, q=16" => clip(variance_ratio::<16>(x.log_closes.last(), increments?[4], &shape_192?), 8.0);
        hurst_192, 193, [-5, 5], "D_k=mean of (p_i-p_{i-k})^2 over the 193-k pairs inside the last 193 log closes, k in {1,2,4,8,16,32}; H=OLS slope of 0.5*ln(max(D_k,1e-18)) on ln k; CLIP(5*(H-0.5), 5)", "second-order structure function; random walk H=0.5 -> 0"; 0.10304964577778311 ln => scaling_of_increments(increments?);
        fractal_dim_48, 48, [-2.5, 2.5], "N1=MAX(h,24)[24]-MIN(l,24)[24], N2=MAX(h,24)-MIN(l,24), N3=MAX(h,48)-MIN(l,48); D=clamp(ln(2*(N1+N2)/N3)/ln 2,1,2); 5*(D-1.5)", "Ehlers (FRAMA) fractal dimension"; 7.213475204444817 ln => folds_of_dimension(width_24?, width_24_lag_24?, range_48?.0 - range_48?.1, x.ec);
        perm_entropy_3_96, 98, [-0.8, 5], "ordinal pattern of (c[2],c[1],c), 96 patterns; H=-sum q ln q; CLIP(20*(0.96-H/ln 6), 5)", "ties: the earlier value counts as smaller; 0 near a random walk, positive = ordered" => clip(20.0 * (0.96 - patterns?), 5.0);
        ret_entropy_96, 97, [-5, 1.05], "bins of r by (-inf,-1.5],(-1.5,-.75],(-.75,-.25],(-.25,.25],(.25,.75],(.75,1.5],(1.5,inf) times SD(r,96); H=-sum q ln q over 7 bins; CLIP(15*(H/ln 7-0.93), 5)", "sample std, mean not removed; bin = number of edges strictly below r" => if deviation_96? <= 1e-9 { 0.0 } else { clip(15.0 * (entropy_of_returns(x.returns.last(), deviation_96?) - 0.93), 5.0) };
        var_5_192, 193, [-5, 5], "CLIP(-Q(r,0.05,192)/S, 5)", "historical VaR 5 %, numpy linear quantile" => clip(x.in_vol(-quantile_5?, 1.0), 5.0);
        cvar_5_96, 97, [-5, 5], "CLIP(-(mean of the 5 smallest r of 96)/S, 5)", "expected shortfall, 5 = ceil(0.05*96)" => clip(x.in_vol(-mean(&lowest_5_of_96?), 1.0), 5.0);
        tail_asym_192, 193, [-5, 5], "q=Q(r,.05,192), Q=Q(r,.95,192); CLIP(4*DIV(Q+q, Q-q, 1e-9, 0), 5)", "linear quantiles" => clip(4.0 * ratio(quantile_95? + quantile_5?, quantile_95? - quantile_5?, 1e-9, 0.0), 5.0);
        max_drawdown_96, 97, [0, 8], "CLIP(max over i<=j of (p_i-p_j)/(S*sqrt(96)), 8), p=ln c of the last 96 bars", "largest peak-to-trough fall of closes" => clip(x.in_vol(excursions_96?.fall, 96.0), 8.0);
        max_runup_96, 97, [0, 8], "CLIP(max over i<=j of (p_j-p_i)/(S*sqrt(96)), 8)", "largest trough-to-peak rise of closes" => clip(x.in_vol(excursions_96?.rise, 96.0), 8.0);
        close_zscore_480, 480, [-5, 5], "CLIP(DIV(p-SMA(p,480), SD(p,480), 1e-9, 0), 5), p=ln c", "sample std" => clip(ratio(level_480?.distance(x.log_closes.lag(0)), level_480?.sample_variance().sqrt(), 1e-9, 0.0), 5.0);
        ret_rank_192, 193, [-1, 1], "PRANK(r,192,1e-12)", "quantile rank of the current return" => quantile_rank(x.returns.last::<192>(), x.r?, 1e-12);
        close_rank_192, 192, [-1, 1], "PRANK(c,192,0)", "quantile rank of the current close" => quantile_rank(x.closes.last::<192>(), x.c, 0.0);
        df_tstat_96, 97, [-5, 5], "OLS of p-p[1] on constant and p[1], 96 pairs; CLIP(t(slope)+1.5, 5)", "Dickey-Fuller t (mean about -1.5 under a random walk); se with n-2" => clip(reversion? + 1.5, 5.0);
    }
}
