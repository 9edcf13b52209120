"""Forecasts as they are read from the table. Knows neither the model nor how it was interpreted."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from candlecast import outputs as layout
from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS


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


async def predictions_since(
    pool: Pool,
    close_time_ms: int,
    *,
    symbols: Sequence[str] = (),
    min_confidence: float = 0.0,
    directions: Sequence[str] = (),
    page_rows: int,
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield pages of all forecasts of this close and later, in the order of their keys, as the table has them.

    Args:
        symbols, directions: of these only; none: of all.

    Raises:
        StorageUnavailable.
    """
    last: tuple[Any, ...] = (datetime.fromtimestamp(close_time_ms / 1000, UTC), "", 0, "", 0)
    while True:
        wanted = list(symbols) or None, min_confidence, list(directions) or None, page_rows
        rows = await pool.fetch(STATEMENTS["predictions_since"], *last, *wanted)
        if rows:
            yield [dict(row) for row in rows]
        if len(rows) < page_rows:
            return
        last = tuple(rows[-1][name] for name in ("close_time", "symbol", "interval_ms", "model", "version"))


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(row)
    numbers = [x if math.isfinite(x) else None for x in np.frombuffer(values.pop("outputs"), dtype="<f4").tolist()]
    for name in ("close_time", "created_at"):
        values[f"{name}_ms"] = round(values.pop(name).timestamp() * 1000)
    values["features_hash"] = f"{values['features_hash']:014x}"
    values["returns"] = dict(zip(layout.HORIZONS, numbers[layout.RETURNS], strict=True))
    values["risks"] = dict(zip(layout.RISK_NAMES, numbers[layout.RISKS], strict=True))
    return values
