"""The Python client: `Client` blocks, `AsyncClient` does not; one method per call of the server. Knows only the wire.

Candles and results are the messages of candlecast/v1/types.proto, typed and keyword-constructible:

    with Client("127.0.0.1:50051") as client:
        for result in client.predict([Candle(symbol="BTCUSDT", open_time_ms=…, open=…, …)]):
            print(result.symbol, result.status.have, direction(result.forecast), result.forecast.confidence)
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

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
    SymbolState,
    Verdict,
    Wait,
)
from candlecast.values import DEFAULT_INTERVAL_MS, Candles

__all__ = [
    "WAIT_DURABLE",
    "WAIT_FAST",
    "AsyncClient",
    "Candle",
    "CandleResult",
    "Client",
    "Forecast",
    "ServerError",
    "direction",
    "state",
    "verdict",
]

DEFAULT_SERVER = "127.0.0.1:50051"
_BACKFILL_CANDLES = 1_000  # per message
_RESUME_PAUSE_S = 0.3
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


def _backfill_messages(candles: Iterable[Candle]) -> Iterator[pb.BackfillRequest]:
    message = pb.BackfillRequest()
    for candle in candles:
        message.candles.append(candle)
        if len(message.candles) == _BACKFILL_CANDLES:
            yield message
            message = pb.BackfillRequest()
    if message.candles:
        yield message


class Client:
    """The blocking client; a context manager. Unary calls retry what is retryable, up to four times.

    Args:
        server: HOST:PORT.
        timeout_s: deadline of a unary call.

    Raises (every method):
        ServerError: the call failed; a bad candle does not fail it, its result says what is wrong.
    """

    def __init__(self, server: str = DEFAULT_SERVER, *, timeout_s: float = 10.0) -> None:
        self._channel = grpc.insecure_channel(server, options=_options(server))
        self._stub = ForecastsStub(self._channel)
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._channel.close()

    def predict(
        self,
        candles: Sequence[Candle] = (),
        *,
        symbols: Sequence[str] = (),
        interval_ms: int = DEFAULT_INTERVAL_MS,
        wait: Wait = WAIT_UNSPECIFIED,
    ) -> list[CandleResult]:
        """Send candles just closed (or forming) and return a result for each; symbols ask for their newest candle.

        Args:
            wait: WAIT_FAST answers before the rows are on the server's disk; unspecified is the server's setting.
        """
        request = pb.PredictRequest(candles=candles, symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return list(self._stub.Predict(request, timeout=self._timeout_s).results)
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def stream(
        self, batches: Iterable[Sequence[Candle]], *, wait: Wait = WAIT_UNSPECIFIED
    ) -> Iterator[list[CandleResult]]:
        """Send batches of candles as they come and yield the results of each, in order; `wait` as in predict."""
        requests = (pb.StreamRequest(candles=batch, wait=wait) for batch in batches)
        try:
            for response in self._stub.Stream(requests):
                yield list(response.results)
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def backfill(self, candles: Iterable[Candle]) -> pb.BackfillResponse:
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


class _Source:
    """Batches that several calls take from, one after the other: what one call was waiting for, the next one gets."""

    def __init__(self, batches: AsyncIterable[Sequence[Candle]]) -> None:
        self._batches = aiter(batches)
        self._next: asyncio.Task[Sequence[Candle] | None] | None = None
        self.mistake: Exception | None = None
        """What the batches raised; grpc would only cancel the call."""

    async def peek(self) -> Sequence[Candle] | None:
        """Return the next batch, None at the end; it stays the next until it is taken."""
        if self._next is None:
            self._next = asyncio.create_task(self._pull())
        return await asyncio.shield(self._next)

    def take(self) -> None:
        """Go on to the batch after the one that was peeked at."""
        self._next = None

    async def _pull(self) -> Sequence[Candle] | None:
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
        candles: Sequence[Candle] = (),
        *,
        symbols: Sequence[str] = (),
        interval_ms: int = DEFAULT_INTERVAL_MS,
        wait: Wait = WAIT_UNSPECIFIED,
    ) -> list[CandleResult]:
        """As Client.predict."""
        request = pb.PredictRequest(candles=candles, symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return list((await self._stub.Predict(request, timeout=self._timeout_s)).results)
        except grpc.RpcError as error:
            raise ServerError(error) from error

    async def stream(
        self, batches: AsyncIterable[Sequence[Candle]], *, wait: Wait = WAIT_UNSPECIFIED
    ) -> AsyncIterator[list[CandleResult]]:
        """As Client.stream, and it goes on when the server comes back: what was not answered is sent again.

        A batch that had arrived before is answered with DUPLICATE, and with its forecast while it is the newest.
        """
        unanswered: deque[pb.StreamRequest] = deque()
        source = _Source(batches)

        async def requests(call: int) -> AsyncIterator[pb.StreamRequest]:
            for request in list(unanswered):
                yield request
            while (batch := await source.peek()) is not None and call == calls:  # an ended call may still be pulling
                source.take()
                unanswered.append(pb.StreamRequest(candles=batch, wait=wait))
                yield unanswered[-1]

        answered, give_up_s, calls = False, math.inf, 0
        while True:
            calls += 1
            try:
                async for response in self._stub.Stream(requests(calls)):
                    unanswered.popleft()
                    answered, give_up_s = True, math.inf
                    yield list(response.results)
                return
            except grpc.RpcError as error:
                give_up_s = min(give_up_s, time.monotonic() + self._resume_s)
                failed = ServerError(error)
                retryable = failed.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
                if not (retryable and answered) or time.monotonic() >= give_up_s:
                    raise failed from error
            except asyncio.CancelledError:
                if source.mistake is not None:
                    raise source.mistake from None
                raise
            await asyncio.sleep(_RESUME_PAUSE_S * random.uniform(0.5, 1.5))

    async def backfill(self, candles: Iterable[Candle]) -> pb.BackfillResponse:
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
