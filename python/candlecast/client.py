"""The Python client: `Client` blocks, `AsyncClient` does not; one method per call of the server. Knows only the wire.

Those about signals, trainings, accuracy and stored forecasts are in `performance_calls.py`.

Candles and results are the messages of candlecast/v1/types.proto, typed and keyword-constructible; who has many at once
gives columns (`Candles`) and reads columns (`Results.columns`), which travel packed:

    with Client("127.0.0.1:50051") as client:
        for result in client.predict([Candle(symbol="BTCUSDT", open_time_ms=…, open=…, …)]):
            print(result.symbol, result.status.have, direction(result.forecast), result.forecast.confidence)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy as np

from candlecast import packed
from candlecast.calls import Attempts, BlockingSource, ServerError, Source
from candlecast.flow_messages import flow_request
from candlecast.performance_calls import AsyncPerformanceCalls, PerformanceCalls
from candlecast.results import Batch, Results, asking, carried, columns, messages
from candlecast.sentiment_calls import AsyncSentimentCalls, SentimentCalls
from candlecast.shared_calls import CALLER_ROWS_MAX, SharedCalls
from candlecast.subscription import Subscription
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from candlecast.v1.order_flow_pb2 import GateDecision, GateRequest, GateResponse, GateVerdict, OrderFlowResponse
from candlecast.v1.order_flow_pb2_grpc import OrderFlowStub
from candlecast.v1.sentiment_pb2 import SentimentScore
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
from candlecast.values import DEFAULT_INTERVAL_MS, Candles, FlowBatch

__all__ = [
    "WAIT_DURABLE",
    "WAIT_FAST",
    "AsyncClient",
    "Candle",
    "CandleResult",
    "Candles",
    "Client",
    "FlowBatch",
    "Forecast",
    "GateDecision",
    "GateResponse",
    "OrderFlowResponse",
    "Results",
    "SentimentScore",
    "ServerError",
    "columns",
    "direction",
    "gate_verdict",
    "messages",
    "state",
    "verdict",
]

Sent = TypeVar("Sent")
DEFAULT_SERVER = "127.0.0.1:50051"
_BACKFILL_CANDLES = 1_000  # per message
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
                            {"service": "candlecast.v1.OrderFlow", "method": "Gate"},
                            {"service": "candlecast.v1.Performance"},
                            {"service": "candlecast.v1.History"},
                            {"service": "candlecast.v1.Sentiment"},
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


def direction(forecast: Forecast) -> str:
    """Return LONG, SHORT or NEUTRAL."""
    return Direction.Name(forecast.direction).removeprefix("DIRECTION_")


def state(result: CandleResult) -> str:
    """Return COLD, WARMING, READY, STALE or QUARANTINED."""
    return SymbolState.Name(result.status.state).removeprefix("SYMBOL_STATE_")


def verdict(result: CandleResult) -> str:
    """Return ACCEPTED, DUPLICATE, CONFLICT, LATE, REFUSED or PEEKED."""
    return Verdict.Name(result.verdict).removeprefix("VERDICT_")


def gate_verdict(decision: GateDecision) -> str:
    """Return ABSENT, UNDECIDED, REFUSE or APPROVE."""
    return GateVerdict.Name(decision.verdict).removeprefix("GATE_VERDICT_")


def _backfill_messages(candles: Iterable[Candle] | Candles) -> Iterator[pb.BackfillRequest]:
    if isinstance(candles, Candles):
        for start in range(0, len(candles), _BACKFILL_CANDLES):
            part = candles.take(np.arange(start, min(start + _BACKFILL_CANDLES, len(candles))))
            yield pb.BackfillRequest(packed=packed.pack_candles(part))
        return
    rest = iter(candles)
    while part_of_them := list(islice(rest, _BACKFILL_CANDLES)):
        yield pb.BackfillRequest(**carried(part_of_them))


class Client(PerformanceCalls, SentimentCalls):
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
        self._flow_stub = OrderFlowStub(self._channel)
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
        request = pb.PredictRequest(**asking(candles), symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return Results(self._stub.Predict(request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def stream(self, batches: Iterable[Batch], *, wait: Wait = WAIT_UNSPECIFIED) -> Iterator[Results]:
        """Send batches of candles as they come and yield the results of each, in order; `wait` as in predict.

        It goes on when the server comes back: what was not answered is sent again. A batch that had arrived before is
        answered with DUPLICATE, and with its forecast while it is the newest.
        """
        for response in self._resumed(
            self._stub.Stream, batches, lambda batch: pb.StreamRequest(**asking(batch), wait=wait)
        ):
            yield Results(response)

    def subscribe(
        self,
        *,
        symbols: Sequence[str] = (),
        min_confidence: float = 0.0,
        directions: Sequence[str] = (),
        from_close_time_ms: int | None = None,
        every: bool = False,
    ) -> Iterator[Forecast]:
        """Yield forecasts as they are made, whoever sent their candles, each once; first those stored since a close.

        It goes on when the server comes back, out of storage, without a gap. Leave the loop to end it.

        Args:
            symbols, directions: of these only (LONG, SHORT, NEUTRAL); none: of all.
            every: a reader that is too slow is sent all of them later, not the newest of each symbol alone.
        """
        wanted = Subscription(symbols, min_confidence, directions, from_close_time_ms, every)
        attempts = Attempts(self._resume_s)
        while True:
            attempts.begin()
            call = self._stub.Subscribe(wanted.request())
            try:
                for response in call:
                    attempts.answered()
                    yield from wanted.fresh(response)
                return
            except grpc.RpcError as error:
                attempts.failed(ServerError(error))
            finally:
                call.cancel()
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

    def order_flow(self, batches: Iterable[FlowBatch | Sequence[FlowBatch]]) -> Iterator[OrderFlowResponse]:
        """Send trades and books, one batch or several a message, and yield what became of each message, in order.

        It goes on when the server comes back: what was not answered is sent again, and trades with an id that had
        arrived count once. A server started anew knows nothing of before: its books wait for a snapshot (`gaps`).
        """
        yield from self._resumed(self._flow_stub.Stream, batches, flow_request)

    def gate(self, symbols: Sequence[str], *, ts_ms: int = 0) -> GateResponse:
        """Ask whether a signal on each symbol should leave now, or as of a time: `decisions`, in the same order."""
        try:
            return self._flow_stub.Gate(GateRequest(symbols=symbols, ts_ms=ts_ms), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error

    def _resumed(self, call: Any, batches: Iterable[Sent], request_of: Callable[[Sent], Any]) -> Iterator[Any]:
        """Yield the responses of a call; when the server comes back, send again what was not answered."""
        unanswered: deque[Any] = deque()
        source = BlockingSource(batches)
        attempts = Attempts(self._resume_s)

        def requests(number: int) -> Iterator[Any]:
            yield from list(unanswered)
            while (batch := source.peek()) is not None and number == attempts.count:  # an ended call may still pull
                source.take()
                unanswered.append(request_of(batch))
                yield unanswered[-1]

        while True:
            attempts.begin()
            try:
                for response in call(requests(attempts.count)):
                    unanswered.popleft()
                    attempts.answered()
                    yield response
                return
            except grpc.RpcError as error:
                if source.mistake is not None:
                    raise source.mistake from None
                attempts.failed(ServerError(error))
            time.sleep(attempts.pause_s())


class AsyncClient(AsyncPerformanceCalls, AsyncSentimentCalls):
    """The same for asyncio.

    Args:
        resume_s: for how long a stream whose server went away is tried again.
        share_calls: predictions that are asked for at the same time, of a few candles each, go as one call.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        timeout_s: float = 10.0,
        resume_s: float = 60.0,
        share_calls: bool = True,
    ) -> None:
        self._resume_s = resume_s
        self._channel = grpc.aio.insecure_channel(server, options=_options(server))
        self._stub: Any = ForecastsStub(self._channel)
        self._flow_stub: Any = OrderFlowStub(self._channel)
        self._timeout_s = timeout_s
        self._shared = SharedCalls(self._predicted, timeout_s) if share_calls else None

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
        if self._shared is not None and not symbols and 0 < len(candles) <= CALLER_ROWS_MAX:
            return await self._shared.predict(candles, wait)
        request = pb.PredictRequest(**asking(candles), symbols=symbols, interval_ms=interval_ms, wait=wait)
        try:
            return Results(await self._predicted(request, self._timeout_s))
        except grpc.RpcError as error:
            raise ServerError(error) from error

    async def _predicted(self, request: pb.PredictRequest, timeout_s: float) -> pb.PredictResponse:
        response: pb.PredictResponse = await self._stub.Predict(request, timeout=timeout_s)
        return response

    async def stream(self, batches: AsyncIterable[Batch], *, wait: Wait = WAIT_UNSPECIFIED) -> AsyncIterator[Results]:
        """As Client.stream."""
        responses = self._resumed(
            self._stub.Stream, batches, lambda batch: pb.StreamRequest(**asking(batch), wait=wait)
        )
        async for response in responses:
            yield Results(response)

    async def subscribe(
        self,
        *,
        symbols: Sequence[str] = (),
        min_confidence: float = 0.0,
        directions: Sequence[str] = (),
        from_close_time_ms: int | None = None,
        every: bool = False,
    ) -> AsyncIterator[Forecast]:
        """As Client.subscribe."""
        wanted = Subscription(symbols, min_confidence, directions, from_close_time_ms, every)
        attempts = Attempts(self._resume_s)
        while True:
            attempts.begin()
            call = self._stub.Subscribe(wanted.request())
            try:
                async for response in call:
                    attempts.answered()
                    for forecast in wanted.fresh(response):
                        yield forecast
                return
            except grpc.RpcError as error:
                attempts.failed(ServerError(error))
            finally:
                call.cancel()
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

    async def order_flow(
        self, batches: AsyncIterable[FlowBatch | Sequence[FlowBatch]]
    ) -> AsyncIterator[OrderFlowResponse]:
        """As Client.order_flow."""
        async for response in self._resumed(self._flow_stub.Stream, batches, flow_request):
            yield response

    async def gate(self, symbols: Sequence[str], *, ts_ms: int = 0) -> GateResponse:
        """As Client.gate."""
        request = GateRequest(symbols=symbols, ts_ms=ts_ms)
        try:
            response: GateResponse = await self._flow_stub.Gate(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error
        return response

    async def _resumed(
        self, call: Any, batches: AsyncIterable[Sent], request_of: Callable[[Sent], Any]
    ) -> AsyncIterator[Any]:
        """As Client._resumed."""
        unanswered: deque[Any] = deque()
        source = Source(batches)
        attempts = Attempts(self._resume_s)

        async def requests(number: int) -> AsyncIterator[Any]:
            for request in list(unanswered):
                yield request
            while (batch := await source.peek()) is not None and number == attempts.count:  # see Client
                source.take()
                unanswered.append(request_of(batch))
                yield unanswered[-1]

        while True:
            attempts.begin()
            try:
                async for response in call(requests(attempts.count)):
                    unanswered.popleft()
                    attempts.answered()
                    yield response
                return
            except grpc.RpcError as error:
                attempts.failed(ServerError(error))
            except asyncio.CancelledError:
                if source.mistake is not None:
                    raise source.mistake from None
                raise
            await asyncio.sleep(attempts.pause_s())
