"""Group volatility."""

from __future__ import annotations

import numpy as np

from tests.features.naive.bars import Bars
from tests.features.naive.functions import (
    CLIP,
    DIV,
    EMA,
    LR,
    LRE,
    LV,
    MAX,
    MIN,
    PRANK,
    PSD,
    RMA,
    RUN,
    SD,
    SMA,
    SUM,
    Array,
    lag,
    windows,
)


def rv(b: Bars, n: int) -> Array:
    return np.sqrt(SUM(b.r**2, n) / n)


def parkinson(b: Bars, n: int) -> Array:
    return np.sqrt(SMA(np.log(b.h / b.low) ** 2, n) / (4 * np.log(2)))


def garman_klass_48(b: Bars) -> Array:
    term = 0.5 * np.log(b.h / b.low) ** 2 - (2 * np.log(2) - 1) * np.log(b.c / b.o) ** 2
    return np.sqrt(SMA(term, 48))


def rogers_satchell(b: Bars) -> Array:
    o, h, low, c = b.ohlc
    return np.log(h / c) * np.log(h / o) + np.log(low / c) * np.log(low / o)


def yang_zhang_96(b: Bars) -> Array:
    k = 0.34 / (1.34 + 97 / 95)
    overnight, day = SD(np.log(b.o / lag(b.c, 1)), 96) ** 2, SD(np.log(b.c / b.o), 96) ** 2
    return np.sqrt(np.maximum(overnight + k * day + (1 - k) * SMA(rogers_satchell(b), 96), 0))


def ewma_vol_ratio(b: Bars) -> Array:
    s = np.full(len(b), np.nan)
    for t in range(96, len(b)):
        s[t] = np.mean(b.r[1:97] ** 2) if t == 96 else 0.94 * s[t - 1] + 0.06 * b.r[t] ** 2
    return CLIP(2 * np.log(np.maximum(np.sqrt(s), 1e-5) / b.S), 5)


def jump_share_96(b: Bars) -> Array:
    a = windows(np.abs(b.r), 96)
    bipower = (np.pi / 2) * (96 / 95) * (a[:, 1:] * a[:, :-1]).sum(axis=1)
    return 4 * np.maximum(0, 1 - DIV(bipower, SUM(b.r**2, 96), 1e-18, 1))


def semivar_balance_48(b: Bars) -> Array:
    squares = b.r**2
    signed = SUM(squares * (b.r > 0), 48) - SUM(squares * (b.r < 0), 48)
    return 2 * DIV(signed, SUM(squares, 48), 1e-18, 0)


def tr_tod_ratio_5(b: Bars) -> Array:
    q = b.TR / b.c
    return CLIP(LR(q, (lag(q, 96) + lag(q, 192) + lag(q, 288) + lag(q, 384) + lag(q, 480)) / 5), 4)


def squeeze_age_20(b: Bars) -> Array:
    atr = RMA(b.TR, 20)
    on = np.where(np.isnan(atr), np.nan, 2 * PSD(b.c, 20) + b.ec < 1.5 * atr)
    return RUN(on, 48) / 12


def squeeze_mom_20(b: Bars) -> Array:
    y = b.c - ((MAX(b.h, 20) + MIN(b.low, 20)) / 2 + SMA(b.c, 20)) / 2
    return CLIP(LRE(y, 20) / (2 * b.A), 5)


def rvi_dorsey_14(b: Bars) -> Array:
    s = PSD(b.c, 10)
    up, down = RMA(s * (b.dc > 0), 14), RMA(s * (b.dc < 0), 14)
    return (100 * DIV(up, up + down, b.ec, 0.5) - 50) / 25


def mass_index_25(b: Bars) -> Array:
    e = EMA(b.h - b.low, 9)
    return CLIP(SUM(DIV(e, EMA(e, 9), b.ec, 1), 25) - 25, 5)


def columns(b: Bars) -> dict[str, Array]:
    c, TR, A, ec = b.c, b.TR, b.A, b.ec
    return {
        "natr_14": LV(b.ATR14 / c),
        "atr_ratio_7_28": CLIP(2 * LR(RMA(TR, 7) / c, RMA(TR, 28) / c), 5),
        "atr_ratio_14_96": CLIP(2 * LR(b.ATR14 / c, SMA(TR, 96) / c), 5),
        "rv_16": LV(rv(b, 16)),
        "rv_ratio_8_48": CLIP(1.5 * LR(rv(b, 8), rv(b, 48)), 5),
        "rv_ratio_48_336": CLIP(1.5 * LR(rv(b, 48), rv(b, 336)), 5),
        "rv_480": LV(rv(b, 480)),
        "parkinson_8": LV(parkinson(b, 8)),
        "garman_klass_48": LV(garman_klass_48(b)),
        "rs_park_ratio_20": CLIP(5 * LR(np.sqrt(np.maximum(SMA(rogers_satchell(b), 20), 0)), parkinson(b, 20)), 5),
        "yang_zhang_96": LV(yang_zhang_96(b)),
        "gk_cc_ratio_48": CLIP(4 * LR(garman_klass_48(b), rv(b, 48)), 5),
        "ewma_vol_ratio_94": ewma_vol_ratio(b),
        "jump_share_96": jump_share_96(b),
        "semivar_balance_48": semivar_balance_48(b),
        "tr_cv_48": CLIP(3 * (DIV(SD(TR, 48), SMA(TR, 48), ec, 0.6) - 0.6), 5),
        "tr_ratio_14": CLIP(TR / lag(A, 1) - 1, 5),
        "tr_tod_ratio_5": tr_tod_ratio_5(b),
        "natr_rank_192": PRANK(np.maximum(b.ATR14 / c, 1e-5), 192, 1e-12),
        "bb_pctb_20": DIV(c - SMA(c, 20), 2 * PSD(c, 20), ec, 0),
        "donchian_width_20": CLIP((MAX(b.h, 20) - MIN(b.low, 20)) / (A * np.sqrt(20)), 5),
        "bb_width_rank_96": PRANK(np.maximum(4 * PSD(c, 20) / SMA(c, 20), 1e-5), 96, 1e-12),
        "keltner_pos_20": CLIP((c - EMA(c, 20)) / (2 * np.maximum(RMA(TR, 10), 1e-5 * c)), 5),
        "squeeze_ratio_20": CLIP(2 * LR(2 * PSD(c, 20) / c, 1.5 * RMA(TR, 20) / c), 5),
        "squeeze_age_20": squeeze_age_20(b),
        "squeeze_mom_20": squeeze_mom_20(b),
        "rvi_dorsey_14": rvi_dorsey_14(b),
        "mass_index_25": mass_index_25(b),
    }
