"""Forecasts on their way to the table and back. Knows neither the model nor how it was interpreted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import numpy as np

from candlecast import outputs as layout
from candlecast.filters import reasons_of
from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS
from candlecast.values import F32, F64, Forecasts

Row = tuple[Any, ...]
KEY: Final = 5
"""The first columns of a row are its key: symbol, interval, time, model, version."""
DIRECTIONS: Final = {1: "LONG", -1: "SHORT", 0: "NEUTRAL"}
STRENGTHS: Final = ("WEAK", "NORMAL", "STRONG")
INDICATORS: Final = {
    "rsi": "rsi_14",
    "macd": "macd_hist_12_26_9",
    "bb_position": "bb_pctb_20",
    "atr_pct": "natr_14",
    "volume_ratio": "volume_ratio_1_96",
    "trend_strength": "adx_14",
}
"""Columns for people, each a feature as the model saw it; NULL where the feature set lacks it."""


def rows_of(forecasts: Forecasts, feature_names: Sequence[str], states: Sequence[str]) -> list[Row]:
    """Return B rows as `ml_prediction_input` has them, forming ones included.

    Args:
        feature_names: [F] names of the columns of forecasts.rows.
        states: names of the values of forecasts.state.
    """
    count, meaning, model = len(forecasts), forecasts.meaning, forecasts.model
    times = forecasts.times
    assert forecasts.rows.shape[1] == len(feature_names), "one name for each feature"
    indicators = (
        [None] * count if position is None else _or_null(forecasts.rows[:, position])
        for position in _indicators(tuple(feature_names))
    )
    columns: tuple[Sequence[Any], ...] = (
        forecasts.names,
        forecasts.interval_ms.tolist(),
        forecasts.close_time_ms.tolist(),
        [model.name] * count,
        [model.version] * count,
        [bytes.fromhex(model.bundle_sha256)] * count,
        [_signed(model.feature_set_hash)] * count,
        forecasts.close.tolist(),
        _or_null(forecasts.volume),
        [states[code] for code in forecasts.state.tolist()],
        forecasts.gap_filled.tolist(),
        _bytes(forecasts.rows),
        forecasts.features_hash.astype(np.int64).tolist(),
        [len(feature_names)] * count,
        np.isnan(forecasts.rows).sum(axis=1).tolist(),
        forecasts.zero_variance.tolist(),
        *_summary(forecasts.rows),
        *indicators,
        _bytes(forecasts.outputs),
        _bytes(meaning.probabilities.reshape(count, -1)),
        [DIRECTIONS[side] for side in forecasts.direction.tolist()],
        [STRENGTHS[code] for code in forecasts.strength.tolist()],
        _or_null(meaning.confidence),
        _or_null(meaning.quality),
        _or_null(meaning.agreement),
        _or_null(meaning.move),
        _or_null(meaning.edge),
        _or_null(meaning.stop_loss),
        _or_null(meaning.take_profit),
        [reasons_of(bits) for bits in forecasts.reasons.tolist()],
        [times.decode_us] * count,
        [times.features_us] * count,
        [times.queue_us] * count,
        [times.model_us] * count,
        [times.interpret_us] * count,
    )
    return list(zip(*columns, strict=True))


async def recent_predictions(
    pool: Pool, symbol: str | None = None, limit: int = 100, before: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the newest forecasts, newest first, ready for JSON: fractions, ms, None for what is not finite.

    Args:
        symbol: only of this one.
        before: the last row of the page before this one.

    Raises:
        StorageUnavailable.
    """
    last: list[Any] = [datetime.max.replace(tzinfo=UTC), "", 0, "", 0]
    if before is not None:
        close_time = datetime.fromtimestamp(before["close_time_ms"] / 1000, UTC)
        last = [close_time, *(before[name] for name in ("symbol", "interval_ms", "model", "version"))]
    name, wanted = ("recent_predictions", []) if symbol is None else ("recent_predictions_of_symbol", [symbol])
    return [_decoded(row) for row in await pool.fetch(STATEMENTS[name], limit, *last, *wanted)]


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(row)
    numbers = [x if math.isfinite(x) else None for x in np.frombuffer(values.pop("outputs"), dtype="<f4").tolist()]
    for name in ("close_time", "created_at"):
        values[f"{name}_ms"] = round(values.pop(name).timestamp() * 1000)
    values["features_hash"] = f"{values['features_hash']:014x}"
    values["returns"] = dict(zip(layout.HORIZONS, numbers[layout.RETURNS], strict=True))
    values["risks"] = dict(zip(layout.RISK_NAMES, numbers[layout.RISKS], strict=True))
    return values


@cache
def _indicators(feature_names: tuple[str, ...]) -> list[int | None]:
    """Return the position of each indicator's feature, None for one that is not there."""
    position = {name: i for i, name in enumerate(feature_names)}
    return [position.get(name) for name in INDICATORS.values()]


def _summary(rows: F32) -> tuple[list[float | None], ...]:
    """Return mean, standard deviation, minimum and maximum [B] of the finite features of rows [B, F]."""
    finite, wide = np.isfinite(rows), rows.astype(np.float64)
    count, low, high = np.float64(rows.shape[1]), wide, wide
    if not (whole := bool(finite.all())):
        count = finite.sum(axis=1)
        low, high = (np.where(finite, wide, np.where(count > 0, edge, np.nan)[:, None]) for edge in (np.inf, -np.inf))
        wide = np.where(finite, wide, 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = wide.sum(axis=1) / count
        deviation = wide - mean[:, None]
        if not whole:
            deviation[~finite] = 0
        std = np.sqrt(np.einsum("ij,ij->i", deviation, deviation) / count)
        columns = (mean, std, low.min(axis=1), high.max(axis=1))
        return tuple(_or_null(column.astype(np.float32)) for column in columns)


def _or_null(column: F32 | F64) -> list[float | None]:
    """Return a column [B] with NULL for NaN, which PostgreSQL would sort above every number."""
    values: list[Any] = column.tolist()
    total = sum(values)  # NaN if one of them is; for a few rows much cheaper than to ask numpy
    return values if total == total else [None if value != value else value for value in values]


def _bytes(rows: F32 | F64) -> list[bytes]:
    """Return each of rows [B, K] as little-endian float32."""
    data, width = rows.astype("<f4").tobytes(), 4 * rows.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)] if width else [b""] * len(rows)


def _signed(unsigned: int) -> int:
    """Return the number with the same 64 bits that a bigint can hold."""
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned
