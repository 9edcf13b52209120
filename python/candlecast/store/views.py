"""What dashboards ask, out of views alone, ready for JSON. Knows no table and no page.

Times become whole milliseconds under NAME_ms, bytes of outputs and probabilities numbers, what is not finite None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import numpy as np

from candlecast import outputs as layout
from candlecast.store.pool import Pool
from candlecast.store.queries import statements
from candlecast.values import F32

VIEWS: Final = statements("views.sql")
JSON_COLUMNS: Final = ("metrics", "config", "metadata")
TIMES: Final = ("deployed_at", "finished_at", "data_from", "data_to", "exit_time", "last_training", "hour", "since")
"""Columns that hold a time, or none."""
FAR_MS: Final = 253_370_764_800_000
"""The year 9999."""
STAGES: Final = ("decode", "features", "queue", "model", "interpret")

Row = dict[str, Any]


async def rows(pool: Pool, name: str, *values: object) -> list[Row]:
    """Run a statement of views.sql.

    Raises:
        StorageUnavailable.
        InvalidRequest: PostgreSQL does not take the values.
    """
    return [plain(row) for row in await pool.fetch(VIEWS[name], *values)]


async def row(pool: Pool, name: str, *values: object) -> Row | None:
    """Return the only row of a statement, or None."""
    found = await rows(pool, name, *values)
    return found[0] if found else None


async def feature_rows(pool: Pool, count: int, width: int, until_ms: float | None = None) -> tuple[F32, int | None]:
    """Return the feature rows [n, width] of the newest forecasts until then, and the newest's close in ms.

    Rows of another width, which is another feature set, are left out.
    """
    until = time_of(FAR_MS if until_ms is None else until_ms)
    found = await pool.fetch(VIEWS["newest_rows"], count, until)
    data = [item["features"] for item in found if len(item["features"]) == 4 * width]
    newest = _ms(found[0]["close_time"]) if found else None
    return np.frombuffer(b"".join(data), dtype="<f4").reshape(len(data), width), newest


async def now(pool: Pool) -> datetime:
    """Return the database's clock."""
    found: datetime = (await pool.fetch(VIEWS["clock"]))[0]["now"]
    return found


def plain(row: Mapping[str, Any]) -> Row:
    """Return a row as JSON has it."""
    found: Row = {}
    for name, value in row.items():
        match value:
            case datetime():
                found[f"{name}_ms"] = _ms(value)
            case date():
                found[f"{name}_ms"] = _ms(datetime(value.year, value.month, value.day, tzinfo=UTC))
            case None if name in TIMES:
                found[f"{name}_ms"] = None
            case float():
                found[name] = value if math.isfinite(value) else None
            case UUID():
                found[name] = str(value)
            case bytes() if name == "outputs":
                numbers = _numbers(value)
                found["returns"], found["risks"] = numbers[layout.RETURNS], numbers[layout.RISKS]
            case bytes() if name == "probabilities":
                numbers = _numbers(value)
                found[name] = [numbers[3 * h : 3 * h + 3] for h in range(len(layout.HORIZONS))]
            case str() if name in JSON_COLUMNS:
                found[name] = json.loads(value)
            case _:
                found[name] = value
    if "decode_us" in found:
        found["stages_us"] = [found.pop(f"{stage}_us") for stage in STAGES]
    return found


def time_of(ms: float) -> datetime:
    """Return a time for a statement; one outside of PostgreSQL's and Python's years is the nearest inside."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(ms, 0), FAR_MS))


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _numbers(data: bytes) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in np.frombuffer(data, dtype="<f4").tolist()]
