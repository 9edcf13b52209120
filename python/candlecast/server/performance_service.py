"""Signals, trainings and accuracy over gRPC: convert, ask, convert. Knows no statement."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any, Final

import grpc

from candlecast import outputs
from candlecast.errors import InvalidRequest
from candlecast.features import now_ms
from candlecast.server import pages
from candlecast.server import performance_messages as messages
from candlecast.server.history_service import time_of, us_of
from candlecast.server.status import abort
from candlecast.server.wire import parsed
from candlecast.store import performance as store
from candlecast.store.outcomes import OWN_STRATEGY
from candlecast.store.pool import Pool
from candlecast.store.registry import Logged, log_training
from candlecast.v1 import performance_pb2 as pb
from candlecast.v1 import performance_pb2_grpc
from candlecast.values import DEFAULT_INTERVAL_MS, FAR_MS, SYMBOL

Context = grpc.aio.ServicerContext[Any, Any]
KEY_CHARS_MAX: Final = 128
NAME_CHARS_MAX: Final = 64
METADATA_BYTES_MAX: Final = 8_192
AHEAD_MS: Final = 2_000
"""How far in the future a time may lie."""
PERIODS_PER_YEAR: Final = 365.0
"""Crypto trades every day."""
SIDES: Final = ("LONG", "SHORT")


class PerformanceService(performance_pb2_grpc.PerformanceServicer):
    """The methods of Performance."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def LogSignal(self, request: pb.LogSignalRequest, context: Context) -> pb.LogSignalResponse:
        try:
            row, created = await store.log_signal(self._pool, opened(parsed(request)))
            return pb.LogSignalResponse(signal=messages.signal(row), created=created)
        except Exception as error:
            await abort(context, error)

    async def CloseSignal(self, request: pb.CloseSignalRequest, context: Context) -> pb.CloseSignalResponse:
        try:
            row, closed = await store.close_signal(self._pool, closing(parsed(request)))
            return pb.CloseSignalResponse(signal=messages.signal(row), closed=closed)
        except Exception as error:
            await abort(context, error)

    async def LogTraining(self, request: pb.LogTrainingRequest, context: Context) -> pb.LogTrainingResponse:
        try:
            return pb.LogTrainingResponse(created=await log_training(self._pool, logged(parsed(request))))
        except Exception as error:
            await abort(context, error)

    async def GetStrategy(self, request: pb.GetStrategyRequest, context: Context) -> pb.GetStrategyResponse:
        try:
            return await self._strategy(parsed(request))
        except Exception as error:
            await abort(context, error)

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Context) -> pb.ListStrategiesResponse:
        try:
            periods = _periods(parsed(request).periods_per_year)
            rows = await store.strategies(self._pool, periods)
            trainings = await store.newest_trainings(self._pool)
            return pb.ListStrategiesResponse(
                strategies=[messages.performance(row, periods) for row in rows],
                trainings=map(messages.training, trainings),
            )
        except Exception as error:
            await abort(context, error)

    async def ListSignals(self, request: pb.ListSignalsRequest, context: Context) -> pb.ListSignalsResponse:
        try:
            return await self._signals(parsed(request))
        except Exception as error:
            await abort(context, error)

    async def GetAccuracy(self, request: pb.GetAccuracyRequest, context: Context) -> pb.GetAccuracyResponse:
        try:
            rows = await store.accuracy(self._pool, question(parsed(request)))
            return pb.GetAccuracyResponse(rows=map(messages.accuracy, rows))
        except Exception as error:
            await abort(context, error)

    async def _strategy(self, request: pb.GetStrategyRequest) -> pb.GetStrategyResponse:
        _text("strategy", request.strategy, NAME_CHARS_MAX)
        periods = _periods(request.periods_per_year)
        row = await store.strategy(
            self._pool,
            request.strategy,
            _symbol(request.symbol),
            _day("from_ms", request.from_ms),
            _day("to_ms", request.to_ms),
            periods,
        )
        return pb.GetStrategyResponse(performance=messages.performance(row, periods))

    async def _signals(self, request: pb.ListSignalsRequest) -> pb.ListSignalsResponse:
        if request.strategy:
            _text("strategy", request.strategy, NAME_CHARS_MAX)
        limit, last = pages.page_size(request.page_size), pages.key(request.page_token, (int, int))
        rows = await store.signals(
            self._pool,
            strategy=request.strategy,
            symbol=_symbol(request.symbol),
            open_only=request.open_only,
            limit=limit,
            before=None if last is None else (time_of(last[0]), last[1]),
        )
        response = pb.ListSignalsResponse(signals=map(messages.signal, rows))
        if len(rows) == limit:
            response.next_page_token = pages.token(us_of(rows[-1]["entry_time"]), rows[-1]["id"])
        return response


