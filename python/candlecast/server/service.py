"""Forecasts over gRPC: convert, call, convert. Knows no model and no table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import numpy as np

from candlecast.errors import InvalidRequest, Stopped
from candlecast.features import ACCEPTED, DUPLICATE, REFUSED, Features
from candlecast.forecaster import Forecaster
from candlecast.packed import CANDLE, RESULT_LAYOUT, unpack_candles
from candlecast.server import convert
from candlecast.server.status import abort
from candlecast.server.subscriptions import Subscriptions
from candlecast.server.wire import parsed
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc, types_pb2
from candlecast.values import DEFAULT_INTERVAL_MS, Candles
from candlecast.work import Answer, Part, Work

_REFUSED_LISTED_MAX = 1_000
_STREAM_MESSAGES_MAX = 64
_STREAM_CANDLES_MAX = 2_048
"""Under way in one stream; a faster client is slowed down by flow control."""

Context = grpc.aio.ServicerContext[Any, Any]
Carrier = pb.PredictRequest | pb.StreamRequest
"""What brings candles and says what its answer waits for."""
R = TypeVar("R", pb.PredictResponse, pb.StreamResponse)


class ForecastsService(forecasts_pb2_grpc.ForecastsServicer):
    """The methods of Forecasts.

    Args:
        unary_timeout_ms: deadline of a call that brings none.
        answer_timeout_ms: longest wait for one message of a stream.
        durable: what a reply waits for when its request does not say.
        subscriptions: entered; None: there are none.
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
        subscriptions: Subscriptions | None = None,
    ) -> None:
        self._subscriptions = subscriptions
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
        if self._subscriptions is not None:
            self._subscriptions.stop()

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        try:
            return await self._predict(parsed(request), self._timeout_ms(context))
        except Exception as error:
            await abort(context, error)

    async def Stream(
        self, requests: AsyncIterator[pb.StreamRequest], context: Context
    ) -> AsyncIterator[pb.StreamResponse]:
        try:
            async for request, work, answer in self._answers(requests):
                yield self._response(pb.StreamResponse(), request, work, answer)
        except Exception as error:
            await abort(context, error)

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[Any]:
        try:
            if self._subscriptions is None:
                raise InvalidRequest("subscribe", "this server has no subscriptions")
            async with aclosing(self._subscriptions.subscribe(parsed(request))) as messages:
                async for message in messages:  # encoded already
                    yield message
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
        if not request.candles and not request.packed and not request.symbols:
            raise InvalidRequest("candles", "send candles, or symbols whose newest candle is to be forecast")
        if request.packed and request.symbols:
            raise InvalidRequest("symbols", "packed candles come alone: ask for symbols in a request of their own")
        if len(request.symbols) > self._candles_per_message_max:
            raise InvalidRequest("symbols", f"at most {self._candles_per_message_max} in one message")
        interval_ms = request.interval_ms or DEFAULT_INTERVAL_MS
        rows = len(request.candles) + len(request.symbols) + len(request.packed) // CANDLE.itemsize
        self._forecaster.require_time(rows, timeout_ms)
        response, started = pb.PredictResponse(), time.perf_counter()
        if request.candles or request.packed:
            work = self._accept(request)
            answer = await work.answer(timeout_ms, patient=False)
            self._response(response, request, work, answer)
        if request.symbols:
            work = self._forecaster.newest(list(request.symbols), interval_ms, durable=self._durable(request.wait))
            left_ms = timeout_ms - (time.perf_counter() - started) * 1e3
            answer = await work.answer(max(left_ms, 1), patient=False)
            results = convert.results(
                work.candles, _whole(answer), self._features.need, names=request.symbols, asked=True
            )
            response.results.extend(results)
        return response

    def _response(self, response: R, request: Carrier, work: Work, answer: Answer | Part) -> R:
        """Put results into a response as the candles came: as messages, or packed."""
        if request.packed:
            response.packed.CopyFrom(convert.packed_results(_whole(answer), self._features.need))
        else:
            names = [candle.symbol for candle in request.candles]
            response.results.extend(convert.results(work.candles, _whole(answer), self._features.need, names=names))
        return response

    async def _answers(
        self, requests: AsyncIterator[pb.StreamRequest]
    ) -> AsyncIterator[tuple[pb.StreamRequest, Work, Answer | Part]]:
        """Accept messages as they come, several under way at once, and yield their answers in order."""
        if self._stopping:
            raise Stopped("the server is shutting down")
        under_way: asyncio.Queue[tuple[pb.StreamRequest, Work] | BaseException | None] = asyncio.Queue()
        messages, candles, fewer = 0, 0, asyncio.Event()

        async def read() -> None:
            nonlocal messages, candles
            end: BaseException | None = None
            try:
                async for request in requests:
                    while messages >= _STREAM_MESSAGES_MAX or candles >= _STREAM_CANDLES_MAX:
                        fewer.clear()
                        await fewer.wait()
                    work = self._accept(parsed(request))
                    messages, candles = messages + 1, candles + len(work.candles)
                    under_way.put_nowait((request, work))
            except asyncio.CancelledError:
                end = Stopped("the server is shutting down")
            except BaseException as error:  # whatever it is, who waits for the answers must hear of it
                end = error
            under_way.put_nowait(end)

        reader = asyncio.create_task(read())
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            while (next_one := await under_way.get()) is not None:
                if isinstance(next_one, BaseException):
                    raise next_one
                request, work = next_one
                yield request, work, await work.answer(self._answer_timeout_ms, patient=True)
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
            candles = self._candles(parsed(request))
            answer = await self._forecaster.accept(candles, forecast=False).answer(
                self._answer_timeout_ms, patient=True
            )
            verdict = answer.moved.pushed.verdict
            response.accepted += int((verdict == ACCEPTED).sum())
            others = np.flatnonzero((verdict != ACCEPTED) & (verdict != DUPLICATE)).tolist()
            names = [candle.symbol for candle in request.candles] if others else ()
            for result in convert.results(candles, answer, self._features.need, names=names, only=others):
                if result.verdict == types_pb2.VERDICT_DUPLICATE:
                    response.duplicates += 1
                    continue
                response.refused_count += 1
                if len(response.refused) < _REFUSED_LISTED_MAX:
                    response.refused.append(result)
            response.duplicates += int((verdict == DUPLICATE).sum())
            taken = candles.take(verdict != REFUSED)
            touched |= set(zip(taken.names, taken.interval_ms.tolist(), strict=True))
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

    def _accept(self, request: Carrier) -> Work:
        if request.packed and request.packed_layout != RESULT_LAYOUT:
            raise InvalidRequest(
                "packed_layout",
                f"packed results have layout {RESULT_LAYOUT}, this caller reads {request.packed_layout or 1}: use the"
                " client of this version, or send candles as messages",
            )
        started = time.perf_counter()
        candles = self._candles(request)
        decode_us = int((time.perf_counter() - started) * 1e6)
        return self._forecaster.accept(candles, decode_us=decode_us, durable=self._durable(request.wait))

    def _candles(self, request: Carrier | pb.BackfillRequest) -> Candles:
        if request.packed and request.candles:
            raise InvalidRequest("packed", "send candles as messages or packed, not both")
        try:
            candles = unpack_candles(request.packed, DEFAULT_INTERVAL_MS) if request.packed else None
        except ValueError as error:
            raise InvalidRequest("packed", str(error)) from error
        count = len(request.candles) if candles is None else len(candles)
        if count > self._candles_per_message_max:
            raise InvalidRequest("candles", f"{count} candles; at most {self._candles_per_message_max} in one message")
        return convert.candles(request.candles) if candles is None else candles

    def _timeout_ms(self, context: Context) -> float:
        remaining_s = context.time_remaining()
        return self._unary_timeout_ms if remaining_s is None else remaining_s * 1000


def _whole(answer: Answer | Part) -> Answer | Part:
    """Raise what kept forecasts from an answer."""
    if answer.error is not None:
        raise answer.error
    return answer
