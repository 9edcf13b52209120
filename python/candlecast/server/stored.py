"""Stored forecasts as messages, for a subscriber that goes on where it was. Knows the table's rows and the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import numpy as np

from candlecast import outputs as layout
from candlecast.errors import InvalidRequest
from candlecast.packed import NUMBERS, SCORES
from candlecast.server.subscriptions import Key
from candlecast.store.pool import Pool
from candlecast.store.predictions import predictions_since
from candlecast.v1 import forecasts_pb2
from candlecast.v1 import types_pb2 as pb

PAGE_ROWS: Final = 100
"""Some 3 ms of the loop."""
READERS_MAX: Final = 2
"""Pages read at once: after a restart everybody comes."""
_STAGES: Final = ("decode_us", "features_us", "queue_us", "model_us", "interpret_us")


class StoredForecasts:
    """Reads forecasts from PostgreSQL.

    Args:
        drained: returns once all that was recorded is there.
        rows_max: for one subscriber.
    """

    def __init__(self, pool: Pool, drained: Callable[[], Awaitable[None]], *, rows_max: int) -> None:
        self._pool, self._drained, self._rows_max = pool, drained, rows_max
        self._turns = asyncio.Semaphore(READERS_MAX)

    async def since(
        self, request: forecasts_pb2.SubscribeRequest
    ) -> AsyncGenerator[list[tuple[Key | None, pb.Forecast]], None]:
        """Yield pages of what is stored of the request's close and later, in the order of closes, all of it so far.

        Raises:
            InvalidRequest: there are too many.
            StorageUnavailable.
        """
        async with self._turns:
            await self._drained()
        rows = 0
        pages = predictions_since(
            self._pool,
            request.from_close_time_ms,
            symbols=request.symbols,
            min_confidence=request.min_confidence,
            directions=[pb.Direction.Name(side).removeprefix("DIRECTION_") for side in request.directions],
            page_rows=PAGE_ROWS,
        )
        async with aclosing(pages):
            while True:
                async with self._turns:  # not while the subscriber takes its time
                    page = await anext(pages, None)
                if page is None:
                    return
                rows += len(page)
                if rows > self._rows_max:
                    raise InvalidRequest(
                        "from_close_time_ms",
                        f"more than {self._rows_max} forecasts were made since: read them from the table, and subscribe"
                        " from a later close",
                    )
                yield [_keyed(row) for row in page]


def forecast_of(row: Mapping[str, Any]) -> pb.Forecast:
    """Return a row of ml_predictions as a message."""
    outputs = np.frombuffer(row["outputs"], "<f4").astype(float).tolist()
    probabilities = np.frombuffer(row["probabilities"], "<f4").astype(float).reshape(-1, 3).tolist()
    close_time_ms = round(row["close_time"].timestamp() * 1000)
    forecast = pb.Forecast(
        symbol=row["symbol"],
        interval_ms=row["interval_ms"],
        close_time_ms=close_time_ms,
        direction=f"DIRECTION_{row['direction']}",
        strength=f"STRENGTH_{row['strength']}",
        horizons=[
            pb.Horizon(expected_return=expected, p_long=p[0], p_short=p[1], p_neutral=p[2])
            for expected, p in zip(outputs[layout.RETURNS], probabilities, strict=True)
        ],
        **dict(zip(layout.RISK_NAMES, outputs[layout.RISKS], strict=True)),
        reasons=row["reasons"],
        state=f"SYMBOL_STATE_{row['state']}",
        gap_filled=row["gap_filled"],
        degraded=row["degraded"],
        model=pb.ModelVersion(
            name=row["model"],
            version=row["version"],
            bundle_sha256=row["bundle_sha256"].hex(),
            feature_set_hash=row["feature_set_hash"] % 2**64,
        ),
        features_hash=row["features_hash"],
        durability=pb.DURABILITY_STORED,
        times=pb.StageTimes(**{name: row[name] for name in _STAGES}),
        already_stored=True,
    )
    for name in (*NUMBERS, *SCORES):
        setattr(forecast, name, float("nan") if row[name] is None else row[name])
    for name in ("model_agreement", "gate_probability", "gate_approved"):
        if row[name] is not None:
            setattr(forecast, name, row[name])
    return forecast


def _keyed(row: Mapping[str, Any]) -> tuple[Key | None, pb.Forecast]:
    """Return a row as a message, and its key while it may still be published."""
    forecast = forecast_of(row)
    key = forecast.symbol, forecast.interval_ms, forecast.close_time_ms, row["model"], row["version"]
    forecast.close = row["close"]
    return key if row["is_recent"] else None, forecast
