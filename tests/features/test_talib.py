"""The columns that TA-Lib knows, against TA-Lib: the naive definitions and the core.

Prices are whole ticks, because TA-Lib compares with absolute thresholds.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy import log, maximum, sqrt
from numpy.typing import NDArray
from talib import (
    ADOSC,
    ADX,
    AROON,
    ATR,
    BOP,
    CCI,
    CORREL,
    EMA,
    KAMA,
    LINEARREG,
    LINEARREG_SLOPE,
    MACD,
    MAX,
    MFI,
    MIDPRICE,
    MIN,
    MINUS_DI,
    NATR,
    OBV,
    PLUS_DI,
    PPO,
    ROCR,
    RSI,
    SAR,
    SMA,
    STDDEV,
    STOCH,
    STOCHRSI,
    T3,
    TRANGE,
    TRIX,
    ULTOSC,
    WILLR,
    WMA,
)

from candlecast.features import NAMES
from tests.features import naive
from tests.features.core import core_rows
from tests.features.markets import whole_ticks

Array = NDArray[np.float64]

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "features.tsv"
ROWS = 93  # with an expression, of the 240
WITHHELD = {"stoch_k_14_3": 2}  # first bars on which STOCH keeps its K back, because it has no D yet
TOLERANCE = 1e-6
FLOAT32 = 2.0**-23  # what the core's float32 may add, relative


def lag(x: Array, k: int) -> Array:
    return np.concatenate([np.full(k, np.nan), x[:-k]])


def clip(x: Array, a: float) -> Array:
    return np.clip(x, -a, a)


def sample_std(x: Array, n: int) -> Array:
    return np.array([x[t - n + 1 : t + 1].std(ddof=1) if t >= n else np.nan for t in range(len(x))])


@cache
def talib_columns() -> dict[str, Array]:
    """Return the column of each expression, NaN before the first value that TA-Lib gives."""
    market = whole_ticks().columns
    o, h, low, c = (market[name] for name in ("open", "high", "low", "close"))
    v, cr = market["volume"], market["reference_close"]
    index = np.arange(float(len(c)))
    r, rr, tr = log(ROCR(c, 1)), log(ROCR(cr, 1)), TRANGE(h, low, c)
    A, S = maximum(ATR(h, low, c, 14), 1e-5 * c), maximum(sample_std(r, 96), 1e-5)
    ao = SMA((h + low) / 2, 5) - SMA((h + low) / 2, 34)
    return {
        "vret_1": clip(log(ROCR(c, 1)) / S, 8),
        "vret_4": clip(log(ROCR(c, 4)) / (S * 2), 8),
        "vret_8": clip(log(ROCR(c, 8)) / (S * sqrt(8)), 8),
        "vret_16": clip(log(ROCR(c, 16)) / (S * 4), 8),
        "vret_48": clip(log(ROCR(c, 48)) / (S * sqrt(48)), 8),
        "vret_96": clip(log(ROCR(c, 96)) / (S * sqrt(96)), 8),
        "vret_192": clip(log(ROCR(c, 192)) / (S * sqrt(192)), 8),
        "vret_480": clip(log(ROCR(c, 480)) / (S * sqrt(480)), 8),
        "logret_1_pct": clip(100 * log(ROCR(c, 1)), 10),
        "logret_16_pct": clip(25 * log(ROCR(c, 16)), 10),
        "body_ratio": BOP(o, h, low, c),
        "high_change_atr": clip((h - lag(h, 1)) / A, 5),
        "low_change_atr": clip((low - lag(low, 1)) / A, 5),
        "sma_dist_5": clip((c - SMA(c, 5)) / (A * sqrt(5)), 5),
        "sma_dist_20": clip((c - SMA(c, 20)) / (A * sqrt(20)), 5),
        "sma_dist_100": clip((c - SMA(c, 100)) / (A * 10), 5),
        "ema_dist_50": clip((c - EMA(c, 50)) / (A * sqrt(50)), 5),
        "wma_z_60": clip((c - WMA(c, 60)) / STDDEV(c, 60), 5),
        "hma_dist_16": clip((c - WMA(2 * WMA(c, 8) - WMA(c, 16), 4)) / A, 5),
        "kama_dist_10": clip((c - KAMA(c, 10)) / (A * sqrt(10)), 5),
        "kama_slope_10_5": clip((KAMA(c, 10) - lag(KAMA(c, 10), 5)) / A, 5),
        "t3_dist_8": clip((c - T3(c, 8, 0.7)) / (A * sqrt(8)), 5),
        "sma_spread_10_50": clip(2 * (SMA(c, 10) - SMA(c, 50)) / (c * S * sqrt(50)), 5),
        "sma_spread_50_200": clip(2 * (SMA(c, 50) - SMA(c, 200)) / (c * S * sqrt(200)), 5),
        "ema_spread_z_8_21": clip((EMA(c, 8) - EMA(c, 21)) / sqrt(SMA((EMA(c, 8) - EMA(c, 21)) ** 2, 96)), 5),
        "ema_spread_z_21_55": clip((EMA(c, 21) - EMA(c, 55)) / sqrt(SMA((EMA(c, 21) - EMA(c, 55)) ** 2, 192)), 5),
        "sma_slope_20_5": clip((SMA(c, 20) - lag(SMA(c, 20), 5)) / A, 5),
        "sma_slope_100_20": clip((SMA(c, 100) - lag(SMA(c, 100), 20)) / (2 * c * S), 5),
        "ema_accel_20_4": clip(2 * (EMA(c, 20) - 2 * lag(EMA(c, 20), 4) + lag(EMA(c, 20), 8)) / A, 5),
        "rsi_5": (RSI(c, 5) - 50) / 25,
        "rsi_14": (RSI(c, 14) - 50) / 25,
        "rsi_42": (RSI(c, 42) - 50) / 12.5,
        "rsi_slope_14_5": (RSI(c, 14) - lag(RSI(c, 14), 5)) / 25,
        "stoch_rsi_14_14_3": 2 * STOCHRSI(c, 14, 14, 3)[1] / 100 - 1,
        "stoch_k_14_3": (STOCH(h, low, c, 14, 3, 0, 3, 0)[0] - 50) / 50,
        "stoch_kd_14_3_3": (STOCH(h, low, c, 14, 3, 0, 3, 0)[0] - STOCH(h, low, c, 14, 3, 0, 3, 0)[1]) / 12.5,
        "williams_r_28": (WILLR(h, low, c, 28) + 50) / 50,
        "ppo_12_26": clip(PPO(c, 12, 26, 1), 5),
        "macd_hist_12_26_9": clip(3 * MACD(c, 12, 26, 9)[2] / A, 5),
        "macd_hist_48_104_36": clip(2 * MACD(c, 48, 104, 36)[2] / (c * S), 5),
        "cci_20": clip(CCI(h, low, c, 20) / 100, 5),
        "cci_60": clip(CCI(h, low, c, 60) / 100, 5),
        "trix_15": clip(10 * TRIX(c, 15), 5),
        "ultosc_7_14_28": (ULTOSC(h, low, c, 7, 14, 28) - 50) / 25,
        "ao_5_34": clip(ao / (2 * A), 5),
        "ac_5_34_5": clip(1.5 * (ao - SMA(ao, 5)) / A, 5),
        "bull_power_13": clip((h - EMA(c, 13)) / (2 * A), 5),
        "bear_power_13": clip((low - EMA(c, 13)) / (2 * A), 5),
        "dpo_20": clip(2 * (lag(c, 11) - SMA(c, 20)) / (A * sqrt(20)), 5),
        "bop_14": 3 * SMA(BOP(o, h, low, c), 14),
        "natr_14": clip(log(maximum(NATR(h, low, c, 14) / 100, 1e-5) / 0.004), 6),
        "atr_ratio_7_28": clip(
            2 * log(maximum(ATR(h, low, c, 7) / c, 1e-5) / maximum(ATR(h, low, c, 28) / c, 1e-5)), 5
        ),
        "atr_ratio_14_96": clip(2 * log(maximum(ATR(h, low, c, 14) / c, 1e-5) / maximum(SMA(tr, 96) / c, 1e-5)), 5),
        "tr_ratio_14": clip(tr / lag(A, 1) - 1, 5),
        "bb_pctb_20": (c - SMA(c, 20)) / (2 * STDDEV(c, 20, 1)),
        "donchian_width_20": clip((MAX(h, 20) - MIN(low, 20)) / (A * sqrt(20)), 5),
        "keltner_pos_20": clip((c - EMA(c, 20)) / (2 * maximum(ATR(h, low, c, 10), 1e-5 * c)), 5),
        "squeeze_ratio_20": clip(
            2 * log(maximum(2 * STDDEV(c, 20, 1) / c, 1e-5) / maximum(1.5 * ATR(h, low, c, 20) / c, 1e-5)), 5
        ),
        "squeeze_mom_20": clip(LINEARREG(c - ((MAX(h, 20) + MIN(low, 20)) / 2 + SMA(c, 20)) / 2, 20) / (2 * A), 5),
        "adx_14": (ADX(h, low, c, 14) - 25) / 15,
        "adx_slope_14_5": clip((ADX(h, low, c, 14) - lag(ADX(h, low, c, 14), 5)) / 5, 5),
        "di_diff_14": (PLUS_DI(h, low, c, 14) - MINUS_DI(h, low, c, 14)) / 15,
        "di_sum_14": clip((PLUS_DI(h, low, c, 14) + MINUS_DI(h, low, c, 14) - 45) / 10, 5),
        "psar_dist": clip((c - SAR(h, low, 0.02, 0.2)) / (2 * A), 5),
        "ichimoku_tk_9_26": clip((MIDPRICE(h, low, 9) - MIDPRICE(h, low, 26)) / (2 * A), 5),
        "ichimoku_kijun_dist_26": clip((c - MIDPRICE(h, low, 26)) / (3 * A), 5),
        "ichimoku_cloud_thick": clip(
            (lag((MIDPRICE(h, low, 9) + MIDPRICE(h, low, 26)) / 2, 26) - lag(MIDPRICE(h, low, 52), 26)) / (3 * A), 5
        ),
        "ichimoku_lead_thick": clip(
            ((MIDPRICE(h, low, 9) + MIDPRICE(h, low, 26)) / 2 - MIDPRICE(h, low, 52)) / (3 * A), 5
        ),
        "aroon_up_25": AROON(h, low, 25)[1] / 50 - 1,
        "aroon_down_25": AROON(h, low, 25)[0] / 50 - 1,
        "linreg_slope_20": clip(LINEARREG_SLOPE(c, 20) * sqrt(20) / (c * S), 5),
        "linreg_slope_96": clip(LINEARREG_SLOPE(c, 96) * sqrt(96) / A, 5),
        "linreg_corr_20": CORREL(c, index, 20),
        "linreg_corr_96": CORREL(c, index, 96),
        "pvo_12_26": clip(PPO(v, 12, 26, 1) / 50, 5),
        "obv_flow_20": clip(2 * (OBV(c, v) - lag(OBV(c, v), 20)) / (20 * SMA(v, 20)), 9),
        "obv_flow_96": clip(4 * (OBV(c, v) - lag(OBV(c, v), 96)) / (96 * SMA(v, 96)), 9),
        "obv_price_corr_48": CORREL(c, OBV(c, v), 48),
        "adosc_3_10": clip(ADOSC(h, low, c, v, 3, 10) / SMA(v, 20), 5),
        "mfi_14": (MFI(h, low, c, v, 14) - 50) / 25,
        "vwma_gap_20": clip(2 * (SMA(c * v, 20) / SMA(v, 20) - SMA(c, 20)) / A, 5),
        "corr_ret_volume_48": 2 * CORREL(r, v, 48),
        "autocorr_1_96": sqrt(96) * CORREL(r, lag(r, 1), 96),
        "autocorr_2_96": sqrt(96) * CORREL(r, lag(r, 2), 96),
        "autocorr_4_96": sqrt(96) * CORREL(r, lag(r, 4), 96),
        "absret_autocorr_1_96": 5 * CORREL(abs(r), lag(abs(r), 1), 96),
        "leverage_corr_96": sqrt(96) * CORREL(lag(r, 1), abs(r), 96),
        "range_pos_96": 2 * (c - MIN(low, 96)) / (MAX(h, 96) - MIN(low, 96)) - 1,
        "range_pos_480": 2 * (c - MIN(low, 480)) / (MAX(h, 480) - MIN(low, 480)) - 1,
        "high_dist_96": clip((MAX(h, 96) - c) / (A * sqrt(96)), 5),
        "low_dist_96": clip((c - MIN(low, 96)) / (A * sqrt(96)), 5),
        "ref_corr_96": 2 * CORREL(r, rr, 96),
        "ref_lead_corr_96": sqrt(96) * CORREL(r, lag(rr, 1), 96),
    }


def disagreements(ours: dict[str, NDArray[np.floating]], relative: float = 0) -> list[str]:
    """Return a line for each of our columns that is not TA-Lib's from the warm-up on."""
    lines = []
    for name, column in ours.items():
        warm = slice(naive.WARMUP_BARS[name] - 1 + WITHHELD.get(name, 0), None)
        theirs = talib_columns()[name][warm]
        error = np.abs(column[warm] - theirs) - TOLERANCE - relative * np.abs(theirs)
        if not (error <= 0).all():
            lines.append(f"{name}: worst {np.max(error)!r} beyond the tolerance, {(~(error <= 0)).sum()} bars")
    return lines


def test_every_row_with_an_expression_is_here() -> None:
    assert len(talib_columns()) == ROWS
    assert set(talib_columns()) < set(naive.NAMES)


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="the specification is not beside the repository")
def test_the_rows_are_those_of_the_specification() -> None:
    with SPECIFICATION.open(newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        assert [row["name"] for row in rows if row["talib"] != "-"] == list(talib_columns())


def test_naive_definitions_agree_with_talib() -> None:
    market = whole_ticks()
    rows = naive.rows(market.columns, market.interval_ms)
    assert disagreements({name: rows[name] for name in talib_columns()}) == []


def test_the_core_agrees_with_talib() -> None:
    rows = dict(zip(NAMES, core_rows(whole_ticks()).T, strict=True))
    ours = {name: rows[name] for name in talib_columns() if name in rows}
    assert len(ours) > 0
    assert disagreements(ours, FLOAT32) == []
