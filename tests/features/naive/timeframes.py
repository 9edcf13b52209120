"""Group mtf: higher timeframes xk, and the buckets they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.features.naive.bars import Bars
from tests.features.naive.functions import (
    CLIP,
    DIRECTIONAL,
    DIV,
    LR,
    MAX,
    MIN,
    PSD,
    RSI,
    SMA,
    SUM,
    Array,
    lag,
)


@dataclass(frozen=True)
class Buckets:
    """O, H, L, C of the completed buckets, and at every bar of the symbol: how many there are, and the running one."""

    O: Array  # noqa: E741
    H: Array
    L: Array
    C: Array
    completed: NDArray[np.int64]
    j: NDArray[np.int64]
    Or: Array
    Hr: Array
    Lr: Array

    def at_bars(self, x: Array) -> Array:
        """Return what the last completed bucket has of the series x, at every bar of the symbol."""
        return np.concatenate([[np.nan], x])[self.completed]


def buckets(b: Bars, k: int) -> Buckets:
    j = (b.open_time_ms // b.interval_ms) % k
    start = np.maximum(np.arange(len(b)) - j, 0)
    running = [slice(start[t], t + 1) for t in range(len(b))]
    ends = [t for t in range(len(b)) if j[t] == k - 1 and t >= k - 1]
    return Buckets(
        O=np.array([b.o[t - k + 1] for t in ends]),
        H=np.array([b.h[t - k + 1 : t + 1].max() for t in ends]),
        L=np.array([b.low[t - k + 1 : t + 1].min() for t in ends]),
        C=np.array([b.c[t] for t in ends]),
        completed=np.searchsorted(ends, np.arange(len(b)), side="right"),
        j=j,
        Or=b.o[start],
        Hr=np.array([b.h[bars].max() for bars in running]),
        Lr=np.array([b.low[bars].min() for bars in running]),
    )


def x4(b: Bars) -> dict[str, Array]:
    x = buckets(b, 4)
    H, L, C = x.H, x.L, x.C
    tiny = 1e-9 * C
    low, high = MIN(L, 14), MAX(H, 14)
    stoch = SMA(2 * DIV(C - low, high - low, tiny, 0.5) - 1, 3)
    mean, sd = x.at_bars(SMA(C, 20)), x.at_bars(PSD(C, 20))
    return {
        "x4_rsi_14": x.at_bars((RSI(C, 14, tiny) - 50) / 25),
        "x4_bb_pctb_20": CLIP(DIV(b.c - mean, 2 * sd, b.ec, 0), 5),
        "x4_stoch_k_14_3": x.at_bars(stoch),
        "x4_adx_14": x.at_bars((DIRECTIONAL(H, L, C, 14)[2] - 25) / 15),
    }


def x16(b: Bars) -> dict[str, Array]:
    x, c = buckets(b, 16), b.c
    C, span = x.C, x.H - x.L
    tiny, change = 1e-9 * C, C - lag(C, 1)
    up, down = SUM(np.maximum(change, 0), 14), SUM(np.maximum(-change, 0), 14)
    mean, span10 = x.at_bars(SMA(C, 10)), x.at_bars(SMA(span, 10))
    span3, span20 = x.at_bars(SMA(span, 3)), x.at_bars(SMA(span, 20))
    return {
        "x16_rsi_14": x.at_bars((100 * DIV(up, up + down, tiny, 0.5) - 50) / 25),
        "x16_sma_dist_10": CLIP(2 * (c - mean) / (np.maximum(span10, 1e-5 * c) * np.sqrt(10)), 5),
        "x16_er_10": x.at_bars(2 * DIV(C - lag(C, 10), SUM(np.abs(change), 10), tiny, 0)),
        "x16_prev_body": x.at_bars(DIV(C - x.O, span, tiny, 0)),
        "x16_run_pos": 2 * DIV(c - x.Lr, x.Hr - x.Lr, b.ec, 0.5) - 1,
        "x16_range_ratio_3_20": CLIP(2 * LR(span3 / c, span20 / c), 5),
    }


def x96(b: Bars) -> dict[str, Array]:
    x, c = buckets(b, 96), b.c
    span = x.H - x.L
    last, mean = x.at_bars(span), x.at_bars(SMA(x.C, 5))
    span5 = np.maximum(x.at_bars(SMA(span, 5)), 1e-5 * c)
    return {
        "x96_ret_1": CLIP(x.at_bars(np.log(x.C / lag(x.C, 1))) / (b.S * np.sqrt(96)), 8),
        "x96_sma_dist_5": CLIP((c - mean) / span5, 5),
        "x96_range_ratio_5": CLIP(2 * LR(last / c, span5 / c), 5),
        "x96_run_pos": 2 * DIV(c - x.Lr, x.Hr - x.Lr, b.ec, 0.5) - 1,
        "x96_open_dist": CLIP((c - x.Or) / (b.A * np.sqrt(x.j + 1)), 5),
        "x96_run_range_5": CLIP((x.Hr - x.Lr) / span5, 5),
    }


def columns(b: Bars) -> dict[str, Array]:
    return {**x4(b), **x16(b), **x96(b)}
