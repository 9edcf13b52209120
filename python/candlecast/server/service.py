"""Forecasts over gRPC: convert, call, convert. Knows no model and no table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from candlecast.errors import InvalidRequest, Stopped
from candlecast.features import ACCEPTED, DUPLICATE, Features
from candlecast.forecaster import Answer, Forecaster, Work
from candlecast.server import convert
from candlecast.server.status import abort
from candlecast.server.wire import parsed
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc, types_pb2
from candlecast.values import DEFAULT_INTERVAL_MS, Candles

_REFUSED_LISTED_MAX = 1_000
_STREAM_MESSAGES_MAX = 64
_STREAM_CANDLES_MAX = 2_048
"""Under way in one stream; a faster client is slowed down by flow control."""

Context = grpc.aio.ServicerContext[Any, Any]


class ForecastsService(forecasts_pb2_grpc.ForecastsServicer):
    """The four methods of Forecasts.

    Args:
        unary_timeout_ms: deadline of a call that brings none.
        answer_timeout_ms: longest wait for one message of a stream.
        durable: what a reply waits for when its request does not say.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        features: Features,
        *,
        candles_per_message_max: int,
        unary_timeout_ms: int,
        answer_timeout_ms: int,
        durable: bool = True,
    ) -> None:
        self._forecaster = forecaster
        self._is_durable = durable
        self._features = features
        self._candles_per_message_max = candles_per_message_max
        self._unary_timeout_ms = unary_timeout_ms
        self._answer_timeout_ms = answer_timeout_ms
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Read no more from any stream: what was accepted is answered, then the stream ends with STOPPING."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        try:
            return await self._predict(parsed(request), self._timeout_ms(context))
        except Exception as error:
            await abort(context, error)

    async def Stream(
        self, requests: AsyncIterator[pb.StreamRequest], context: Context
    ) -> AsyncIterator[pb.StreamResponse]:
        try:
            async for work, answer in self._answers(requests):
                yield pb.StreamResponse(results=convert.results(work.candles, _whole(answer), self._features.need))
        except Exception as error:
            await abort(context, error)

    async def Backfill(self, requests: AsyncIterator[pb.BackfillRequest], context: Context) -> pb.BackfillResponse:
        try:
            return await self._backfill(requests)
        except Exception as error:
            await abort(context, error)

    async def GetSymbol(self, request: pb.GetSymbolRequest, context: Context) -> pb.GetSymbolResponse:
        try:
            return self._get_symbol(parsed(request))
        except Exception as error:
            await abort(context, error)

    async def _predict(self, request: pb.PredictRequest, timeout_ms: float) -> pb.PredictResponse:
        if not request.candles and not request.symbols:
            raise InvalidRequest("candles", "send candles, or symbols whose newest candle is to be forecast")
        if len(request.symbols) > self._candles_per_message_max:
            raise InvalidRequest("symbols", f"at most {self._candles_per_message_max} in one message")
        interval_ms = request.interval_ms or DEFAULT_INTERVAL_MS
        self._forecaster.require_time(len(request.candles) + len(request.symbols), timeout_ms)
        response, started = pb.PredictResponse(), time.perf_counter()
        if request.candles:
            work = self._accept(request.candles, request.wait)
            answer = await work.answer(timeout_ms, patient=False)
            response.results.extend(convert.results(work.candles, _whole(answer), self._features.need))
        if request.symbols:
            work = self._forecaster.newest(list(request.symbols), interval_ms, durable=self._durable(request.wait))
            left_ms = timeout_ms - (time.perf_counter() - started) * 1e3
            answer = await work.answer(max(left_ms, 1), patient=False)
            response.results.extend(convert.results(work.candles, _whole(answer), self._features.need, asked=True))
        return response

    async def _answers(self, requests: AsyncIterator[pb.StreamRequest]) -> AsyncIterator[tuple[Work, Answer]]:
        """Accept messages as they come, several under way at once, and yield their answers in order."""
        if self._stopping:
            raise Stopped("the server is shutting down")
        under_way: asyncio.Queue[Work | BaseException | None] = asyncio.Queue()
        messages, candles, fewer = 0, 0, asyncio.Event()

        async def read() -> None:
            nonlocal messages, candles
            end: BaseException | None = None
            try:
                async for request in requests:
                    while messages >= _STREAM_MESSAGES_MAX or candles >= _STREAM_CANDLES_MAX:
                        fewer.clear()
                        await fewer.wait()
                    work = self._accept(parsed(request).candles, request.wait)
                    messages, candles = messages + 1, candles + len(work.candles)
                    under_way.put_nowait(work)
            except asyncio.CancelledError:
                end = Stopped("the server is shutting down")
            except BaseException as error:  # whatever it is, who waits for the answers must hear of it
                end = error
            under_way.put_nowait(end)

        reader = asyncio.create_task(read())
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            while (work := await under_way.get()) is not None:
                if isinstance(work, BaseException):
                    raise work
                yield work, await work.answer(self._answer_timeout_ms, patient=True)
                messages, candles = messages - 1, candles - len(work.candles)
                fewer.set()
        finally:
            reader.cancel()

    async def _backfill(self, requests: AsyncIterator[pb.BackfillRequest]) -> pb.BackfillResponse:
        response = pb.BackfillResponse()
        touched: set[tuple[str, int]] = set()
        async for request in requests:
            if self._stopping:
                raise Stopped("the server is shutting down")
            candles = self._candles(parsed(request).candles)
            work = self._forecaster.accept(candles, forecast=False)
            answer = await work.answer(self._answer_timeout_ms, patient=True)
            for code, result in zip(
                answer.moved.pushed.verdict.tolist(), convert.results(candles, answer, self._features.need), strict=True
            ):
                if code == ACCEPTED:
                    response.accepted += 1
                elif code == DUPLICATE or result.verdict == types_pb2.VERDICT_DUPLICATE:
                    response.duplicates += 1
                else:
                    response.refused_count += 1
                    if len(response.refused) < _REFUSED_LISTED_MAX:
                        response.refused.append(result)
                    if result.verdict == types_pb2.VERDICT_REFUSED:
                        continue
                touched.add((result.symbol, result.interval_ms))
        for symbol, interval_ms in sorted(touched):
            status = convert.status(self._features.status(symbol, interval_ms))
            response.symbols[f"{symbol}@{interval_ms}"].CopyFrom(status)
        return response

    def _get_symbol(self, request: pb.GetSymbolRequest) -> pb.GetSymbolResponse:
        interval_ms = request.interval_ms or DEFAULT_INTERVAL_MS
        try:
            status = self._features.status(request.symbol, interval_ms)
        except ValueError as error:
            raise InvalidRequest("symbol", str(error)) from error
        return pb.GetSymbolResponse(
            symbol=request.symbol,
            interval_ms=interval_ms,
            status=convert.status(status),
            newest_open_time_ms=status.newest_open_time_ms,
            gap_filled=status.gap_filled,
            conflicts=status.conflicts,
        )

    def _durable(self, wait: types_pb2.Wait) -> bool:
        return self._is_durable if wait == types_pb2.WAIT_UNSPECIFIED else wait == types_pb2.WAIT_DURABLE

    def _accept(self, messages: Sequence[types_pb2.Candle], wait: types_pb2.Wait) -> Work:
        started = time.perf_counter()
        candles = self._candles(messages)
        decode_us = int((time.perf_counter() - started) * 1e6)
        return self._forecaster.accept(candles, decode_us=decode_us, durable=self._durable(wait))

    def _candles(self, messages: Sequence[types_pb2.Candle]) -> Candles:
        if len(messages) > self._candles_per_message_max:
            raise InvalidRequest(
                "candles", f"{len(messages)} candles; at most {self._candles_per_message_max} in one message"
            )
        return convert.candles(messages)

    def _timeout_ms(self, context: Context) -> float:
        remaining_s = context.time_remaining()
        return self._unary_timeout_ms if remaining_s is None else remaining_s * 1000


def _whole(answer: Answer) -> Answer:
    """Raise what kept forecasts from an answer."""
    if answer.error is not None:
        raise answer.error
    return answer