def opened(request: pb.LogSignalRequest) -> store.Opened:
    """Read a signal.

    Raises:
        InvalidRequest: says which field.
    """
    _text("key", request.key, KEY_CHARS_MAX)
    _text("strategy", request.strategy, NAME_CHARS_MAX)
    if request.strategy == OWN_STRATEGY:
        raise InvalidRequest("strategy", f"{OWN_STRATEGY!r} is the server's own: choose another name")
    if not SYMBOL.fullmatch(request.symbol):
        raise InvalidRequest("symbol", "is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")
    side = request.side.strip().upper()
    if side not in SIDES:
        raise InvalidRequest("side", f"{request.side[:20]!r} is neither long nor short")
    _positive("entry_price", request.entry_price)
    _positive("size", request.size)
    _fees(request.fees)
    confidence = request.confidence if request.HasField("confidence") else None
    if confidence is not None and not 0 <= confidence <= 1:
        raise InvalidRequest("confidence", "is not 0 to 1")
    prediction = None
    if request.HasField("prediction"):
        told = request.prediction
        close_time_ms = _time_ms("prediction.close_time_ms", told.close_time_ms)
        _text("prediction.model", told.model, NAME_CHARS_MAX)
        if not 0 <= told.interval_ms <= FAR_MS or told.version >= 1 << 31:
            raise InvalidRequest("prediction", "its interval or version is none")
        prediction = told.interval_ms or DEFAULT_INTERVAL_MS, close_time_ms, told.model, told.version
    return store.Opened(
        key=request.key,
        strategy=request.strategy,
        symbol=request.symbol,
        side=side,
        entry_price=request.entry_price,
        entry_time_ms=_time_ms("entry_time_ms", request.entry_time_ms),
        size=request.size,
        fees=request.fees,
        confidence=confidence,
        prediction=prediction,
        metadata=_metadata(request.metadata),
    )


def closing(request: pb.CloseSignalRequest) -> store.Closing:
    """Read a close.

    Raises:
        InvalidRequest: says which field.
    """
    _text("key", request.key, KEY_CHARS_MAX)
    _positive("exit_price", request.exit_price)
    _fees(request.fees)
    size = None
    if request.size:
        size = _positive("size", request.size)
        if not request.close_key:
            raise InvalidRequest("close_key", "a partial close needs a key, so that it may be sent again")
    if request.close_key:
        _text("close_key", request.close_key, KEY_CHARS_MAX)
    return store.Closing(
        key=request.key,
        exit_price=request.exit_price,
        exit_time_ms=_time_ms("exit_time_ms", request.exit_time_ms),
        size=size,
        fees=request.fees,
        close_key=request.close_key,
    )


def logged(request: pb.LogTrainingRequest) -> Logged:
    """Read a training.

    Raises:
        InvalidRequest: says which field.
    """
    _text("key", request.key, KEY_CHARS_MAX)
    _text("strategy", request.strategy, NAME_CHARS_MAX)
    _text("status", request.status, 32)
    numbers: dict[str, Any] = {
        name: getattr(request, name) if request.HasField(name) else None
        for name in ("accuracy", "duration_s", "data_points", "version")
    }
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(name, "is not finite")
    return Logged(
        key=request.key,
        strategy=request.strategy,
        status=request.status,
        logged_at=datetime.fromtimestamp(_time_ms("trained_at_ms", request.trained_at_ms) / 1000, UTC),
        error=request.error or None,
        metadata=_metadata(request.metadata),
        **numbers,
    )


def question(request: pb.GetAccuracyRequest) -> store.AccuracyQuestion:
    """Read what is asked about accuracy.

    Raises:
        InvalidRequest: says which field.
    """
    if request.model:
        _text("model", request.model, NAME_CHARS_MAX)
    if request.version >= 1 << 31:
        raise InvalidRequest("version", "is none")
    if request.horizon_bars and request.horizon_bars not in outputs.HORIZON_BARS:
        raise InvalidRequest("horizon_bars", f"is none of {', '.join(map(str, outputs.HORIZON_BARS))}")
    return store.AccuracyQuestion(
        model=request.model,
        version=request.version,
        symbol=_symbol(request.symbol),
        horizon_bars=request.horizon_bars,
        first_day=_day("from_ms", request.from_ms),
        last_day=_day("to_ms", request.to_ms),
        by_symbol=request.by_symbol,
        by_day=request.by_day,
    )


def _text(field: str, value: str, chars_max: int) -> None:
    if not 0 < len(value) <= chars_max or "\0" in value:
        raise InvalidRequest(field, f"must have 1 to {chars_max} characters")


def _symbol(value: str) -> str:
    if value and not SYMBOL.fullmatch(value):
        raise InvalidRequest("symbol", "is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")
    return value


def _positive(field: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InvalidRequest(field, "must be above 0 and finite")
    return value


def _fees(value: float) -> None:
    if not 0 <= value < math.inf:
        raise InvalidRequest("fees", "must not be below 0, and finite")


def _time_ms(field: str, value: int) -> int:
    now = now_ms()
    if not 0 <= value <= now + AHEAD_MS:
        raise InvalidRequest(field, f"must be ms since 1970, at most {AHEAD_MS} ms in the future; 0: now")
    return value or now


def _day(field: str, value: int) -> date | None:
    if not 0 <= value <= FAR_MS:
        raise InvalidRequest(field, "must be ms since 1970; 0: no bound")
    return datetime.fromtimestamp(value / 1000, UTC).date() if value else None


def _periods(value: float) -> float:
    if not 0 <= value <= 1e6:
        raise InvalidRequest("periods_per_year", "must be above 0; 0 means 365")
    return value or PERIODS_PER_YEAR


def _metadata(given: Any) -> dict[str, str]:
    told = dict(given)
    if sum(len(name) + len(value) for name, value in told.items()) > METADATA_BYTES_MAX:
        raise InvalidRequest("metadata", f"has more than {METADATA_BYTES_MAX} characters")
    if any("\0" in name + value for name, value in told.items()):
        raise InvalidRequest("metadata", "holds a zero character")
    return told
