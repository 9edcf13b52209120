"""Group cross: the symbol against the reference.

A feature is 0 where a reference close that its formula needs is missing: 97 closes, up to the current one, or (where
the reference leads by a bar) up to the one before.
"""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import CLIP, CORR, COV, DIV, SD, SMA, VAR, Array, lag, windows


def resid(b: Bars, rr: Array) -> Array:
    r, cov = b.r, COV(b.r, rr, 96)
    beta = DIV(cov, VAR(rr, 96), 1e-18, 0)
    e = (r - SMA(r, 96)) - beta * (rr - SMA(rr, 96))
    sse = 96 * np.maximum(VAR(r, 96) - beta * cov, 0)
    return CLIP(DIV(e, np.sqrt(sse / 94), 1e-9, 0), 8)


def columns(b: Bars) -> dict[str, Array]:
    r, c, cr = b.r, b.c, b.cr
    rr = np.log(cr / lag(cr, 1))
    Sr, Sx = np.maximum(SD(rr, 96), 1e-5), np.maximum(SD(r - rr, 96), 1e-5)

    def needs(closes: Array, x: Array) -> Array:
        return np.where(np.isnan(windows(closes, 97)).any(axis=1), 0.0, x)

    def ahead(n: int) -> Array:
        return np.log(c / lag(c, n)) - np.log(cr / lag(cr, n))

    return {
        "ref_vret_1": needs(cr, CLIP(rr / Sr, 8)),
        "ref_vret_16": needs(cr, CLIP(np.log(cr / lag(cr, 16)) / (4 * Sr), 8)),
        "ref_beta_96": needs(cr, CLIP(DIV(COV(r, rr, 96), VAR(rr, 96), 1e-18, 0), 5)),
        "ref_corr_96": needs(cr, 2 * CORR(r, rr, 96, 1e-9, 1e-9)),
        "ref_rel_strength_16": needs(cr, CLIP(ahead(16) / (4 * Sx), 8)),
        "ref_rel_strength_96": needs(cr, CLIP(ahead(96) / (np.sqrt(96) * Sx), 8)),
        "ref_resid_1_96": needs(cr, resid(b, rr)),
        "ref_lead_corr_96": needs(lag(cr, 1), np.sqrt(96) * CORR(r, lag(rr, 1), 96, 1e-9, 1e-9)),
    }
