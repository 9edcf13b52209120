"""The Python client: `Client` blocks, `AsyncClient` does not; one method per call of the server. Knows only the wire.

Candles and results are the messages of candlecast/v1/types.proto, typed and keyword-constructible; who has many at once
gives columns (`Candles`) and reads columns (`Results.columns`), which travel packed:

    with Client("127.0.0.1:50051") as client:
        for result in client.predict([Candle(symbol="BTCUSDT", open_time_ms=…, open=…, …)]):
            print(result.symbol, result.status.have, direction(result.forecast), result.forecast.confidence)
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, overload

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from candlecast import packed
from candlecast.errors import CandlecastError
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from candlecast.v1.types_pb2 import (
    WAIT_DURABLE,
    WAIT_FAST,
    WAIT_UNSPECIFIED,
    Candle,
    CandleResult,
    Direction,
    Forecast,
    Horizon,
    SymbolState,
    SymbolStatus,
    Verdict,
    Wait,
)
from candlecast.values import DEFAULT_INTERVAL_MS, SYMBOL_BYTES, Candles, symbols

__all__ = [
    "WAIT_DURABLE",
    "WAIT_FAST",
    "AsyncClient",
    "Candle",
    "CandleResult",
    "Candles",
    "Client",
    "Forecast",
    "Results",
    "ServerError",
    "direction",
    "state",
    "verdict",
]

DEFAULT_SERVER = "127.0.0.1:50051"
_BACKFILL_CANDLES = 1_000  # per message
_PACKED_MIN = 16
"""Candle messages from which on they are packed: fewer are read as fast as they are."""
_RESUME_PAUSE_S = 0.3
_REQUIRED = ("open", "high", "low", "close", "volume")
_OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [
                            {"service": "candlecast.v1.Forecasts", "method": "Predict"},
                            {"service": "candlecast.v1.Forecasts", "method": "GetSymbol"},
                        ],
                        "retryPolicy": {
                            "maxAttempts": 5,
                            "initialBackoff": "0.2s",
                            "maxBackoff": "2s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                        },
                    }
                ]
            }
        ),
    ),
]


def _options(server: str) -> list[tuple[str, Any]]:
    here = server.startswith(("127.", "localhost:", "[::1]:"))
    return [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if here else _OPTIONS


class ServerError(CandlecastError):
    """A call failed.

    Attributes:
        code: the gRPC status, such as grpc.StatusCode.UNAVAILABLE.
        server_reason: UPPER_SNAKE, such as QUEUE_FULL; the status's name when the server gave none.
    """

    def __init__(self, error: grpc.RpcError) -> None:
        # What grpc says of a call that ended while it was being written to, whatever its status was.
        was_cut = error.details() == "Internal error from Core"
        self.code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE if was_cut else error.code()
        self.server_reason = self.code.name
        status = rpc_status.from_call(error) if error.trailing_metadata() else None  # type: ignore[arg-type]
        for detail in status.details if status else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                self.server_reason = info.reason
        words = dict.fromkeys((self.code.name, self.server_reason))  # once, when they are the same
        super().__init__(f"{' '.join(words)}: {error.details()}")


def direction(forecast: Forecast) -> str:
    """Return LONG, SHORT or NEUTRAL."""
    return Direction.Name(forecast.direction).removeprefix("DIRECTION_")


def state(result: CandleResult) -> str:
    """Return COLD, WARMING, READY, STALE or QUARANTINED."""
    return SymbolState.Name(result.status.state).removeprefix("SYMBOL_STATE_")


def verdict(result: CandleResult) -> str:
    """Return ACCEPTED, DUPLICATE, CONFLICT, LATE, REFUSED or PEEKED."""
    return Verdict.Name(result.verdict).removeprefix("VERDICT_")


def messages(batch: Candles) -> list[Candle]:
    """Turn columns into messages; NaN in an optional column means absent."""
    messages = []
    for symbol, interval_ms, open_time_ms, row in zip(
        batch.names, batch.interval_ms.tolist(), batch.open_time_ms.tolist(), batch.values.tolist(), strict=True
    ):
        optional = {name: value for name, value in zip(_OPTIONAL, row[5:], strict=True) if not math.isnan(value)}
        messages.append(
            Candle(
                symbol=symbol,
                interval_ms=interval_ms,
                open_time_ms=open_time_ms,
                open=row[0],
                high=row[1],
                low=row[2],
                close=row[3],
                volume=row[4],
                **optional,
            )
        )
    return messages


Batch = Sequence[Candle] | Candles
"""Candles of one message: messages, or columns."""


class Results(Sequence[CandleResult]):
    """The results of one message, in its order; those that came packed become messages when they are looked at."""

    def __init__(self, response: Any) -> None:
        self._messages: Sequence[CandleResult] = response.results
        self._packed = response.packed if response.HasField("packed") else None
        self._columns = None if self._packed is None else packed.unpack(self._packed.records, packed.RESULT)

    @property
    def columns(self) -> packed.Records:
        """Return the results as records [N] of `candlecast.packed.RESULT`.

        Raises:
            ValueError: the candles were sent as messages, and so were their results.
        """
        if self._columns is None:
            raise ValueError("these results came as messages: send candles as columns to get columns")
        return self._columns

    @property
    def forecasts(self) -> int:
        """Return how many of them have a forecast."""
        if self._columns is None:
            return sum(result.HasField("forecast") for result in self._messages)
        return int(self._columns["has_forecast"].sum())

    def __len__(self) -> int:
        return len(self._messages) if self._columns is None else len(self._columns)

    @overload
    def __getitem__(self, index: int) -> CandleResult: ...

    @overload
    def __getitem__(self, index: slice) -> list[CandleResult]: ...

    def __getitem__(self, index: int | slice) -> CandleResult | list[CandleResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._messages[index] if self._columns is None else self._message(self._columns[index])

    def _message(self, record: Any) -> CandleResult:
        assert self._packed is not None, "a record came packed"
        result = CandleResult(
            symbol=record["symbol"].decode("latin-1"),
            interval_ms=int(record["interval_ms"]),
            open_time_ms=int(record["open_time_ms"]),
            verdict=int(record["verdict"]),  # type: ignore[arg-type]
            status=SymbolStatus(state=int(record["state"]), have=int(record["have"]), need=int(record["need"])),  # type: ignore[arg-type]
        )
        if record["refusal_reason"]:
            result.refusal.field = packed.REFUSAL_FIELDS[record["refusal_field"]]
            result.refusal.reason = packed.REFUSAL_REASONS[record["refusal_reason"]]
        if record["has_forecast"]:
            result.forecast.CopyFrom(self._forecast(record))
        return result

    def _forecast(self, record: Any) -> Forecast:
        assert self._packed is not None, "a record came packed"
        drawdown_1h, rally_1h, drawdown_4h, rally_4h = record["risks"].tolist()
        bits = int(record["reasons"])
        forecast = Forecast(
            symbol=record["symbol"].decode("latin-1"),
            interval_ms=int(record["interval_ms"]),
            close_time_ms=int(record["close_time_ms"]),
            direction=int(record["direction"]),  # type: ignore[arg-type]
            strength=int(record["strength"]),  # type: ignore[arg-type]
            horizons=[
                Horizon(expected_return=expected, p_long=p_long, p_short=p_short, p_neutral=p_neutral)
                for expected, (p_long, p_short, p_neutral) in zip(
                    record["returns"].tolist(), record["probabilities"].tolist(), strict=True
                )
            ],
            max_drawdown_1h=drawdown_1h,
            max_rally_1h=rally_1h,
            max_drawdown_4h=drawdown_4h,
            max_rally_4h=rally_4h,
            reasons=[name for i, name in enumerate(packed.REASONS) if bits >> i & 1],
            state=int(record["forecast_state"]),  # type: ignore[arg-type]
            gap_filled=bool(record["gap_filled"]),
            degraded=bool(record["degraded"]),
            model=self._packed.model,
            features_hash=int(record["features_hash"]),
            durability=int(record["durability"]),  # type: ignore[arg-type]
            times=self._packed.times,
            forming=bool(record["forming"]),
            already_stored=bool(record["already_stored"]),
        )
        for name in packed.NUMBERS:
            setattr(forecast, name, float(record[name]))
        if record["gate"] != packed.GATE_ABSENT:
            forecast.gate_approved = bool(record["gate"] == packed.GATE_APPROVED)
            forecast.gate_probability = float(record["gate_probability"])
        return forecast


def columns(candles: Sequence[Candle]) -> Candles | None:
    """Return candle messages as columns; None when a symbol has no room there, which only a message can say."""
    names = [candle.symbol for candle in candles]
    if not all(name.isascii() and len(name) <= SYMBOL_BYTES and "\0" not in name for name in names):
        return None
    values = [[getattr(c, name) for name in _REQUIRED] for c in candles]
    optional = [[getattr(c, name) if c.HasField(name) else math.nan for name in _OPTIONAL] for c in candles]
    return Candles(
        symbol=symbols(names),
        interval_ms=np.array([c.interval_ms for c in candles], dtype=np.int64),
        open_time_ms=np.array([c.open_time_ms for c in candles], dtype=np.int64),
        values=np.hstack([np.array(values, dtype=np.float64), np.array(optional, dtype=np.float64)]),
        forming=np.array([c.forming for c in candles], dtype=np.bool_),
    )


def _carried(batch: Batch) -> dict[str, Any]:
    """Return what a request carries of a batch: columns packed, as are many messages; a few as they are."""
    if isinstance(batch, Candles):
        return {"packed": packed.pack_candles(batch)}
    if len(batch) >= _PACKED_MIN and (as_columns := columns(batch)) is not None:
        return {"packed": packed.pack_candles(as_columns)}
    return {"candles": batch}


def _backfill_messages(candles: Iterable[Candle] | Candles) -> Iterator[pb.BackfillRequest]:
    if isinstance(candles, Candles):
        for start in range(0, len(candles), _BACKFILL_CANDLES):
            part = candles.take(np.arange(start, min(start + _BACKFILL_CANDLES, len(candles))))
            yield pb.BackfillRequest(packed=packed.pack_candles(part))
        return
    rest = iter(candles)
    while part_of_them := list(islice(rest, _BACKFILL_CANDLES)):
        yield pb.BackfillRequest(**_carried(part_of_them))


class Client:
    """The blocking client; a context manager. Unary calls retry what is retryable, up to four times.

    Args:
        server: HOST:PORT.
        timeout_s: deadline of a unary call.
        resume_s: for how long a stream whose server went away is tried again.

    Raises (every method):
        ServerError: the call failed; a bad candle does not fail it, its result says what is wrong.
    """

    def __init__(self, server: str = DEFAULT_SERVER, *, timeout_s: float = 10.0, resume_s: float = 60.0) -> None:
        self._resume_s = resume_s
        self._channel = grpc.insecure_channel(server, options=_options(server))
        self._stub = ForecastsStub(self._channel)
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._channel.close()

    def predict(
        self,
        candles: Batch = (),
        *,
        symbols: Sequence[str] = (),
        interval_ms: int = DEFAULT_INTERVAL_MS,
        wait: Wait = WAIT_UNSPECIFIED,
    ) -> Results:
        """Send candles just closed (or forming) and return a result for each; symbols ask for their newest candle.

        Args:
            wait: WAIT_FAST answers before the rows are on the server's disk; unspecified is the server's setting.
        """
        request = pb.PredictRequest(**_carried(candles), symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return Results(self._stub.Predict(request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def stream(self, batches: Iterable[Batch], *, wait: Wait = WAIT_UNSPECIFIED) -> Iterator[Results]:
        """Send batches of candles as they come and yield the results of each, in order; `wait` as in predict.

        It goes on when the server comes back: what was not answered is sent again. A batch that had arrived before is
        answered with DUPLICATE, and with its forecast while it is the newest.
        """
        unanswered: deque[pb.StreamRequest] = deque()
        source = _BlockingSource(batches)
        attempts = _Attempts(self._resume_s)

        def requests(call: int) -> Iterator[pb.StreamRequest]:
            yield from list(unanswered)
            while (batch := source.peek()) is not None and call == attempts.count:  # an ended call may still be pulling
                source.take()
                unanswered.append(pb.StreamRequest(**_carried(batch), wait=wait))
                yield unanswered[-1]

        while True:
            attempts.begin()
            try:
                for response in self._stub.Stream(requests(attempts.count)):
                    unanswered.popleft()
                    attempts.answered()
                    yield Results(response)
                return
            except grpc.RpcError as error:
                if source.mistake is not None:
                    raise source.mistake from None
                attempts.failed(ServerError(error))
            time.sleep(attempts.pause_s())

    def backfill(self, candles: Iterable[Candle] | Candles) -> pb.BackfillResponse:
        """Send history, each symbol's candles in time order; it moves state and asks for no forecasts."""
        try:
            return self._stub.Backfill(_backfill_messages(candles))
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def get_symbol(self, symbol: str, *, interval_ms: int = DEFAULT_INTERVAL_MS) -> pb.GetSymbolResponse:
        """Return where a symbol stands: state, have, need."""
        request = pb.GetSymbolRequest(symbol=symbol, interval_ms=interval_ms)
        try:
            return self._stub.GetSymbol(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error


class _Attempts:
    """Decides whether a stream that failed is tried again: for resume_s, once something was answered."""

    def __init__(self, resume_s: float) -> None:
        self._resume_s = resume_s
        self._give_up_s = math.inf
        self._was_answered = False
        self.count = 0

    def begin(self) -> None:
        self.count += 1

    def answered(self) -> None:
        self._was_answered, self._give_up_s = True, math.inf

    def failed(self, error: ServerError) -> None:
        """Raise the error unless the stream is to be tried again."""
        self._give_up_s = min(self._give_up_s, time.monotonic() + self._resume_s)
        retryable = error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        if not (retryable and self._was_answered) or time.monotonic() >= self._give_up_s:
            raise error from error.__cause__

    @staticmethod
    def pause_s() -> float:
        return _RESUME_PAUSE_S * random.uniform(0.5, 1.5)


class _BlockingSource:
    """Batches that the threads of several calls take from, one call after the other."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self._lock = threading.Lock()
        self._next: Batch | None = None
        self._has_next = False
        self.mistake: Exception | None = None
        """What the batches raised; grpc would only cancel the call."""

    def peek(self) -> Batch | None:
        """Return the next batch, None at the end; it stays the next until it is taken."""
        with self._lock:
            if not self._has_next:
                try:
                    self._next = next(self._batches, None)
                except Exception as error:
                    self.mistake = error
                    raise
                self._has_next = True
            return self._next

    def take(self) -> None:
        """Go on to the batch after the one that was peeked at."""
        with self._lock:
            self._has_next = False


class _Source:
    """Batches that several calls take from, one after the other: what one call was waiting for, the next one gets."""

    def __init__(self, batches: AsyncIterable[Batch]) -> None:
        self._batches = aiter(batches)
        self._next: asyncio.Task[Batch | None] | None = None
        self.mistake: Exception | None = None
        """What the batches raised; grpc would only cancel the call."""

    async def peek(self) -> Batch | None:
        """Return the next batch, None at the end; it stays the next until it is taken."""
        if self._next is None:
            self._next = asyncio.create_task(self._pull())
        return await asyncio.shield(self._next)

    def take(self) -> None:
        """Go on to the batch after the one that was peeked at."""
        self._next = None

    async def _pull(self) -> Batch | None:
        try:
            return await anext(self._batches, None)
        except Exception as error:
            self.mistake = error
            raise


class AsyncClient:
    """The same for asyncio.

    Args:
        resume_s: for how long a stream whose server went away is tried again.
    """

    def __init__(self, server: str = DEFAULT_SERVER, *, timeout_s: float = 10.0, resume_s: float = 60.0) -> None:
        self._resume_s = resume_s
        self._channel = grpc.aio.insecure_channel(server, options=_options(server))
        self._stub: Any = ForecastsStub(self._channel)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def predict(
        self,
        candles: Batch = (),
        *,
        symbols: Sequence[str] = (),
        interval_ms: int = DEFAULT_INTERVAL_MS,
        wait: Wait = WAIT_UNSPECIFIED,
    ) -> Results:
        """As Client.predict."""
        request = pb.PredictRequest(**_carried(candles), symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return Results(await self._stub.Predict(request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise ServerError(error) from error

    async def stream(self, batches: AsyncIterable[Batch], *, wait: Wait = WAIT_UNSPECIFIED) -> AsyncIterator[Results]:
        """As Client.stream."""
        unanswered: deque[pb.StreamRequest] = deque()
        source = _Source(batches)
        attempts = _Attempts(self._resume_s)

        async def requests(call: int) -> AsyncIterator[pb.StreamRequest]:
            for request in list(unanswered):
                yield request
            while (batch := await source.peek()) is not None and call == attempts.count:  # an ended call may still pull
                source.take()
                unanswered.append(pb.StreamRequest(**_carried(batch), wait=wait))
                yield unanswered[-1]

        while True:
            attempts.begin()
            try:
                async for response in self._stub.Stream(requests(attempts.count)):
                    unanswered.popleft()
                    attempts.answered()
                    yield Results(response)
                return
            except grpc.RpcError as error:
                attempts.failed(ServerError(error))
            except asyncio.CancelledError:
                if source.mistake is not None:
                    raise source.mistake from None
                raise
            await asyncio.sleep(attempts.pause_s())

    async def backfill(self, candles: Iterable[Candle] | Candles) -> pb.BackfillResponse:
        """As Client.backfill."""
        try:
            response: pb.BackfillResponse = await self._stub.Backfill(_backfill_messages(candles))
        except grpc.RpcError as error:
            raise ServerError(error) from error
        return response

    async def get_symbol(self, symbol: str, *, interval_ms: int = DEFAULT_INTERVAL_MS) -> pb.GetSymbolResponse:
        """As Client.get_symbol."""
        request = pb.GetSymbolRequest(symbol=symbol, interval_ms=interval_ms)
        try:
            response: pb.GetSymbolResponse = await self._stub.GetSymbol(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error
        return response
