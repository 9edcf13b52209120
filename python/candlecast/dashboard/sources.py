"""Where live forecasts come from: the server's Subscribe, and before it the newest in storage. Knows no listener."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import grpc

from candlecast import outputs
from candlecast.client import ServerError
from candlecast.dashboard.board import SYMBOLS_MAX, Row
from candlecast.dashboard.feed import Feed
from candlecast.store import views
from candlecast.store.pool import Pool
from candlecast.v1 import forecasts_pb2, types_pb2
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub

QUIET_S: Final = 3.0
"""Without a word from the server for so long, the source says that it listens."""
REST_AFTER_S: Final = 60.0
"""Without a page that looks on for so long the server is asked for nothing: telling costs it a tenth of its time."""


def opened(pool: Pool, channel: grpc.aio.Channel) -> Feed:
    """Return a feed of what the server says, which begins with the newest forecast of each symbol in storage."""

    async def load() -> Sequence[Row]:
        return await views.rows(pool, "newest_forecasts", SYMBOLS_MAX)

    stub: Any = ForecastsStub(channel)  # grpc.aio's stubs are typed as the blocking ones
    return Feed(load, lambda: subscribed(stub), rest_after_s=REST_AFTER_S)


async def subscribed(stub: Any) -> AsyncGenerator[Sequence[Row], None]:
    """Yield what the server says as it says it; an empty batch every QUIET_S says that it still would.

    Raises:
        ServerError: it went away.
    """
    # Of this close and later: there is nothing yet, and so the server says at once that it has begun.
    call = stub.Subscribe(forecasts_pb2.SubscribeRequest(from_close_time_ms=round(time.time() * 1000)))
    reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
    try:
        while True:
            done, _ = await asyncio.wait({reading}, timeout=QUIET_S)
            if not done:
                yield []
                continue
            response = reading.result()
            if response is grpc.aio.EOF:
                return
            reading = asyncio.ensure_future(call.read())
            yield [_row_of(forecast) for forecast in response.forecasts]
    except grpc.RpcError as error:
        raise ServerError(error) from error
    finally:
        reading.cancel()
        call.cancel()


def _row_of(said: types_pb2.Forecast) -> Row:
    """Return a forecast as the views have it."""
    times = said.times
    numbers = ("confidence", "quality", "agreement", "move", "edge", "stop_loss", "take_profit")
    return {
        "symbol": said.symbol,
        "interval_ms": said.interval_ms,
        "close_time_ms": said.close_time_ms,
        "model": said.model.name,
        "version": said.model.version,
        "state": types_pb2.SymbolState.Name(said.state).removeprefix("SYMBOL_STATE_"),
        "gap_filled": said.gap_filled,
        "degraded": said.degraded,
        "direction": types_pb2.Direction.Name(said.direction).removeprefix("DIRECTION_"),
        "strength": types_pb2.Strength.Name(said.strength).removeprefix("STRENGTH_"),
        **{name: _finite(getattr(said, name)) for name in numbers},
        "reasons": list(said.reasons),
        "gate_probability": said.gate_probability if said.HasField("gate_probability") else None,
        "gate_approved": said.gate_approved if said.HasField("gate_approved") else None,
        "returns": [_finite(horizon.expected_return) for horizon in said.horizons],
        "risks": [_finite(getattr(said, name)) for name in outputs.RISK_NAMES],
        "stages_us": [times.decode_us, times.features_us, times.queue_us, times.model_us, times.interpret_us],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
