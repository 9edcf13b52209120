//! The reference symbol: what the whole market did. All 0 while a reference close is missing that a column needs.

use super::declare::group;
use crate::{
    cross::Comoments,
    math::ln_of,
    shared::{Shared, clip},
};

/// ln(cr / cr\[1\]) of the closes of the reference; `None` on a bar where one of the two is missing.
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
struct Return {
    newest: Option<f64>,
}

impl Return {
    #[inline(always)]
    fn update(&mut self, close: Option<f64>) -> Option<f64> {
        let before = std::mem::replace(&mut self.newest, close);
        Some(ln_of(close? / before?))
    }
}

/// A move of the reference and ours beyond it, in units of `deviation`.
fn beyond(x: &Shared, n: usize, reference: f64, deviation: f64) -> Option<f64> {
    Some((x.log_move(n) - reference) / (deviation.max(1e-5) * (n as f64).sqrt()))
}

group! {
    "cross", x;

    indicators {
        rr: Return = Return { newest: None } => x.extras.reference_close;
        moments: Comoments = Comoments::new() => (x.bar, &x.returns, x.return_sums_96, { x.r?; rr });
        pairs => moments?.pairs?;
        scale => pairs?.deviation_of_reference().max(1e-5);
        apart => pairs?.deviation_of_difference();
    }

    features {
        ref_vret_1, 97, [-8, 8], "CLIP(rr/Sr, 8)", "rr = ln(cr/cr[1]) of the reference, Sr = max(SD(rr,96),1e-5)" => or_nothing(|| Some(clip(rr? / scale?, 8.0)));
        ref_vret_16, 97, [-8, 8], "CLIP(ln(cr/cr[16])/(4*Sr), 8)" => or_nothing(|| Some(clip(moments?.reference_16? / (4.0 * scale?), 8.0)));
        ref_beta_96, 97, [-5, 5], "CLIP(COV(r,rr,96)/VAR(rr,96), 5)", "population moments" => or_nothing(|| Some(clip(pairs?.beta(), 5.0)));
        ref_corr_96, 97, [-2, 2], "2*CORR(r, rr, 96)" => or_nothing(|| Some(2.0 * pairs?.correlation()));
        ref_rel_strength_16, 97, [-8, 8], "CLIP((ln(c/c[16])-ln(cr/cr[16]))/(4*Sx), 8), Sx=max(SD(r-rr,96),1e-5)" => or_nothing(|| Some(clip(beyond(x, 16, moments?.reference_16?, apart?)?, 8.0)));
        ref_rel_strength_96, 97, [-8, 8], "CLIP((ln(c/c[96])-ln(cr/cr[96]))/(sqrt(96)*Sx), 8)" => or_nothing(|| Some(clip(beyond(x, 96, pairs?.sum_of_reference(), apart?)?, 8.0)));
        ref_resid_1_96, 97, [-8, 8], "beta as ref_beta_96 unclipped; e=(r-SMA(r,96))-beta*(rr-SMA(rr,96)); SSE=96*max(VAR(r,96)-beta*COV(r,rr,96),0); CLIP(DIV(e, sqrt(SSE/94), 1e-9, 0), 8)", "residual of the OLS market model at the current bar" => or_nothing(|| Some(clip(pairs?.residual(x.r?, rr?), 8.0)));
        ref_lead_corr_96, 98, [-9.8, 9.8], "sqrt(96)*CORR(r, rr[1], 96)", "reference leads by one bar, t-scaled" => or_nothing(|| Some(96_f64.sqrt() * moments?.lead?));
    }
}

/// 0 where the reference is missing.
#[inline(always)]
fn or_nothing(value: impl FnOnce() -> Option<f64>) -> f64 {
    value().unwrap_or(0.0)
}
