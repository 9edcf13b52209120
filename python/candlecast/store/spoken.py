"""What a version of a model said, as columns. Knows neither outcomes nor which version is better."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from candlecast import outputs as layout
from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS
from candlecast.values import Heard, Spoken, symbols

ROWS: Final = 8_192
"""Rows that are Python objects at once."""
TIMEOUT_MS: Final = 300_000
SIDES: Final = {"LONG": 1, "SHORT": -1, "NEUTRAL": 0}


async def spoken_by(pool: Pool, model: str, version: int, *, interval_ms: int, since_ms: int, until_ms: int) -> Heard:
    """Return the forecasts of candles that closed in [since_ms, until_ms), answers and those of a shadow alike.

    Raises:
        StorageUnavailable.
    """
    span = [datetime.fromtimestamp(ms / 1000, UTC) for ms in (since_ms, until_ms)]
    parts = [_columns([])]
    async with pool.connection() as connection, connection.transaction(readonly=True):
        await connection.execute(STATEMENTS["be_patient"], str(TIMEOUT_MS))
        cursor = await connection.cursor(STATEMENTS["spoken_by"].rstrip(";"), model, version, interval_ms, *span)
        while rows := await cursor.fetch(ROWS, timeout=TIMEOUT_MS / 1000):
            parts.append(_columns(rows))
    symbol, close_time_ms, *said = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Heard(symbol, close_time_ms, Spoken(*said))


def _columns(rows: Sequence[Any]) -> tuple[Any, ...]:
    """Return symbol, close time and the columns of Spoken."""
    symbol, close_time_ms, outputs, probabilities, direction, model_us = zip(*rows, strict=True) if rows else [()] * 6
    raw = np.frombuffer(b"".join(outputs), dtype="<f4").astype(np.float64).reshape(-1, layout.COUNT)
    return (
        symbols(symbol),
        np.array(close_time_ms, dtype=np.int64),
        np.frombuffer(b"".join(probabilities), dtype="<f4").astype(np.float64).reshape(-1, 4, 3),
        raw[:, layout.RETURNS],
        raw[:, layout.RISKS],
        np.array([SIDES[name] for name in direction], dtype=np.int8),
        np.array(model_us, dtype=np.float64),
    )
